//! Calls between roles: within one process, and over HTTP.
