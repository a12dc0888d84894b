//! What is wrong with a model file: which file, where in it, what, and what to do.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

/// What is wrong with a file: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {field}: {what}\n  help: {help}")]
pub struct Problem {
    /// Bytes from the file's start.
    pub offset: u64,
    /// Which part of the file: a header field, a key, a tensor.
    pub field: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub help: &'static str,
}

/// What to do with most files that are wrong.
const GET_AGAIN: &str = "the file is damaged or was written wrongly; get it again";

impl Problem {
    /// A problem with the help that fits most.
    pub fn new(offset: u64, field: impl Into<String>, what: impl Into<String>) -> Problem {
        Problem { offset, field: field.into(), what: what.into(), help: GET_AGAIN }
    }

    /// The same with other help.
    pub fn help(self, help: &'static str) -> Problem {
        Problem { help, ..self }
    }

    /// The same with the file's name.
    pub fn within(self, path: &Path) -> Error {
        Error::Format { path: path.into(), problem: self }
    }
}

/// An error with the file's name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened, read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It isn't a valid file of its format.
    #[error("{path}: {problem}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: Problem,
    },
}

impl Error {
    /// For `map_err` of what the system says about a file.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { path, source }
    }

    /// A file that a model needs and that isn't there.
    pub fn missing(path: &Path, what: &str, help: &str) -> Error {
        let what = format!("{what}\n  help: {help}");
        Error::Io { path: path.into(), source: std::io::Error::new(std::io::ErrorKind::NotFound, what) }
    }

    /// The file that it is about.
    pub fn path(&self) -> &Path {
        match self {
            Error::Io { path, .. } | Error::Format { path, .. } => path,
        }
    }
}
