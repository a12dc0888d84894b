//! Checkpoints: `step-N/{config.json, tokenizer.json, model.safetensors}`, which are a model folder, with
//! `optimizer.safetensors` and `manifest.json`; written whole or not at all.
#![forbid(unsafe_code)]

use crate::Error;
use crate::evaluate::{Evaluation, best};
use crate::trainer::{Scale, State, entry_bytes};
use graph::Tuning;
use graph::trace::Entry;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tensor::DType;
use tensor::file::safetensors::Stored;
use tensor::file::{atomic, safetensors};
use tensor::hash::sha256;

/// The layout of checkpoints that this build writes and reads.
const FORMAT: u32 = 1;
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const MANIFEST: &str = "manifest.json";

/// A file of a checkpoint, as it must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its contents.
    pub sha256: String,
}

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The layout's version.
    pub format: u32,
    /// The version of Rondo that wrote it.
    pub version: String,
    /// Steps done.
    pub step: usize,
    /// Steps that changed the parameters.
    pub applied: u32,
    /// The loss scale, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Steps whose gradient wasn't finite.
    pub skipped: usize,
    /// Seed of all random numbers; their counters are the steps.
    pub seed: u64,
    /// Passes over the data that are done.
    pub epoch: usize,
    /// Batches of the next pass that are done.
    pub batch: usize,
    /// Seconds of training so far.
    pub elapsed_sec: f64,
    /// SHA-256 of all of the configuration that a continued run must share.
    pub config_sha256: String,
    /// SHA-256 of the training data.
    pub data_sha256: String,
    /// The device that it was trained on.
    pub device: String,
    /// Evaluations so far.
    #[serde(default)]
    pub evaluations: Vec<Evaluation>,
    /// Chosen lowerings, used by the run that continues.
    pub tuning: Tuning,
    /// The other files.
    pub files: BTreeMap<String, FileRecord>,
}

/// A checkpoint in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Parameters and moments.
    pub state: State,
    /// The loss of every step so far.
    pub losses: Vec<f32>,
    /// What makes a model folder of it, by name: config.json and tokenizer.json. Not read back.
    pub texts: Vec<(&'static str, String)>,
}

/// config.json of a model and its tokenizer.
pub fn model_json(config: &model::Config, tokenizer: &str) -> String {
    let mut all = serde_json::Map::from_iter([("model_type".to_string(), "rondo".into())]);
    if let Ok(serde_json::Value::Object(keys)) = serde_json::to_value(config) {
        all.extend(keys);
    }
    all.insert("tokenizer".into(), tokenizer.into());
    serde_json::to_string_pretty(&all).expect("a configuration is plain data")
}

impl Manifest {
    /// A manifest of this build's layout; files are added when it is saved.
    pub fn new(step: usize) -> Self {
        Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            step,
            applied: 0,
            scale: None,
            skipped: 0,
            seed: 0,
            epoch: 0,
            batch: 0,
            elapsed_sec: 0.0,
            config_sha256: String::new(),
            data_sha256: String::new(),
            device: String::new(),
            evaluations: Vec::new(),
            tuning: Tuning::default(),
            files: BTreeMap::new(),
        }
    }
}

/// Saves a checkpoint under `folder`, and answers where. What was there under its name is replaced.
///
/// # Errors
/// When anything can't be written or made durable; what was there before is then untouched.
pub fn save(folder: &Path, entries: &[Entry], saved: &Saved) -> Result<PathBuf, Error> {
    let name = format!("step-{}", saved.manifest.step);
    let temporary = folder.join(format!("{name}.tmp-{}", std::process::id()));
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let result = write_files(&temporary, entries, saved).and_then(|()| replace(&temporary, &folder.join(&name)));
    if result.is_err() {
        // The error that made the save fail is the one to report.
        let _ = fs::remove_dir_all(&temporary);
    }
    result.map(|()| folder.join(name))
}

