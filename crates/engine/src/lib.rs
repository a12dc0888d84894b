//! Sequences and a KV cache: prefill and decode as recorded steps, sampling on the device. Token ids, never text.

mod engine;
mod kv_cache;
mod sampler;
mod sequence;
mod step;

pub use engine::{Engine, Options};
pub use sampler::Sampling;
pub use sequence::{Finish, Request, SequenceId, Token};

/// Why the engine can't begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request that can't be served.
    #[error("{0}")]
    Request(String),
    /// A parameter that the model needs and the weights don't have, or have in another shape.
    #[error("parameter `{name}`: {what}")]
    Weight {
        /// The parameter.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// Not enough memory: what is needed, what is there, what would fit.
    #[error("{0}")]
    Memory(String),
    /// A step doesn't trace: a mistake in the model's shapes.
    #[error(transparent)]
    Trace(#[from] graph::TraceError),
    /// A step can't be planned for this device.
    #[error(transparent)]
    Plan(#[from] graph::plan::PlanError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] device::Error),
}
