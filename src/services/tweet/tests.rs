//! Scenarios of the tweet role.
