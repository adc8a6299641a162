//! The Redis adapter, against one server and a cluster in containers. Needs Docker
//! (`scripts/docker-start`) and the image (`infra/local-images/build redis`, or `CHIRP_IMAGE_REDIS`).

#![allow(clippy::unwrap_used, reason = "a test that fails says why")]
#![allow(clippy::disallowed_methods, reason = "tests live on real time")]

mod contract;
mod faults;
mod hints;
mod moves;
mod ring;
mod server;
