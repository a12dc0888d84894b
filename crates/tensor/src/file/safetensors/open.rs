//! A safetensors model on disk: a file, or a folder with one file or with shards and their index.
#![forbid(unsafe_code)]

use super::{Error, Problem, TensorInfo, Tensors, head};
use crate::file::mmap::Mapped;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// The file of a folder's model that is in one.
pub const SINGLE: &str = "model.safetensors";
/// The index of a folder's model that is in several.
pub const INDEX: &str = "model.safetensors.index.json";

/// Bytes of an index at most.
const LARGEST_INDEX: u64 = 64 << 20;
/// What to do about shards that don't belong together.
const SHARDS_HELP: &str = "keep the index and all shards of one model, and of no other, in one folder";

/// A model's tensors. Nothing but the heads is read when it is opened.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    metadata: BTreeMap<String, String>,
    tensors: Tensors,
}

/// What an index says.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl File {
    /// Opens a file, an index of shards (its name ends in `.json`), or the model of a folder.
    ///
    /// # Errors
    /// When a file is missing, can't be read or isn't valid, or shards don't belong together: the file, byte offset,
    /// field, and what to do.
    pub fn open(path: &Path) -> Result<File, Error> {
        if path.is_dir() {
            return match (path.join(INDEX), path.join(SINGLE)) {
                (index, _) if index.exists() => File::shards(&index),
                (_, single) if single.exists() => File::single(&single),
                (_, single) => Err(none_in(path, &single)),
            };
        }
        match path.extension().is_some_and(|ending| ending == "json") {
            true => File::shards(path),
            false => File::single(path),
        }
    }

    fn single(path: &Path) -> Result<File, Error> {
        let (mapped, tensors, metadata) = part(path)?;
        Ok(File { path: path.into(), metadata, tensors: Tensors::new(vec![(mapped, tensors)], SHARDS_HELP)? })
    }

    fn shards(path: &Path) -> Result<File, Error> {
        let mapped = Mapped::open(path).map_err(Error::io(path))?;
        let wrong = |offset: u64, what: String| Problem::new(offset, "the index", what).help(SHARDS_HELP).within(path);
        if mapped.bytes().len() as u64 > LARGEST_INDEX {
            return Err(wrong(0, format!("it has more than {LARGEST_INDEX} bytes")));
        }
        if let Some(what) = another_json(path, mapped.bytes()) {
            return Err(Problem::new(0, "the file", what)
                .help("name its folder, or a .safetensors or .gguf file")
                .within(path));
        }
        let index: Index = serde_json::from_slice(mapped.bytes()).map_err(|e| {
            let lines = mapped.bytes().split_inclusive(|b| *b == b'\n');
            let before: usize = lines.take(e.line().saturating_sub(1)).map(<[u8]>::len).sum();
            wrong(before.saturating_add(e.column().saturating_sub(1)) as u64, e.to_string())
        })?;
        if index.weight_map.is_empty() {
            return Err(wrong(0, "its weight_map is empty: it names no tensor".into()));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let names: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
        let mut parts = Vec::new();
        let mut metadata = BTreeMap::new();
        for name in names {
            let shard = confined(folder, name).map_err(|what| wrong(0, what))?;
            if !shard.exists() {
                return Err(Error::missing(&shard, "this shard, which the index names, is missing", SHARDS_HELP));
            }
            let (mapped, tensors, texts) = part(&shard)?;
            for tensor in &tensors {
                let says = index.weight_map.get(&tensor.name).map(String::as_str);
                if says != Some(name) {
                    let says = says.map_or("doesn't name it".into(), |other| format!("says that it is in {other}"));
                    let field = format!("tensor `{}`", tensor.name);
                    let problem = Problem::new(tensor.offset, field, format!("it is in this shard; the index {says}"));
                    return Err(problem.help(SHARDS_HELP).within(&shard));
                }
            }
            metadata.extend(texts);
            parts.push((mapped, tensors));
        }
        let tensors = Tensors::new(parts, SHARDS_HELP)?;
        match index.weight_map.iter().find(|(tensor, _)| tensors.get(tensor).is_none()) {
            Some((tensor, shard)) => {
                Err(wrong(0, format!("tensor `{tensor}` is not in {shard}, where it says that it is")))
            }
            None => Ok(File { path: path.into(), metadata, tensors }),
        }
    }

    /// The file, or the index.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files' own texts.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensors of all shards.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// A tensor by its name, with its bytes where they lie in the file.
    pub fn tensor(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        self.tensors.get(name)
    }
}

fn part(path: &Path) -> Result<(Mapped, Vec<TensorInfo>, BTreeMap<String, String>), Error> {
    let mapped = Mapped::open(path).map_err(Error::io(path))?;
    let head = head(mapped.bytes()).map_err(|problem| problem.within(path))?;
    Ok((mapped, head.tensors, head.metadata))
}

/// The path of a shard in `folder`: its name is that of a file there, and what a link leads to is in the folder too, or
/// among the `blobs` of the cache that Hugging Face's tools make, whose folders hold links.
fn confined(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let mut components = Path::new(name).components();
    let plain = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
    if !plain || name.contains(['/', '\\', '\0', ':']) {
        return Err(format!("it names the shard {name:?}; a shard is a file beside the index"));
    }
    let path = folder.join(name);
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let (Ok(real), Ok(home)) = (path.canonicalize(), here.canonicalize()) else { return Ok(path) };
    let snapshots = home.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"));
    let blobs = snapshots.and_then(Path::parent).map(|repository| repository.join("blobs"));
    if real.parent() == Some(&home) || (blobs.is_some() && real.parent() == blobs.as_deref()) {
        return Ok(path);
    }
    Err(format!("it names the shard {name:?}, a link that leads out of the folder, to {}", real.display()))
}

/// What a file in JSON is that is found beside models, and no index of shards.
fn another_json(path: &Path, bytes: &[u8]) -> Option<String> {
    let all: BTreeMap<String, serde::de::IgnoredAny> = serde_json::from_slice(bytes).ok()?;
    if all.contains_key("weight_map") || all.is_empty() {
        return None;
    }
    let has = |key: &str| all.contains_key(key);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Some(if has("architectures") || has("model_type") || has("hidden_size") {
        format!("{name} is a model's configuration, and holds no tensors")
    } else if has("added_tokens") || has("pre_tokenizer") || has("tokenizer_class") || has("chat_template") {
        format!("{name} is of a tokenizer, and holds no tensors")
    } else {
        "it is no index of shards: it has no weight_map".into()
    })
}

/// Why there is no model in a folder.
fn none_in(folder: &Path, single: &Path) -> Error {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let code = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| [".bin", ".pt", ".pth", ".pkl", ".ckpt"].iter().any(|ending| name.ends_with(ending)));
    if let Some(name) = crate::file::gguf_in(folder) {
        let what = format!("it is not there, and {name} is");
        return Error::missing(single, &what, "name the GGUF file itself");
    }
    match code {
        Some(name) => Error::missing(
            single,
            &format!("it is not there; {name} is, a PyTorch file, which may hold code and is not read"),
            "get the model as safetensors or GGUF",
        ),
        None => Error::missing(single, &format!("neither it nor {INDEX} is there"), "name a folder with a model in it"),
    }
}