fn write_files(folder: &Path, entries: &[Entry], saved: &Saved) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let shared = BTreeMap::from([("step".to_string(), saved.manifest.step.to_string())]);
    let part = |e: &'_ Entry, region: &'_ [u8]| entry_bytes(e, region).to_vec();
    let model = entries.iter().map(|e| (e.name.clone(), &e.ty.shape[..], part(e, &saved.state.parameters)));
    write_tensors(&folder.join(MODEL), model.collect(), shared.clone())?;

    let moments = [("first_moment", &saved.state.first_moment), ("second_moment", &saved.state.second_moment)];
    let mut optimizer = Vec::new();
    for (name, region) in moments {
        let all = entries.iter().map(|e| (format!("{name}.{}", e.name), &e.ty.shape[..], part(e, region)));
        optimizer.extend(all);
    }
    let steps = [saved.losses.len()];
    optimizer.push(("losses".into(), &steps[..], losses_as_stored(&saved.losses)));
    write_tensors(&folder.join(OPTIMIZER), optimizer, shared)?;

    for (name, text) in &saved.texts {
        let path = folder.join(name);
        atomic::write(&path, text.as_bytes()).map_err(Error::io(&path))?;
    }
    let mut manifest = saved.manifest.clone();
    for name in [MODEL, OPTIMIZER].into_iter().chain(saved.texts.iter().map(|(name, _)| *name)) {
        let path = folder.join(name);
        let bytes = fs::read(&path).map_err(Error::io(&path))?;
        manifest.files.insert(name.into(), FileRecord { bytes: bytes.len() as u64, sha256: sha256(&bytes) });
    }
    let text = serde_json::to_string_pretty(&manifest).expect("a manifest is plain data");
    let path = folder.join(MANIFEST);
    atomic::write(&path, text.as_bytes()).map_err(Error::io(&path))
}

fn write_tensors(
    path: &Path,
    tensors: Vec<(String, &[usize], Vec<u8>)>,
    metadata: BTreeMap<String, String>,
) -> Result<(), Error> {
    let views = tensors.iter().map(|(name, shape, bytes)| (name.as_str(), DType::F32, *shape, bytes.as_slice()));
    Ok(safetensors::write(path, views, metadata)?)
}

fn replace(from: &Path, to: &Path) -> Result<(), Error> {
    let old = to.with_extension(format!("old-{}", std::process::id()));
    let there = to.exists();
    if there {
        fs::rename(to, &old).map_err(Error::io(to))?;
    }
    atomic::rename_folder(from, to).map_err(Error::io(to))?;
    if there {
        fs::remove_dir_all(&old).map_err(Error::io(&old))?;
    }
    Ok(())
}

