//! Why a template can't be rendered: what kind of mistake, where in the template, and in which words.

use std::fmt;

/// A place in a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// From 1; 0 where no place is known.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The template isn't Jinja.
    Syntax,
    /// The template called `raise_exception`; the message is its text.
    Raised,
    /// A value was used that isn't there.
    Undefined,
    /// A value is of the wrong kind, or out of the range, for what is done with it.
    Value,
    /// The template reaches for what no chat template needs: files, or the insides of Python.
    Refused,
    /// One of the `Limits` was met.
    Limit,
}

/// An error of parsing or rendering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The template's.
    pub name: String,
    /// What went wrong.
    pub kind: Kind,
    /// Where in the template.
    pub at: At,
    /// In words; for `Kind::Raised` the template's own.
    pub message: String,
}

impl Error {
    /// An error whose place is filled in by whoever knows it.
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { name: String::new(), kind, at: At::default(), message: message.into() }
    }

    pub(super) fn value(message: impl Into<String>) -> Error {
        Error::new(Kind::Value, message)
    }

    /// The same error at `at`, if it has no place yet.
    pub(super) fn or_at(mut self, at: At) -> Error {
        if self.at.line == 0 {
            self.at = at;
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if !self.name.is_empty() {
            write!(f, "{}: ", self.name)?;
        }
        if self.at.line > 0 {
            write!(f, "line {}, column {}: ", self.at.line, self.at.column)?;
        }
        let what = match self.kind {
            Kind::Syntax => "syntax error: ",
            Kind::Raised => "the template refuses the conversation: ",
            Kind::Refused => "refused: ",
            Kind::Undefined | Kind::Value | Kind::Limit => "",
        };
        write!(f, "{what}{}", self.message)
    }
}

impl std::error::Error for Error {}

/// What parsing and rendering answer.
pub(super) type Result<T> = std::result::Result<T, Error>;
