//! Where CUDA's user libraries (NVRTC, cuBLASLt) lie: nothing of CUDA is needed to build, so they are found at run time.

use libloading::Library;
use std::path::{Path, PathBuf};

/// Folders that may hold CUDA's libraries, besides those that the dynamic loader knows: toolkits, and the `nvidia-*`
/// packages of any Python that lies in a usual place, of the newest version first.
pub fn default_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for toolkit in children(Path::new("/usr/local"), "cuda") {
        folders.push(toolkit.join("lib64"));
        folders.push(toolkit.join("targets/x86_64-linux/lib"));
        folders.push(toolkit.join("targets/sbsa-linux/lib"));
    }
    for root in python_roots() {
        for python in children(&root.join("lib"), "python3") {
            for packages in ["site-packages", "dist-packages"] {
                for package in children(&python.join(packages).join("nvidia"), "") {
                    folders.push(package.join("lib"));
                }
            }
        }
    }
    folders.retain(|f| f.is_dir());
    folders
}

/// Folders with a `lib/python3*` in them: the system's, the user's and virtual environments in usual places.
fn python_roots() -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from("/usr/local"), PathBuf::from("/usr"), PathBuf::from(".venv"), "venv".into()];
    if let Some(home) = std::env::home_dir() {
        roots.extend([home.join(".local"), home.join(".venv"), home.join("venv")]);
        roots.extend(["miniconda3", "anaconda3", "miniforge3"].map(|conda| home.join(conda)));
    }
    roots.extend(children(Path::new("/opt/hostedtoolcache/Python"), "3").into_iter().map(|v| v.join("x64")));
    for folder in children(Path::new("/opt"), "") {
        roots.push(folder.join(".venv"));
        roots.push(folder.join("venv"));
        roots.push(folder);
    }
    roots
}

/// Entries of `folder` whose names begin with `prefix`, the greatest name first.
fn children(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> =
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(prefix)).map(|e| e.path()).collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

/// Loads the first of `names` that the dynamic loader knows, else the first that lies in one of `folders`.
///
/// # Errors
/// What was looked for, when it is nowhere.
pub fn load(names: &[&str], folders: &[PathBuf]) -> Result<Library, String> {
    for name in names {
        if let Some(library) = open(Path::new(name)) {
            return Ok(library);
        }
    }
    for folder in folders {
        for name in names {
            let path = folder.join(name);
            if path.is_file() {
                // NVRTC opens its built-in functions by name: that works when they are there already.
                for part in children(folder, "libnvrtc-builtins.so") {
                    if let Some(part) = open(&part) {
                        std::mem::forget(part);
                    }
                }
                if let Some(library) = open(&path) {
                    return Ok(library);
                }
            }
        }
    }
    Err(format!("{} is neither known to the dynamic loader nor in any usual folder", names[0]))
}

fn open(path: &Path) -> Option<Library> {
    // SAFETY: CUDA's libraries have initialisers that do nothing but set up their own state.
    unsafe { Library::new(path) }.ok()
}
