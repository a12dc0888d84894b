//! Documents of text: a file each, or a line each of JSONL files `{"text": "..."}`.
#![forbid(unsafe_code)]

use super::source::{self, Document};
use crate::Error;
use std::path::{Path, PathBuf};

#[derive(serde::Deserialize)]
struct Line {
    text: String,
}

/// The documents of the file or folder `path`; if it isn't there, of the file of that name beside a run's tokenizer, so
/// that a run folder which holds its own text can be moved.
pub fn read(path: &Path, stored: Option<&Path>) -> Result<Vec<Document>, Error> {
    let kept = stored.and_then(Path::parent).zip(path.file_name()).map(|(folder, name)| folder.join(name));
    let found = kept.filter(|kept| !path.exists() && kept.is_file());
    let mut documents = Vec::new();
    for file in source::read(found.as_deref().unwrap_or(path), None)? {
        if file.path.extension().is_some_and(|e| e == "jsonl") {
            lines(&file.bytes, &file.path, &mut documents)?;
        } else {
            documents.push(file);
        }
    }
    Ok(documents)
}

/// A document a line; empty lines are passed over.
fn lines(bytes: &[u8], path: &Path, documents: &mut Vec<Document>) -> Result<(), Error> {
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let wrong = |what: String| Error::Data { path: path.into(), line: Some(index + 1), what };
        let line = std::str::from_utf8(line).map_err(|_| wrong("not valid UTF-8".into()))?.trim();
        if line.is_empty() {
            continue;
        }
        let Line { text } =
            serde_json::from_str(line).map_err(|e| wrong(format!("{e}; expected {{\"text\": \"...\"}}")))?;
        documents.push(Document { path: PathBuf::from(path), bytes: text.into_bytes() });
    }
    Ok(())
}
