//! What a rendering has used of its limits. A rendering owns its thread, so the count is the thread's.

use super::error::{Error, Kind, Result};
use std::cell::Cell;

struct Meter {
    fuel: Cell<u64>,
    held: Cell<usize>,
    most: Cell<usize>,
}

thread_local! {
    static METER: Meter = const { Meter { fuel: Cell::new(0), held: Cell::new(0), most: Cell::new(0) } };
}

/// Bytes that are copied for one unit of fuel.
const BYTES: usize = 64;

/// Starts this thread's count.
pub(super) fn begin(fuel: u64, memory: usize) {
    METER.with(|m| {
        m.fuel.set(fuel);
        m.most.set(memory);
    });
}

/// Bytes that this thread's values hold.
pub(super) fn held() -> usize {
    METER.with(|m| m.held.get())
}

/// Uses `units` of fuel: about one a node that is evaluated or an element that is looked at. An
/// error too when the values hold more than they may.
pub(super) fn spend(units: usize) -> Result<()> {
    METER.with(|m| match m.fuel.get().checked_sub(u64::try_from(units).unwrap_or(u64::MAX)) {
        Some(rest) => {
            m.fuel.set(rest);
            if m.held.get() <= m.most.get() { Ok(()) } else { Err(full(m)) }
        }
        None => {
            m.fuel.set(0);
            Err(Error::new(Kind::Limit, "the template takes too many steps; chat templates need far fewer"))
        }
    })
}

/// Uses fuel where there is no way to say that none is left: whoever spends next learns it.
pub(super) fn spent_bytes(bytes: usize) {
    METER.with(|m| m.fuel.set(m.fuel.get().saturating_sub(u64::try_from(bytes / BYTES).unwrap_or(u64::MAX))));
}

fn full(meter: &Meter) -> Error {
    let most = meter.most.get() >> 20;
    Error::new(Kind::Limit, format!("the template needs more than {most} MiB of memory for its values"))
}

/// Uses the fuel of going over `bytes` bytes.
pub(super) fn spend_bytes(bytes: usize) -> Result<()> {
    spend(bytes / BYTES)
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
        spend_bytes(bytes)?;
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
