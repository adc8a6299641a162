//! The timeline role.
