//! Files: what is done to the disk; written whole or not at all; read where they lie; GGUF and safetensors.

pub mod atomic;
pub mod content;
pub mod disk;
pub mod gguf;
pub mod mmap;
pub mod problem;
pub mod safetensors;
pub mod tensors;

pub use content::{Content, gguf_in};
pub use problem::{Error, Problem, printable};
pub use tensors::{Planned, TensorInfo, Tensors};
