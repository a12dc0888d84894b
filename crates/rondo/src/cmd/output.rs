//! Where a verb writes a model: what is refused before any work, room on the disk, and what it means when writing fails.
#![forbid(unsafe_code)]

use super::show_file::size;
use super::{Failure, Outcome};
use ::train::keys::nearest_of;
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use tensor::file::atomic::{self, Refused};
use tensor::file::disk;

/// What GGUF files begin with.
const MAGIC: &[u8] = b"GGUF";

/// A file or folder that is to be written.
pub struct Output<'a> {
    path: &'a Path,
    /// The file that is read meanwhile, for errors.
    input: Option<PathBuf>,
    /// Bytes that it will have, about; 0 where nobody knows yet.
    needed: u64,
}

impl<'a> Output<'a> {
    /// A model file, which may replace a GGUF file, and none of those that are `read`.
    ///
    /// # Errors
    /// Exit code 2, when it is one of them, another kind of file, a folder or a device, or its folder is missing.
    pub fn file<'b>(path: &'a Path, read: impl IntoIterator<Item = &'b Path>) -> Result<Output<'a>, Failure> {
        let target = place(path, "")?;
        let name = path.display();
        let mut input = None;
        for read in read {
            if same(&target, read) {
                let what = format!("{name}: the output is a file that is read");
                return Err(Failure::usage(format!("{what}\n  help: write to another file")));
            }
            input.get_or_insert_with(|| read.to_path_buf());
        }
        match begins_as_model(&target) {
            Ok(true) => Ok(Output { path, input, needed: 0 }),
            Ok(false) => {
                let what = format!("{name}: it is there already, and no GGUF file, which alone is replaced");
                Err(Failure::usage(format!("{what}\n  help: write to another file, or remove it")))
            }
            Err(e) => Err(Failure::failed(format!("{name}: {e}\n  help: write to another file"))),
        }
    }

    /// A folder that is to be made; one with nothing in it may be there.
    ///
    /// # Errors
    /// Exit code 2, when something else is there, or the folder that it is to be in is missing.
    pub fn folder(path: &'a Path, input: &Path) -> Result<Output<'a>, Failure> {
        let name = path.display();
        let refused = |what: &str| {
            let help = "a file is converted to a folder: name one that isn't there yet";
            Failure::usage(format!("{name}: {what}\n  help: {help}"))
        };
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let is_empty = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
                if !is_empty {
                    return Err(refused("the folder is there already, and isn't empty"));
                }
                if path.file_name().is_none() {
                    return Err(refused("the folder is there already, and can't be replaced under this name"));
                }
            }
            Ok(_) => return Err(refused("it is there already, and no folder")),
            Err(_) if path.as_os_str().is_empty() => return Err(refused("the output has no name")),
            Err(_) => holds(path, "")?,
        }
        Ok(Output { path, input: Some(input.to_path_buf()), needed: 0 })
    }

    /// Hears how many bytes it will have, and looks whether the disk has room.
    ///
    /// # Errors
    /// `StorageFull`, when it hasn't.
    pub fn begin(&mut self, bytes: u64) -> io::Result<()> {
        self.needed = bytes;
        let target = atomic::target(self.path).unwrap_or(self.path.into());
        match free_bytes(disk::parent(&target)) {
            Some(free) if free < bytes => {
                Err(io::Error::new(ErrorKind::StorageFull, format!("the disk has {} free", size(free))))
            }
            _ => Ok(()),
        }
    }

    /// What it means that writing has failed.
    pub fn failure(&self, error: &io::Error) -> Failure {
        let name = self.path.display();
        let needed = match self.needed {
            0 => String::new(),
            bytes => format!("about {} are needed", size(bytes)),
        };
        let colon = if needed.is_empty() { "" } else { ": " };
        match (error.kind(), error.raw_os_error().map(Errno::from_raw)) {
            // Bytes are written from where the input is mapped.
            (_, Some(Errno::EFAULT)) => {
                let input = self.input.as_deref().unwrap_or(self.path).display();
                let help = "begin again when nobody writes it";
                Failure::bad_file(format!("{input}: it has changed while it was being read\n  help: {help}"))
            }
            (ErrorKind::StorageFull | ErrorKind::QuotaExceeded, _) => Failure::resources(format!(
                "{name}: {error}\n  help: make room{colon}{needed}; or write to another disk"
            )),
            (ErrorKind::FileTooLarge, _) => Failure::resources(format!(
                "{name}: {error}\n  help: lift the limit of a file's size (`ulimit -f`), or write to another disk{colon}{needed}"
            )),
            (ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem, _) => {
                Failure::failed(format!("{name}: {error}\n  help: write to a folder that is yours"))
            }
            _ if Refused::of(error).is_some() => Failure::usage(format!("{name}: {error}\n  help: name a file")),
            (ErrorKind::InvalidFilename, _) => Failure::usage(format!("{name}: {error}\n  help: give a shorter name")),
            _ => Failure::failed(format!("{name}: {error}\n  help: write to another folder or disk")),
        }
    }
}

