//! The embedded backend: one `SQLite` file per service, caches in the process. Nothing to install.
//!
//! Start with [`stores`] (what a role opens) and [`sqlite`] (the engine under every durable port).
//! `user.db` and `tweet.db` are the truth of their services; `timeline.db` holds the timeline
//! role's copy and the bus, so every role opens it.

pub mod blobs;
pub mod bulk;
pub mod bus;
pub mod cache;
pub mod durable;
pub mod folder;
pub mod graph;
pub mod hints;
pub mod homes;
pub mod keys;
pub mod limiter;
pub mod media;
pub mod outbox;
pub mod seeds;
pub mod sqlite;
pub mod stores;
pub mod timeline_store;
pub mod tweets;
pub mod users;

#[cfg(test)]
mod tests;

pub use bulk::Seeder;
pub use seeds::Seeds;
pub use sqlite::{Db, OpenError};
pub use stores::{Stores, TimelineStores, TweetStores, UserStores, lacking};
