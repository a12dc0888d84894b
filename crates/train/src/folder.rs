//! A run's folder: config.toml, tokenizer.json, run.json, metrics.jsonl, samples.txt and checkpoints, held by one process at a time.
#![forbid(unsafe_code)]

use crate::Error;
use crate::config::{Config, Overrides};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use tensor::file::{atomic, disk};

/// An open run folder; other processes are kept out until it is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// A folder for a new run; it holds one once its configuration is written.
    ///
    /// # Errors
    /// When it holds a run already, is in use, or can't be written.
    pub fn create(path: &Path) -> Result<Folder, Error> {
        disk::create_folders(path).map_err(Error::io(path))?;
        let folder = Folder::lock(path)?;
        if folder.config_file().exists() {
            let name = path.display();
            return Err(Error::Folder(format!(
                "{name} holds a run already\n  help: continue it with --resume {name}, or choose another --out"
            )));
        }
        Ok(folder)
    }

    /// Writes the configuration as resolved.
    ///
    /// # Errors
    /// When it can't be written; an earlier one is then untouched.
    pub fn write_config(&self, config: &Config) -> Result<(), Error> {
        let file = self.config_file();
        atomic::write(&file, config.to_file().as_bytes()).map_err(Error::io(&file))
    }

    /// The folder of a run that is to go on.
    ///
    /// # Errors
    /// When there is no run in it, or it is in use.
    pub fn open(path: &Path) -> Result<Folder, Error> {
        if !path.join("config.toml").is_file() {
            let what = "there is no run in it (no config.toml)".into();
            return Err(Error::Data { path: path.into(), line: None, what });
        }
        Folder::lock(path)
    }

    /// The lock is the system's, so that it ends with its process; the number in the file is for people.
    fn lock(path: &Path) -> Result<Folder, Error> {
        let name = path.join("lock");
        let mut file = disk::lock_file(&name).map_err(Error::io(&name))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The number is only for the message.
                let _ = file.read_to_string(&mut pid);
                let (path, pid) = (path.display(), pid.trim());
                return Err(Error::Folder(format!(
                    "{path} is in use by process {pid}\n  help: let it finish, or stop it (kill {pid}), or choose another folder"
                )));
            }
            Err(TryLockError::Error(e)) => return Err(Error::io(&name)(e)),
        }
        let mut write = || -> std::io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write().map_err(Error::io(&name))?;
        // Nobody else writes here now: what is half written is of a process that was ended.
        atomic::clean(path);
        Ok(Folder { path: path.into(), lock: file })
    }

    /// Sees that the folder is still the one that was opened.
    ///
    /// # Errors
    /// When it was removed or renamed since.
    pub fn still_there(&self) -> Result<(), Error> {
        if is_same_file(&self.lock, &self.path.join("lock")) {
            return Ok(());
        }
        Err(Error::Folder(format!(
            "{} is not the folder any more that the run began in: it was removed, renamed or replaced",
            self.path.display()
        )))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration as resolved.
    pub fn config_file(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// A line a step.
    pub fn metrics_file(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The summary.
    pub fn summary_file(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// Text that the model has made on the way.
    pub fn samples_file(&self) -> PathBuf {
        self.path.join("samples.txt")
    }

    /// Where TensorBoard's event files lie.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// Chosen lowerings, for a run that has no checkpoint yet.
    pub fn tuning_file(&self) -> PathBuf {
        self.path.join("tuning.json")
    }

    /// What makes tokens of text.
    pub fn tokenizer_file(&self) -> PathBuf {
        self.path.join("tokenizer.json")
    }

    /// Where checkpoints lie.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// What a run that goes on begins with: its own configuration.
    pub fn overrides(&self) -> Overrides {
        Overrides { file: Some(self.config_file()), ..Overrides::default() }
    }
}

/// Whether an open file is the one of that name.
#[cfg(unix)]
fn is_same_file(open: &File, name: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |data: std::io::Result<fs::Metadata>| data.ok().map(|d| (d.dev(), d.ino()));
    let name = identity(fs::metadata(name));
    name.is_some() && name == identity(open.metadata())
}

/// Whether there is a file of that name; systems that let no open file be removed need no more.
#[cfg(not(unix))]
fn is_same_file(_open: &File, name: &Path) -> bool {
    name.exists()
}

/// A folder that a new run is to have: made, so that nobody else takes its name, and removed again unless it is kept.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// The folders that were made for it, itself first.
    made: Vec<PathBuf>,
}

impl Claim {
    /// A folder under `base` that wasn't there yet: `NAME-SEED`, else `NAME-SEED-2` and so on.
    ///
    /// # Errors
    /// When none can be made.
    pub fn free(base: &Path, name: &str, seed: u64) -> Result<Claim, Error> {
        let first = base.join(format!("{name}-{seed}"));
        let others = (2u32..).map(|i| base.join(format!("{name}-{seed}-{i}")));
        for path in std::iter::once(first.clone()).chain(others) {
            let claim = Claim::of(&path)?;
            if !claim.made.is_empty() {
                return Ok(claim);
            }
        }
        Err(Error::Folder(format!("{} and all after it are there already", first.display())))
    }

    /// The folder `path`; one that is there already stays, whatever becomes of the run.
    ///
    /// # Errors
    /// When it isn't there and can't be made.
    pub fn of(path: &Path) -> Result<Claim, Error> {
        let above = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty());
        let missing: Vec<PathBuf> = above.take_while(|p| !p.exists()).map(Path::to_path_buf).collect();
        let mut claim = Claim { path: path.into(), made: Vec::new() };
        disk::create_folders(disk::parent(path)).map_err(Error::io(path))?;
        match disk::create_folder(path) {
            Ok(()) => claim.made = std::iter::once(path.into()).chain(missing).collect(),
            Err(_) if path.exists() => {}
            Err(e) => return Err(Error::io(path)(e)),
        }
        Ok(claim)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder stays.
    pub fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some((own, above)) = self.made.split_first() else { return };
        // What can't be removed is in nobody's way but by its name; folders above it may hold others' runs by now.
        let _ = disk::remove_folder(own);
        above.iter().all(|folder| disk::remove_empty_folder(folder).is_ok());
    }
}

/// The run folder under `base` that changed last, of `name` if one is given.
pub fn latest(base: &Path, name: Option<&str>) -> Option<PathBuf> {
    let begins = |path: &Path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.is_none_or(|n| file.strip_prefix(n).is_some_and(|rest| rest.starts_with('-')))
    };
    let runs = fs::read_dir(base).ok()?.flatten().map(|e| e.path());
    let changed = |path: &PathBuf| fs::metadata(path.join("metrics.jsonl")).and_then(|m| m.modified()).ok();
    runs.filter(|p| p.join("config.toml").is_file() && begins(p)).max_by_key(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_have_one_name_and_only_what_is_kept_stays() {
        let place = std::env::temp_dir().join(format!("rondo-claims-{}", std::process::id()));
        let base = place.join("some/runs");
        let claim = || Claim::free(&base, "demo", 7).unwrap();
        let claims: Vec<Claim> = std::thread::scope(|s| {
            let all: Vec<_> = (0..8).map(|_| s.spawn(claim)).collect();
            all.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let mut names: Vec<_> = claims.iter().map(|c| c.path().to_path_buf()).collect();
        names.sort();
        names.dedup();
        assert!(names.len() == 8 && names.contains(&base.join("demo-7")) && names.contains(&base.join("demo-7-8")));
        drop(claims);
        let first = claim();
        assert_eq!(first.path(), base.join("demo-7"), "what wasn't kept is free again");
        fs::write(first.path().join("corpus.jsonl"), "x").unwrap();
        drop(first);
        assert!(!base.join("demo-7").exists());
        drop(Claim::of(&place.join("new/runs/one")).unwrap());
        assert!(place.exists() && !place.join("new").exists(), "nor are there the folders that were made for it");
        claim().keep();
        drop(Claim::of(&base.join("demo-7")).unwrap());
        assert!(base.join("demo-7").is_dir(), "a folder that was there stays");
        fs::write(place.join("file"), "").unwrap();
        assert!(Claim::of(&place.join("file/run")).is_err());
        fs::remove_dir_all(place).unwrap();
    }
}
