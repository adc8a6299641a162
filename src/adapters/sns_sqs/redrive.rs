//! Parked messages back into their queue: received, sent, removed, in this order. A process that dies
//! between leaves a message in both queues, and none in neither. The move that AWS does by itself
//! (`StartMessageMoveTask`) is not used: emulators lack it, and it tells no outcome.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use aws_sdk_sqs::types::Message;

use super::{
    SnsSqsBus,
    batch::{Batch, Of},
};
use crate::ports::{Outcome, Queue, Receipt, Target, bus::BATCH_MAX};

/// A parked message that is on its way is invisible so long: above two calls. One that takes longer
/// comes twice.
const VISIBILITY: Duration = Duration::from_secs(10);
/// So long SQS looks in all of its servers; without a wait it would ask only some.
const WAIT: Duration = Duration::from_secs(1);

/// Tells messages of one call apart. Two that say the same are one here, and the second waits for the
/// next call.
fn hash_of(message: &Message) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.body.hash(&mut hasher);
    hasher.finish()
}

impl SnsSqsBus {
    /// Moves up to `max`. What is not certainly sent stays parked, and may be in the queue too.
    ///
    /// Ends at a message that this call has moved before: whoever receives it parks it again at once,
    /// and it would go round for as long as `max` permits.
    pub(super) async fn move_back(&self, queue: Queue, max: usize) -> Outcome<u64> {
        let mut moved = 0;
        let mut sent_on = HashSet::new();
        while moved < max {
            let most = (max - moved).min(BATCH_MAX);
            let taken = self.read(|known| async move {
                self.take(known.parked(queue), most, WAIT, VISIBILITY).await
            });
            let taken = match taken.await {
                Ok(taken) => taken,
                // Nothing of this batch was touched, but of those before.
                Err(fault) if moved == 0 => return Outcome::Failed(fault.into_error()),
                Err(fault) => return Outcome::Unknown(fault.into_error()),
            };
            if taken.is_empty() {
                break;
            }
            let (fresh, back): (Vec<_>, Vec<_>) =
                taken.into_iter().partition(|message| sent_on.insert(hash_of(message)));
            match self.move_batch(queue, fresh).await {
                Ok(count) => moved += count,
                Err(Outcome::Failed(error)) if moved > 0 => return Outcome::Unknown(error),
                Err(outcome) => return outcome,
            }
            if !back.is_empty() {
                let back = back.into_iter().filter_map(|message| message.receipt_handle);
                let back: Vec<Receipt> = back.map(Receipt).collect();
                // Those that stay invisible are parked again in a while.
                let _ = self.run(Batch::Hide(Of::Parked(queue), &back, 0)).await;
                break;
            }
        }
        Outcome::Done(moved as u64)
    }

    async fn move_batch(&self, queue: Queue, taken: Vec<Message>) -> Result<usize, Outcome<u64>> {
        let whole = |message: Message| Some((Receipt(message.receipt_handle?), message.body?));
        let (receipts, texts): (Vec<Receipt>, Vec<String>) =
            taken.into_iter().filter_map(whole).unzip();
        let sent = self.send(Target::Queue(queue), &texts).await;
        let mut done = Vec::new();
        let mut kept = Vec::new();
        let mut trouble = None;
        for (receipt, outcome) in receipts.into_iter().zip(sent) {
            match outcome {
                Outcome::Done(()) => done.push(receipt),
                Outcome::Failed(_) | Outcome::Unknown(_) => {
                    kept.push(receipt);
                    if !matches!(trouble, Some(Outcome::Unknown(_))) {
                        trouble = Some(outcome);
                    }
                }
            }
        }
        if !done.is_empty() {
            // What is not removed now comes back once more: consumers bear that.
            let _ = self.run(Batch::Remove(Of::Parked(queue), &done)).await;
        }
        let Some(trouble) = trouble else { return Ok(done.len()) };
        let _ = self.run(Batch::Hide(Of::Parked(queue), &kept, 0)).await;
        Err(match trouble {
            Outcome::Failed(error) if done.is_empty() => Outcome::Failed(error),
            Outcome::Failed(error) | Outcome::Unknown(error) => Outcome::Unknown(error),
            Outcome::Done(()) => Outcome::Done(0),
        })
    }
}
