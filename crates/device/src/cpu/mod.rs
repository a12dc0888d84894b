//! This machine's processor: a recording is a flat list, run by spinning threads with one barrier a level.

mod flat;
mod memory;
mod pool;

use crate::{Buffer, Counters, Error, Machine, Options, Replay, probe, room};
use graph::{DeviceKind, Limits, Plan, Spec};
use std::cell::Cell;
use std::rc::Rc;

/// The open processor.
pub struct Cpu {
    spec: Spec,
    counters: Rc<Cell<Counters>>,
    pool: Rc<pool::Pool>,
    adversarial: bool,
    free_bytes: Option<u64>,
}

impl Cpu {
    /// Opens the processor.
    ///
    /// # Errors
    /// When an option asks for an instruction set or for more threads than there are.
    pub fn open(options: &Options) -> Result<Self, Error> {
        let allowed = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = options.threads.unwrap_or(allowed);
        if threads == 0 || threads > allowed {
            return Err(unavailable(
                format!("{threads} threads are asked for, {allowed} cores are allowed to this process"),
                format!("ask for 1 to {allowed} threads"),
            ));
        }
        let best = probe::architecture();
        let architecture = options.architecture.as_deref().unwrap_or(best);
        let known = ["portable", "avx2", "avx512"];
        let rank = |name: &str| known.iter().position(|k| *k == name);
        match (rank(architecture), rank(best)) {
            (Some(asked), Some(there)) if asked <= there => {}
            (Some(_), _) => {
                let what = format!("the instruction set {architecture} is asked for, this processor has {best}");
                return Err(unavailable(what, format!("use {best}")));
            }
            (None, _) => {
                let what = format!("there is no instruction set `{architecture}`");
                return Err(unavailable(what, format!("use one of {}", known.join(", "))));
            }
        }
        let spec = Spec {
            kind: DeviceKind::Cpu,
            name: format!("{}, {threads} thread{}", probe::processor_name(), if threads == 1 { "" } else { "s" }),
            architecture: architecture.into(),
            units: threads as u32,
            subgroup_size: 1,
            max_threads: 1,
            shared_bytes: 0,
            memory_bytes: room::host().total,
            largest_allocation: 1 << 46,
            argument_bytes: 0,
            features: Vec::new(),
            limits: probe::cpu_estimate(threads, architecture),
        };
        let pool = Rc::new(pool::Pool::new(threads));
        Ok(Cpu {
            spec,
            counters: Rc::default(),
            pool,
            adversarial: options.adversarial,
            free_bytes: options.free_bytes,
        })
    }
}

fn unavailable(what: String, advice: String) -> Error {
    Error::Unavailable { device: "cpu".into(), what, advice }
}

impl Machine for Cpu {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn allocate(&self, purpose: &str, bytes: u64) -> Result<Buffer, Error> {
        let have = self.free_bytes();
        if bytes > have {
            return Err(Error::Memory { device: "cpu".into(), purpose: purpose.into(), need: bytes, have });
        }
        let mut counters = self.counters.get();
        counters.device_allocations += 1;
        self.counters.set(counters);
        Ok(Rc::new(memory::Host::new(purpose, bytes)?))
    }

    fn record(&self, plan: &Plan, buffers: &[(&str, &Buffer)]) -> Result<Box<dyn Replay>, Error> {
        let flat = flat::Flat::new(plan, buffers, Rc::clone(&self.pool), Rc::clone(&self.counters), self.adversarial)?;
        Ok(Box::new(flat))
    }

    fn free_bytes(&self) -> u64 {
        self.free_bytes.unwrap_or_else(|| room::host().free)
    }

    fn counters(&self) -> Counters {
        self.counters.get()
    }

    fn measure_limits(&self) -> Result<Limits, Error> {
        Ok(probe::cpu_limits(&self.spec))
    }
}
