//! Sequences and a KV cache: prefill and decode as recorded steps, sampling on the device. Token ids, never text.

mod engine;
mod kv_cache;
mod sampler;
mod sequence;
mod step;

pub use engine::{Engine, Options};
pub use sampler::Sampling;
pub use sequence::{Finish, Request, SequenceId, Token};

use graph::units::bytes;

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
    #[error(
        "{device}: {} are needed (model and steps {}, cache of {positions} positions {}), {} are there{note}\n  help: {}",
        bytes(*need), bytes(need.saturating_sub(*cache)), bytes(*cache), bytes(*have), advice(*fits)
    )]
    Memory {
        /// The device.
        device: String,
        /// Bytes needed.
        need: u64,
        /// Bytes there.
        have: u64,
        /// Which bytes those are.
        note: String,
        /// Bytes of the cache among those needed.
        cache: u64,
        /// Positions of the cache, of all sequences together.
        positions: u64,
        /// Positions for which the memory would do; 0 for none.
        fits: u64,
    },
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

/// What would fit.
fn advice(fits: u64) -> String {
    match fits {
        0 => "no context would fit; a smaller model is needed".into(),
        fits => format!("a context of {fits} positions in all would fit"),
    }
}
