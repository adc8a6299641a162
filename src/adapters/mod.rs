//! What fills the ports, one folder per backend, and decorators that any backend may wear.
