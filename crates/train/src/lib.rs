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
    #[error("{path}: {source}{}", advice(source))]
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
    /// What a newer version of Rondo has written.
    #[error(
        "{path}: it has format {format}, of a newer version of Rondo; this one reads up to format {reads}\n  \
         help: go on with the version that wrote it, or a later one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The latest format that this build reads.
        reads: u32,
    },
    /// A run that had to stop: what stopped it, and what of it is kept.
    #[error("{source}\n  {kept}")]
    Stopped {
        /// What stopped it.
        source: Box<Error>,
        /// What is lost, and how to go on.
        kept: String,
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

/// What may help where the system refuses something of a file.
fn advice(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "\n  help: make room there, or choose another folder",
        ErrorKind::FileTooLarge => "\n  help: let files grow larger (ulimit -f), or choose another folder",
        ErrorKind::PermissionDenied => "\n  help: see who may read and write there, or choose another folder",
        ErrorKind::ReadOnlyFilesystem => "\n  help: choose a folder that can be written to",
        _ => "",
    }
}

impl Error {
    /// An error of the system at `path`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<'_> {
        move |source| Error::Io { path: path.into(), source }
    }
}
