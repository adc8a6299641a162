//! The adapters of real servers, against those servers in containers. Needs Docker, and images that
//! `infra/images.toml` names; `infra/local-images/build` makes them.

#![allow(clippy::unwrap_used, reason = "a test that fails says why")]
#![allow(clippy::disallowed_methods, reason = "tests live on real time")]

mod redis;
