//! Checkpoints of a run, and its summary.

use super::Run;
use crate::Error;
use crate::checkpoint::{self, Manifest, Saved};
use crate::evaluate::best;
use crate::observe::Observer;
use crate::summary::Summary;
use crate::trainer::parameters_sha256;
use graph::trace::PARAMETERS;

impl Run {
    /// Saves the state after the steps done so far, unless it is saved already, or some number of it isn't finite: then
    /// the observer is warned.
    ///
    /// # Errors
    /// When it can't be written whole; an earlier checkpoint is then untouched.
    pub fn save(&mut self, observer: &mut dyn Observer) -> Result<(), Error> {
        let step = self.step();
        if self.last_checkpoint.as_ref().is_some_and(|(s, _)| *s == step) {
            return Ok(());
        }
        self.folder.still_there()?;
        self.metrics.sync()?;
        let state = self.trainer.state()?;
        if let Some(name) = self.trainer.not_finite(&state) {
            observer.warning(&format!("step {step}: {name} is not finite: no checkpoint is written"));
            return Ok(());
        }
        let epoch = self.batches.steps_per_epoch();
        let manifest = Manifest {
            applied: state.applied,
            scale: state.scale,
            skipped: self.skipped,
            seed: self.config.seed,
            epoch: step / epoch,
            batch: step % epoch,
            elapsed_sec: self.elapsed_sec(),
            config_sha256: self.config.identity(),
            data_sha256: self.data_sha256.clone(),
            evaluations: self.evaluations.clone(),
            device: self.device.spec().name.clone(),
            tuning: self.tuning.clone(),
            ..Manifest::new(step)
        };
        let config = checkpoint::model_json(&self.config.model, self.tokenizer.name());
        let texts = vec![("config.json", config), ("tokenizer.json", self.tokenizer.to_json())];
        let saved = Saved { manifest, state, losses: self.history.losses.clone(), texts };
        let path = checkpoint::save(&self.folder.checkpoints(), self.trainer.entries(), &saved)?;
        observer.saved(&path);
        self.last_checkpoint = Some((step, path));
        if self.config.checkpoint.keep > 0 {
            let (folder, keep) = (self.folder.checkpoints(), self.config.checkpoint.keep);
            // The new one is safe, so that one too many is no reason to stop.
            if let Err(e) = checkpoint::keep_latest(&folder, keep, step, &self.evaluations) {
                observer.warning(&format!("an old checkpoint can't be removed: {e}"));
            }
        }
        Ok(())
    }

    pub(super) fn write_summary(&self, summary: &Summary) -> Result<(), Error> {
        let file = self.folder.summary_file();
        let text = serde_json::to_string_pretty(summary).expect("a summary is plain data");
        tensor::file::atomic::write(&file, text.as_bytes()).map_err(Error::io(&file))
    }

    /// What of the run is kept when `error` stops it, and how to go on, for errors that don't say.
    pub(super) fn stopped(&self, error: Error) -> Error {
        if matches!(error, Error::NotFinite { .. } | Error::Stopped { .. }) {
            return error;
        }
        let (step, folder) = (self.step(), self.folder.path().display());
        let kept = match &self.last_checkpoint {
            Some((_, path)) if !path.exists() => {
                format!("lost: all steps (up to step {step}); {} is gone as well", path.display())
            }
            Some((saved, path)) if *saved == step => format!("nothing is lost: {} is whole", path.display()),
            Some((saved, path)) => format!(
                "lost: what came after step {saved} (up to step {step}); {} is whole\n  \
                 go on: rondo train --resume {folder}",
                path.display()
            ),
            None => format!(
                "lost: all steps (up to step {step}); there was no checkpoint yet\n  \
                 begin again: rondo train --resume {folder}"
            ),
        };
        Error::Stopped { source: Box::new(error), kept }
    }

    /// Whether run.json is of the steps done so far.
    pub(super) fn is_summed_up(&self) -> bool {
        let text = std::fs::read(self.folder.summary_file()).unwrap_or_default();
        let summary: Option<Summary> = serde_json::from_slice(&text).ok();
        summary.is_some_and(|s| s.steps == self.step())
    }

    /// run.json.
    pub(super) fn summary(&self, status: &str) -> Result<Summary, Error> {
        let (history, batches, spec) = (&self.history, &self.batches, self.device.spec());
        let step_ms = history.step_ms_median();
        let epoch_ms = history.epoch_ms_median(batches);
        let parameters = self.trainer.region(PARAMETERS)?;
        let counted = &self.books.counted;
        let a_step = |count: u64| (counted.steps > 0).then(|| count as f64 / counted.steps as f64);
        let finite = |x: f64| x.is_finite().then_some(x);
        let evaluated: Vec<usize> = self.evaluations.iter().map(|e| e.step).collect();
        let any = !history.losses.is_empty();
        Ok(Summary {
            status: status.into(),
            preset: self.config.preset.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.into(),
            device: spec.kind.to_string(),
            device_name: format!("{}, {}", spec.name, spec.architecture),
            device_units: spec.units,
            seed: self.config.seed,
            num_parameters: self.trainer.num_parameters(),
            steps: self.step(),
            skipped_steps: self.skipped,
            final_loss: any.then(|| history.final_loss(batches)).and_then(finite),
            best_loss: any.then(|| history.best_loss(batches)).and_then(finite),
            validation_loss: self.evaluations.last().and_then(|e| e.loss),
            best_validation_loss: best(&self.evaluations, &evaluated).and_then(|e| e.loss),
            best_checkpoint: checkpoint::best_of(&self.folder.checkpoints(), &self.evaluations)
                .map(|e| format!("checkpoints/step-{}", e.step)),
            step_ms_median: step_ms,
            epoch_ms_median: epoch_ms,
            tokens_per_second: match epoch_ms {
                Some(ms) => Some(1e3 * batches.positions_per_epoch() as f64 / ms),
                None => history.per_second(batches, |c| c.positions),
            },
            valid_tokens_per_second: match epoch_ms {
                Some(ms) => Some(1e3 * batches.valid_per_epoch() as f64 / ms),
                None => history.per_second(batches, |c| c.valid),
            },
            peak_arena_bytes: self.trainer.memory_bytes().0,
            peak_bytes: self.trainer.memory_bytes().1,
            percent_of_limit: step_ms.map(|ms| 1e5 * self.limit_seconds() / ms),
            parameters_sha256: parameters_sha256(self.trainer.entries(), &parameters),
            losses_sha256: history.losses_sha256(),
            submissions_per_step: a_step(counted.submissions),
            allocations_per_step: a_step(counted.host_allocations),
            device_allocations_per_step: a_step(counted.device_allocations),
            host_waits_per_step: a_step(counted.host_waits),
            wall_seconds: self.elapsed_sec(),
            tuning: self.tuning.clone(),
            config: self.config.clone(),
        })
    }
}
