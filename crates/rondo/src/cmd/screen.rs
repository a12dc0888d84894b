//! What the user of `rondo train` sees: progress on stderr, a live line where it is a terminal; the table on stdout.

use super::samples::Samples;
use super::{product, say};
use ::train::evaluate::Evaluation;
use ::train::run::Row;
use ::train::samples::{Moment, Sample};
use ::train::summary::Summary;
use ::train::trainer::Measured;
use ::train::{Observer, Run};
use graph::Limits;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Lines that the table has about.
const TABLE_LINES: usize = 10;
/// Lines of progress where stderr is no terminal.
const PROGRESS_LINES: usize = 10;

/// What the user sees: progress on stderr, the table on stdout.
pub struct Screen {
    json: bool,
    terminal: bool,
    stop: Arc<AtomicBool>,
    said_stop: bool,
    line_shown: bool,
    pace: Pace,
    last_saved: Option<PathBuf>,
    samples: Samples,
    rows_between: usize,
}

/// How fast steps go: measured between two shows of the progress line.
#[derive(Default)]
struct Pace {
    /// When a line was last shown, and after which step.
    mark: Option<(Instant, usize)>,
    /// Seconds of a step: the mean of the last stretches, the later the weightier.
    step_seconds: Option<f64>,
    tokens_per_step: f64,
    limit_seconds: f64,
}

impl Screen {
    /// With `json` the table is left out.
    pub fn new(json: bool, stop: Arc<AtomicBool>) -> Self {
        Screen {
            json,
            terminal: super::terminal::live(),
            stop,
            said_stop: false,
            line_shown: false,
            pace: Pace::default(),
            last_saved: None,
            samples: Samples::default(),
            rows_between: 1,
        }
    }

    /// The run is about to train.
    pub fn begin(&mut self, run: &Run, limits: &Limits) {
        self.pace = Pace {
            mark: Some((Instant::now(), run.step())),
            step_seconds: None,
            tokens_per_step: tokens_a_step(run),
            limit_seconds: run.trainer().limit_seconds(limits),
        };
        if self.json {
            return;
        }
        let epochs = run.total_steps().div_ceil(run.batches().steps_per_epoch());
        self.rows_between = (epochs / TABLE_LINES).max(1);
        let what = if run.total_steps() >= 2 * run.batches().steps_per_epoch() { "epoch" } else { "part" };
        product(format_args!(
            "{what:>9}  {:>7}  {:>8}  {:>8}  {:>8}  {:>9}  {:>9}  {:>8}",
            "step", "loss", "lr", "ms", "tok/s", "valid/s", "of limit"
        ));
    }

    /// Removes the line that is being updated.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.line_shown) {
            update(format_args!(""));
        }
    }

    /// The run has ended: its summary, and where it was saved.
    pub fn finish(&self, summary: &Summary, path: &Path) {
        if self.json {
            // The file is the same summary; a run that had nothing to do keeps the one it had.
            let text = std::fs::read_to_string(path.join("run.json"));
            product(text.unwrap_or_else(|_| serde_json::to_string_pretty(summary).unwrap_or_default()));
        } else {
            print_summary(summary);
        }
        if let Some(path) = &self.last_saved {
            say(format_args!("saved   {}", path.display()));
        }
    }
}

impl Pace {
    /// Step, loss, gradient norm, speed with its share of the limit, and the time left.
    fn line(&mut self, step: usize, of: usize, measured: &Measured) -> String {
        if let Some((then, before)) = self.mark.filter(|(_, before)| step > *before) {
            let now = then.elapsed().as_secs_f64() / (step - before) as f64;
            self.step_seconds = Some(self.step_seconds.map_or(now, |seconds| 0.7 * seconds + 0.3 * now));
        }
        self.mark = Some((Instant::now(), step));
        let speed = self.step_seconds.filter(|seconds| *seconds > 0.0).map(|seconds| {
            let (tokens, share) = (self.tokens_per_step / seconds, 100.0 * self.limit_seconds / seconds);
            let left = duration(seconds * of.saturating_sub(step) as f64);
            format!("   {tokens:.0} tok/s   {share:.0}% of limit   {left} left")
        });
        let Measured { loss, grad_norm, .. } = measured;
        format!("step {step} of {of}   loss {loss:.4}   |g| {grad_norm:.3}{}", speed.unwrap_or_default())
    }
}

/// Positions of a step that hold text, on average: rows that only fill a batch are none.
pub(super) fn tokens_a_step(run: &Run) -> f64 {
    run.batches().positions_per_epoch() as f64 / run.batches().steps_per_epoch() as f64
}

