//! How a run begins: in a new folder, or from the latest whole checkpoint of one.

use super::books::Books;
use super::{Length, Run, total_steps};
use crate::checkpoint::Saved;
use crate::config::{Config, ConfigError, Eval, Origin, Overrides, Sample};
use crate::data::{Batches, Data, Staging};
use crate::evaluate::Evaluator;
use crate::folder::Folder;
use crate::metrics::Metrics;
use crate::observe::Observer;
use crate::schedule::Schedule;
use crate::summary::History;
use crate::trainer::Trainer;
use crate::{Error, checkpoint, samples, step};
use device::Device;
use graph::Tuning;
use graph::trace::PARAMETERS;
use std::path::{Path, PathBuf};
use tensor::file::atomic;

impl Run {
    /// A new run in the folder `path`.
    ///
    /// # Errors
    /// When the data, the plan, the device's memory or the folder doesn't allow it.
    pub fn create(device: &Device, config: Config, path: &Path, tuning: Tuning) -> Result<Run, Error> {
        let mut data = Data::open(&config)?;
        let data_sha256 = data.sha256();
        let trainer = Trainer::beside(device, &config, &tuning, step::saving_bytes(&config))?;
        let evaluator = evaluator(device, &config, &tuning, &trainer, data.validation.take())?;
        let folder = Folder::create(path)?;
        let write = |path: &Path, text: &str| atomic::write(path, text.as_bytes()).map_err(Error::io(path));
        write(&folder.tokenizer_file(), &data.tokenizer.to_json())?;
        // Also an empty one: another may be there, of a process that was ended just after it.
        write(&folder.tuning_file(), &serde_json::to_string_pretty(&tuning).expect("a table is plain data"))?;
        // It comes last: with it, the folder holds a run.
        folder.write_config(&config)?;
        Parts { data_sha256, folder, data, trainer, evaluator, tuning, config }.run(device, None)
    }

    /// Goes on with the run in the folder `path` from its latest whole checkpoint, with the keys `set` over its own. A run
    /// that was ended before its first checkpoint begins again.
    ///
    /// # Errors
    /// When no checkpoint is whole, or it is of another model, optimizer or data, or of a newer version of Rondo.
    pub fn resume(device: &Device, path: &Path, set: &[String], observer: &mut dyn Observer) -> Result<Run, Error> {
        let folder = Folder::open(path)?;
        checkpoint::clean(&folder.checkpoints());
        let own = |set: &[String]| {
            let resolved = Overrides { set: set.to_vec(), ..folder.overrides() }.resolve();
            resolved.map_err(|e| own_file_is_damaged(e, path))
        };
        let (before, config) = (own(&[])?, own(set)?);
        let mut data = Data::open_with(&config, Some(&folder.tokenizer_file()))?;
        let data_sha256 = data.sha256();
        if checkpoint::list(&folder.checkpoints()).is_empty() {
            observer.warning(&format!("{} has no checkpoint yet: the run begins again", path.display()));
            let tuning = tuning(&folder.tuning_file())?;
            let trainer = Trainer::beside(device, &config, &tuning, step::saving_bytes(&config))?;
            let evaluator = evaluator(device, &config, &tuning, &trainer, data.validation.take())?;
            folder.write_config(&config)?;
            return Parts { data_sha256, folder, data, trainer, evaluator, tuning, config }.run(device, None);
        }
        keeps_its_settings(&before, &config, path)?;
        step::may_fit(&config, device.spec())?;
        let graph = step::trace(&config)?;
        let Some(region) = graph.region(PARAMETERS) else { panic!("a step has parameters") };
        let warn = |text: &str| observer.warning(text);
        let found = checkpoint::latest(&folder.checkpoints(), &region.entries, region.bytes as usize, warn)?;
        let Some((from, saved)) = found else {
            let what = "no checkpoint in it is whole\n  help: train again from its config.toml: \
                        rondo train --config FILE --out NEW"
                .into();
            return Err(Error::Data { path: folder.checkpoints(), line: None, what });
        };
        let manifest = &saved.manifest;
        let help = format!("begin a new run: rondo train --config {} --out NEW", folder.config_file().display());
        if manifest.config_sha256 != config.identity() {
            let what = format!(
                "it was saved with another model, optimizer or other settings than config.toml now says\n  help: restore \
                 config.toml, or {help}"
            );
            return Err(Error::Data { path: from, line: None, what });
        }
        if manifest.data_sha256 != data_sha256 {
            let what =
                format!("the training data are not those that it was saved with\n  help: restore them, or {help}");
            return Err(Error::Data { path: from, line: None, what });
        }
        let (done, now) = (manifest.step, total_steps(&config, &data.training));
        if now < done {
            let what = format!("{} has done {done} steps; it can't come to {now}", path.display());
            let help = format!("ask for more than {done} steps, or {help}");
            return Err(ConfigError { origin: Origin::Resolved, line: None, what, help: Some(help) }.into());
        }
        warn_of_other_rates(&before, &config, &data.training, observer);
        let tuning = manifest.tuning.clone();
        // What the checkpoint was read into is free again before another one is saved.
        let held = saved.state.bytes();
        let mut trainer = Trainer::beside(device, &config, &tuning, step::saving_bytes(&config).saturating_sub(held))?;
        trainer.restore(&saved.state)?;
        let evaluator = evaluator(device, &config, &tuning, &trainer, data.validation.take())?;
        samples::keep(&folder.samples_file(), manifest.step)?;
        if now > done {
            folder.write_config(&config)?;
        }
        Parts { data_sha256, folder, data, trainer, evaluator, tuning, config }.run(device, Some((from, saved)))
    }

