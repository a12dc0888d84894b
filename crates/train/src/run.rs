//! A training run: the loop that keeps the device busy, its books, its checkpoints and its end.

use crate::checkpoint::{self, Manifest, Saved};
use crate::config::{Config, Overrides};
use crate::data::tokenizer::Tokenizer;
use crate::data::{Batches, Counts, Data, Staging};
use crate::evaluate::{Evaluation, Evaluator, best};
use crate::folder::Folder;
use crate::metrics::{Line, Metrics};
pub use crate::observe::{Ending, Observer, Row};
use crate::step;
use crate::summary::{History, Summary};
use crate::trainer::{Measured, Trainer, parameters_sha256};
use crate::{Error, trainer};
use device::count::host_allocations;
use device::{Counters, Device, SLOTS, Ticket};
use graph::trace::PARAMETERS;
use graph::{DeviceKind, Limits, Tuning};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Gradients in a row that may be not finite before the run stops.
const MOST_SKIPPED: usize = 3;
/// Steps that warm up: what is counted and how far the host runs ahead begins after them.
const WARM_UP: usize = 8;
/// Most steps in flight before the host takes their results in; it then takes half of them.
const IN_FLIGHT: usize = SLOTS - 2;
/// Milliseconds that the steps in flight should take together: the user hears of them, and can stop them, this late.
const IN_FLIGHT_MS: f64 = 400.0;

/// A run that can be trained on.
pub struct Run {
    folder: Folder,
    config: Config,
    batches: Batches,
    tokenizer: Tokenizer,
    staging: Staging,
    trainer: Trainer,
    evaluator: Option<Evaluator>,
    evaluations: Vec<Evaluation>,
    data_sha256: String,
    device: Device,
    tuning: Tuning,
    metrics: Metrics,
    history: History,
    skipped: usize,
    in_a_row: usize,
    before_sec: f64,
    last_checkpoint: Option<(usize, PathBuf)>,
    books: Books,
    limits: Option<Limits>,
}

/// What the wrappers count from the end of the warm-up to the last step's submission; checkpoints are left out.
#[derive(Default)]
struct Counted {
    steps: u64,
    submissions: u64,
    host_waits: u64,
    device_allocations: u64,
    host_allocations: u64,
}

/// The wrappers' counters at one moment.
struct Moment(Counters, u64);

