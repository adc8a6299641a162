//! Does what is due: the call, what is written down before and after it, and what is looked at in its
//! answer.

use std::time::Instant;

use http::Method;
use serde::Deserialize;

use super::{
    connection::{Answer, Call, Connection, NoAnswer},
    ledger::{Change, End, Ledger, Sees},
    live,
    schedule::{Action, Due},
    seen::{List, Page, Read},
};
use crate::domain::TweetId;

/// How a call went, for the figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it was wanted.
    Done,
    /// A page that may not be whole.
    Degraded,
    /// There was nothing to act on, and nothing was sent.
    Skipped,
    /// Something else: its kind.
    Error(String),
}

/// What came of a request.
#[derive(Clone, Debug)]
pub struct Done {
    /// How it went.
    pub outcome: Outcome,
    /// When it was sent.
    pub sent: Instant,
    /// When its answer was there.
    pub ended: Instant,
    /// Where the page below begins.
    pub next: Option<TweetId>,
    /// Whether a page was judged.
    pub judged: bool,
    /// The tweet of a post that was acknowledged, and may be followed to its readers.
    pub posted: Option<TweetId>,
}

/// The head of the answer to a post.
#[derive(Deserialize)]
struct Posted {
    id: TweetId,
    #[serde(default)]
    degraded: bool,
}

/// Whoever does what is due.
pub struct Actor<'a> {
    /// The record.
    pub ledger: &'a Ledger,
    /// Whether pages are judged.
    pub judges: bool,
}

type Result = std::result::Result<Answer, NoAnswer>;

