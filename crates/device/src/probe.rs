//! This machine's measured limits.