    /// Changes how long the run is; config.toml then says so. The run is the one that had this length from the start.
    ///
    /// # Errors
    /// When the steps done so far would have had other rates, or config.toml can't be written.
    pub fn set_length(&mut self, length: Length) -> Result<(), Error> {
        let Length { steps, decay_steps, eval_every, sample_every } = length;
        let now = &self.config;
        let config = Config {
            steps,
            schedule: Schedule { decay_steps, ..now.schedule.clone() },
            eval: Eval { every: eval_every, ..now.eval.clone() },
            sample: Sample { every: sample_every, ..now.sample.clone() },
            ..now.clone()
        };
        let rate = |c: &Config, done| c.schedule.rate(c.optimizer.lr, done, total_steps(c, &self.batches));
        let problem = config.schedule.problem().map(|what| format!("schedule.{what}"));
        let other = (0..self.step()).find(|done| rate(&config, *done) != rate(now, *done));
        let other = other.map(|done| format!("with {steps} steps, step {} would have had another rate", done + 1));
        if let Some(what) = problem.or(other) {
            return Err(ConfigError { origin: Origin::Resolved, line: None, what, help: None }.into());
        }
        self.folder.write_config(&config)?;
        self.config = config;
        Ok(())
    }
}

/// What a run is made of.
struct Parts {
    data_sha256: String,
    folder: Folder,
    data: Data,
    trainer: Trainer,
    evaluator: Option<Evaluator>,
    tuning: Tuning,
    config: Config,
}

impl Parts {
    /// The run, at its beginning or after a checkpoint.
    fn run(self, device: &Device, from: Option<(PathBuf, Saved)>) -> Result<Run, Error> {
        let Parts { data_sha256, folder, data, trainer, evaluator, tuning, config } = self;
        let step = from.as_ref().map_or(0, |(_, saved)| saved.manifest.step);
        let mut run = Run {
            metrics: Metrics::open(&folder.metrics_file(), step)?.with_events(&config, folder.tensorboard(), step)?,
            folder,
            batches: data.training,
            notes: data.notes,
            tokenizer: data.tokenizer,
            staging: Staging::default(),
            trainer,
            evaluator,
            evaluations: Vec::new(),
            data_sha256,
            device: device.clone(),
            tuning,
            history: History::default(),
            skipped: 0,
            in_a_row: 0,
            quiet_until: 0,
            before_sec: 0.0,
            last_checkpoint: None,
            save_due: None,
            books: Books::default(),
            limits: None,
            config,
        };
        if let Some((path, saved)) = from {
            let valid = (0..step).map(|step| run.batches.counts(step).valid as u32).collect();
            run.history = History { losses: saved.losses, valid, step_ms: Vec::new() };
            run.evaluations = saved.manifest.evaluations;
            run.skipped = saved.manifest.skipped;
            run.before_sec = saved.manifest.elapsed_sec;
            run.last_checkpoint = Some((step, path));
        }
        Ok(run)
    }
}

/// A run's own file was whole once: presets are no help.
fn own_file_is_damaged(error: ConfigError, run: &Path) -> ConfigError {
    match error.origin {
        // What a newer version has written is whole.
        Origin::File(_) if !error.what.contains("newer version") => {
            let help = format!(
                "restore {} from a copy; another run with the same settings, or run.json, shows them",
                run.join("config.toml").display()
            );
            ConfigError { help: Some(help), ..error }
        }
        _ => error,
    }
}

/// Whether a run that goes on has its own model, data, optimizer and seed.
fn keeps_its_settings(before: &Config, now: &Config, run: &Path) -> Result<(), ConfigError> {
    let others = before.differences(now);
    if others.is_empty() {
        return Ok(());
    }
    let all: Vec<_> = others.iter().map(|(key, then, now)| format!("{key} is {then} and can't become {now}")).collect();
    let what = format!("in {} {}: a run that goes on keeps them", run.display(), all.join(", "));
    let set: Vec<_> = others.iter().map(|(key, _, now)| format!("--set {key}={now}")).collect();
    let file = run.join("config.toml");
    let help = format!("begin a new run: rondo train --config {} {} --out NEW", file.display(), set.join(" "));
    Err(ConfigError { origin: Origin::Resolved, line: None, what, help: Some(help) })
}

/// Says that a run has another length now, where its learning rates depend on it.
fn warn_of_other_rates(before: &Config, config: &Config, batches: &Batches, observer: &mut dyn Observer) {
    let (then, now) = (total_steps(before, batches), total_steps(config, batches));
    let (fell, falls) = (before.schedule.decay_steps, config.schedule.decay_steps);
    if then != now && config.schedule.has_end() {
        observer.warning(&format!(
            "the run now has {now} steps, and had {then}: learning rates from here on are those of {now} steps"
        ));
    } else if fell != falls {
        observer.warning(&format!("the rate now falls in the last {falls} steps, and would have in the last {fell}"));
    }
}

/// What evaluates on the validation data, if there is any.
fn evaluator(
    device: &Device,
    config: &Config,
    tuning: &Tuning,
    trainer: &Trainer,
    data: Option<Batches>,
) -> Result<Option<Evaluator>, Error> {
    data.map(|batches| Evaluator::new(device, config, tuning, trainer, batches)).transpose()
}

/// The lowerings that a run was begun with.
fn tuning(file: &Path) -> Result<Tuning, Error> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Tuning::default()),
        Err(e) => return Err(Error::io(file)(e)),
    };
    serde_json::from_str(&text).map_err(|e| Error::Data { path: file.into(), line: None, what: e.to_string() })
}
