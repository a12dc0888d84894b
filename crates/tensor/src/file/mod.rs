//! Files: written whole or not at all; safetensors.

pub mod atomic;
pub mod safetensors;
