//! What users do: one of them writes and reads what was written, another device of theirs reads.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use rand::{RngExt, seq::IndexedRandom};
use rand_pcg::Pcg64;
use tokio::task::JoinHandle;

use super::{
    bounds::Op,
    check::{List, read},
    client::{Answer, Client, Cursor, handle_of},
    history::{Ask, PostState, Who},
    run::Run,
    violation::{Invariant, Violation},
};
use crate::{
    domain::TweetId,
    sim::seed::Seed,
    wire::api::{Follow, PostTweet, PostedTweet},
};

/// Attempts at one post.
const POST_ATTEMPTS: usize = 3;
/// Pages of one walk while things are broken.
const WALK_PAGES: usize = 4;

/// Starts the devices of every user.
pub fn start(run: &Arc<Run>, seed: &Seed, epoch: u32) -> Vec<JoinHandle<()>> {
    let mut devices = Vec::new();
    for client in &run.clients {
        let index = (u64::from(epoch) << 32) | client.who as u64;
        for (name, writes) in [("client.write", true), ("client.read", false)] {
            let random = seed.stream(name, index);
            let device = Device { run: Arc::clone(run), client: Arc::clone(client), random };
            devices.push(tokio::spawn(device.live(writes)));
        }
    }
    devices
}

/// Every user writes once more: in a healed world nothing is answered in part, or "not yet".
///
/// # Errors
/// The first rule that an answer breaks.
pub async fn probe(run: &Arc<Run>, seed: &Seed, epoch: u32) -> Result<(), Violation> {
    for client in &run.clients {
        let index = (u64::from(epoch) << 32) | client.who as u64;
        let random = seed.stream("client.probe", index);
        let mut device = Device { run: Arc::clone(run), client: Arc::clone(client), random };
        device.post().await?;
        device.delete().await?;
        let target = (client.who + epoch as usize) % run.clients.len();
        if target != client.who {
            let ask = *[Ask::Unfollow, Ask::Unblock, Ask::Follow]
                .choose(&mut device.random)
                .expect("there are some");
            change_edge(run, client, target, ask).await?;
        }
        device.page(List::Home, Cursor::Latest).await?;
    }
    Ok(())
}

struct Device {
    run: Arc<Run>,
    client: Arc<Client>,
    random: Pcg64,
}

impl Device {
    async fn live(mut self, writes: bool) {
        while !self.run.is_over() {
            let think = self.random.random_range(0..=self.run.knobs.think_ms);
            tokio::time::sleep(Duration::from_millis(think)).await;
            if self.run.is_over() {
                return;
            }
            let result = if writes { self.write().await } else { self.read().await };
            self.run.report(result);
        }
    }

    async fn write(&mut self) -> Result<(), Violation> {
        match self.random.random_range(0..100) {
            0..36 => self.posts().await?,
            36..46 => self.delete().await?,
            46..64 => self.edge(Ask::Follow).await?,
            64..78 => self.edge(Ask::Unfollow).await?,
            78..83 => self.edge(Ask::Block).await?,
            83..92 => self.edge(Ask::Unblock).await?,
            92..95 => self.bad_post().await?,
            _ => self.read().await?,
        }
        // What was just written is what a read is most likely to get wrong.
        if self.random.random_bool(0.6) {
            self.page(List::Home, Cursor::Latest).await?;
        }
        Ok(())
    }

    async fn posts(&mut self) -> Result<(), Violation> {
        let burst = if self.random.random_bool(0.15) { self.random.random_range(2..6) } else { 1 };
        for _ in 0..burst {
            self.post().await?;
        }
        Ok(())
    }

