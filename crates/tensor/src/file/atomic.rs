//! A file is written whole or not at all: temporary name, fsync, rename, fsync of the folder.
#![forbid(unsafe_code)]

use super::disk;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path`, replacing what was there, so that a reader sees the old file or the new one.
///
/// # Errors
/// When something of it fails; the old file is then untouched, or the new one is there whole but may not be durable.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(path);
    let result = write_new(&temporary, bytes).and_then(|()| disk::rename(&temporary, path));
    if result.is_err() {
        // The error that made the write fail is the one to report.
        let _ = disk::remove_file(&temporary);
    }
    result.and_then(|()| disk::sync_folder(disk::parent(path)))
}

/// A file that is being written under a temporary name, to be put in place once it is whole; dropped before, it is gone.
#[derive(Debug)]
pub struct Pending {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<disk::File>,
}

impl Pending {
    /// Begins a file that will be called `path`; what has that name stays until then.
    ///
    /// # Errors
    /// When none can be made there.
    pub fn create(path: &Path) -> io::Result<Pending> {
        let temporary = temporary_name(path);
        let file = Some(disk::File::create(&temporary)?);
        Ok(Pending { path: path.into(), temporary, file })
    }

    /// Makes what was written durable, and gives it its name.
    ///
    /// # Errors
    /// When something of it fails; the old file is then untouched, or the new one is there whole but may not be durable.
    pub fn commit(mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.sync()?;
            disk::rename(&self.temporary, &self.path)?;
        }
        self.file = None;
        disk::sync_folder(disk::parent(&self.path))
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_mut().map_or(Ok(0), |file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // The error that ended the writing is the one to report.
            let _ = disk::remove_file(&self.temporary);
        }
    }
}

/// Writes a file and makes its contents durable, under a name or in a folder that nobody reads yet.
///
/// # Errors
/// When something of it fails; a part of the file may then be there.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = disk::File::create(path)?;
    file.write_all(bytes)?;
    file.sync()
}

/// Gives a finished folder, whose files are durable, its name; both are durable afterwards.
///
/// # Errors
/// When something of it fails; the folder may then have its name already.
pub fn rename_folder(from: &Path, to: &Path) -> io::Result<()> {
    disk::sync_folder(from)?;
    disk::rename(from, to)?;
    disk::sync_folder(disk::parent(to))
}

/// Removes what interrupted writes of files in `folder` have left. Nobody else may write there.
pub fn clean(folder: &Path) {
    let Ok(names) = std::fs::read_dir(folder) else { return };
    for entry in names.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_suffix(ENDING).and_then(|rest| rest.rsplit_once('.')).map(|(_, process)| process);
        if process.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit())) {
            // A remnant that stays does no harm.
            let _ = disk::remove_file(&entry.path());
        }
    }
}

const ENDING: &str = ".tmp";

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}{ENDING}", std::process::id()));
    path.with_file_name(name)
}
