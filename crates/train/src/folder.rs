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
        let mut options = File::options();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&name).map_err(Error::io(&name))?;
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

/// A folder for a new run under `base` that isn't there yet: `NAME-SEED`, then `NAME-SEED-2` and so on.
pub fn free_name(base: &Path, name: &str, seed: u64) -> PathBuf {
    let first = base.join(format!("{name}-{seed}"));
    let others = (2u32..).map(|i| base.join(format!("{name}-{seed}-{i}")));
    std::iter::once(first.clone()).chain(others).find(|p| !p.exists()).unwrap_or(first)
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
