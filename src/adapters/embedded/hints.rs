//! Hints within one process.
