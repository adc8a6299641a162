//! Scenarios of the embedded stores. The contract suites of the ports ask for more; here is what
//! only these adapters promise, and what a suite cannot reach.

mod bulk;
mod bus;
mod folder;
mod graph;
mod keys;
mod outbox;
mod timeline;
mod tweets;
mod users;

use tempfile::TempDir;

use super::{Stores, sqlite::Options};
use crate::{
    domain::{Body, DisplayName, Handle, MediaList, TweetId, TweetText, UserId},
    ports::Account,
    rt::{Rt, tokio_rt::TokioRuntime},
};

/// Stores in a folder that goes when they go.
struct Fixture {
    stores: Stores,
    rt: Rt,
    dir: TempDir,
}

fn fixture() -> Fixture {
    let dir = TempDir::new().unwrap();
    let rt = TokioRuntime::handle();
    let stores = Stores::open(&dir.path().join("data"), &rt, Options::default()).unwrap();
    Fixture { stores, rt, dir }
}

impl Fixture {
    /// The same folder, opened once more, as another process would.
    fn again(&self) -> Stores {
        Stores::open(&self.dir.path().join("data"), &self.rt, Options::default()).unwrap()
    }
}

fn account(id: u64, handle: &str) -> Account {
    Account {
        id: UserId(id),
        handle: Handle::parse(handle).unwrap(),
        name: DisplayName::parse("Somebody").unwrap(),
        created_at_ms: 1_000,
    }
}

fn body(id: u64, author: u64) -> Body {
    Body {
        id: TweetId(id),
        author: UserId(author),
        handle: Handle::parse(&format!("user_{author}")).unwrap(),
        name: DisplayName::parse("Somebody").unwrap(),
        text: TweetText::parse("hello").unwrap(),
        media: MediaList::default(),
        created_at_ms: 1_000_000 + id,
    }
}

fn ids(bodies: &[Body]) -> Vec<u64> {
    bodies.iter().map(|body| body.id.0).collect()
}
