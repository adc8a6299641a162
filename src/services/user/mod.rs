//! The user role.
