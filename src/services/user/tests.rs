//! Scenarios of the user role.
