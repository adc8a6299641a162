//! Rate limits within one process.
