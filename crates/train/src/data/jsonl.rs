//! Lines of JSON objects; what is wrong with one is said with its line.
#![forbid(unsafe_code)]

use crate::Error;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Longer lines are no examples.
const LONGEST_LINE: usize = 1 << 24;

/// The objects of a file, a line each; empty lines are passed over. `form` shows what a line is.
pub fn objects<T: DeserializeOwned>(bytes: &[u8], path: &Path, form: &str) -> Result<Vec<T>, Error> {
    let mut objects = Vec::new();
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let wrong = |what: String| Error::Data { path: path.into(), line: Some(index + 1), what };
        if line.len() > LONGEST_LINE {
            return Err(wrong(format!("it has {} bytes; a line has at most {LONGEST_LINE}", line.len())));
        }
        let line = std::str::from_utf8(line).map_err(|e| {
            wrong(format!(
                "not valid UTF-8 at byte {} of the line\n  help: save the file as UTF-8",
                e.valid_up_to() + 1
            ))
        })?;
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if !line.starts_with('{') {
            return Err(wrong(format!("it is not a JSON object\n  help: each line is {form}")));
        }
        let object = serde_json::from_str(line);
        objects.push(object.map_err(|e| wrong(format!("{}\n  help: each line is {form}", in_line(&e))))?);
    }
    Ok(objects)
}

/// What is wrong with a line's JSON; the parser counts each line as line 1.
fn in_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    let column = if error.column() > 0 { format!(" (column {})", error.column()) } else { String::new() };
    format!("{what}{column}")
}
