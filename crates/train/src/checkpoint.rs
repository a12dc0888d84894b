//! Checkpoints: `step-N/{config.json, tokenizer.json, model.safetensors}`, which are a model folder, with
//! `optimizer.safetensors` and `manifest.json`; written whole or not at all.
#![forbid(unsafe_code)]

use crate::Error;
use crate::evaluate::{Evaluation, best};
use crate::trainer::{Scale, State, entry_bytes};
use graph::Tuning;
use graph::trace::Entry;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tensor::DType;
use tensor::file::safetensors::Stored;
use tensor::file::{atomic, disk, safetensors};
use tensor::hash::sha256;

/// The layout of checkpoints that this build writes; it reads those of before as well. Format 1 had no hash of the
/// manifest itself.
const FORMAT: u32 = 2;
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

/// Saves a checkpoint under `folder`, and answers where. What was there under its name is replaced. When this returns, the
/// checkpoint is durable.
///
/// # Errors
/// When anything can't be written or made durable; what was there before is then untouched.
pub fn save(folder: &Path, entries: &[Entry], saved: &Saved) -> Result<PathBuf, Error> {
    let name = format!("step-{}", saved.manifest.step);
    let temporary = folder.join(format!("{name}.{TEMPORARY}{}", std::process::id()));
    disk::create_folders(folder).map_err(Error::io(folder))?;
    let result = write_files(&temporary, entries, saved).and_then(|()| replace(&temporary, &folder.join(&name)));
    if result.is_err() {
        // The error that made the save fail is the one to report.
        let _ = disk::remove_folder(&temporary);
    }
    result.map(|()| folder.join(name))
}

/// Every file durable under a name that nobody reads, the manifest last.
fn write_files(folder: &Path, entries: &[Entry], saved: &Saved) -> Result<(), Error> {
    if folder.exists() {
        disk::remove_folder(folder).map_err(Error::io(folder))?;
    }
    disk::create_folders(folder).map_err(Error::io(folder))?;
    let shared = BTreeMap::from([("step".to_string(), saved.manifest.step.to_string())]);
    let mut manifest = saved.manifest.clone();
    let mut write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        manifest.files.insert(name.into(), FileRecord { bytes: bytes.len() as u64, sha256: sha256(bytes) });
        atomic::write_new(&path, bytes).map_err(Error::io(&path))
    };

    let model = entries.iter().map(|e| part(e.name.clone(), e, &saved.state.parameters));
    write(MODEL, &tensor_bytes(&folder.join(MODEL), model.collect(), shared.clone())?)?;
    let moments = [("first_moment", &saved.state.first_moment), ("second_moment", &saved.state.second_moment)];
    let mut optimizer = Vec::new();
    for (name, region) in moments {
        let all = entries.iter().map(|e| part(format!("{name}.{}", e.name), e, region));
        optimizer.extend(all);
    }
    let steps = [saved.losses.len()];
    optimizer.push(("losses".into(), &steps[..], losses_as_stored(&saved.losses).into()));
    write(OPTIMIZER, &tensor_bytes(&folder.join(OPTIMIZER), optimizer, shared)?)?;
    for (name, text) in &saved.texts {
        write(name, text.as_bytes())?;
    }
    let path = folder.join(MANIFEST);
    atomic::write_new(&path, sealed(&manifest).as_bytes()).map_err(Error::io(&path))
}

/// A tensor's name, shape and bytes, which aren't copied: a model may take most of the memory.
type Part<'a> = (String, &'a [usize], Cow<'a, [u8]>);

fn part<'a>(name: String, entry: &'a Entry, region: &'a [u8]) -> Part<'a> {
    (name, &entry.ty.shape[..], entry_bytes(entry, region).into())
}

fn tensor_bytes(path: &Path, tensors: Vec<Part<'_>>, metadata: BTreeMap<String, String>) -> Result<Vec<u8>, Error> {
    let views = tensors.iter().map(|(name, shape, bytes)| (name.as_str(), DType::F32, *shape, &bytes[..]));
    Ok(safetensors::bytes(path, views, metadata)?)
}

fn replace(from: &Path, to: &Path) -> Result<(), Error> {
    let old = to.with_extension(format!("{REPLACED}{}", std::process::id()));
    let there = to.exists();
    if there {
        disk::rename(to, &old).map_err(Error::io(to))?;
    }
    let renamed = atomic::rename_folder(from, to).map_err(Error::io(to));
    if there && !to.exists() {
        // The next `clean` does it where this fails.
        let _ = disk::rename(&old, to);
    } else if there && renamed.is_ok() {
        // Likewise.
        let _ = disk::remove_folder(&old);
    }
    renamed
}

/// A manifest's text: its first line holds the SHA-256 of all lines after it.
fn sealed(manifest: &Manifest) -> String {
    let text = serde_json::to_string_pretty(manifest).expect("a manifest is plain data");
    let rest = text.strip_prefix("{\n").unwrap_or(&text);
    format!("{SEAL}{}{SEAL_END}{rest}", sha256(rest.as_bytes()))
}

