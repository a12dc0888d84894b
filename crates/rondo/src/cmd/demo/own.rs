//! A text of the user's: what is wrong with it, in words that the demo's flags know.
#![forbid(unsafe_code)]

use crate::cmd::Failure;
use ::train::Error;
use std::fmt::Display;
use std::path::Path;

/// What a text is.
const FORM: &str = "name a text file (UTF-8), a .jsonl file with `text` in each line, or a folder of them; without --text the \
                    demo learns its own source";

/// Whether there is something of this name.
///
/// # Errors
/// What the system says, and what a text is.
pub fn is_there(text: &Path) -> Result<(), Failure> {
    match std::fs::metadata(text) {
        Ok(data) if data.is_dir() || data.is_file() => Ok(()),
        Ok(_) => Err(refused(text, "it is neither a file nor a folder", FORM)),
        Err(e) => Err(refused(text, e, FORM)),
    }
}

/// Why a text can't be learned, without the keys of a configuration, which the demo's user never sees.
pub fn failure(error: Error, text: &Path) -> Failure {
    let Error::Data { path, line, what } = error else { return error.into() };
    let what = what.split("\n  help:").next().unwrap_or_default();
    let short = ["nothing in it", "no target that counts"].iter().any(|part| what.contains(part));
    if short {
        let help =
            "some thousand characters are the least that a model learns from; name a longer text, or a folder of texts";
        return refused(text, "there is too little text in it", help);
    }
    let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    if what.contains("UTF-8") {
        let help = "save it as UTF-8, or name another file: only text can be learned";
        return refused(&path, format!("{place}not valid UTF-8"), help);
    }
    refused(&path, format!("{place}{what}"), FORM)
}

fn refused(path: &Path, what: impl Display, help: &str) -> Failure {
    Failure::bad_file(format!("--text {}: {what}\n  help: {help}", path.display()))
}
