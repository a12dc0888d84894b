//! Files of training data: one, or all of a folder in the order of their paths.
#![forbid(unsafe_code)]

use crate::Error;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Data above this size is refused: all rows are held in memory.
const LARGEST: u64 = 1 << 28;

/// One file's contents.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes, without a byte-order mark.
    pub bytes: Vec<u8>,
}

fn refuse(path: &Path, what: String) -> Error {
    Error::Data { path: path.into(), line: None, what }
}

/// The file `path`, or the files under the folder `path` whose names end in `.extension`, where one is given; hidden
/// ones and links are passed over.
pub fn read(path: &Path, extension: Option<&str>) -> Result<Vec<Document>, Error> {
    let data = std::fs::metadata(path).map_err(|e| {
        let help = if path.is_relative() { "\n  help: data.path begins where rondo is started" } else { "" };
        refuse(path, format!("{e}{help}"))
    })?;
    let mut files = Vec::new();
    if data.is_dir() {
        collect(path, extension, &mut files)?;
        files.sort();
        if files.is_empty() {
            let kind = extension.map(|e| format!(" *.{e}")).unwrap_or_default();
            return Err(refuse(path, format!("the folder has no{kind} files")));
        }
    } else if data.is_file() {
        files.push(path.to_path_buf());
    } else {
        return Err(refuse(
            path,
            "it is neither a file nor a folder\n  help: data.path names a file, or a folder of files".into(),
        ));
    }
    let mut total = 0;
    let mut documents = Vec::new();
    for file in files {
        let mut bytes = Vec::new();
        let left = LARGEST - total;
        let open = std::fs::File::open(&file).map_err(|e| refuse(&file, e.to_string()))?;
        // One byte more than there may be; a file may grow while it is read.
        open.take(left + 1).read_to_end(&mut bytes).map_err(|e| refuse(&file, e.to_string()))?;
        if bytes.len() as u64 > left {
            let what = format!("it has more than {LARGEST} bytes, the most that are held in memory");
            return Err(refuse(path, format!("{what}\n  help: take a part of it")));
        }
        total += bytes.len() as u64;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(bytes);
        documents.push(Document { path: file, bytes });
    }
    Ok(documents)
}

fn collect(folder: &Path, extension: Option<&str>, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(Error::io(folder))?);
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            collect(&path, extension, files)?;
        } else if kind.is_file() && extension.is_none_or(|e| path.extension().is_some_and(|x| x == e)) {
            files.push(path);
        }
    }
    Ok(())
}