const SEAL: &str = "{\n  \"sha256\": \"";
const SEAL_END: &str = "\",\n";

/// Whether a manifest's text is what its first line says; `None` where that line says nothing.
fn seal_holds(text: &str) -> Option<bool> {
    let (hash, rest) = text.strip_prefix(SEAL)?.split_once(SEAL_END)?;
    Some(sha256(rest.as_bytes()) == hash)
}

/// What a checkpoint says of itself. Its files are not looked at.
///
/// # Errors
/// When it can't be read, is damaged, or is of a newer format.
pub fn manifest(folder: &Path) -> Result<Manifest, Error> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let path = folder.join(MANIFEST);
    let wrong = |what: String| Error::Data { path: path.clone(), line: None, what };
    let text = fs::read(&path).map_err(Error::io(&path))?;
    let text = String::from_utf8(text).map_err(|_| wrong("not valid UTF-8".into()))?;
    let seal = seal_holds(&text);
    if seal == Some(false) {
        return Err(wrong("its contents are not what the SHA-256 in its first line says".into()));
    }
    let Format { format } = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    if format > FORMAT {
        return Err(Error::Newer { path, format, reads: FORMAT });
    }
    if format == 0 || format > 1 && seal.is_none() {
        return Err(wrong("its first line doesn't hold its SHA-256".into()));
    }
    serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))
}

/// What stands between a checkpoint's name and the number of the process that makes, replaces or removes it.
const TEMPORARY: &str = "tmp-";
const REPLACED: &str = "old-";
const REMOVED: &str = "gone-";

/// Removes what interrupted saves have left, and gives a checkpoint its name back that was being replaced. Only the
/// process that holds the run's lock may.
pub fn clean(folder: &Path) {
    let Ok(names) = fs::read_dir(folder) else { return };
    for entry in names.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let Some((checkpoint, rest)) = name.split_once('.').filter(|(c, _)| step_of(c).is_some()) else { continue };
        let of = |kind: &str| {
            let process = rest.strip_prefix(kind);
            process.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
        };
        // A remnant that stays does no harm.
        if of(REPLACED) && !folder.join(checkpoint).exists() {
            let _ = disk::rename(&path, &folder.join(checkpoint)).and_then(|()| disk::sync_folder(folder));
        } else if of(TEMPORARY) || of(REPLACED) || of(REMOVED) {
            let _ = disk::remove_folder(&path);
        }
    }
}

/// The step of a checkpoint's name.
fn step_of(name: &str) -> Option<usize> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (format!("step-{step}") == name).then_some(step)
}

/// The checkpoint with the lowest validation loss of those under `folder`.
pub fn best_of(folder: &Path, evaluations: &[Evaluation]) -> Option<Evaluation> {
    let steps: Vec<usize> = list(folder).into_iter().map(|(step, _)| step).collect();
    best(evaluations, &steps)
}

/// Removes all checkpoints under `folder` but the latest `keep` up to `step`, which has just been saved, and the one with
/// the lowest validation loss. Later ones than `step` are damaged, or the run would have gone on from them: they don't
/// count.
///
/// # Errors
/// When one can't be removed; what is left of it is no checkpoint.
pub fn keep_latest(folder: &Path, keep: usize, step: usize, evaluations: &[Evaluation]) -> Result<(), Error> {
    let best = best_of(folder, evaluations).map(|e| e.step);
    let up_to_step = list(folder).into_iter().filter(|(s, _)| *s <= step);
    for (old, path) in up_to_step.skip(keep.max(1)) {
        if Some(old) != best {
            // Under its own name it would look like a damaged one, should this be interrupted.
            let gone = path.with_extension(format!("{REMOVED}{}", std::process::id()));
            disk::rename(&path, &gone).map_err(Error::io(&path))?;
            disk::remove_folder(&gone).map_err(Error::io(&gone))?;
        }
    }
    Ok(())
}

/// The steps that have a checkpoint under `folder`, the latest first.
pub fn list(folder: &Path) -> Vec<(usize, PathBuf)> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let step = |path: &Path| step_of(path.file_name()?.to_str()?);
    let mut found: Vec<(usize, PathBuf)> = names.map(|e| e.path()).filter_map(|p| Some((step(&p)?, p))).collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

/// The latest checkpoint that is whole; `warn` is told of each later one that isn't, and which is used in its place.
///
/// # Errors
/// When the latest is of a newer format: going on from an earlier one would undo what a newer build has done.
pub fn latest(
    folder: &Path,
    entries: &[Entry],
    region: usize,
    mut warn: impl FnMut(&str),
) -> Result<Option<(PathBuf, Saved)>, Error> {
    let mut skipped = false;
    for (step, path) in list(folder) {
        match load(&path, entries, region) {
            Ok(saved) if saved.manifest.step == step => {
                if skipped {
                    warn(&format!("{} is used in its place", path.display()));
                }
                return Ok(Some((path, saved)));
            }
            Ok(saved) => {
                let holds = saved.manifest.step;
                warn(&format!("{}: it holds step {holds}; this checkpoint is skipped", path.display()));
            }
            Err(e @ Error::Newer { .. }) => return Err(e),
            Err(e) => warn(&format!("{e}; this checkpoint is skipped")),
        }
        skipped = true;
    }
    Ok(None)
}

