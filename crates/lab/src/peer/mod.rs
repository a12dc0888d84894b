//! The programs that Rondo is compared with.

pub mod torch;
