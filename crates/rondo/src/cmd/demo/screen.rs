//! What a newcomer sees of the demo: a line of progress, a row of the table at each evaluation, samples in quotes.

use crate::cmd::samples::Samples;
use crate::cmd::screen::{duration, fitting, tokens_a_step, update};
use crate::cmd::{product, say, terminal};
use ::train::config::Config;
use ::train::evaluate::Evaluation;
use ::train::samples::{Moment, Sample};
use ::train::trainer::Measured;
use ::train::{Observer, Run};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The share of a run after which a line is said where stderr is no terminal.
const SAID_EVERY: f64 = 0.1;

/// The screen, and what the next row is made of.
pub struct Screen {
    json: bool,
    terminal: bool,
    stop: Arc<AtomicBool>,
    said_stop: bool,
    line_shown: bool,
    shown: Option<Instant>,
    samples: Samples,
    config: Config,
    /// Whether the length comes from steps that were timed.
    is_measured: bool,
    tokens_a_step: f64,
    /// The share of the run after which the next line is said where nobody sees a live one.
    next_said: f64,
    limit_seconds: f64,
    bigram_loss: f64,
    is_below: bool,
    steps: usize,
    sum: f64,
    grad_norm: f32,
    since: Instant,
    until: Instant,
    /// The checkpoint that was saved last.
    pub last_saved: Option<PathBuf>,
}

impl Screen {
    /// A screen for a run, which a table of token pairs with this loss is compared with.
    pub fn new(run: &Run, limit_seconds: f64, bigram_loss: f64, json: bool, stop: Arc<AtomicBool>) -> Screen {
        let config = run.config().clone();
        Screen {
            json,
            terminal: terminal::live(),
            stop,
            said_stop: false,
            line_shown: false,
            shown: None,
            samples: Samples::default(),
            is_measured: false,
            tokens_a_step: tokens_a_step(run),
            next_said: SAID_EVERY,
            limit_seconds,
            bigram_loss,
            is_below: false,
            config,
            steps: 0,
            sum: 0.0,
            grad_norm: 0.0,
            since: Instant::now(),
            until: Instant::now(),
            last_saved: None,
        }
    }

    /// The head of the table.
    pub fn begin(&mut self) {
        self.since = Instant::now();
        if !self.json {
            product(format_args!(
                "\n{:>6}  {:>6}  {:>6}  {:>7}  {:>5}  {:>7}  {:>8}  {:>5}",
                "step", "loss", "val", "lr", "|g|", "tok/s", "of limit", "left"
            ));
        }
    }

    /// The run's length was set, from steps that were timed or as a guess.
    pub fn length(&mut self, config: &Config, is_measured: bool) {
        self.config = config.clone();
        self.is_measured = is_measured;
    }

    /// Removes the line that is being updated.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.line_shown) {
            update(format_args!(""));
        }
    }

    /// Seconds of training that a step took since the last row.
    fn step_seconds(&self) -> f64 {
        self.until.duration_since(self.since).as_secs_f64() / self.steps.max(1) as f64
    }

    fn left(&self, step: usize) -> String {
        duration(self.step_seconds() * self.config.steps.saturating_sub(step) as f64)
    }

    /// Step, loss, speed with its share of the limit, and, once it is known, how far the run is.
    fn line(&self, step: usize, of: usize, loss: f32) -> String {
        let seconds = self.step_seconds();
        let speed = thousands(self.tokens_a_step / seconds);
        let share = 100.0 * self.limit_seconds / seconds;
        let (length, left) = match self.is_measured {
            true => (format!("of {of} · "), format!(" · {} left", self.left(step))),
            false => (String::new(), String::new()),
        };
        format!("{step:>6}  {loss:>6.3}   {length}{speed} tok/s · {share:.1}% of limit{left}")
    }

    fn row(&mut self, step: usize, validation: f64) {
        let lr = self.config.schedule.rate(self.config.optimizer.lr, step.saturating_sub(1), self.config.steps);
        let seconds = self.step_seconds();
        product(format_args!(
            "{step:>6}  {:>6.3}  {validation:>6.3}  {lr:>7.1e}  {:>5.2}  {:>7}  {:>7.1}%  {:>5}",
            self.sum / self.steps.max(1) as f64,
            self.grad_norm,
            thousands(self.tokens_a_step / seconds),
            100.0 * self.limit_seconds / seconds,
            if self.is_measured { self.left(step) } else { "-".into() }
        ));
        if validation < self.bigram_loss && !std::mem::replace(&mut self.is_below, true) {
            product(format_args!("        val is now below the table of token pairs ({:.3})", self.bigram_loss));
        }
    }
}