/// Removes what interrupted saves have left. Only the process that holds the run's lock may.
pub fn clean(folder: &Path) {
    let Ok(names) = fs::read_dir(folder) else { return };
    for entry in names.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("step-") && (name.contains(".tmp-") || name.contains(".old-")) {
            // A remnant that stays does no harm.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The checkpoint with the lowest validation loss of those under `folder`.
pub fn best_of(folder: &Path, evaluations: &[Evaluation]) -> Option<Evaluation> {
    let steps: Vec<usize> = list(folder).into_iter().map(|(step, _)| step).collect();
    best(evaluations, &steps)
}

/// Removes all checkpoints under `folder` but the latest `keep` and the one with the lowest validation loss.
///
/// # Errors
/// When one can't be removed; what is left of it is no checkpoint.
pub fn keep_latest(folder: &Path, keep: usize, evaluations: &[Evaluation]) -> Result<(), Error> {
    let best = best_of(folder, evaluations).map(|e| e.step);
    for (step, path) in list(folder).into_iter().skip(keep) {
        if Some(step) != best {
            // Under its own name it would look like a damaged one, should this be interrupted.
            let old = path.with_extension(format!("old-{}", std::process::id()));
            fs::rename(&path, &old).map_err(Error::io(&path))?;
            fs::remove_dir_all(&old).map_err(Error::io(&old))?;
        }
    }
    Ok(())
}

/// The steps that have a checkpoint under `folder`, the latest first.
pub fn list(folder: &Path) -> Vec<(usize, PathBuf)> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let step = |path: &Path| path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok();
    let mut found: Vec<(usize, PathBuf)> = names.map(|e| e.path()).filter_map(|p| Some((step(&p)?, p))).collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

/// The latest checkpoint that is whole; `warn` is told of each later one that isn't.
pub fn latest(folder: &Path, entries: &[Entry], region: usize, mut warn: impl FnMut(&str)) -> Option<(PathBuf, Saved)> {
    for (step, path) in list(folder) {
        match load(&path, entries, region) {
            Ok(saved) if saved.manifest.step == step => return Some((path, saved)),
            Ok(saved) => warn(&format!("{}: it holds step {}; skipped", path.display(), saved.manifest.step)),
            Err(e) => warn(&format!("{e}; this checkpoint is skipped")),
        }
    }
    None
}

/// Checks every byte of a checkpoint against its manifest, which it answers.
///
/// # Errors
/// When a file is missing, or differs from what the manifest says.
pub fn verify(folder: &Path) -> Result<Manifest, Error> {
    let path = folder.join(MANIFEST);
    let wrong = |path: &Path, what: String| Error::Data { path: path.into(), line: None, what };
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let manifest: Manifest = serde_json::from_str(&text).map_err(|e| wrong(&path, e.to_string()))?;
    if manifest.format != FORMAT {
        let what = format!("it has format {}; this build reads format {FORMAT}", manifest.format);
        return Err(wrong(&path, what));
    }
    if let Some(name) = [MODEL, OPTIMIZER].into_iter().find(|name| !manifest.files.contains_key(*name)) {
        return Err(wrong(&path, format!("it doesn't list {name}")));
    }
    for (name, record) in &manifest.files {
        let file = folder.join(name);
        let bytes = fs::read(&file).map_err(Error::io(&file))?;
        if bytes.len() as u64 != record.bytes {
            return Err(wrong(&file, format!("it has {} bytes; the manifest says {}", bytes.len(), record.bytes)));
        }
        if sha256(&bytes) != record.sha256 {
            return Err(wrong(&file, "its contents are not what the manifest's SHA-256 says".into()));
        }
    }
    Ok(manifest)
}

/// Reads a checkpoint and checks every byte of it. `region` is the size of the parameters' region.
///
/// # Errors
/// When a file is missing, differs from what the manifest says, or doesn't fit the model.
pub fn load(folder: &Path, entries: &[Entry], region: usize) -> Result<Saved, Error> {
    let wrong = |path: &Path, what: String| Error::Data { path: path.into(), line: None, what };
    let manifest = verify(folder)?;
    let file = folder.join(MODEL);
    let model = safetensors::read(&file)?;
    let parameters = gather(&file, &model, "", entries, region)?;
    let file = folder.join(OPTIMIZER);
    let optimizer = safetensors::read(&file)?;
    let first_moment = gather(&file, &optimizer, "first_moment.", entries, region)?;
    let second_moment = gather(&file, &optimizer, "second_moment.", entries, region)?;
    let losses: Vec<f32> = match optimizer.get("losses") {
        Some(t) if t.dtype == DType::F32 && *t.shape == [manifest.step] => losses_as_read(&t.bytes),
        _ => return Err(wrong(&file, format!("`losses` is not f32[{}]", manifest.step))),
    };
    let state = State { parameters, first_moment, second_moment, applied: manifest.applied, scale: manifest.scale };
    Ok(Saved { manifest, state, losses, texts: Vec::new() })
}

/// No number of a checkpoint is NaN: a step whose loss wasn't finite has the loss -1, which no other has.
fn losses_as_stored(losses: &[f32]) -> Vec<u8> {
    losses.iter().map(|l| if l.is_finite() { *l } else { -1.0 }).flat_map(f32::to_le_bytes).collect()
}

fn losses_as_read(bytes: &[u8]) -> Vec<f32> {
    let (words, _) = bytes.as_chunks();
    let losses = words.iter().map(|b| f32::from_le_bytes(*b));
    losses.map(|l| if l < 0.0 { f32::NAN } else { l }).collect()
}

/// A region's bytes from a file's tensors.
fn gather(
    path: &Path,
    tensors: &BTreeMap<String, Stored>,
    prefix: &str,
    entries: &[Entry],
    region: usize,
) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; region];
    for entry in entries {
        let name = format!("{prefix}{}", entry.name);
        let wrong = |what: String| Error::Data { path: path.into(), line: None, what };
        let stored = tensors.get(&name).ok_or_else(|| wrong(format!("tensor `{name}` is missing")))?;
        if stored.dtype != entry.ty.dtype || stored.shape != entry.ty.shape {
            let there = format!("{}{}", stored.dtype, stored.shape);
            return Err(wrong(format!("tensor `{name}` is {there}; the model has {}", entry.ty)));
        }
        let start = usize::try_from(entry.offset).ok();
        let place = start.and_then(|s| bytes.get_mut(s..s.checked_add(stored.bytes.len())?));
        place.ok_or_else(|| wrong(format!("tensor `{name}` lies outside its region")))?.copy_from_slice(&stored.bytes);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_and_the_best_are_kept() {
        let folder = std::env::temp_dir().join(format!("rondo-keep-{}", std::process::id()));
        for step in [2, 4, 6, 8, 10] {
            fs::create_dir_all(folder.join(format!("step-{step}"))).unwrap();
        }
        let of = |step, loss| Evaluation { step, loss: Some(loss) };
        let evaluations = [of(2, 3.0), of(3, 0.5), of(4, 1.0), of(6, 1.5), of(8, 2.0), of(10, 2.5)];
        let steps = || list(&folder).into_iter().map(|(step, _)| step).collect::<Vec<_>>();
        keep_latest(&folder, 2, &evaluations).unwrap();
        assert_eq!(steps(), [10, 8, 4]);
        assert_eq!(best_of(&folder, &evaluations).unwrap().step, 4);
        keep_latest(&folder, 1, &[]).unwrap();
        assert_eq!(steps(), [10]);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
