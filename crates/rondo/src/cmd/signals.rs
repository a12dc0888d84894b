//! Ctrl-C and requests to end: before training begins they end the program at once, afterwards they ask for a stop after
//! the step.
#![forbid(unsafe_code)]

use super::{Failure, Outcome, say};
use ::train::folder::Claim;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How often somebody looks for a signal before training begins.
const EVERY: Duration = Duration::from_millis(20);

/// The signals of a run, from the first moment of its process on.
pub struct Signals {
    /// Set by the first signal.
    pub stop: Arc<AtomicBool>,
    /// The exit code of the first signal.
    code: Arc<AtomicUsize>,
    json: bool,
    before: Arc<Mutex<Before>>,
}

/// What holds until training begins.
#[derive(Default)]
struct Before {
    is_over: bool,
    /// The folder of the run that is to be, which goes with what ends before that.
    claim: Option<Claim>,
}

impl Signals {
    /// Catches signals from here on: the first one asks for the end, the second one ends the process.
    ///
    /// # Errors
    /// When the system doesn't let them be caught.
    pub fn catch(json: bool) -> Result<Signals, Failure> {
        let (stop, code) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(130)));
        // A terminal that is closed; `nohup` has it ignored, and so it stays.
        let hangup = (!is_ignored(SIGHUP)).then_some((SIGHUP, 129));
        for (signal, number) in [(SIGINT, 130u8), (SIGTERM, 143)].into_iter().chain(hangup) {
            flag::register_conditional_shutdown(signal, number.into(), Arc::clone(&stop)).map_err(Failure::failed)?;
            flag::register_usize(signal, Arc::clone(&code), number.into()).map_err(Failure::failed)?;
            flag::register(signal, Arc::clone(&stop)).map_err(Failure::failed)?;
        }
        let signals = Signals { stop, code, json, before: Arc::default() };
        let (before, stop, code) = (Arc::clone(&signals.before), Arc::clone(&signals.stop), Arc::clone(&signals.code));
        let watch = move || {
            loop {
                thread::sleep(EVERY);
                let mut before = held(&before);
                if before.is_over {
                    return;
                }
                if stop.load(Ordering::Relaxed) {
                    let failure = interrupted(&mut before, &code, json);
                    failure.print(json);
                    // What other threads do is of no use any more, and they can't be asked to end.
                    signal_hook::low_level::exit(failure.code.into());
                }
            }
        };
        thread::Builder::new().name("signals".into()).spawn(watch).map_err(Failure::failed)?;
        Ok(signals)
    }

    /// Hands over the folder of the run that is to be.
    pub fn hold(&self, claim: Claim) {
        held(&self.before).claim = Some(claim);
    }

    /// Training begins: the folder stays, and a signal asks for a stop after the step.
    ///
    /// # Errors
    /// When there was a signal before.
    pub fn begin(&self) -> Outcome {
        let mut before = held(&self.before);
        if self.stop.load(Ordering::Relaxed) {
            before.is_over = true;
            return Err(interrupted(&mut before, &self.code, self.json));
        }
        before.is_over = true;
        if let Some(claim) = before.claim.take() {
            claim.keep();
        }
        Ok(())
    }

    /// The outcome of a run that a signal has ended, when all was said.
    pub fn failure(&self) -> Failure {
        Failure { code: self.code.load(Ordering::Relaxed) as u8, message: String::new() }
    }
}

impl Drop for Signals {
    /// What fails before training begins leaves no folder.
    fn drop(&mut self) {
        let mut before = held(&self.before);
        before.is_over = true;
        before.claim = None;
    }
}

/// From here on a file that reaches the limit of a file's size is an error of its writing, which ends no process.
pub fn let_long_writes_fail() {
    // Where the signal can't be caught, it ends the process as before.
    let _ = flag::register(SIGXFSZ, Arc::default());
}

/// Whether the process was begun with a signal ignored; so it is taken to be where the system doesn't say.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(u64::MAX);
    mask >> (signal - 1) & 1 == 1
}

fn held(before: &Mutex<Before>) -> MutexGuard<'_, Before> {
    before.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the folder, says that the run was ended before it began, and answers the outcome.
fn interrupted(before: &mut Before, code: &AtomicUsize, json: bool) -> Failure {
    before.claim = None;
    if !json {
        say("interrupted before training began");
    }
    Failure { code: code.load(Ordering::Relaxed) as u8, message: String::new() }
}
