//! Scenarios of the gateway.