/// A text in quotes, under the column of the losses.
fn quoted(text: &str) -> String {
    let lines: Vec<_> = text.trim().lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    format!("        ❝ {} ❞", lines.join("\n          "))
}

/// 49800 as `49.8k`.
fn thousands(x: f64) -> String {
    match x {
        x if x >= 1e6 => format!("{:.2}M", x / 1e6),
        x => format!("{:.1}k", x / 1e3),
    }
}

impl Observer for Screen {
    fn step(&mut self, step: usize, of: usize, measured: &Measured) {
        self.steps += 1;
        self.sum += f64::from(measured.loss);
        self.grad_norm = measured.grad_norm;
        self.until = Instant::now();
        if self.stop.load(Ordering::Relaxed) && !std::mem::replace(&mut self.said_stop, true) {
            self.clear();
            say(format_args!("stopping after this step (Ctrl-C again to quit now)"));
        }
        let due = self.shown.is_none_or(|t| t.elapsed() >= Duration::from_millis(100));
        if self.terminal && !self.json && due && step < of {
            self.shown = Some(Instant::now());
            self.line_shown = true;
            update(fitting(&self.line(step, of, measured.loss)));
        }
        let share = step as f64 / of.max(1) as f64;
        if !self.terminal && self.is_measured && share >= self.next_said && step < of {
            self.next_said = share + SAID_EVERY;
            say(self.line(step, of, measured.loss));
        }
    }

    fn evaluation(&mut self, evaluation: &Evaluation) {
        self.clear();
        if !self.json {
            self.row(evaluation.step, evaluation.loss.map_or(f64::NAN, f64::from));
        }
        (self.steps, self.sum, self.since) = (0, 0.0, Instant::now());
    }

    fn sample(&mut self, now: &Moment) -> Result<Vec<Sample>, String> {
        let made = self.samples.make(now)?;
        self.clear();
        for Sample { prompt, text } in made.iter().filter(|_| !self.json) {
            product(quoted(&format!("{prompt}{text}")));
        }
        self.since = Instant::now();
        Ok(made)
    }

    fn warning(&mut self, text: &str) {
        self.clear();
        say(format_args!("warning: {text}"));
    }

    fn saved(&mut self, path: &Path) {
        self.last_saved = Some(path.into());
    }
}

/// What is said before the first step.
pub fn describe(run: &Run, depth: usize, tokens: usize, bytes_a_token: f64) {
    let (model, config) = (&run.config().model, run.config());
    let held_out = run.validation().map_or(0, |v| v.valid_per_epoch());
    say(format_args!(
        "tokens  byte-pair encoding of {}: {tokens} tokens of {bytes_a_token:.2} bytes, and {held_out} held out",
        model.vocab_size
    ));
    say(format_args!(
        "model   depth {depth} → {} layers · {} wide · {} heads · {:.2} M parameters · context {}",
        model.num_layers,
        model.hidden_size,
        model.num_heads,
        run.trainer().num_parameters() as f64 / 1e6,
        model.max_context
    ));
    let (_, all) = run.trainer().memory_bytes();
    say(format_args!(
        "run     {}   seed {} · {} tokens a step · memory {:.0} MB",
        run.path().display(),
        config.seed,
        config.batch_size * model.max_context,
        all as f64 / 1e6
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stand_in_quotes() {
        assert_eq!(quoted("fn a() {\n\n    b()  \n}\n"), "        ❝ fn a() {\n              b()\n          } ❞");
    }

    #[test]
    fn speeds_are_short() {
        assert_eq!([987.0, 49_800.0, 2_345_678.0].map(thousands), ["1.0k", "49.8k", "2.35M"]);
    }
}
