//! Which model a folder is: a run's checkpoint, a model folder itself, or a refusal that says what would be one.

use crate::cmd::{Failure, say};
use ::train::checkpoint;
use ::train::config::Overrides;
use model::Folder;
use std::path::{Path, PathBuf};

/// What can be named.
const FOLDERS: &str = "a run's folder (rondo train makes them under runs/) or a folder with config.json, tokenizer.json and model.safetensors";
/// Runs that are named in a refusal at most.
const NAMED: usize = 5;

/// The model folder of `path`, a run's checkpoint or a model folder itself, and the step that it was saved after.
pub fn open(path: &Path, wanted: Option<&str>) -> Result<(Folder, Option<usize>), Failure> {
    let name = path.display();
    if !path.is_dir() {
        let what = if path.exists() { "is not a folder" } else { "is not there" };
        return Err(Failure::bad_file(format!("{name} {what}\n  help: name {FOLDERS}")));
    }
    let checkpoints = path.join("checkpoints");
    let all = checkpoint::list(&checkpoints);
    if all.is_empty() && path.join("config.toml").is_file() {
        return Err(not_yet(path));
    }
    if !checkpoints.is_dir() {
        return match wanted {
            Some(_) => Err(Failure::usage(format!("{name} is no run's folder, it has no checkpoints"))),
            None if has_no_model(path) => Err(nothing(path)),
            None => Ok((Folder::open(path).map_err(Failure::bad_file)?, None)),
        };
    }
    let (mut newest, mut chosen) = (true, all.clone());
    if let Some(name) = wanted {
        let step = if name == "best" { best(&all) } else { name.trim_start_matches("step-").parse().ok() };
        chosen.retain(|(there, _)| Some(*there) == step);
        newest = false;
    }
    for (step, folder) in &chosen {
        match checkpoint::verify(folder)
            .map_err(Failure::from)
            .and_then(|_| Folder::open(folder).map_err(Failure::bad_file))
        {
            Ok(found) => return Ok((found, Some(*step))),
            Err(failure) if newest => say(format_args!("warning: {}; this checkpoint is skipped", failure.message)),
            Err(failure) => return Err(failure),
        }
    }
    let names: Vec<_> = all.iter().map(|(step, _)| format!("step-{step}")).collect();
    let there = if names.is_empty() { "none".into() } else { names.join(", ") };
    Err(Failure::bad_file(format!(
        "{}: no whole checkpoint{}; there are: {there}\n  help: train on with rondo train --resume {}",
        checkpoints.display(),
        wanted.map(|name| format!(" `{name}`")).unwrap_or_default(),
        path.display()
    )))
}

/// The checkpoint with the lowest validation loss, by the newest whole one's record.
fn best(all: &[(usize, PathBuf)]) -> Option<usize> {
    let manifest = all.iter().find_map(|(_, folder)| checkpoint::verify(folder).ok())?;
    let steps: Vec<usize> = all.iter().map(|(step, _)| *step).collect();
    ::train::evaluate::best(&manifest.evaluations, &steps).map(|evaluation| evaluation.step)
}

/// Whether none of a model folder's files is there.
fn has_no_model(path: &Path) -> bool {
    !["config.json", "tokenizer.json", "model.safetensors"].iter().any(|file| path.join(file).exists())
}

/// A run that has saved nothing, and when it will.
fn not_yet(run: &Path) -> Failure {
    let name = run.display();
    let overrides = Overrides { file: Some(run.join("config.toml")), ..Overrides::default() };
    let when = match overrides.resolve() {
        Ok(config) => {
            let first = [config.checkpoint.every, config.steps].into_iter().filter(|step| *step > 0).min();
            first.map_or("at its end".into(), |step| format!("at step {step}"))
        }
        Err(_) => "at its end".into(),
    };
    let help = format!(
        "let it train on; it saves as well when Ctrl-C stops it. If it doesn't run: rondo train --resume {name}"
    );
    Failure::bad_file(format!("{name}: no checkpoint yet; the run saves its first one {when}\n  help: {help}"))
}

/// A folder that is neither a run nor a model: what it looks like instead.
fn nothing(path: &Path) -> Failure {
    let name = path.display();
    if path.file_name().is_some_and(|last| last == "checkpoints")
        && let Some((step, newest)) = checkpoint::list(path).first()
        && let Some(run) = path.parent()
    {
        let run = if run.as_os_str().is_empty() { Path::new(".") } else { run };
        let what = format!("{name} holds a run's checkpoints");
        let help = format!("rondo run {}, or of step {step}: rondo run {}", run.display(), newest.display());
        return Failure::bad_file(format!("{what}\n  help: {help}"));
    }
    let runs = runs(path);
    let help = match &runs[..] {
        [] => format!("name {FOLDERS}; a run's has config.toml and checkpoints/step-N"),
        runs if runs.len() > NAMED => format!("it holds {} runs, such as rondo run {}", runs.len(), runs[0].display()),
        runs => {
            let lines: Vec<_> = runs.iter().map(|run| format!("rondo run {}", run.display())).collect();
            format!("there is in it: {}", lines.join(", "))
        }
    };
    Failure::bad_file(format!("{name} is neither a run nor a model\n  help: {help}"))
}

/// The runs in a folder that have a checkpoint, by name.
fn runs(path: &Path) -> Vec<PathBuf> {
    let inside = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut runs: Vec<_> = inside
        .filter(|path| path.join("config.toml").is_file() && !checkpoint::list(&path.join("checkpoints")).is_empty())
        .collect();
    runs.sort();
    runs
}
