//! One concurrent client: calls, and what it writes down about each.

use std::{
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use chirp::{
    domain::TweetId,
    stack::admin::Queues,
    wire::api::{Page, PostedTweet},
};
use serde_json::json;

use super::{
    api::{Api, Verdict, Write},
    checks::RESURRECTED,
    dice::Dice,
    world::{
        Between, Doubt, GROUP, Hide, ORDINARY, Posted, STAR, Shared, State, World, candidates,
        key_of, now_ms, text_of,
    },
};

/// The star posts again as soon as fewer chunk jobs than this are left of its last tweets.
const STAR_JOBS: u64 = 6;
/// How often the star looks at the lanes.
const STAR_LOOK: Duration = Duration::from_millis(4);

/// One concurrent client.
pub struct Client {
    pub world: Shared,
    pub api: Api,
    pub dice: Dice,
    pub down: Arc<AtomicBool>,
    /// Pauses up to this long between two calls, in milliseconds.
    pub think_ms: usize,
    /// Repeats a write whose end is unknown, as it was, until it is known; else it stops writing.
    pub insists: bool,
}

impl Client {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn is_up(&self) -> bool {
        !self.down.load(Ordering::Acquire)
    }

    /// Acts for the users of a group until the process is gone, or the end of a call is unknown:
    /// what came after it could not be told from what came before.
    pub async fn writes(mut self, first: usize) {
        while self.is_up() {
            let doubt = self.world().doubt_of(first..first + GROUP);
            match doubt {
                Some(doubt) if self.insists => self.again(doubt).await,
                Some(_) => return,
                None => self.acts(first).await,
            }
            self.thinks().await;
        }
    }

    async fn acts(&mut self, first: usize) {
        let user = first + self.dice.below(GROUP);
        match self.dice.below(100) {
            0..58 => self.post(user).await,
            58..64 => self.post_wrongly(user).await,
            64..72 => self.delete(user).await,
            72..92 => self.follow_or_unfollow(user).await,
            _ => {
                let other = first + (user - first + 1 + self.dice.below(GROUP - 1)) % GROUP;
                self.block_or_unblock(user, other).await;
            }
        }
    }

    async fn thinks(&mut self) {
        let pause = self.dice.below(self.think_ms);
        tokio::time::sleep(Duration::from_millis(pause as u64)).await;
    }

    /// Posts at its pace, and insists.
    pub async fn posts(mut self, user: usize) {
        while self.is_up() {
            let doubt = self.world().doubt_of(user..user + 1);
            match doubt {
                Some(doubt) => self.again(doubt).await,
                None => self.post(user).await,
            }
            self.thinks().await;
        }
    }

    /// A write whose end is unknown, once more. A refusal says nothing of the first attempt.
    async fn again(&mut self, doubt: Doubt) {
        match doubt {
            Doubt::Post { user, n } => {
                let (token, key) = (self.world().token(user), key_of(user, n));
                let verdict = self.api.write(post(&token, &key, user, n)).await;
                if matches!(verdict, Verdict::Done { .. }) {
                    self.note_post(user, n, verdict);
                }
            }
            Doubt::Delete { user, n } => {
                let verdict = self.ask_delete(user, n).await;
                if matches!(verdict, Verdict::Done { .. }) {
                    self.note_delete(user, n, &verdict);
                }
            }
            Doubt::Pair { actor, target, before, after } => {
                let verdict = self.ask_pair(actor, target, before, after).await;
                let refused = matches!(verdict, Verdict::Refused { status: 400..429, .. });
                if matches!(verdict, Verdict::Done { .. }) || before == after && refused {
                    self.note_pair(actor, target, before, after, &verdict);
                }
            }
        }
    }

    /// Reads the home timelines of `readers` in turn.
    pub async fn reads_of(mut self, readers: Vec<usize>) {
        for reader in readers.into_iter().cycle() {
            if !self.is_up() {
                return;
            }
            let token = self.world().token(reader);
            drop(self.api.get("/timeline", &token).await);
            self.thinks().await;
        }
    }

    /// Reads the timelines of anybody: mostly of those whose timelines are warm or get warm by it.
    pub async fn reads(mut self) {
        while self.is_up() {
            let (path, token) = {
                let world = self.world.lock().unwrap();
                let passive = world.passive_numbers();
                match self.dice.below(3) {
                    0 => {
                        let author = self.dice.below(ORDINARY + 1);
                        let reader = world.token(self.dice.below(ORDINARY));
                        (format!("/users/{}/tweets", world.handle(author)), reader)
                    }
                    1 => {
                        let reader = passive.start + self.dice.below(passive.len());
                        ("/timeline".to_owned(), world.token(reader))
                    }
                    _ => ("/timeline".to_owned(), world.token(self.dice.below(ORDINARY))),
                }
            };
            drop(self.api.get(&path, &token).await);
            self.world().tally.reads += 1;
            self.thinks().await;
        }
    }

    /// The star posts so that a fan-out to all of its followers is always in flight.
    pub async fn shines(mut self, admin: Api, jobs: Arc<AtomicU64>) {
        while self.is_up() && self.world().doubt_of(STAR..STAR + 1).is_none() {
            let lanes = admin.get("/queues", "").await.ok();
            let queues = lanes.and_then(|body| serde_json::from_slice::<Queues>(&body).ok());
            if let Some(queues) = queues {
                let bulk = queues.lanes.iter().filter(|lane| lane.lane == "bulk");
                let left = bulk.map(|lane| lane.depth + lane.in_flight).sum();
                jobs.store(left, Ordering::Relaxed);
                if left < STAR_JOBS {
                    self.post(STAR).await;
                    self.world().tally.star_posts += 1;
                }
            }
            tokio::time::sleep(STAR_LOOK).await;
        }
    }

    /// Posts, and reads one's own timeline: the tweet must be in it.
    async fn post(&mut self, user: usize) {
        let (n, token) = {
            let mut world = self.world();
            let (kill, answered_ms) = (world.kill, now_ms());
            let n = world.users[user].tweets.len();
            let tweet = Posted { id: None, state: State::Doubtful, kill, answered_ms };
            world.users[user].tweets.push(tweet);
            world.doubts.push(Doubt::Post { user, n });
            (n, world.users[user].token.clone())
        };
        let key = key_of(user, n);
        let verdict = self.api.write(post(&token, &key, user, n)).await;
        if let Some(id) = self.note_post(user, n, verdict)
            && self.dice.chance(25)
        {
            self.sees_own(user, id).await;
        }
    }

    /// Gives the tweet if its author must see it at once.
    fn note_post(&self, user: usize, n: usize, verdict: Verdict) -> Option<TweetId> {
        let mut world = self.world();
        match verdict {
            Verdict::Unknown(_) => {
                world.tally.unknown += 1;
                None
            }
            Verdict::Refused { status, .. } => {
                world.tally.refused(status);
                world.users[user].tweets[n].state = State::Absent;
                world.settled(&Doubt::Post { user, n });
                None
            }
            Verdict::Done { body, .. } => {
                let posted: PostedTweet = serde_json::from_slice(&body).unwrap();
                world.settled(&Doubt::Post { user, n });
                world.tally.posts += 1;
                world.posted(user, n, posted.tweet.id);
                (!posted.degraded).then_some(posted.tweet.id)
            }
        }
    }

    /// The author reads their own writes at once.
    async fn sees_own(&self, user: usize, id: TweetId) {
        if let Some(page) = self.just_above(user, id).await
            && page.first() != Some(&id)
        {
            let about = format!("the author's own home does not have it: {page:?}");
            self.world().violation("authors read their own writes", Some(id), user, user, about);
        }
    }

    /// The tweet that comes next above `id` in `reader`'s home timeline, `id` included. `None` if
    /// that cannot be said.
    async fn just_above(&self, reader: usize, id: TweetId) -> Option<Vec<TweetId>> {
        let token = self.world().token(reader);
        let path = format!("/timeline?limit=1&after={}", id.0 - 1);
        let body = self.api.get(&path, &token).await.ok()?;
        let page: Page = serde_json::from_slice(&body).ok()?;
        (!page.degraded).then(|| page.tweets.iter().map(|tweet| tweet.id).collect())
    }

    /// A post that must be refused: another text under a key that was used.
    async fn post_wrongly(&mut self, user: usize) {
        let (n, earlier, token) = {
            let mut world = self.world();
            let tweets = &world.users[user].tweets;
            let known = |tweet: &Posted| tweet.id.is_some();
            let Some(earlier) = tweets.iter().rposition(known) else { return };
            let (kill, answered_ms) = (world.kill, now_ms());
            let n = tweets.len();
            let tweet = Posted { id: None, state: State::Absent, kill, answered_ms };
            world.users[user].tweets.push(tweet);
            (n, earlier, world.users[user].token.clone())
        };
        let verdict = self.api.write(post(&token, &key_of(user, earlier), user, n)).await;
        let mut world = self.world();
        match verdict {
            Verdict::Refused { status, .. } => world.tally.refused(status),
            Verdict::Unknown(_) => {}
            Verdict::Done { status, .. } => {
                let about = format!("tweet {n} under the key of {earlier} was answered {status}");
                world.violation("a key stands for one body", None, user, user, about);
            }
        }
    }

    async fn delete(&mut self, user: usize) {
        let (n, id) = {
            let mut world = self.world.lock().unwrap();
            let tweets = &world.users[user].tweets;
            // Mostly what is on its way still, sometimes what has long been delivered.
            let span = if self.dice.chance(80) { 6 } else { 200 };
            let first = tweets.len().saturating_sub(span);
            let shown = (first..tweets.len()).filter(|&n| tweets[n].state == State::Shown);
            let shown: Vec<usize> = shown.collect();
            if shown.is_empty() {
                return;
            }
            let n = *self.dice.pick(&shown);
            let id = tweets[n].id.unwrap();
            world.users[user].tweets[n].state = State::Fading;
            world.doubts.push(Doubt::Delete { user, n });
            (n, id)
        };
        let verdict = self.ask_delete(user, n).await;
        if !self.note_delete(user, n, &verdict) {
            return;
        }
        let follower = self.world().follower(user);
        for reader in [Some(user), follower].into_iter().flatten() {
            if let Some(page) = self.just_above(reader, id).await
                && page.first() == Some(&id)
            {
                let about = "a home read right after the answer shows it".to_owned();
                self.world().violation(RESURRECTED, Some(id), user, reader, about);
            }
        }
    }

    async fn ask_delete(&self, user: usize, n: usize) -> Verdict {
        let (path, token) = {
            let world = self.world();
            (format!("/tweets/{}", world.users[user].tweets[n].id.unwrap()), world.token(user))
        };
        let write = Write { method: "DELETE", path, token: &token, key: None, body: None };
        self.api.write(write).await
    }

    /// Whether the tweet must be hidden from now on.
    fn note_delete(&self, user: usize, n: usize, verdict: &Verdict) -> bool {
        let mut world = self.world();
        match verdict {
            Verdict::Unknown(_) => world.tally.unknown += 1,
            Verdict::Refused { status, .. } => {
                world.tally.refused(*status);
                world.users[user].tweets[n].state = State::Shown;
                world.settled(&Doubt::Delete { user, n });
            }
            // The promise begins when the job is done: settled as if it were unknown.
            Verdict::Done { status: 202, .. } => world.tally.pending += 1,
            Verdict::Done { .. } => {
                world.tally.deletes += 1;
                let tweet = &mut world.users[user].tweets[n];
                (tweet.state, tweet.answered_ms) = (State::Deleted, now_ms());
                world.hides.push(Hide::Tweet { user, n });
                world.settled(&Doubt::Delete { user, n });
                return true;
            }
        }
        false
    }

    async fn follow_or_unfollow(&mut self, user: usize) {
        let target = *self.dice.pick(&candidates(user));
        let before = self.world().between(user, target);
        let follows = !before.follows && !before.blocks && !before.blocked;
        // Over a block a follow is tried all the same: it must be refused.
        self.pair(user, target, before, Between { follows, ..before }).await;
    }

    async fn block_or_unblock(&mut self, user: usize, other: usize) {
        let before = self.world().between(user, other);
        let after = if before.blocks {
            Between { blocks: false, ..before }
        } else {
            Between { follows: false, followed: false, blocks: true, ..before }
        };
        self.pair(user, other, before, after).await;
    }

    async fn pair(&mut self, actor: usize, target: usize, before: Between, after: Between) {
        self.world().doubts.push(Doubt::Pair { actor, target, before, after });
        let verdict = self.ask_pair(actor, target, before, after).await;
        self.note_pair(actor, target, before, after, &verdict);
    }

    /// The call that makes `after` of `before`.
    async fn ask_pair(
        &self,
        actor: usize,
        target: usize,
        before: Between,
        after: Between,
    ) -> Verdict {
        let (handle, token) = {
            let world = self.world();
            (world.handle(target).to_owned(), world.token(actor))
        };
        let (method, path, body) = if before.blocks != after.blocks {
            let method = if after.blocks { "PUT" } else { "DELETE" };
            (method, format!("/blocks/{handle}"), None)
        } else if before.follows && !after.follows {
            ("DELETE", format!("/follow/{handle}"), None)
        } else {
            ("POST", "/follow".to_owned(), Some(json!({ "handle": handle }).to_string()))
        };
        self.api.write(Write { method, path, token: &token, key: None, body }).await
    }

    fn note_pair(
        &self,
        actor: usize,
        target: usize,
        before: Between,
        after: Between,
        verdict: &Verdict,
    ) {
        let mut world = self.world();
        let own = Doubt::Pair { actor, target, before, after };
        match verdict {
            Verdict::Unknown(_) => world.tally.unknown += 1,
            Verdict::Refused { status, .. } => {
                world.tally.refused(*status);
                world.settled(&own);
            }
            Verdict::Done { status, .. } => {
                world.settled(&own);
                if before == after {
                    let about = format!("a follow over a block was answered {status}");
                    world.violation("blocks refuse follows", None, target, actor, about);
                }
                // Only what this call changes: the other direction may be another writer's.
                let mut now = world.between(actor, target);
                (now.follows, now.blocks) = (after.follows, after.blocks);
                if after.blocks {
                    now.followed = false;
                }
                world.set_between(actor, target, now);
                world.tally.edges += 1;
                if *status == 202 {
                    world.tally.pending += 1;
                } else if before.follows && !after.follows || after.blocks && !before.blocks {
                    world.hides.push(Hide::Author { reader: actor, author: target });
                    if after.blocks {
                        world.hides.push(Hide::Author { reader: target, author: actor });
                    }
                }
            }
        }
    }
}

/// The post of a user's `n`-th tweet, under `key`.
pub fn post<'a>(token: &'a str, key: &'a str, user: usize, n: usize) -> Write<'a> {
    let body = json!({ "text": text_of(user, n) }).to_string();
    Write { method: "POST", path: "/tweets".to_owned(), token, key: Some(key), body: Some(body) }
}
