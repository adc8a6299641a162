//! The tweet role.