/// What is counted while steps run.
#[derive(Default)]
struct Books {
    flight: VecDeque<Ticket>,
    measured: Vec<Measured>,
    counted: Counted,
    mark: Option<Instant>,
    start: Option<Instant>,
}

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
        let metrics = Metrics::open(&folder.metrics_file(), 0)?;
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
        let graph = step::trace(&config)?;
        let found = graph.region(PARAMETERS).and_then(|region| {
            let warn = |text: &str| observer.warning(text);
            checkpoint::latest(&folder.checkpoints(), &region.entries, region.bytes as usize, warn)
        });
        let Some((from, saved)) = found else {
            let what = "there is no whole checkpoint to go on from".into();
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
            before_sec: manifest.elapsed_sec,
            last_checkpoint: Some((manifest.step, from)),
            history: History { losses: saved.losses, valid, step_ms: Vec::new() },
            books: Books::default(),
            limits: None,
            config,
        })
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Measured limits, which shares are stated of; without them the device's estimates are taken.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = Some(limits);
    }

    /// The run's folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration as resolved.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The data.
    pub fn batches(&self) -> &Batches {
        &self.batches
    }

    /// What made tokens of the data.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The validation data, if any is kept apart.
    pub fn validation(&self) -> Option<&Batches> {
        self.evaluator.as_ref().map(Evaluator::batches)
    }

    /// Evaluations so far, in order.
    pub fn evaluations(&self) -> &[Evaluation] {
        &self.evaluations
    }

    /// The recorded step.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// The recorded step, to look into or to change.
    pub fn trainer_mut(&mut self) -> &mut Trainer {
        &mut self.trainer
    }

    /// The lowerings that were chosen by a table.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Losses and times so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.history.losses.len()
    }

    /// Steps in all.
    pub fn total_steps(&self) -> usize {
        total_steps(&self.config, &self.batches)
    }

    /// Learning rate of the step after `done` steps.
    pub fn rate(&self, done: usize) -> f64 {
        self.config.schedule.rate(self.config.optimizer.lr, done, self.total_steps())
    }

    /// Trains until the last step, or until `stop` is set; saves at the end in either case.
    ///
    /// # Errors
    /// When the device or the disk fails, or too many gradients in a row are not finite.
    pub fn train(&mut self, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<Ending, Error> {
        let total = self.total_steps();
        let first = self.step();
        self.begin(total);
        let every = self.config.checkpoint.every;
        let mut submitted = first;
        while submitted < total && !stop.load(Ordering::Relaxed) {
            let most = self.most_in_flight();
            self.submit(submitted, most == 1)?;
            submitted += 1;
            let due = every > 0 && submitted.is_multiple_of(every);
            let evaluate = self.evaluates_after(submitted, due || submitted == total);
            if due || evaluate || submitted == total {
                self.drain(0, total, observer)?;
            } else if submitted - self.step() >= most {
                // While warming up all are waited for, so that the first steps' own costs don't count as later ones'.
                let keep = if self.step() < WARM_UP { 0 } else { most / 2 };
                self.drain(keep, total, observer)?;
            }
            if evaluate {
                self.evaluate(observer)?;
            }
            if due {
                self.save(observer)?;
            }
            if due || evaluate {
                self.books.mark = Some(Instant::now());
            }
        }
        self.drain(0, total, observer)?;
        self.save(observer)?;
        let finished = self.step() >= total;
        let summary = self.summary(if finished { "finished" } else { "interrupted" })?;
        let file = self.folder.summary_file();
        if self.step() > first || !file.exists() {
            let text = serde_json::to_string_pretty(&summary).expect("a summary is plain data");
            tensor::file::atomic::write(&file, text.as_bytes()).map_err(Error::io(&file))?;
        }
        let ending = if finished { Ending::Finished } else { Ending::Interrupted };
        Ok(ending(Box::new(summary)))
    }

    /// Whether the step after which `step` steps are done is followed by an evaluation; before a checkpoint it is.
    fn evaluates_after(&self, step: usize, saves: bool) -> bool {
        let every = self.config.eval.every;
        self.evaluator.is_some() && (saves || every > 0 && step.is_multiple_of(every))
    }

    /// The loss on the validation data after the steps done so far, into metrics and history.
    fn evaluate(&mut self, observer: &mut dyn Observer) -> Result<(), Error> {
        let (step, elapsed) = (self.step(), self.elapsed_sec());
        let Some(evaluator) = &mut self.evaluator else { return Ok(()) };
        let evaluation = evaluator.evaluate(step)?;
        self.evaluations.push(evaluation);
        self.metrics.write_evaluation(&evaluation, elapsed)?;
        observer.evaluation(&evaluation);
        Ok(())
    }

    /// How far the host may run ahead; a processor has done a step when it is submitted.
    fn most_in_flight(&self) -> usize {
        if self.device.spec().kind == DeviceKind::Cpu {
            return 1;
        }
        if self.step() < WARM_UP {
            return WARM_UP / 2;
        }
        let steps = self.history.step_ms.last().map_or(4.0, |ms| IN_FLIGHT_MS / ms);
        (steps as usize).clamp(2, IN_FLIGHT)
    }

    fn begin(&mut self, total: usize) {
        let steps = total.saturating_sub(self.step());
        self.history.reserve(steps.min(1 << 24));
        self.books = Books {
            flight: VecDeque::with_capacity(SLOTS),
            measured: Vec::with_capacity(SLOTS),
            mark: Some(Instant::now()),
            start: Some(Instant::now()),
            ..Books::default()
        };
    }

    /// Submits the step after `done` steps. Where the device runs it at once, its time begins here.
    fn submit(&mut self, done: usize, at_once: bool) -> Result<(), Error> {
        let lr = self.rate(done) as f32;
        if at_once {
            self.books.mark = Some(Instant::now());
        }
        let before = self.moment();
        let batch = self.batches.batch(done, &mut self.staging);
        let ticket = self.trainer.submit(&batch, lr)?;
        self.books.flight.push_back(ticket);
        self.count(before, 1);
        Ok(())
    }

    fn moment(&self) -> Moment {
        Moment(self.device.counters(), host_allocations())
    }

    /// Adds what was counted since `before` to the books, once the warm-up is over.
    fn count(&mut self, Moment(before, allocations): Moment, steps: u64) {
        if self.history.step_ms.len() < WARM_UP {
            return;
        }
        let (now, counted) = (self.device.counters(), &mut self.books.counted);
        counted.steps += steps;
        counted.submissions += now.submissions - before.submissions;
        counted.host_waits += now.host_waits - before.host_waits;
        counted.device_allocations += now.device_allocations - before.device_allocations;
        counted.host_allocations += host_allocations() - allocations;
    }

    /// Takes in the results of steps in flight until `keep` are left, and enters them in the books.
    fn drain(&mut self, keep: usize, total: usize, observer: &mut dyn Observer) -> Result<(), Error> {
        let count = self.books.flight.len().saturating_sub(keep);
        if count == 0 {
            return Ok(());
        }
        let before = self.moment();
        // One wait for the last of them; the others are then there.
        self.trainer.wait(self.books.flight[count - 1])?;
        self.books.measured.clear();
        for _ in 0..count {
            if let Some(ticket) = self.books.flight.pop_front() {
                let measured = self.trainer.read(ticket)?;
                self.books.measured.push(measured);
            }
        }
        // Waiting for all is no wait between steps: it ends the warm-up, a stretch before a checkpoint, or the run.
        let before = if keep == 0 { Moment(self.device.counters(), before.1) } else { before };
        self.count(before, 0);
        let now = Instant::now();
        let took = self.books.mark.map_or(0.0, |mark| now.duration_since(mark).as_secs_f64());
        self.books.mark = Some(now);
        for i in 0..count {
            self.enter(self.books.measured[i], 1e3 * took / count as f64, total, observer)?;
        }
        Ok(())
    }

    /// One step's results into history, metrics and the table.
    fn enter(&mut self, measured: Measured, ms: f64, total: usize, observer: &mut dyn Observer) -> Result<(), Error> {
        self.history.valid.push(self.batches.counts(self.history.losses.len()).valid as u32);
        self.history.losses.push(measured.loss);
        self.history.step_ms.push(ms);
        let step = self.step();
        self.skipped += usize::from(!measured.finite);
        self.in_a_row = if measured.finite { 0 } else { self.in_a_row + 1 };
        let line = Line {
            step,
            measured,
            elapsed_sec: self.elapsed_sec(),
            lr: self.rate(step - 1),
            applied: step - self.skipped,
            skipped: self.skipped,
        };
        self.metrics.write(&line)?;
        observer.step(step, total, &measured);
        if !measured.finite {
            self.not_finite(step, observer)?;
        }
        let unit = row_steps(total, self.batches.steps_per_epoch());
        if step.is_multiple_of(unit) || step == total {
            observer.row(&self.row(step, unit, total));
        }
        Ok(())
    }

    fn not_finite(&mut self, step: usize, observer: &mut dyn Observer) -> Result<(), Error> {
        let in_a_row = self.in_a_row;
        // Only when nothing else has run since are the gradients still this step's.
        let place = if self.books.flight.is_empty() { self.place_of_fault()? } else { None };
        let place = place.map(|name| format!(" ({name})")).unwrap_or_default();
        observer.warning(&format!(
            "step {step}: the gradient is not finite{place}; the update was skipped ({in_a_row} of {MOST_SKIPPED} in a row)"
        ));
        if in_a_row < MOST_SKIPPED {
            return Ok(());
        }
        self.metrics.flush()?;
        let good = match &self.last_checkpoint {
            Some((step, path)) => format!(
                "the last checkpoint is {} (step {step})\n  help: continue from it with other settings in a new run",
                path.display()
            ),
            None => "there is no checkpoint yet\n  help: try a smaller optimizer.lr, or set optimizer.max_norm".into(),
        };
        Err(Error::NotFinite { step, in_a_row, good })
    }

    /// The first parameter whose gradient isn't finite.
    fn place_of_fault(&self) -> Result<Option<String>, Error> {
        let gradients = self.trainer.gradients()?;
        let is_bad =
            |bytes: &[u8]| bytes.chunks_exact(4).any(|b| !f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite());
        let mut entries = self.trainer.entries().iter();
        Ok(entries.find(|e| is_bad(trainer::entry_bytes(e, &gradients))).map(|e| e.name.clone()))
    }

    fn row(&self, step: usize, unit: usize, total: usize) -> Row {
        let from = (step - 1) / unit * unit;
        let here = self.history.losses.len() - self.history.step_ms.len();
        let timed = from.max(here)..step;
        let seconds = self.history.step_ms[timed.start - here..].iter().sum::<f64>() / 1e3;
        let sum =
            |count: fn(Counts) -> usize| timed.clone().map(|s| count(self.batches.counts(s))).sum::<usize>() as f64;
        Row {
            number: step.div_ceil(unit),
            of: total.div_ceil(unit),
            step,
            loss: self.history.mean_loss(from..step),
            lr: self.rate(step - 1),
            ms: 1e3 * seconds,
            tokens_per_second: sum(|b| b.positions) / seconds,
            valid_tokens_per_second: sum(|b| b.valid) / seconds,
            percent_of_limit: 100.0 * self.limit_seconds() * timed.len() as f64 / seconds,
        }
    }

    fn limit_seconds(&self) -> f64 {
        self.trainer.limit_seconds(self.limits.as_ref().unwrap_or(&self.device.spec().limits))
    }

    fn elapsed_sec(&self) -> f64 {
        self.before_sec + self.books.start.map_or(0.0, |s| s.elapsed().as_secs_f64())
    }

    /// Saves the state after the steps done so far, unless it is saved already or its last gradient wasn't finite.
    ///
    /// # Errors
    /// When it can't be written whole; an earlier checkpoint is then untouched.
    pub fn save(&mut self, observer: &mut dyn Observer) -> Result<(), Error> {
        let step = self.step();
        if self.last_checkpoint.as_ref().is_some_and(|(s, _)| *s == step) || self.in_a_row > 0 {
            return Ok(());
        }
        self.metrics.sync()?;
        let state = self.trainer.state()?;
        let epoch = self.batches.steps_per_epoch();
        let manifest = Manifest {
            applied: state.applied,
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
        if self.config.checkpoint.keep > 0 {
            checkpoint::keep_latest(&self.folder.checkpoints(), self.config.checkpoint.keep, &self.evaluations)?;
        }
        self.last_checkpoint = Some((step, path));
        Ok(())
    }

    /// run.json.
    fn summary(&self, status: &str) -> Result<Summary, Error> {
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
            tokens_per_second: epoch_ms.map(|ms| 1e3 * batches.positions_per_epoch() as f64 / ms),
            valid_tokens_per_second: epoch_ms.map(|ms| 1e3 * batches.valid_per_epoch() as f64 / ms),
            peak_arena_bytes: self.trainer.plan().arena_bytes(),
            peak_bytes: self.trainer.plan().total_bytes(),
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

/// Steps of a whole run.
pub fn total_steps(config: &Config, batches: &Batches) -> usize {
    if config.steps > 0 { config.steps } else { config.epochs.saturating_mul(batches.steps_per_epoch()) }
}

/// Steps of one line of the table: a pass over the data, or a tenth of a run that has fewer than two.
fn row_steps(total: usize, epoch: usize) -> usize {
    if total >= 2 * epoch { epoch } else { total.div_ceil(10).max(1) }
}