/// Checks every byte of a checkpoint against its manifest, which it answers.
///
/// # Errors
/// When a file is missing, or differs from what the manifest says.
pub fn verify(folder: &Path) -> Result<Manifest, Error> {
    Ok(files(folder)?.0)
}

/// Reads a checkpoint's files, and checks every byte of them.
///
/// # Errors
/// When a file is missing, or differs from what the manifest says.
fn files(folder: &Path) -> Result<(Manifest, BTreeMap<String, Vec<u8>>), Error> {
    let manifest = manifest(folder)?;
    let wrong = |path: &Path, what: String| Error::Data { path: path.into(), line: None, what };
    if let Some(name) = [MODEL, OPTIMIZER].into_iter().find(|name| !manifest.files.contains_key(*name)) {
        return Err(wrong(&folder.join(MANIFEST), format!("it doesn't list {name}")));
    }
    let mut files = BTreeMap::new();
    for (name, record) in &manifest.files {
        if name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(wrong(&folder.join(MANIFEST), format!("it lists `{name}`, which is no file's plain name")));
        }
        let file = folder.join(name);
        let bytes = fs::read(&file).map_err(Error::io(&file))?;
        if bytes.len() as u64 != record.bytes {
            return Err(wrong(&file, format!("it has {} bytes; the manifest says {}", bytes.len(), record.bytes)));
        }
        if sha256(&bytes) != record.sha256 {
            return Err(wrong(&file, "its contents are not what the manifest's SHA-256 says".into()));
        }
        files.insert(name.clone(), bytes);
    }
    Ok((manifest, files))
}

/// Reads a checkpoint and checks every byte of it. `region` is the size of the parameters' region.
///
/// # Errors
/// When a file is missing, differs from what the manifest says, or doesn't fit the model.
pub fn load(folder: &Path, entries: &[Entry], region: usize) -> Result<Saved, Error> {
    let (manifest, files) = files(folder)?;
    let tensors = |name: &str| -> Result<(PathBuf, BTreeMap<String, Stored>), Error> {
        let path = folder.join(name);
        let stored = safetensors::parse(&path, files.get(name).map_or(&[], Vec::as_slice))?;
        Ok((path, stored))
    };
    let (file, model) = tensors(MODEL)?;
    let parameters = gather(&file, &model, "", entries, region)?;
    let (file, optimizer) = tensors(OPTIMIZER)?;
    let first_moment = gather(&file, &optimizer, "first_moment.", entries, region)?;
    let second_moment = gather(&file, &optimizer, "second_moment.", entries, region)?;
    let losses: Vec<f32> = match optimizer.get("losses") {
        Some(t) if t.dtype == DType::F32 && *t.shape == [manifest.step] => losses_as_read(&t.bytes),
        _ => {
            let what = format!("`losses` is not f32[{}]", manifest.step);
            return Err(Error::Data { path: file, line: None, what });
        }
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
        keep_latest(&folder, 2, 10, &evaluations).unwrap();
        assert_eq!(steps(), [10, 8, 4]);
        assert_eq!(best_of(&folder, &evaluations).unwrap().step, 4);
        keep_latest(&folder, 1, 10, &[]).unwrap();
        assert_eq!(steps(), [10]);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        // Step 10 is damaged, and the run has gone on from an earlier one: what it saves then is not removed.
        fs::create_dir_all(folder.join("step-7")).unwrap();
        keep_latest(&folder, 1, 7, &[]).unwrap();
        assert_eq!(steps(), [10, 7]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn remnants_are_removed_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("rondo-clean-{}", std::process::id()));
        let stay = ["step-3", "step-x.tmp-1", "step-4.tmp-mine", "step-5.copy", "notes.tmp-1"];
        for name in stay.iter().chain(&["step-6.tmp-17", "step-3.old-9", "step-2.gone-9", "step-8.old-9"]) {
            fs::create_dir_all(folder.join(name).join("inner")).unwrap();
        }
        clean(&folder);
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        let mut wanted = stay.to_vec();
        // Step 8 was being replaced: it is the only one of its name.
        wanted.push("step-8");
        wanted.sort();
        assert_eq!(left, wanted);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_manifest_says_what_it_must_be() {
        let text = sealed(&Manifest::new(3));
        assert_eq!(seal_holds(&text), Some(true));
        assert_eq!(seal_holds(&text.replace("\"step\": 3", "\"step\": 7")), Some(false));
        assert_eq!(seal_holds(&text.replace("sha256", "sha257")), None);
        let read: Manifest = serde_json::from_str(&text).unwrap();
        assert_eq!(read, Manifest::new(3));
    }
}
