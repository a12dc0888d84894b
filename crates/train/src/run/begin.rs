//! How a run begins: in a new folder, or from the latest whole checkpoint of one.

use super::books::Books;
use super::{Length, Run, total_steps};
use crate::config::{Checkpoint, Config, ConfigError, Eval, Origin, Overrides, Sample};
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
use std::path::Path;

impl Run {
    /// A new run in the folder `path`.
    ///
    /// # Errors
    /// When the data, the plan, the device's memory or the folder doesn't allow it.
    pub fn create(device: &Device, config: Config, path: &Path, tuning: Tuning) -> Result<Run, Error> {
        let data = Data::open(&config)?;
        let data_sha256 = data.sha256();
        let trainer = Trainer::new(device, &config, &tuning)?;
        let evaluator = evaluator(device, &config, &tuning, &trainer, data.validation)?;
        let folder = Folder::create(path, &config)?;
        let file = folder.tokenizer_file();
        tensor::file::atomic::write(&file, data.tokenizer.to_json().as_bytes()).map_err(Error::io(&file))?;
        let metrics = Metrics::open(&folder.metrics_file(), 0)?.with_events(&config, folder.tensorboard(), 0)?;
        Ok(Run {
            folder,
            batches: data.training,
            tokenizer: data.tokenizer,
            staging: Staging::default(),
            trainer,
            evaluator,
            evaluations: Vec::new(),
            data_sha256,
            device: device.clone(),
            tuning,
            metrics,
            history: History::default(),
            skipped: 0,
            in_a_row: 0,
            quiet_until: 0,
            before_sec: 0.0,
            last_checkpoint: None,
            books: Books::default(),
            limits: None,
            config,
        })
    }

    /// Goes on with the run in the folder `path` from its latest whole checkpoint, with the keys `set` over its own.
    ///
    /// # Errors
    /// When there is none, or it is of another model, optimizer or data.
    pub fn resume(device: &Device, path: &Path, set: &[String], observer: &mut dyn Observer) -> Result<Run, Error> {
        let folder = Folder::open(path)?;
        checkpoint::clean(&folder.checkpoints());
        let config = Overrides { set: set.to_vec(), ..folder.overrides() }.resolve()?;
        let data = Data::open_with(&config, Some(&folder.tokenizer_file()))?;
        let data_sha256 = data.sha256();
        let batches = data.training;
        let (then, now) = (total_steps(&folder.overrides().resolve()?, &batches), total_steps(&config, &batches));
        if then != now && config.schedule.has_end() {
            observer.warning(&format!(
                "the run now has {now} steps, and had {then}: learning rates from here on are those of {now} steps"
            ));
        }
        step::may_fit(&config, device.spec())?;
        let graph = step::trace(&config)?;
        let found = graph.region(PARAMETERS).and_then(|region| {
            let warn = |text: &str| observer.warning(text);
            checkpoint::latest(&folder.checkpoints(), &region.entries, region.bytes as usize, warn)
        });
        let Some((from, saved)) = found else {
            let what = "there is no whole checkpoint to go on from\n  help: train again from its config.toml: \
                        rondo train --config FILE --out NEW"
                .into();
            return Err(Error::Data { path: folder.checkpoints(), line: None, what });
        };
        let manifest = &saved.manifest;
        let same = [
            ("the model, optimizer or other settings", &manifest.config_sha256, &config.identity()),
            ("the training data", &manifest.data_sha256, &data_sha256),
        ];
        if let Some((what, _, _)) = same.iter().find(|(_, then, now)| then != now) {
            let what = format!("{what} are not those that it was saved with");
            return Err(Error::Data { path: from, line: None, what });
        }
        let mut trainer = Trainer::new(device, &config, &manifest.tuning)?;
        trainer.restore(&saved.state)?;
        let evaluator = evaluator(device, &config, &manifest.tuning, &trainer, data.validation)?;
        let metrics = Metrics::open(&folder.metrics_file(), manifest.step)?;
        let metrics = metrics.with_events(&config, folder.tensorboard(), manifest.step)?;
        samples::keep(&folder.samples_file(), manifest.step)?;
        let file = folder.config_file();
        tensor::file::atomic::write(&file, config.to_toml().as_bytes()).map_err(Error::io(&file))?;
        let valid = (0..manifest.step).map(|step| batches.counts(step).valid as u32).collect();
        Ok(Run {
            folder,
            batches,
            tokenizer: data.tokenizer,
            staging: Staging::default(),
            trainer,
            evaluator,
            evaluations: manifest.evaluations.clone(),
            data_sha256,
            device: device.clone(),
            tuning: manifest.tuning.clone(),
            metrics,
            skipped: manifest.skipped,
            in_a_row: 0,
            quiet_until: 0,
            before_sec: manifest.elapsed_sec,
            last_checkpoint: Some((manifest.step, from)),
            history: History { losses: saved.losses, valid, step_ms: Vec::new() },
            books: Books::default(),
            limits: None,
            config,
        })
    }

    /// Changes how long the run is; config.toml then says so. The run is the one that had this length from the start.
    ///
    /// # Errors
    /// When the steps done so far would have had other rates, or config.toml can't be written.
    pub fn set_length(&mut self, length: Length) -> Result<(), Error> {
        let Length { steps, decay_steps, eval_every, checkpoint_every, sample_every } = length;
        let now = &self.config;
        let config = Config {
            steps,
            schedule: Schedule { decay_steps, ..now.schedule.clone() },
            eval: Eval { every: eval_every, ..now.eval.clone() },
            checkpoint: Checkpoint { every: checkpoint_every, ..now.checkpoint.clone() },
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
        let file = self.folder.config_file();
        tensor::file::atomic::write(&file, config.to_toml().as_bytes()).map_err(Error::io(&file))?;
        self.config = config;
        Ok(())
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
