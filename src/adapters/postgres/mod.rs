//! The `PostgreSQL` backend: a database of the user role, another of the tweet role.
//!
//! Start with [`stores`] (what a role opens) and [`pool`] (how a call ends). The tables are in
//! `migrations/postgres`, which [`migrate`] applies. Statements are plain texts, so that each can be
//! read where it is used and is prepared once per connection.

pub mod graph;
pub mod keys;
pub mod media;
pub mod migrate;
pub mod outbox;
pub mod pool;
pub mod seeds;
pub mod server;
pub mod stores;
pub mod tweets;
pub mod users;

mod fault;

pub use pool::Pg;
pub use stores::{OpenError, TweetStores, UserStores};
