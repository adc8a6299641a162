//! Clients that write down what they were told, and a judge that holds all that can be read against
//! it: shared by the crash loop (`tests/crash`) and the fault matrix (`tests/matrix`).
//!
//! [`world`] is the model, [`client`] changes it by calls over [`api`], [`settle`] finds out what a
//! client does not know, [`audit`] reads everything and compares it by the rules of [`checks`].

#![allow(dead_code, reason = "each of the programs uses a part")]

pub mod api;
pub mod audit;
pub mod checks;
pub mod client;
pub mod dice;
pub mod settle;
pub mod violation;
pub mod world;
