//! Benchmarks: ops against this machine's limits, training against peers.

pub mod ops;
pub mod train;
pub mod tune;
