//! What leaves the process: HTTP bodies, event envelopes and the one table of routes.
//!
//! These are the only types with an outward serialisation. Ids are decimal strings in JSON, because
//! JavaScript cannot hold 64 bits. Start with [`routes`] (the API) and [`events`] (the bus).

pub mod api;
pub mod events;
mod ids;
pub mod internal;
pub mod media;
pub mod problem;
pub mod routes;
pub mod trace;
