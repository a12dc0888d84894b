//! Bytes at rest: element types, shapes, random numbers, hashes and files.

pub mod dtype;
pub mod file;
pub mod hash;
pub mod number;
pub mod quant;
pub mod rng;
pub mod shape;

pub use dtype::DType;
pub use shape::Shape;
