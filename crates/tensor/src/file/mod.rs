//! Files: what is done to the disk; written whole or not at all; safetensors.

pub mod atomic;
pub mod disk;
pub mod safetensors;
