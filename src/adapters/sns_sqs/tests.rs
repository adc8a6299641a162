//! Calls against a server that says what it is told to.
