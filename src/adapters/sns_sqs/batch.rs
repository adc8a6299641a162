//! Calls of up to ten entries, each with an outcome of its own.
//!
//! What was cut off is repeated, within bounds: a message may then come twice, which consumers bear.
//! An entry that may have happened once stays unknown, whatever a later attempt says but "done".

use std::{collections::BTreeMap, sync::Arc};

use aws_sdk_sns::types::PublishBatchRequestEntry;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, ChangeMessageVisibilityBatchResultEntry,
    DeleteMessageBatchRequestEntry, DeleteMessageBatchResultEntry, SendMessageBatchRequestEntry,
    SendMessageBatchResultEntry,
};

use super::{
    SnsSqsBus,
    fault::{Fault, Next},
    topology::{Addresses, To},
};
use crate::ports::{Kind, Outcome, Queue, Receipt, Target};

/// What is asked of the server.
#[derive(Clone, Copy)]
pub(super) enum Batch<'a> {
    /// Sends texts.
    Send(Target, &'a [&'a str]),
    /// Removes messages.
    Remove(Of, &'a [Receipt]),
    /// Makes messages invisible for so many seconds.
    Hide(Of, &'a [Receipt], i32),
}

/// Which queue of a lane.
#[derive(Clone, Copy)]
pub(super) enum Of {
    Lane(Queue),
    Parked(Queue),
}

impl Of {
    pub(super) fn url(self, addresses: &Addresses) -> &str {
        match self {
            Self::Lane(queue) => addresses.queue(queue),
            Self::Parked(queue) => addresses.parked(queue),
        }
    }
}

/// What became of entries, by their place. One that is missing was not told of.
type Answers = BTreeMap<usize, Result<(), Fault>>;

impl Batch<'_> {
    const fn len(&self) -> usize {
        match self {
            Self::Send(_, texts) => texts.len(),
            Self::Remove(_, receipts) | Self::Hide(_, receipts, _) => receipts.len(),
        }
    }
}

impl SnsSqsBus {
    /// Brings a batch to its end: one outcome for each entry, in their order.
    pub(super) async fn run(&self, batch: Batch<'_>) -> Vec<Outcome<()>> {
        let unasked = Fault::refused(Kind::Unavailable, "nothing was asked");
        let mut ends: Vec<Result<(), Fault>> = vec![Err(unasked); batch.len()];
        let mut open: Vec<usize> = (0..batch.len()).collect();
        for attempt in 0..self.attempts {
            if open.is_empty() {
                break;
            }
            let known = match self.topology.addresses().await {
                Ok(known) => known,
                Err(fault) => {
                    for &at in &open {
                        later(&mut ends[at], Err(fault.clone()));
                    }
                    break;
                }
            };
            let answers = self.attempt(batch, &known, &open).await;
            for &at in &open {
                let answer = match &answers {
                    Ok(answers) => answers.get(&at).cloned(),
                    Err(fault) => Some(Err(fault.clone())),
                };
                later(&mut ends[at], answer.unwrap_or_else(|| Err(Fault::unanswered())));
            }
            let next = |at: &usize| ends[*at].as_ref().err().map_or(Next::GiveUp, |f| f.next);
            open.retain(|at| next(at) != Next::GiveUp);
            let gone = open.iter().any(|at| next(at) == Next::Renew);
            if attempt + 1 < self.attempts && !open.is_empty() {
                self.prepare(gone, &known, attempt).await;
            } else if gone {
                // The next call should find it: this one has no attempt left.
                drop(self.topology.renew(Some(&known)).await);
            }
        }
        ends.into_iter().map(outcome).collect()
    }

    async fn attempt(
        &self,
        batch: Batch<'_>,
        addresses: &Addresses,
        open: &[usize],
    ) -> Result<Answers, Fault> {
        match batch {
            Batch::Send(target, texts) => match addresses.target(target) {
                To::Topic(arn) => self.publish_batch(arn, texts, open).await,
                To::Queue(url) => self.send_batch(url, texts, open).await,
            },
            Batch::Remove(of, receipts) => {
                self.remove_batch(of.url(addresses), receipts, open).await
            }
            Batch::Hide(of, receipts, seconds) => {
                self.hide_batch(of.url(addresses), receipts, seconds, open).await
            }
        }
    }

    async fn publish_batch(
        &self,
        arn: &str,
        texts: &[&str],
        open: &[usize],
    ) -> Result<Answers, Fault> {
        let entry = |&at: &usize| {
            let entry = PublishBatchRequestEntry::builder().id(at.to_string()).message(texts[at]);
            entry.build().expect("it has an id and a message")
        };
        let entries = open.iter().map(entry).collect();
        let call = self
            .sns
            .publish_batch()
            .topic_arn(arn)
            .set_publish_batch_request_entries(Some(entries));
        let sent = call.send().await.map_err(|error| Fault::of("PublishBatch", &error))?;
        let done = sent.successful().iter().filter_map(|entry| entry.id());
        let failed = sent.failed().iter();
        Ok(answers(
            done,
            failed.map(|f| (f.id(), Fault::of_entry(f.sender_fault(), f.code(), f.message()))),
        ))
    }

