//! Training: batches, optimizer, checkpoints and run folders. One training step is one graph.

pub mod bigram;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod debug;
pub mod evaluate;
pub mod folder;
pub mod keys;
pub mod metrics;
pub mod observe;
pub mod run;
pub mod samples;
pub mod schedule;
pub mod step;
pub mod summary;
pub mod tensorboard;
pub mod trainer;

pub use config::{Config, ConfigError, Overrides};
pub use observe::{Ending, Observer};
pub use run::Run;
pub use trainer::Trainer;

use std::path::{Path, PathBuf};

/// Why training can't begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration that makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file or folder that can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file whose contents can't be used.
    #[error("{path}{}: {what}", line.map(|l| format!(" line {l}")).unwrap_or_default())]
    Data {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: Option<usize>,
        /// What is wrong with it.
        what: String,
    },
    /// A safetensors file that can't be read or written.
    #[error(transparent)]
    Tensors(#[from] tensor::file::safetensors::Error),
    /// A run folder that can't be used as asked.
    #[error("{0}")]
    Folder(String),
    /// The step doesn't trace: a mistake in the model's shapes.
    #[error(transparent)]
    Trace(#[from] graph::TraceError),
    /// The step can't be planned for this device.
    #[error(transparent)]
    Plan(#[from] graph::plan::PlanError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// Too many gradients in a row were not finite.
    #[error(
        "step {step}: the gradient was not finite {in_a_row} times in a row; no parameter was changed by these steps\n  {good}"
    )]
    NotFinite {
        /// The last of them.
        step: usize,
        /// How many.
        in_a_row: usize,
        /// Where the last good state is.
        good: String,
    },
}

impl Error {
    /// An error of the system at `path`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<'_> {
        move |source| Error::Io { path: path.into(), source }
    }
}
