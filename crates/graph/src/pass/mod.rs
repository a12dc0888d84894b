//! Passes: rewrites of a graph into a better one. Each is pure and can be left out.

mod fuse;
mod prune;

pub use fuse::fuse;
pub(crate) use fuse::unfused;
pub use prune::prune;
