//! From a configuration to a traced step, and the weights that it starts from. Knows ops and graphs, and no device.

pub mod config;
pub mod convert;
pub mod family;
pub mod features;
pub mod folder;
pub mod memory;
pub mod synth;
pub mod text;
pub mod transformer;
pub mod weights;

pub use config::{Config, Mixer, Mlp, Norm, Positions, RopeScaling};
pub use features::Features;
pub use folder::{Folder, FolderError};
pub use transformer::{Cache, KV_CACHE, Sight, Stream, body, head, transformer};
