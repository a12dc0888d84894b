//! A file's bytes without a copy: mapped read-only, with what is needed to notice that the file has changed since.
#![expect(unsafe_code, reason = "the bytes of a mapping are the file's, which others may change")]

use memmap2::Mmap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file that is read where it lies.
#[derive(Debug)]
pub struct Mapped {
    path: PathBuf,
    content: Content,
}

/// Where the bytes are.
#[derive(Debug)]
enum Content {
    Memory(Vec<u8>),
    /// `map` is none for an empty file, which can't be mapped.
    Disk {
        file: fs::File,
        map: Option<Mmap>,
        stamp: Stamp,
    },
}

/// What changes when a file is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Stamp {
        Stamp { bytes: metadata.len(), modified: metadata.modified().ok() }
    }
}

impl Mapped {
    /// Maps a whole file. Nothing is read before it is looked at.
    ///
    /// # Errors
    /// When it isn't there, isn't a plain file (a folder, a pipe, a device), or can't be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Mapped> {
        // Looked at first: opening a pipe would wait for its writer.
        plain(&fs::metadata(path)?)?;
        let file = fs::File::open(path)?;
        let metadata = file.metadata()?;
        plain(&metadata)?;
        let stamp = Stamp::of(&metadata);
        // SAFETY: the mapping is read-only and shared with nobody who writes through this process. Another process that
        // writes the file changes bytes under a reader: every reader copies what it decides on (lengths, offsets,
        // names) and checks it against the length held here, so that changed bytes are wrong numbers, never a wrong
        // access. A file that shrinks ends the process with SIGBUS; `unchanged` notices it before long readings.
        let map = if stamp.bytes == 0 { None } else { Some(unsafe { Mmap::map(&file)? }) };
        Ok(Mapped { path: path.into(), content: Content::Disk { file, map, stamp } })
    }

    /// Bytes in memory that stand for a file; `path` is for errors.
    pub fn of_bytes(path: &Path, bytes: Vec<u8>) -> Mapped {
        Mapped { path: path.into(), content: Content::Memory(bytes) }
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Memory(bytes) => bytes,
            Content::Disk { map, .. } => map.as_deref().unwrap_or_default(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the file has its size and its time of change still, under its name too.
    ///
    /// # Errors
    /// When it hasn't, or can't be asked.
    pub fn unchanged(&self) -> io::Result<()> {
        let Content::Disk { file, stamp, .. } = &self.content else { return Ok(()) };
        let held = Stamp::of(&file.metadata()?);
        let named = Stamp::of(&fs::metadata(&self.path)?);
        if held == *stamp && named == *stamp {
            return Ok(());
        }
        let (before, now) = (stamp.bytes, named.bytes);
        let what = if before == now { String::new() } else { format!(" (it had {before} bytes, and has {now})") };
        Err(io::Error::other(format!("it has changed while it was being read{what}: read it again when it is whole")))
    }
}

fn plain(metadata: &fs::Metadata) -> io::Result<()> {
    let what = if metadata.is_dir() {
        "it is a folder, not a file"
    } else if !metadata.is_file() {
        "it is a device or a pipe, not a file"
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_is_noticed() {
        let path = std::env::temp_dir().join(format!("rondo-mmap-{}", std::process::id()));
        fs::write(&path, b"some bytes").expect("the folder for temporary files can be written");
        let mapped = Mapped::open(&path).expect("it is a plain file");
        assert_eq!(mapped.bytes(), b"some bytes");
        mapped.unchanged().expect("nobody wrote it");
        fs::File::options().append(true).open(&path).and_then(|f| f.set_len(11)).expect("it can grow");
        let error = mapped.unchanged().expect_err("it has grown").to_string();
        assert!(error.contains("it had 10 bytes, and has 11"), "{error}");
        // Replaced by another of the same size: the mapping is of the old one.
        let mapped = Mapped::open(&path).expect("it is a plain file");
        let other = path.with_extension("other");
        fs::write(&other, b"other byte").expect("it can be written");
        fs::rename(&other, &path).expect("it can be renamed");
        mapped.unchanged().expect_err("another file has its name");
        fs::write(&path, b"").expect("it can be written");
        assert_eq!(Mapped::open(&path).expect("an empty file is a file").bytes(), b"");
        fs::remove_file(&path).expect("it is there");
        assert!(Mapped::open(&std::env::temp_dir()).expect_err("a folder").to_string().contains("a folder"));
    }
}
