//! A near-cache in front of a body cache: one per replica.
