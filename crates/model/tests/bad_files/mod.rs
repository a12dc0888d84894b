//! Model files that lie: each with what the reader must say, for the library and for the binary.

mod gguf;
pub mod raw;
mod safetensors;

use std::path::{Path, PathBuf};

/// What must come of a case.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// An error in which all of these stand.
    Refused(Vec<&'static str>),
    /// It is read; what is odd about it is said where there is something.
    Read(Option<&'static str>),
}

/// Files, and what must come of opening one of them.
#[derive(Clone, Debug)]
pub struct Case {
    /// The number in the catalogue of bad input: GG01 to GG36, ST01 to ST16.
    pub id: &'static str,
    /// What is wrong with it.
    pub what: String,
    /// Names and bytes, in one folder.
    pub files: Vec<(String, Vec<u8>)>,
    /// Links, by name, to where they lead.
    pub links: Vec<(&'static str, &'static str)>,
    /// Which is opened; the folder where it is empty.
    pub open: &'static str,
    /// What must come of it.
    pub outcome: Outcome,
}

impl Case {
    fn refused(
        id: &'static str,
        what: impl Into<String>,
        name: &'static str,
        bytes: Vec<u8>,
        said: &[&'static str],
    ) -> Case {
        let files = vec![(name.to_string(), bytes)];
        Case { id, what: what.into(), files, links: Vec::new(), open: name, outcome: Outcome::Refused(said.into()) }
    }

    /// Writes it into `folder`; answers what is to be opened.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder).expect("the folder for temporary files can be written");
        for (name, bytes) in &self.files {
            std::fs::write(folder.join(name), bytes).expect("it can be written");
        }
        #[cfg(unix)]
        for (name, target) in &self.links {
            std::os::unix::fs::symlink(target, folder.join(name)).expect("links can be made");
        }
        if self.open.is_empty() { folder.into() } else { folder.join(self.open) }
    }

    /// Bytes of all its files.
    pub fn bytes(&self) -> usize {
        self.files.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut all = gguf::cases();
    all.extend(safetensors::cases());
    all
}
