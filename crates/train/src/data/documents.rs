//! Documents of text: a file each, or a line each of JSONL files `{"text": "..."}`.
#![forbid(unsafe_code)]

use super::jsonl;
use super::source::{self, Document};
use crate::Error;
use std::path::{Path, PathBuf};

#[derive(serde::Deserialize)]
struct Line {
    text: String,
}

const FORM: &str = r#"{"text": "..."}"#;

/// Documents, and files of the folder that are none.
#[derive(Debug)]
pub struct Documents {
    /// In the order of their paths.
    pub all: Vec<Document>,
    /// Files that are no text.
    pub passed_over: Vec<PathBuf>,
}

/// The documents of the file or folder `path`; if it isn't there, of the file of that name beside a run's tokenizer, so
/// that a run folder which holds its own text can be moved. Files of a folder that are no text are passed over; where
/// bytes are tokens, only those with a zero byte aren't.
pub fn read(path: &Path, stored: Option<&Path>, bytes_are_tokens: bool) -> Result<Documents, Error> {
    let kept = stored.and_then(Path::parent).zip(path.file_name()).map(|(folder, name)| folder.join(name));
    let found = kept.filter(|kept| !path.exists() && kept.is_file());
    let is_text = |bytes: &[u8]| !bytes.contains(&0) && (bytes_are_tokens || std::str::from_utf8(bytes).is_ok());
    let mut documents = Documents { all: Vec::new(), passed_over: Vec::new() };
    for file in source::read(found.as_deref().unwrap_or(path), None)? {
        if file.path.extension().is_some_and(|e| e == "jsonl") {
            let lines: Vec<Line> = jsonl::objects(&file.bytes, &file.path, FORM)?;
            let document = |line: Line| Document { path: file.path.clone(), bytes: line.text.into_bytes() };
            documents.all.extend(lines.into_iter().map(document));
        } else if path.is_dir() && !is_text(&file.bytes) {
            documents.passed_over.push(file.path);
        } else {
            documents.all.push(file);
        }
    }
    Ok(documents)
}