/// Seconds as 0:41 or 2:03:09.
pub(super) fn duration(seconds: f64) -> String {
    let all = seconds.round().max(0.0) as u64;
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// As much of a line as the terminal's width shows: a longer one would not be removed whole.
pub(super) fn fitting(line: &str) -> &str {
    let most = super::terminal::columns().saturating_sub(1);
    line.char_indices().nth(most).map_or(line, |(end, _)| &line[..end])
}

/// Shows a line in place of the one before.
pub(super) fn update(text: impl std::fmt::Display) {
    let mut stderr = std::io::stderr().lock();
    // A progress line that can't be shown is no reason to stop.
    let _ = write!(stderr, "\r\x1b[2K{text}").and_then(|()| stderr.flush());
}

fn print_summary(s: &Summary) {
    let number = |x: Option<f64>, digits: usize| x.map_or("-".to_string(), |x| format!("{x:.digits$}"));
    product(format_args!(
        "\n{} · {} · {} steps: final loss {}, best {}",
        s.preset,
        s.device_name,
        s.steps,
        number(s.final_loss, 4),
        number(s.best_loss, 4)
    ));
    if let Some(loss) = s.validation_loss {
        let kept = s.best_checkpoint.as_ref().map(|path| format!(" · best checkpoint {path}")).unwrap_or_default();
        product(format_args!(
            "validation loss {loss:.4}, best {}{kept}",
            number(s.best_validation_loss.map(f64::from), 4)
        ));
    }
    product(format_args!(
        "median {} ms an epoch, {} ms a step ({}% of this machine's limit) · {} tok/s, {} valid tok/s · {:.2} s in all",
        number(s.epoch_ms_median, 2),
        number(s.step_ms_median, 3),
        number(s.percent_of_limit, 1),
        number(s.tokens_per_second, 0),
        number(s.valid_tokens_per_second, 0),
        s.wall_seconds
    ));
    product(format_args!("parameters sha256 {}\nlosses     sha256 {}", s.parameters_sha256, s.losses_sha256));
}

impl Observer for Screen {
    fn step(&mut self, step: usize, of: usize, measured: &Measured) {
        if self.stop.load(Ordering::Relaxed) && !std::mem::replace(&mut self.said_stop, true) {
            self.clear();
            say(format_args!("stopping after this step (Ctrl-C again to quit now)"));
        }
        let since = self.pace.mark.map_or(Duration::ZERO, |(then, _)| then.elapsed());
        if self.terminal && since >= Duration::from_millis(100) && step < of {
            self.line_shown = true;
            update(fitting(&self.pace.line(step, of, measured)));
        } else if !self.terminal && step.is_multiple_of(of.div_ceil(PROGRESS_LINES)) {
            say(self.pace.line(step, of, measured));
        }
    }

    fn row(&mut self, row: &Row) {
        let wanted = row.number == 1 || row.number == row.of || row.number.is_multiple_of(self.rows_between);
        if self.json || !wanted {
            return;
        }
        self.clear();
        product(format_args!(
            "{:>9}  {:>7}  {:>8.4}  {:>8.1e}  {:>8.2}  {:>9.0}  {:>9.0}  {:>7.1}%",
            format_args!("{}/{}", row.number, row.of).to_string(),
            row.step,
            row.loss,
            row.lr,
            row.ms,
            row.tokens_per_second,
            row.valid_tokens_per_second,
            row.percent_of_limit
        ));
    }

    fn evaluation(&mut self, evaluation: &Evaluation) {
        if self.json {
            return;
        }
        self.clear();
        let loss = evaluation.loss.map_or("-".into(), |loss| format!("{loss:.4}"));
        product(format_args!("{:>9}  {:>7}  {loss:>8}", "validate", evaluation.step));
    }

    fn warning(&mut self, text: &str) {
        self.clear();
        say(format_args!("warning: {text}"));
    }

    fn sample(&mut self, now: &Moment) -> Result<Vec<Sample>, String> {
        let made = self.samples.make(now)?;
        self.clear();
        if !self.json {
            made.iter().for_each(|s| {
                product(format_args!("{:>9}  {:>7}  {:?}", "sample", now.step, s.prompt.clone() + &s.text))
            });
        }
        Ok(made)
    }

    fn saved(&mut self, path: &Path) {
        self.last_saved = Some(path.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_speed_share_and_time_left() {
        let start = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        let mut pace = Pace { mark: Some((start, 0)), step_seconds: None, tokens_per_step: 64.0, limit_seconds: 0.01 };
        let measured = Measured { loss: 2.5, grad_norm: 1.25, ..Measured::default() };
        let line = pace.line(100, 4000, &measured);
        assert!(line.starts_with("step 100 of 4000   loss 2.5000   |g| 1.250   3"), "{line}");
        assert!(line.ends_with("50% of limit   1:18 left"), "{line}");
        assert_eq!([duration(59.6), duration(7384.0)], ["1:00", "2:03:04"]);
    }
}
