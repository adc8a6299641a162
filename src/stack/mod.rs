//! Composition: builds roles from configuration and runs a whole stack.
