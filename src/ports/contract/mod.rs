//! Contract suites: named behaviours that every adapter of a port shows.
