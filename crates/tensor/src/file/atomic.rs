//! A file is written whole or not at all: temporary name, fsync, rename, fsync of the folder.
#![forbid(unsafe_code)]

use super::disk;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What no file is put in the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A folder.
    #[error("it is a folder, not a file")]
    Folder,
    /// A device, a pipe or a socket: a rename would destroy it.
    #[error("it is a device, a pipe or a socket, not a file")]
    Special,
    /// Links that lead to each other.
    #[error("its links lead to no file")]
    Links,
}

impl Refused {
    /// The refusal behind an error of this module.
    pub fn of(error: &io::Error) -> Option<Refused> {
        error.get_ref().and_then(|inner| inner.downcast_ref()).copied()
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, refused)
    }
}

/// Links that are followed at most.
const LINKS: usize = 40;

/// The file that writing to `path` replaces or makes: what links lead to, also where that isn't there yet.
///
/// # Errors
/// When something else than a plain file is there ([`Refused`]), or it can't be asked.
pub fn target(path: &Path) -> io::Result<PathBuf> {
    // What a descriptor under /proc leads to has no name that can be followed.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
        return Err(Refused::Special.into());
    }
    let mut target = path.to_path_buf();
    for _ in 0..LINKS {
        let kind = match fs::symlink_metadata(&target) {
            Ok(metadata) => metadata.file_type(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(target),
            Err(e) => return Err(e),
        };
        if kind.is_symlink() {
            target = target.with_file_name(fs::read_link(&target)?);
            continue;
        }
        return match (kind.is_file(), kind.is_dir()) {
            (true, _) => Ok(target),
            (_, true) => Err(Refused::Folder.into()),
            _ => Err(Refused::Special.into()),
        };
    }
    Err(Refused::Links.into())
}

/// Writes `bytes` to `path`, replacing the file that was there, so that a reader sees the old file or the new one.
///
/// # Errors
/// When something else than a file is there ([`Refused`]), or something of it fails; the old file is then untouched, or
/// the new one is there whole but may not be durable.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = &target(path)?;
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
    /// Begins a file that will be called `path`; the file that has that name stays until then.
    ///
    /// # Errors
    /// When none can be made there, or something else than a file is there ([`Refused`]).
    pub fn create(path: &Path) -> io::Result<Pending> {
        let path = target(path)?;
        let temporary = temporary_name(&path);
        let file = Some(disk::File::create(&temporary)?);
        Ok(Pending { path, temporary, file })
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
/// When something else than a file is there ([`Refused`]), or something of it fails; a part of the file may then be there.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = disk::File::create(&target(path)?)?;
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

/// Bytes of the longest names that disks take.
const LONGEST_NAME: usize = 255;

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    let more = format!(".{}{ENDING}", std::process::id());
    let most = LONGEST_NAME - more.len();
    // A name that is longer than any disk takes stays: the error is then about it.
    if (most + 1..=LONGEST_NAME).contains(&name.len()) {
        let text = name.to_string_lossy();
        name = text[..text.floor_char_boundary(most)].into();
    }
    name.push(more);
    path.with_file_name(name)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, symlink};
    use std::os::unix::net::UnixListener;

    #[test]
    fn nothing_but_a_file_is_replaced_and_links_are_followed() {
        let folder = std::env::temp_dir().join(format!("rondo-atomic-{}", std::process::id()));
        fs::create_dir_all(folder.join("inner")).expect("the folder for temporary files can be written");
        let at = |name: &str| folder.join(name);
        let socket = UnixListener::bind(at("socket")).expect("a socket can be made");
        for (name, leads) in [("to-socket", "socket"), ("to-file", "file"), ("to-new", "inner/new"), ("loop", "loop")] {
            symlink(leads, at(name)).expect("links can be made");
        }
        for (name, why) in [
            ("socket", Refused::Special),
            ("to-socket", Refused::Special),
            ("inner", Refused::Folder),
            ("loop", Refused::Links),
        ] {
            let errors =
                [write(&at(name), b"x").err(), write_new(&at(name), b"x").err(), Pending::create(&at(name)).err()];
            for error in errors {
                assert_eq!(Refused::of(&error.expect("it is no file")), Some(why), "{name}");
            }
        }
        assert!(fs::symlink_metadata(at("socket")).is_ok_and(|m| m.file_type().is_socket()));
        drop(socket);
        fs::write(at("file"), b"old").expect("it can be written");
        write(&at("to-file"), b"new").expect("a link to a file");
        assert_eq!(fs::read(at("file")).expect("it is there"), b"new");
        let mut pending = Pending::create(&at("to-new")).expect("a link to no file yet");
        pending.write_all(b"made").and_then(|()| pending.commit()).expect("it can be written");
        assert_eq!(fs::read(at("inner/new")).expect("it is there"), b"made");
        for name in ["to-file", "to-new", "to-socket"] {
            assert!(fs::symlink_metadata(at(name)).is_ok_and(|m| m.is_symlink()), "{name}");
        }
        let longest = "ü".repeat(LONGEST_NAME / 2);
        write(&at(&longest), b"x").expect("a name that disks take");
        assert!(write(&at(&longest.repeat(2)), b"x").is_err());
        let names = fs::read_dir(&folder).expect("it is there").count();
        assert_eq!(names, 8, "nothing else is left");
        fs::remove_dir_all(&folder).expect("it is there");
    }
}
