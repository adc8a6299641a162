//! The caches of the timeline role, in the process.
