//! What is wrong with a model file: which file, where in it, what, and what to do.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Text out of a file as it may be shown on a terminal: without line ends, escapes and other characters that steer it,
/// which stand there as `\n` and `\u{1b}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    // Control characters, and those that change the order of what is written.
    let steers = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match steers(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// What is wrong with a file: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {}: {}\n  help: {help}", printable(field), printable(what))]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped() {
        assert!(matches!(printable("blk.0 `größe` 👋"), Cow::Borrowed("blk.0 `größe` 👋")));
        assert_eq!(printable("a\x1b]0;x\x07\r\nb\u{9b}2J\u{202e}"), "a\\u{1b}]0;x\\u{7}\\r\\nb\\u{9b}2J\\u{202e}");
        let problem = Problem::new(7, "key `\x1b[2J\nerror: all is lost`", "it is \x1b[31m");
        let text = problem.within(Path::new("m.gguf")).to_string();
        assert!(!text.contains('\x1b') && text.lines().count() == 2, "{text}");
    }
}
