//! The timeline store in Apache Cassandra 5, Amazon Keyspaces, or what else speaks CQL.
//!
//! Start with [`store`] (what the rows mean) and [`followers`] (how partitions stay small). `cql` is the
//! way there, and says how a statement ends; `statements` is the list of all of them, which
//! `conformance` holds to the rules of Keyspaces. The tables are in `migrations/cassandra`, which
//! [`migrate`] applies.

pub mod followers;
pub mod migrate;
pub mod open;
pub mod store;

mod cql;
mod fault;
mod homes;
mod login;
mod seeds;
mod statements;
mod tls;
mod years;

#[cfg(test)]
mod conformance;

pub use cql::answers;
pub use migrate::{check, migrate};
pub use open::OpenError;
pub use store::CassandraTimelineStore;
