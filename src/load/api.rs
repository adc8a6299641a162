//! Calls beside the schedule: those of the beginning, of the audit and of what is put back at the end.
//! They are repeated until they are answered, so they measure nothing.

use std::time::{Duration, Instant};

use http::Method;

use super::{
    connection::{Answer, Call, Connection, NoAnswer, Target},
    ledger::Ledger,
    seen::{List, Page, Read},
};
use crate::{domain::TweetId, wire::api::Profile};

/// Calls that are open at once.
pub const AT_ONCE: usize = 16;
/// A call is repeated this often while the system says that it cannot answer, or not wholly.
const TRIES: usize = 60;
/// The pause between two.
const PAUSE: Duration = Duration::from_millis(100);

/// One who calls, over one connection.
pub struct Api<'a> {
    /// The record.
    pub ledger: &'a Ledger,
    connection: Connection,
}

/// What a list of pages gave.
#[derive(Debug)]
pub enum Listed {
    /// The page and when it was asked for and came, in microseconds since the run began.
    Page(Answer, u64, u64),
    /// The reader may not see it.
    Blocked,
}

impl<'a> Api<'a> {
    /// One who has not called yet.
    #[must_use]
    pub const fn new(ledger: &'a Ledger, target: Target) -> Self {
        Self { ledger, connection: Connection::new(target) }
    }

    fn handle(&self, user: u32) -> &'a str {
        self.ledger.population.users[user as usize].handle.as_str()
    }

    /// A call of `user`, until it is answered otherwise than by what passes.
    ///
    /// # Errors
    /// What the last answer was.
    pub async fn call(
        &mut self,
        user: u32,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer, String> {
        let bearer = &self.ledger.population.users[user as usize].bearer;
        let mut last = String::new();
        for _ in 0..TRIES {
            let (method, body) = (method.clone(), body.clone());
            match self.connection.call(&Call { method, path, bearer, body }).await {
                Ok(answer) if answer.status != 429 && answer.status < 500 => return Ok(answer),
                Ok(answer) => last = answer.kind(),
                Err(NoAnswer::Unreachable) => "it cannot be reached".clone_into(&mut last),
                Err(NoAnswer::Unknown) => "it does not answer".clone_into(&mut last),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(format!("{path}: {last}"))
    }

    /// A profile as `reader` sees it.
    ///
    /// # Errors
    /// What came instead.
    pub async fn profile(&mut self, reader: u32, user: u32) -> Result<Profile, String> {
        let path = format!("/users/{}", self.handle(user));
        let answer = self.call(reader, Method::GET, &path, None).await?;
        serde_json::from_slice(&answer.body).map_err(|_| format!("{path}: {}", answer.kind()))
    }

    /// A page of a list that is whole.
    ///
    /// # Errors
    /// What came instead.
    pub async fn list(
        &mut self,
        reader: u32,
        list: List,
        limit: u64,
        before: Option<TweetId>,
    ) -> Result<Listed, String> {
        let mut path = match list {
            List::Home => format!("/timeline?limit={limit}"),
            List::Author(author) => format!("/users/{}/tweets?limit={limit}", self.handle(author)),
        };
        if let Some(before) = before {
            path = format!("{path}&before={before}");
        }
        let mut why = "a degraded page".to_owned();
        for _ in 0..TRIES {
            let asked_us = self.ledger.us(Instant::now());
            let answer = self.call(reader, Method::GET, &path, None).await?;
            match answer.status {
                200 if !degraded(&answer) => {
                    return Ok(Listed::Page(answer, asked_us, self.ledger.us(Instant::now())));
                }
                200 => tokio::time::sleep(PAUSE).await,
                _ if answer.kind() == "blocked" => return Ok(Listed::Blocked),
                _ => {
                    why = answer.kind();
                    break;
                }
            }
        }
        Err(format!("{path}: {why}"))
    }
}

fn degraded(answer: &Answer) -> bool {
    Page::read(&answer.body).is_ok_and(|page| page.degraded)
}

/// The page of an answer, as it is judged.
///
/// # Errors
/// It is none.
pub fn read(
    answer: &Answer,
    (reader, list, before): (u32, List, Option<TweetId>),
    (asked_us, came_us): (u64, u64),
) -> Result<Read<'_>, String> {
    let page = Page::read(&answer.body).map_err(|error| format!("no page: {error}"))?;
    Ok(Read { reader, list, before, asked_us, came_us, page })
}

/// `items` in as many shares as are open at once.
#[must_use]
pub fn shares<T>(items: Vec<T>) -> Vec<Vec<T>> {
    let mut shares: Vec<Vec<T>> = (0..AT_ONCE.min(items.len())).map(|_| Vec::new()).collect();
    for (n, item) in items.into_iter().enumerate() {
        shares[n % AT_ONCE].push(item);
    }
    shares
}
