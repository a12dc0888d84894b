//! Passes: rewrites of a graph into a better one.