    async fn post(&mut self) -> Result<(), Violation> {
        let keyed = self.random.random_bool(0.7);
        let number = self.run.history.lock().posts.len();
        let text = format!("t{number} of u{}", self.client.who);
        let key = keyed.then(|| format!("key-{number}"));
        let now = self.run.shared.now_ms();
        let at = self.run.history.lock().post(self.client.who, &text, key.as_deref(), now);
        // Sometimes a client asks again although it was answered, as if it had not heard.
        let deaf = keyed && self.random.random_bool(0.05);
        for attempt in 0..POST_ATTEMPTS {
            self.run.count_request();
            let body = PostTweet { text: text.clone(), media: Vec::new() };
            let key = key.as_deref();
            let answer = self.client.call(Method::POST, "/tweets", Some(&body), key).await;
            let posted = answer.json::<PostedTweet>().filter(|_| answer.is(StatusCode::CREATED));
            if let Some(posted) = posted {
                self.acknowledge(at, &posted)?;
                let (who, whole) = (self.client.who, !posted.degraded);
                self.run.judge_answer(who, Op::Write, "POST /tweets", whole)?;
                if !deaf {
                    return Ok(());
                }
            } else if answer.refused() && !answer.is(StatusCode::UNAUTHORIZED) && attempt == 0 {
                self.run.history.lock().posts[at].state = PostState::Absent;
                return self.judge_failure("POST /tweets", &answer);
            } else {
                self.judge_failure("POST /tweets", &answer)?;
            }
            let again = keyed && self.random.random_bool(0.7);
            if !again || self.run.is_over() {
                return Ok(());
            }
            let pause = self.random.random_range(0..1_000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Ok(())
    }

    fn judge_failure(&self, what: &str, answer: &Answer) -> Result<(), Violation> {
        self.run.judge_failure(self.client.who, Op::Write, what, answer)
    }

    /// D2 and S10.
    fn acknowledge(&self, at: usize, posted: &PostedTweet) -> Result<(), Violation> {
        let now = self.run.shared.now_ms();
        let history = &mut *self.run.history.lock();
        let stamp = history.stamp(now);
        let id = posted.tweet.id;
        let fault = |invariant, detail| {
            Violation::new(invariant, now, detail).tweet(id).author(self.client.who).acked(now)
        };
        history.learn_id(at, id).map_err(|why| fault(Invariant::OneTweetPerKey, why))?;
        if history.posts[at].text != posted.tweet.text.as_str() {
            let detail = format!("tweet {id} was answered with another's text");
            return Err(fault(Invariant::OneTweetPerKey, detail));
        }
        let invoked = history.posts[at].invoked;
        let later = |post: &&super::history::Post| {
            post.author == self.client.who
                && post.acked.is_some_and(|acked| acked < invoked)
                && post.id.is_some_and(|earlier| earlier >= id)
        };
        if let Some(earlier) = history.posts.iter().find(later) {
            let known = earlier.id.unwrap_or_default();
            let detail = format!("tweet {id} does not increase on the earlier {known}");
            return Err(fault(Invariant::Ids, detail));
        }
        let post = &mut history.posts[at];
        post.state = PostState::Exists;
        post.acked.get_or_insert(stamp);
        // A retry may end the reservation of an earlier answer, but not for reads before it.
        if !posted.degraded {
            post.shown.get_or_insert(stamp);
        }
        Ok(())
    }

    /// What must be refused, and so must not appear.
    async fn bad_post(&mut self) -> Result<(), Violation> {
        let number = self.run.history.lock().posts.len();
        let reused = {
            let history = self.run.history.lock();
            let mut mine = history.posts.iter().filter(|post| post.author == self.client.who);
            mine.find_map(|post| post.acked.and(post.key.clone()))
        };
        let (text, key) = match reused.filter(|_| self.random.random_bool(0.5)) {
            Some(key) => (format!("t{number} of u{} again", self.client.who), Some(key)),
            None => (format!("t{number} of u{} {}", self.client.who, "x".repeat(300)), None),
        };
        let (who, now) = (self.client.who, self.run.shared.now_ms());
        let at = self.run.history.lock().post(who, &text, key.as_deref(), now);
        self.run.count_request();
        let body = PostTweet { text, media: Vec::new() };
        let answer = self.client.call(Method::POST, "/tweets", Some(&body), key.as_deref()).await;
        if answer.is(StatusCode::CREATED) {
            let why = match key {
                Some(key) => format!("{key:?}, which was acknowledged for another text,"),
                None => "a text that is too long".to_owned(),
            };
            let detail = format!("a post with {why} was answered with 201");
            let now = self.run.shared.now_ms();
            return Err(Violation::new(Invariant::BadInput, now, detail).author(who));
        }
        if answer.refused() {
            self.run.history.lock().posts[at].state = PostState::Absent;
        }
        Ok(())
    }

    async fn delete(&mut self) -> Result<(), Violation> {
        let who = self.client.who;
        let mine: Vec<usize> = {
            let history = self.run.history.lock();
            let posts = history.posts.iter().enumerate();
            let live = posts.filter(|(_, p)| p.author == who && p.id.is_some() && !p.deleted);
            live.map(|(at, _)| at).collect()
        };
        // The newest is still on its way everywhere.
        let newest = mine.last().copied().filter(|_| self.random.random_bool(0.5));
        let Some(at) = newest.or_else(|| mine.choose(&mut self.random).copied()) else {
            return Ok(());
        };
        let id = {
            let history = &mut *self.run.history.lock();
            let stamp = history.stamp(self.run.shared.now_ms());
            let post = &mut history.posts[at];
            post.delete_invoked.get_or_insert(stamp);
            post.id.unwrap_or_default()
        };
        self.run.count_request();
        let path = format!("/tweets/{id}");
        let answer = self.client.call::<()>(Method::DELETE, &path, None, None).await;
        let honoured = answer.is(StatusCode::NO_CONTENT);
        if honoured || answer.is(StatusCode::ACCEPTED) {
            let history = &mut *self.run.history.lock();
            let stamp = history.stamp(self.run.shared.now_ms());
            let post = &mut history.posts[at];
            post.deleted = true;
            if honoured {
                post.delete_acked.get_or_insert(stamp);
            }
        }
        if answer.status.is_some_and(|status| status.is_success()) {
            return self.run.judge_answer(who, Op::Write, "DELETE /tweets", honoured);
        }
        if answer.is(StatusCode::NOT_FOUND) {
            let detail = format!("tweet {id} exists, and its delete was answered with 404");
            let fault = Violation::new(Invariant::Durable, self.run.shared.now_ms(), detail);
            return Err(fault.tweet(id).author(who));
        }
        self.judge_failure("DELETE /tweets", &answer)
    }

    async fn edge(&mut self, ask: Ask) -> Result<(), Violation> {
        let users = self.run.clients.len();
        let who = self.client.who;
        // Half of it is about the first two users, who become pulled authors.
        let most = if self.random.random_bool(0.5) { 2.min(users) } else { users };
        let target = self.random.random_range(0..most);
        if target == who {
            return Ok(());
        }
        change_edge(&self.run, &self.client, target, ask).await?;
        if self.random.random_bool(0.3) {
            self.page(List::Author(target), Cursor::Latest).await?;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), Violation> {
        let users = self.run.clients.len();
        match self.random.random_range(0..10) {
            0..4 => drop(self.page(List::Home, Cursor::Latest).await?),
            4..7 => self.walk(List::Home).await?,
            7 => {
                let author = self.random.random_range(0..users);
                drop(self.page(List::Author(author), Cursor::Latest).await?);
            }
            8 => {
                let author = self.random.random_range(0..users);
                self.walk(List::Author(author)).await?;
            }
            _ => {
                let after = self.some_id();
                drop(self.page(List::Home, Cursor::After(after)).await?);
            }
        }
        Ok(())
    }

    /// An id that was given out, or one below all.
    fn some_id(&mut self) -> TweetId {
        let history = self.run.history.lock();
        let ids: Vec<TweetId> = history.posts.iter().filter_map(|post| post.id).collect();
        drop(history);
        ids.choose(&mut self.random).copied().unwrap_or(TweetId(1))
    }

    async fn page(
        &mut self,
        list: List,
        cursor: Cursor,
    ) -> Result<Option<crate::wire::api::Page>, Violation> {
        let limit = self.random.random_range(1..=self.run.knobs.page);
        self.run.count_request();
        read(&self.run, &self.client, list, cursor, limit).await
    }

    async fn walk(&mut self, list: List) -> Result<(), Violation> {
        let mut cursor = Cursor::Latest;
        for _ in 0..WALK_PAGES {
            let Some(page) = self.page(list, cursor).await? else { return Ok(()) };
            let Some(next) = page.next else { return Ok(()) };
            cursor = Cursor::Before(next);
        }
        Ok(())
    }
}

/// Asks for a change of an edge, and records it.
///
/// # Errors
/// The rule that the answer breaks.
pub async fn change_edge(
    run: &Run,
    client: &Client,
    target: Who,
    ask: Ask,
) -> Result<(), Violation> {
    let who = client.who;
    let at = run.history.lock().edge(who, target, ask, run.shared.now_ms());
    run.count_request();
    let handle = handle_of(target);
    let answer = match ask {
        Ask::Follow => {
            let body = Follow { handle };
            client.call(Method::POST, "/follow", Some(&body), None).await
        }
        Ask::Unfollow => {
            let path = format!("/follow/{handle}");
            client.call::<()>(Method::DELETE, &path, None, None).await
        }
        Ask::Block | Ask::Unblock => {
            let method = if ask == Ask::Block { Method::PUT } else { Method::DELETE };
            client.call::<()>(method, &format!("/blocks/{handle}"), None, None).await
        }
    };
    let now = run.shared.now_ms();
    if answer.status.is_some_and(|status| status.is_success()) {
        let honoured = !answer.is(StatusCode::ACCEPTED);
        run.history.lock().edge_done(who, target, at, honoured, now);
        return run.judge_answer(who, Op::Write, "a change of an edge", honoured);
    }
    if ask == Ask::Follow && answer.is(StatusCode::FORBIDDEN) {
        run.history.lock().edge_blocked(who, target, at, now);
        return Ok(());
    }
    if answer.refused() && !answer.is(StatusCode::UNAUTHORIZED) {
        run.history.lock().edge_refused(who, target, at);
    }
    run.judge_failure(who, Op::Write, "a change of an edge", &answer)
}