    async fn send_batch(
        &self,
        url: &str,
        texts: &[&str],
        open: &[usize],
    ) -> Result<Answers, Fault> {
        let entry = |&at: &usize| {
            let entry =
                SendMessageBatchRequestEntry::builder().id(at.to_string()).message_body(texts[at]);
            entry.build().expect("it has an id and a body")
        };
        let entries = open.iter().map(entry).collect();
        let call = self.sqs.send_message_batch().queue_url(url).set_entries(Some(entries));
        let sent = call.send().await.map_err(|error| Fault::of("SendMessageBatch", &error))?;
        Ok(answers(
            sent.successful().iter().map(SendMessageBatchResultEntry::id),
            failed(sent.failed()),
        ))
    }

    async fn remove_batch(
        &self,
        url: &str,
        receipts: &[Receipt],
        open: &[usize],
    ) -> Result<Answers, Fault> {
        let entry = |&at: &usize| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(at.to_string());
            entry.receipt_handle(&receipts[at].0).build().expect("it has an id and a receipt")
        };
        let entries = open.iter().map(entry).collect();
        let call = self.sqs.delete_message_batch().queue_url(url).set_entries(Some(entries));
        let removed = call.send().await.map_err(|error| Fault::of("DeleteMessageBatch", &error))?;
        let mut answers = answers(
            removed.successful().iter().map(DeleteMessageBatchResultEntry::id),
            failed(removed.failed()),
        );
        // AWS removes a message twice without a word; emulators do not know the receipt any more.
        // What has no message any more can bring none.
        for entry in
            removed.failed().iter().filter(|f| f.code().ends_with("ReceiptHandleIsInvalid"))
        {
            answers.extend(entry.id().parse().ok().map(|at: usize| (at, Ok(()))));
        }
        Ok(answers)
    }

    async fn hide_batch(
        &self,
        url: &str,
        receipts: &[Receipt],
        seconds: i32,
        open: &[usize],
    ) -> Result<Answers, Fault> {
        let entry = |&at: &usize| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(at.to_string());
            let entry = entry.receipt_handle(&receipts[at].0).visibility_timeout(seconds);
            entry.build().expect("it has an id and a receipt")
        };
        let entries = open.iter().map(entry).collect();
        let call =
            self.sqs.change_message_visibility_batch().queue_url(url).set_entries(Some(entries));
        let hidden = call.send().await;
        let hidden = hidden.map_err(|error| Fault::of("ChangeMessageVisibilityBatch", &error))?;
        Ok(answers(
            hidden.successful().iter().map(ChangeMessageVisibilityBatchResultEntry::id),
            failed(hidden.failed()),
        ))
    }

    /// Before the next attempt: a pause, or what is gone is made or looked for.
    pub(super) async fn prepare(&self, gone: bool, known: &Arc<Addresses>, attempt: u32) {
        if gone {
            // The next attempt tells what came of it.
            drop(self.topology.renew(Some(known)).await);
        } else {
            self.rt.sleep(self.rt.jitter(super::RETRY_PAUSE * (1 << attempt.min(4)))).await;
        }
    }
}

fn failed(
    entries: &[aws_sdk_sqs::types::BatchResultErrorEntry],
) -> impl Iterator<Item = (&str, Fault)> {
    entries.iter().map(|f| (f.id(), Fault::of_entry(f.sender_fault(), f.code(), f.message())))
}

fn answers<'a>(
    done: impl Iterator<Item = &'a str>,
    failed: impl Iterator<Item = (&'a str, Fault)>,
) -> Answers {
    let done = done.map(|id| (id, Ok(())));
    let all = done.chain(failed.map(|(id, fault)| (id, Err(fault))));
    all.filter_map(|(id, answer)| Some((id.parse().ok()?, answer))).collect()
}

/// Takes what another attempt said of an entry.
fn later(end: &mut Result<(), Fault>, now: Result<(), Fault>) {
    let maybe = end.as_ref().is_err_and(|fault| fault.maybe);
    *end = now.map_err(|fault| Fault { maybe: fault.maybe || maybe, ..fault });
}

fn outcome(end: Result<(), Fault>) -> Outcome<()> {
    match end {
        Ok(()) => Outcome::Done(()),
        Err(fault) if fault.maybe => Outcome::Unknown(fault.into_error()),
        Err(fault) => Outcome::Failed(fault.into_error()),
    }
}