impl Actor<'_> {
    /// Does it; `below` is where a page below the last one begins.
    pub async fn act(
        &self,
        connection: &mut Connection,
        due: &Due,
        below: Option<TweetId>,
    ) -> Done {
        let user = due.user;
        match due.action {
            Action::Timeline => self.page(connection, user, List::Home, None).await,
            Action::Scroll => self.page(connection, user, List::Home, below).await,
            Action::Author(author) => self.page(connection, user, List::Author(author), None).await,
            Action::Profile(other) => {
                let path = format!("/users/{}", self.handle(other));
                let (answer, sent, ended) =
                    self.call(connection, user, Method::GET, &path, None).await;
                done(outcome(&answer, &[200]), sent, ended)
            }
            Action::Post(post) => self.post(connection, user, post).await,
            Action::Delete(post) => self.delete(connection, user, post).await,
            Action::Follow(other) => self.change(connection, user, other, Change::Follow).await,
            Action::Unfollow(other) => self.change(connection, user, other, Change::Unfollow).await,
            Action::Block(other) => self.change(connection, user, other, Change::Block).await,
            Action::Unblock(other) => self.change(connection, user, other, Change::Unblock).await,
        }
    }

    fn handle(&self, user: u32) -> &str {
        self.ledger.population.users[user as usize].handle.as_str()
    }

    async fn call(
        &self,
        connection: &mut Connection,
        user: u32,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> (Result, Instant, Instant) {
        let bearer = &self.ledger.population.users[user as usize].bearer;
        let sent = Instant::now();
        let answer = connection.call(&Call { method, path, bearer, body }).await;
        (answer, sent, Instant::now())
    }

    async fn page(
        &self,
        connection: &mut Connection,
        reader: u32,
        list: List,
        before: Option<TweetId>,
    ) -> Done {
        let mut path = match list {
            List::Home => "/timeline".to_owned(),
            List::Author(author) => format!("/users/{}/tweets", self.handle(author)),
        };
        if let Some(before) = before {
            path = format!("{path}?before={before}");
        }
        let (answer, sent, ended) = self.call(connection, reader, Method::GET, &path, None).await;
        let mut done = done(outcome(&answer, &[200]), sent, ended);
        let Ok(answer) = answer else { return done };
        if done.outcome == Outcome::Error("blocked".to_owned())
            && let List::Author(author) = list
            && self.ledger.pair(reader, author).is_some_and(|pair| pair.blocked != Sees::No)
        {
            done.outcome = Outcome::Done;
        }
        if answer.status != 200 {
            return done;
        }
        let Ok(page) = Page::read(&answer.body) else {
            done.outcome = Outcome::Error("no page".to_owned());
            return done;
        };
        if page.degraded {
            done.outcome = Outcome::Degraded;
        }
        (done.next, done.judged) = (page.next, self.judges);
        if self.judges {
            let (asked_us, came_us) = (self.ledger.us(sent), self.ledger.us(ended));
            live::judge(self.ledger, &Read { reader, list, before, asked_us, came_us, page });
        }
        done
    }

    async fn post(&self, connection: &mut Connection, author: u32, post: u32) -> Done {
        self.ledger.posting(post, author);
        let body = format!("{{\"text\":\"{}\"}}", self.ledger.tag.text(post));
        let (answer, sent, ended) =
            self.call(connection, author, Method::POST, "/tweets", Some(body)).await;
        let mut done = done(outcome(&answer, &[201]), sent, ended);
        let mut end = end(&answer, &[201]);
        let known = answer.ok().filter(|_| end == End::Done);
        let posted = known.and_then(|answer| serde_json::from_slice::<Posted>(&answer.body).ok());
        if end == End::Done && posted.is_none() {
            (end, done.outcome) = (End::Unknown, Outcome::Error("no tweet".to_owned()));
        }
        let id = posted.as_ref().map(|posted| posted.id);
        let seen = posted.is_some_and(|posted| !posted.degraded);
        self.ledger.posted(post, id, end, self.ledger.us(ended), seen);
        done.posted = id;
        done
    }

    async fn delete(&self, connection: &mut Connection, author: u32, post: u32) -> Done {
        let now = Instant::now();
        let Some(id) = self.ledger.deleting(post) else {
            return done(Outcome::Skipped, now, now);
        };
        let path = format!("/tweets/{id}");
        let (answer, sent, ended) =
            self.call(connection, author, Method::DELETE, &path, None).await;
        self.ledger.deleted(post, end(&answer, &[204]), self.ledger.us(ended));
        done(outcome(&answer, &[204, 202]), sent, ended)
    }

    async fn change(
        &self,
        connection: &mut Connection,
        user: u32,
        other: u32,
        change: Change,
    ) -> Done {
        let handle = self.handle(other);
        let (method, path, body) = match change {
            Change::Follow => {
                let body = format!("{{\"handle\":\"{handle}\"}}");
                (Method::POST, "/follow".to_owned(), Some(body))
            }
            Change::Unfollow => (Method::DELETE, format!("/follow/{handle}"), None),
            Change::Block => (Method::PUT, format!("/blocks/{handle}"), None),
            Change::Unblock => (Method::DELETE, format!("/blocks/{handle}"), None),
        };
        let before = self.ledger.changing(user, other, change);
        let (answer, sent, ended) = self.call(connection, user, method, &path, body).await;
        let wanted: &[u16] = if change == Change::Follow { &[201, 200] } else { &[204] };
        let went = (change, end(&answer, wanted));
        self.ledger.changed((user, other), before, went, self.ledger.us(ended));
        done(outcome(&answer, &[200, 201, 202, 204]), sent, ended)
    }
}

const fn done(outcome: Outcome, sent: Instant, ended: Instant) -> Done {
    Done { outcome, sent, ended, next: None, judged: false, posted: None }
}

fn outcome(answer: &Result, wanted: &[u16]) -> Outcome {
    match answer {
        Ok(answer) if wanted.contains(&answer.status) => Outcome::Done,
        Ok(answer) => Outcome::Error(answer.kind()),
        Err(NoAnswer::Unreachable) => Outcome::Error("unreachable".to_owned()),
        Err(NoAnswer::Unknown) => Outcome::Error("no answer".to_owned()),
    }
}

/// What the client of a write may conclude, as `docs/api.md` has it.
fn end(answer: &Result, wanted: &[u16]) -> End {
    match answer {
        Err(NoAnswer::Unreachable) => End::Refused,
        Err(NoAnswer::Unknown) => End::Unknown,
        Ok(answer) => match answer.status {
            status if wanted.contains(&status) => End::Done,
            202 => End::Pending,
            // Only what a role says of itself is certain: a 503 of something before it says nothing.
            503 if ["overloaded", "unavailable"].contains(&answer.kind().as_str()) => End::Refused,
            500.. => End::Unknown,
            _ => End::Refused,
        },
    }
}