/// The file that is made or replaced by writing to `path`; `flag` and a space stand before the name in messages.
///
/// # Errors
/// Exit code 2, when it is a folder or a device, or its folder is missing.
pub fn place(path: &Path, flag: &str) -> Result<PathBuf, Failure> {
    let name = path.display();
    let folder = || {
        let inner = path.join("model.gguf");
        let help = if flag.is_empty() {
            format!("name the file to write, such as {}", inner.display())
        } else {
            "name a file in it".into()
        };
        Failure::usage(format!("{flag}{name}: the output is a folder\n  help: {help}"))
    };
    if path.as_os_str().is_empty() {
        return Err(Failure::usage(format!("{flag}``: the output has no name\n  help: name the file to write")));
    }
    if path.as_os_str().as_encoded_bytes().last().is_none_or(|last| *last == b'/') {
        return Err(folder());
    }
    let target = match atomic::target(path) {
        Ok(target) => target,
        Err(e) => {
            let what = || Failure::usage(format!("{flag}{name}: {e}\n  help: name a file that is made or replaced"));
            return Err(match Refused::of(&e) {
                Some(Refused::Folder) => folder(),
                Some(_) => what(),
                None => holds(path, flag).err().unwrap_or_else(what),
            });
        }
    };
    if !target.exists() {
        holds(&target, flag)?;
    }
    Ok(target)
}

/// Checks that the folder is there that `path` is to be in.
fn holds(path: &Path, flag: &str) -> Outcome {
    let folder = disk::parent(path);
    if folder.is_dir() {
        return Ok(());
    }
    let (name, folder) = (path.display(), folder.display());
    let (what, help) = match fs::symlink_metadata(disk::parent(path)) {
        Ok(_) => (format!("{folder} is no folder"), "name another folder".to_string()),
        Err(_) => (format!("there is no folder {folder}"), format!("make it first: mkdir -p {folder}")),
    };
    Err(Failure::usage(format!("{flag}{name}: {what}\n  help: {help}")))
}

/// Whether a file begins as a model file does, is empty, or isn't there.
fn begins_as_model(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MAGIC.len() as u64).read_to_end(&mut start)?,
        Err(e) if e.kind() == ErrorKind::NotFound => 0,
        Err(e) => return Err(e),
    };
    Ok(start.is_empty() || start == MAGIC)
}

/// Whether both are one file, by whatever names and links.
fn same(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let both = fs::metadata(a).ok().zip(fs::metadata(b).ok());
    both.is_some_and(|(a, b)| (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Bytes that the disk under a folder has free; `None` where the system doesn't say.
fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = statvfs(folder).ok().filter(|disk| disk.blocks() > 0)?;
    disk.blocks_free().checked_mul(disk.fragment_size())
}

/// The one of `names` that a mistyped one may mean, as a question to begin a help with.
pub fn meant(text: &str, names: &[&str]) -> String {
    /// Characters of a name that may be missing at its end.
    const MISSING: usize = 2;
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-', '.', ' '], "");
    let short = plain(text);
    let same = names.iter().find(|name| plain(name) == short);
    // Of several names that begin so, or are as near, the last: the usual one stands behind its smaller brother.
    let begins = |name: &&&str| plain(name).strip_prefix(&short).is_some_and(|more| more.len() <= MISSING);
    let longer = || names.iter().rev().find(begins).filter(|_| short.len() > 1);
    let near = same.or_else(longer).copied();
    let near = near.or_else(|| nearest_of(&text.to_ascii_lowercase(), names.iter().rev().copied()));
    near.map(|name| format!("did you mean `{name}`? ")).unwrap_or_default()
}
