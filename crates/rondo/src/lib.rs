//! The public API: what a program that uses Rondo as a library needs, re-exported from the crates below.

pub use device;
pub use graph;
pub use model;
pub use ops;
pub use tensor;
pub use train;
