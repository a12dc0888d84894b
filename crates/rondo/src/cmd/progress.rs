//! How far a long writing is: a line that is updated in place on a terminal, a few lines elsewhere.
#![forbid(unsafe_code)]

use super::{say, terminal};
use std::fmt::Display;
use std::io::Write;
use std::time::Instant;
use tensor::file::printable;

/// How much of it is done.
pub struct Progress {
    bytes: u64,
    /// Of these bytes.
    pub done: u64,
    begun: Instant,
    said: u64,
    shown: bool,
}

impl Progress {
    /// Lines where stderr is no terminal.
    const LINES: u64 = 5;

    /// Of something that takes so many bytes, of which none are done.
    pub fn new(bytes: u64) -> Self {
        Progress { bytes: bytes.max(1), done: 0, begun: Instant::now(), said: 0, shown: false }
    }

    /// Hears how many bytes there will be.
    pub fn expect(&mut self, bytes: u64) {
        self.bytes = bytes.max(1);
    }

    /// Shows where it is, and `what` is being done.
    pub fn show(&mut self, what: impl Display) {
        let share = self.done as f64 / self.bytes as f64;
        let seconds = self.begun.elapsed().as_secs_f64();
        let left =
            if share > 0.05 { format!(" · {:.0} s left", seconds * (1.0 - share) / share) } else { String::new() };
        let text = format!("{:3.0}% · {what}{left}", share * 100.0);
        let text = printable(&text);
        if terminal::live() {
            let width = terminal::columns().saturating_sub(1);
            let text: String = text.chars().take(width).collect();
            let mut stderr = std::io::stderr().lock();
            // Work goes on without its reader.
            let _ = write!(stderr, "\r\x1b[2K{text}").and_then(|()| stderr.flush());
            self.shown = true;
        } else if seconds > 2.0 && self.done.saturating_mul(Self::LINES) / self.bytes > self.said {
            self.said = self.done.saturating_mul(Self::LINES) / self.bytes;
            say(text);
        }
    }
}

impl Drop for Progress {
    /// The line goes, so that what is said next begins one.
    fn drop(&mut self) {
        if self.shown {
            // As above.
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }
}
