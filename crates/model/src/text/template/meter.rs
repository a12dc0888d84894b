//! What a rendering has used of its limits. A rendering owns its thread, so the count is the thread's.

use super::error::{Error, Kind, Result};
use std::cell::Cell;
use std::time::{Duration, Instant};

struct Meter {
    fuel: Cell<u64>,
    /// The clock is asked when there is less fuel than this.
    ask: Cell<u64>,
    /// When the rendering must be done, and how long that is after its start.
    end: Cell<Option<(Instant, Duration)>>,
    held: Cell<usize>,
    most: Cell<usize>,
}

thread_local! {
    static METER: Meter = const {
        Meter { fuel: Cell::new(0), ask: Cell::new(0), end: Cell::new(None), held: Cell::new(0), most: Cell::new(0) }
    };
}

/// Bytes that are copied or compared for one unit of fuel, at a few tenths of a nanosecond each.
const COPIED: usize = 64;
/// Bytes that are searched for a text for one unit.
const SEARCHED: usize = 16;
/// Bytes that are gone through character by character for one unit.
const READ: usize = 6;
/// Units of fuel between two looks at the clock: some hundred microseconds at most.
const UNTIMED: u64 = 4096;

/// Starts this thread's count: units of fuel, bytes of memory, and how long it may take where the clock counts.
pub(super) fn begin(fuel: u64, memory: usize, time: Option<Duration>) {
    METER.with(|m| {
        m.fuel.set(fuel);
        m.ask.set(fuel.saturating_sub(UNTIMED));
        m.end.set(time.and_then(|time| Some((Instant::now().checked_add(time)?, time))));
        m.most.set(memory);
    });
}

/// Bytes that this thread's values hold.
pub(super) fn held() -> usize {
    METER.with(|m| m.held.get())
}

/// Uses `units` of fuel: one for about 30 ns, such as a node that is evaluated, an element that is looked at or
/// memory that is asked for. An error too when the values hold more than they may, or the time is over.
pub(super) fn spend(units: usize) -> Result<()> {
    METER.with(|m| match m.fuel.get().checked_sub(u64::try_from(units).unwrap_or(u64::MAX)) {
        Some(rest) => {
            m.fuel.set(rest);
            if rest < m.ask.get() {
                m.ask.set(rest.saturating_sub(UNTIMED));
                in_time(m)?;
            }
            if m.held.get() <= m.most.get() { Ok(()) } else { Err(full(m)) }
        }
        None => {
            m.fuel.set(0);
            Err(Error::new(Kind::Limit, "the template takes too many steps; chat templates need far fewer"))
        }
    })
}

/// Uses fuel where there is no way to say that none is left: whoever spends next learns it.
pub(super) fn spent(units: usize) {
    METER.with(|m| m.fuel.set(m.fuel.get().saturating_sub(u64::try_from(units).unwrap_or(u64::MAX))));
}

/// The last resort, which says something only where a machine is much slower than fuel is reckoned for.
fn in_time(meter: &Meter) -> Result<()> {
    match meter.end.get() {
        Some((end, time)) if Instant::now() > end => {
            let seconds = time.as_secs_f64();
            let what = format!("the template takes longer than {seconds:.1} seconds; chat templates need far less");
            Err(Error::new(Kind::Limit, what))
        }
        _ => Ok(()),
    }
}

fn full(meter: &Meter) -> Error {
    let most = meter.most.get() >> 20;
    Error::new(Kind::Limit, format!("the template needs more than {most} MiB of memory for its values"))
}

/// Uses the fuel of copying or comparing `bytes` bytes.
pub(super) fn spend_bytes(bytes: usize) -> Result<()> {
    spend(bytes / COPIED)
}

/// Uses the fuel of searching `bytes` bytes for a text.
pub(super) fn spend_search(bytes: usize) -> Result<()> {
    spend(bytes / SEARCHED)
}

/// Uses the fuel of going through `bytes` bytes character by character.
pub(super) fn spend_chars(bytes: usize) -> Result<()> {
    spend(bytes / READ)
}

/// Memory that a value holds, given back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Held(usize);

impl Held {
    /// Room for `bytes` bytes, asked for before they are allocated.
    pub(super) fn new(bytes: usize) -> Result<Held> {
        let mut held = Held(0);
        held.grow(bytes)?;
        Ok(held)
    }

    /// Counts `bytes` bytes more, which are few: whatever asks next learns that there is no room.
    pub(super) fn add(&mut self, bytes: usize) {
        METER.with(|m| m.held.set(m.held.get().saturating_add(bytes)));
        self.0 += bytes;
    }

    /// Room for `bytes` bytes more.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<()> {
        spend(1 + bytes / COPIED)?;
        METER.with(|m| match m.held.get().checked_add(bytes) {
            Some(sum) if sum <= m.most.get() => {
                m.held.set(sum);
                self.0 += bytes;
                Ok(())
            }
            _ => Err(full(m)),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The thread's count is gone when the thread ends with values left.
        let _ = METER.try_with(|m| m.held.set(m.held.get().saturating_sub(self.0)));
    }
}
