//! The few operations through which files are changed; a test can watch each, or make it fail.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Bytes of one write; a long file is several operations, so that it can end in the middle.
const PIECE: usize = 1 << 16;

/// What is about to be done to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A folder is made.
    CreateFolder(&'a Path),
    /// An empty file is made, in place of one that may be there.
    Create(&'a Path),
    /// A file is opened, to be added to.
    Open(&'a Path),
    /// Bytes are added to a file's end.
    Write(&'a Path, &'a [u8]),
    /// A file's contents are made durable.
    SyncFile(&'a Path),
    /// A folder's entries are made durable.
    SyncFolder(&'a Path),
    /// A file or folder gets another name.
    Rename(&'a Path, &'a Path),
    /// A file is removed.
    RemoveFile(&'a Path),
    /// An empty folder is removed.
    RemoveFolder(&'a Path),
}

/// Is told of each operation before it is done; its error is the operation's, which is then not done. A write that it
/// fails is done by half.
pub type Watcher = Arc<dyn Fn(Operation<'_>) -> io::Result<()> + Send + Sync>;

static WATCHED: AtomicBool = AtomicBool::new(false);
static WATCHER: RwLock<Option<Watcher>> = RwLock::new(None);

/// Sets the process's one watcher, for tests; `None` ends it. Unwatched, an operation costs one load more.
pub fn watch(watcher: Option<Watcher>) {
    let mut held = WATCHER.write().unwrap_or_else(PoisonError::into_inner);
    WATCHED.store(watcher.is_some(), Ordering::SeqCst);
    *held = watcher;
}

fn tell(operation: Operation<'_>) -> io::Result<()> {
    if !WATCHED.load(Ordering::Relaxed) {
        return Ok(());
    }
    let watcher = WATCHER.read().unwrap_or_else(PoisonError::into_inner).clone();
    watcher.map_or(Ok(()), |watcher| watcher(operation))
}

/// A file that is being written at its end.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    file: fs::File,
}

impl File {
    /// An empty file, in place of one that may be there.
    pub fn create(path: &Path) -> io::Result<File> {
        tell(Operation::Create(path))?;
        Ok(File { path: path.into(), file: fs::File::create(path)? })
    }

    /// A file that is there, to be added to.
    pub fn append(path: &Path) -> io::Result<File> {
        tell(Operation::Open(path))?;
        Ok(File { path: path.into(), file: fs::File::options().append(true).open(path)? })
    }

    /// Makes its contents durable.
    pub fn sync(&self) -> io::Result<()> {
        tell(Operation::SyncFile(&self.path))?;
        self.file.sync_all()
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        if let Err(e) = tell(Operation::Write(&self.path, piece)) {
            self.file.write_all(&piece[..piece.len() / 2])?;
            return Err(e);
        }
        self.file.write(piece)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file that is there to be locked, made where there is none; what it holds is for people.
pub fn lock_file(path: &Path) -> io::Result<fs::File> {
    if !path.exists() {
        tell(Operation::Create(path))?;
    }
    fs::File::options().read(true).write(true).create(true).truncate(false).open(path)
}

/// Makes a folder and those above it that are missing; each is durable before the next is made.
pub fn create_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = parent(path);
    if above != path {
        create_folders(above)?;
    }
    tell(Operation::CreateFolder(path))?;
    match fs::create_dir(path) {
        // Another process may have been quicker.
        Err(_) if path.is_dir() => {}
        other => other?,
    }
    sync_folder(above)
}

/// Makes a folder that isn't there yet; whoever makes it has its name.
pub fn create_folder(path: &Path) -> io::Result<()> {
    tell(Operation::CreateFolder(path))?;
    fs::create_dir(path)?;
    sync_folder(parent(path))
}

/// Removes a folder with nothing in it.
pub fn remove_empty_folder(path: &Path) -> io::Result<()> {
    tell(Operation::RemoveFolder(path))?;
    fs::remove_dir(path)
}

/// Renames a file or folder; the new name is durable once its folder is synced.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    tell(Operation::Rename(from, to))?;
    fs::rename(from, to)
}

/// Makes the entries of a folder durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    tell(Operation::SyncFolder(path))?;
    fs::File::open(path)?.sync_all()
}

/// Removes a file.
pub fn remove_file(path: &Path) -> io::Result<()> {
    tell(Operation::RemoveFile(path))?;
    fs::remove_file(path)
}

/// Removes a folder with all that is in it; links in it are removed, not followed.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { remove_folder(&entry.path()) } else { remove_file(&entry.path()) }?;
    }
    tell(Operation::RemoveFolder(path))?;
    fs::remove_dir(path)
}

/// The folder that holds `path`.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ if path.has_root() => path,
        _ => Path::new("."),
    }
}
