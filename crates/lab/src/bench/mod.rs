//! Benchmarks: ops and block formats against this machine's limits, training against peers.

pub mod formats;
pub mod ops;
pub mod train;
pub mod tune;
