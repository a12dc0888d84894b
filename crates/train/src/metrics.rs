//! metrics.jsonl: a line a step, and a line an evaluation.
#![forbid(unsafe_code)]

use crate::Error;
use crate::config::Config;
use crate::evaluate::Evaluation;
use crate::tensorboard::Events;
use crate::trainer::Measured;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tensor::file::disk::File;

/// Readers of a run that goes on see its lines this late at most.
const FLUSH_AFTER: Duration = Duration::from_secs(1);

/// One line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The step, from 1 on.
    pub step: usize,
    /// What it measured.
    pub measured: Measured,
    /// Seconds of training so far.
    pub elapsed_sec: f64,
    /// Learning rate.
    pub lr: f64,
    /// Steps so far that changed the parameters.
    pub applied: usize,
    /// Steps so far whose gradient wasn't finite.
    pub skipped: usize,
    /// Positions a second.
    pub tokens_per_second: f64,
}

/// The open file.
pub struct Metrics {
    path: PathBuf,
    file: BufWriter<File>,
    line: String,
    flushed: Instant,
    events: Option<(PathBuf, Events)>,
}

impl Metrics {
    /// Opens the file for the steps after `step`: later lines, and a last one that was cut short, are removed first.
    pub fn open(path: &Path, step: usize) -> Result<Metrics, Error> {
        let kept = match fs::read(path) {
            Ok(bytes) => keep(&bytes, step),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::io(path)(e)),
        };
        tensor::file::atomic::write(path, &kept).map_err(Error::io(path))?;
        let file = File::append(path).map_err(Error::io(path))?;
        let file = BufWriter::with_capacity(1 << 16, file);
        Ok(Metrics { path: path.into(), file, line: String::with_capacity(512), flushed: Instant::now(), events: None })
    }

    /// Writes TensorBoard's event files as well, into `folder`, if the configuration asks for them.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn with_events(mut self, config: &Config, folder: PathBuf, step: usize) -> Result<Metrics, Error> {
        if config.log.tensorboard {
            let events = Events::create(&folder, step).map_err(Error::io(&folder))?;
            self.events = Some((folder, events));
        }
        Ok(self)
    }

    fn event(&mut self, step: usize, values: &[(&str, f32)]) -> Result<(), Error> {
        let Some((folder, events)) = &mut self.events else { return Ok(()) };
        events.write(step, values).map_err(Error::io(folder))
    }

    /// Adds a line; nothing is allocated.
    pub fn write(&mut self, line: &Line) -> Result<(), Error> {
        self.line.clear();
        let Line { step, measured, elapsed_sec, lr, applied, skipped, tokens_per_second } = *line;
        let (loss, norm) = (Number(measured.loss), Number(measured.grad_norm));
        let speed = Number(tokens_per_second as f32);
        // A string takes whatever is written to it.
        let _ = write!(
            self.line,
            "{{\"step\":{step},\"loss\":{loss},\"grad_norm\":{norm},\"elapsed_sec\":{elapsed_sec:.6},\"lr\":{lr:?},\
             \"applied\":{applied},\"skipped\":{skipped},\"tokens_per_second\":{speed}"
        );
        if measured.loss_scale != 1.0 {
            let _ = write!(self.line, ",\"loss_scale\":{}", measured.loss_scale);
        }
        self.line.push_str("}\n");
        self.file.write_all(self.line.as_bytes()).map_err(Error::io(&self.path))?;
        let values = [("loss/train", measured.loss), ("grad_norm", measured.grad_norm), ("learning_rate", lr as f32)];
        self.event(step, &values)?;
        if self.flushed.elapsed() >= FLUSH_AFTER { self.flush() } else { Ok(()) }
    }

    /// Adds the line of an evaluation, after its step's.
    pub fn write_evaluation(&mut self, evaluation: &Evaluation, elapsed_sec: f64) -> Result<(), Error> {
        let (step, loss) = (evaluation.step, Number(evaluation.loss.unwrap_or(f32::NAN)));
        let line = format!("{{\"step\":{step},\"validation_loss\":{loss},\"elapsed_sec\":{elapsed_sec:.6}}}\n");
        self.file.write_all(line.as_bytes()).map_err(Error::io(&self.path))?;
        self.event(step, &[("loss/validation", evaluation.loss.unwrap_or(f32::NAN))])?;
        self.flush()
    }

    /// Hands all lines to the system.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.flushed = Instant::now();
        if let Some((folder, events)) = &mut self.events {
            events.flush().map_err(Error::io(folder))?;
        }
        self.file.flush().map_err(Error::io(&self.path))
    }

    /// Makes all lines durable.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.file.get_ref().sync().map_err(Error::io(&self.path))
    }
}

/// A number as JSON has it: the shortest digits that give the same bits; `null` where it isn't finite.
struct Number(f32);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_finite() { write!(f, "{:?}", self.0) } else { f.write_str("null") }
    }
}

/// The whole lines of steps up to `step`.
fn keep(bytes: &[u8], step: usize) -> Vec<u8> {
    let is_kept = |line: &[u8]| {
        let value: Option<serde_json::Value> = serde_json::from_slice(line).ok();
        value.and_then(|v| v.get("step")?.as_u64()).is_some_and(|s| s <= step as u64)
    };
    bytes.split_inclusive(|b| *b == b'\n').filter(|l| l.ends_with(b"\n") && is_kept(l)).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_after_the_step_and_a_cut_one_are_removed() {
        let text = b"{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"st";
        assert_eq!(keep(text, 2), b"{\"step\":1}\n{\"step\":2}\n");
    }

    #[test]
    fn numbers_are_json() {
        let shown = |x: f32| Number(x).to_string();
        assert_eq!([shown(0.5), shown(1e-20), shown(f32::NAN)], ["0.5", "1e-20", "null"]);
    }
}
