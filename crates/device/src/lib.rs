//! Machines that record a plan and replay it: CPU, CUDA, Vulkan. They know launches and bytes, and no op.

pub mod check;
pub mod count;
pub mod cpu;
pub mod cuda;
pub mod limits;
pub mod probe;
pub mod room;
pub mod vulkan;

#[cfg(test)]
extern crate self as device;
#[cfg(test)]
#[path = "../tests/there/mod.rs"]
mod there;

use graph::{DeviceKind, Limits, Plan, PlanError, Spec, units};
use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

/// What can go wrong on a device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The asked-for device isn't there.
    #[error("device `{device}` is not available: {what}\n  help: {advice}")]
    Unavailable {
        /// The device asked for.
        device: String,
        /// What is missing.
        what: String,
        /// What to do.
        advice: String,
    },
    /// Not enough memory.
    #[error(
        "{device}: {} are needed for {purpose}, {} are free\n  help: a smaller model, batch_size or model.max_context needs less",
        units::bytes(*need), units::bytes(*have)
    )]
    Memory {
        /// The device.
        device: String,
        /// What the memory is for.
        purpose: String,
        /// Bytes needed.
        need: u64,
        /// Bytes there.
        have: u64,
    },
    /// A driver call failed.
    #[error("{device}: {call} failed: {what}")]
    Driver {
        /// The device.
        device: String,
        /// The call.
        call: &'static str,
        /// What the driver said.
        what: String,
    },
    /// A kernel doesn't compile.
    #[error("{device}: {source_name} does not compile:\n{log}")]
    Compile {
        /// The device.
        device: String,
        /// The source file.
        source_name: String,
        /// What the compiler said.
        log: String,
    },
    /// A plan, region or binding that doesn't fit this recording.
    #[error("{device}: {what}")]
    Mismatch {
        /// The device.
        device: String,
        /// What doesn't fit.
        what: String,
    },
}

/// Which device is asked for: `best`, `cpu`, `cuda`, `cuda:1`, `vulkan`, `vulkan:0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Choice {
    /// CUDA if there, else Vulkan if a GPU is there, else CPU.
    #[default]
    Best,
    /// This machine's processor.
    Cpu,
    /// An NVIDIA GPU by index.
    Cuda(usize),
    /// A Vulkan device by index; `None` takes the first GPU, or a software device if there is no other.
    Vulkan(Option<usize>),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => {
                (kind, Some(index.parse().map_err(|_| format!("`{text}`: `{index}` is not a device index"))?))
            }
            None => (text, None),
        };
        match (kind, index) {
            ("best" | "auto", None) => Ok(Choice::Best),
            ("cpu", None) => Ok(Choice::Cpu),
            ("cuda", i) => Ok(Choice::Cuda(i.unwrap_or(0))),
            ("vulkan", i) => Ok(Choice::Vulkan(i)),
            _ => Err(format!("unknown device `{text}`; use best, cpu, cuda, cuda:N, vulkan or vulkan:N")),
        }
    }
}

/// How a device is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// CPU threads; `None` takes the cores that affinity and cgroup allow.
    pub threads: Option<usize>,
    /// CPU instruction set to use at most: `avx512`, `avx2`, `portable`.
    pub architecture: Option<String>,
    /// CPU: replay each level in reverse and overwrite dead bytes of the arena with NaNs (a test of the plan).
    pub adversarial: bool,
    /// CPU: memory that is taken to be free, whatever the system says (a test of refusals).
    pub free_bytes: Option<u64>,
    /// Vulkan: load the validation layers; their messages are counted in `Counters::validation_messages`.
    pub validation: bool,
    /// CUDA: don't use cuBLASLt, as if it weren't there.
    pub without_libraries: bool,
    /// CUDA: folders to look for NVRTC and cuBLASLt in, before the usual ones.
    pub library_folders: Vec<std::path::PathBuf>,
    /// CUDA: where compiled kernels are kept; `None` takes `~/.cache/rondo/cubin`.
    pub cache_folder: Option<std::path::PathBuf>,
}

/// What the wrappers count, since the device was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Submissions, graph launches or flat-list runs.
    pub submissions: u64,
    /// Times the host had to wait for the device.
    pub host_waits: u64,
    /// Allocations of device memory.
    pub device_allocations: u64,
    /// Messages of the validation layers.
    pub validation_messages: u64,
}

/// The number of a replay of one recording, from 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Replays whose inputs and outputs can be in flight: the slots of the rings.
pub const SLOTS: usize = 512;

/// One unit that computes.
pub trait Machine {
    /// What plans may know of it.
    fn spec(&self) -> &Spec;
    /// `bytes` bytes of zeros that outlive a step. No tensor in it straddles two allocations.
    fn allocate(&self, purpose: &str, bytes: u64) -> Result<Buffer, Error>;
    /// Makes the plan replayable over the given buffers, by name: the arena and every region.
    fn record(&self, plan: &Plan, buffers: &[(&str, &Buffer)]) -> Result<Box<dyn Replay>, Error>;
    /// Memory that can be had now.
    fn free_bytes(&self) -> u64;
    /// What was counted so far.
    fn counters(&self) -> Counters;
    /// What it does at best, measured now, in about a second.
    fn measure_limits(&self) -> Result<Limits, Error>;
}

/// Memory of a device.
pub trait Memory {
    /// Its size in bytes.
    fn bytes(&self) -> u64;
    /// Copies from the host, in order with replays; waits until done.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error>;
    /// Copies to the host, after all replays so far; waits until done.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error>;
    /// For the machine that made it.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// Memory shared by its owner and the recordings it is lent to.
pub type Buffer = Rc<dyn Memory>;

/// A plan in the device's own replay form.
pub trait Replay {
    /// Fills input `index` (of `Plan::inputs`) for the next replay; what isn't written keeps its bytes.
    fn write(&mut self, index: usize, bytes: &[u8]) -> Result<(), Error>;
    /// Runs the step once, without waiting for it.
    fn replay(&mut self) -> Result<Ticket, Error>;
    /// Copies output `index` (of `Plan::outputs`) of a replay at most `SLOTS` - 1 replays ago; waits for it if need be.
    fn read(&mut self, index: usize, ticket: Ticket, bytes: &mut [u8]) -> Result<(), Error>;
    /// Waits for a replay.
    fn wait(&mut self, ticket: Ticket) -> Result<(), Error>;
    /// Replays once with each launch timed apart: seconds a launch; `None` where the device can't.
    fn time_launches(&mut self) -> Option<Vec<f64>>;
}

/// An open device.
#[derive(Clone)]
pub struct Device {
    machine: Rc<dyn Machine>,
    reason: String,
}

impl Device {
    /// Opens the device asked for.
    ///
    /// # Errors
    /// When it isn't there: never a silent fallback.
    pub fn open(choice: Choice, options: &Options) -> Result<Device, Error> {
        let (machine, reason): (Rc<dyn Machine>, String) = match choice {
            Choice::Cpu => (Rc::new(cpu::Cpu::open(options)?), "asked for".into()),
            Choice::Cuda(index) => (Rc::new(cuda::Cuda::open(index, options)?), "asked for".into()),
            Choice::Vulkan(index) => (Rc::new(vulkan::Vulkan::open(index, options)?), "asked for".into()),
            Choice::Best => return Self::best(options),
        };
        Ok(Device { machine, reason })
    }

    /// The best device there is: CUDA, else a GPU through Vulkan, else the processor.
    fn best(options: &Options) -> Result<Device, Error> {
        if let Ok(cuda) = cuda::Cuda::open(0, options) {
            return Ok(Device { machine: Rc::new(cuda), reason: "the first GPU".into() });
        }
        // Why a GPU can't be used, for want of a library perhaps, is what the doctor says at length.
        if let Ok(vulkan) = vulkan::Vulkan::open_gpu(options) {
            return Ok(Device { machine: Rc::new(vulkan), reason: "no CUDA found (rondo doctor)".into() });
        }
        let machine = Rc::new(cpu::Cpu::open(options)?);
        Ok(Device { machine, reason: "no GPU found (rondo doctor)".into() })
    }

    /// Why this device was taken.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What plans may know of it.
    pub fn spec(&self) -> &Spec {
        self.machine.spec()
    }

    /// `bytes` bytes of zeros that outlive a step.
    pub fn allocate(&self, purpose: &str, bytes: u64) -> Result<Buffer, Error> {
        self.machine.allocate(purpose, bytes)
    }

    /// Memory that can be had now, less a reserve for what no plan counts.
    pub fn room(&self) -> u64 {
        self.machine.free_bytes().saturating_sub(room::reserve(self.spec().memory_bytes))
    }

    /// Whether its memory is the host's.
    pub fn is_host(&self) -> bool {
        self.spec().kind == DeviceKind::Cpu || self.spec().has("software")
    }

    /// Whether there is room for buffers of plans that share arena and regions, less those that are `lent`, and for
    /// `more`, by name.
    ///
    /// # Errors
    /// When there isn't, with what each buffer needs.
    pub fn has_room(&self, plans: &[Plan], lent: &[&str], more: &[(&str, u64)]) -> Result<(), PlanError> {
        let more = more.iter().map(|(name, bytes)| (name.to_string(), *bytes));
        let parts = graph::plan::parts(plans).into_iter().filter(|(name, _)| !lent.contains(&name.as_str()));
        let reserve = units::bytes(room::reserve(self.spec().memory_bytes));
        let note = format!(" free, beside a reserve of {reserve}");
        graph::plan::enough_of(&self.spec().name, self.room(), &note, parts.chain(more).collect())
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.machine.counters()
    }

    /// What it does at best, measured now, in about a second; `spec` keeps its estimates.
    pub fn measure_limits(&self) -> Result<Limits, Error> {
        self.machine.measure_limits()
    }

    /// Makes a plan replayable over the given buffers, by name: the arena and every region.
    pub fn record(&self, plan: Plan, buffers: &[(&str, &Buffer)]) -> Result<Recording, Error> {
        for (_, needed) in plan.lent_buffers() {
            let lent = buffers.iter().find(|(name, _)| *name == needed.name);
            let have = lent.map_or(0, |(_, b)| b.bytes());
            if have < needed.bytes {
                let what = format!("buffer `{}` needs {} bytes, {have} were lent", needed.name, needed.bytes);
                return Err(Error::Mismatch { device: self.spec().name.clone(), what });
            }
        }
        let replay = self.machine.record(&plan, buffers)?;
        Ok(Recording { replay, plan })
    }

    /// Every buffer that the plans must be lent, each once and large enough for all of them.
    pub fn allocate_all(&self, plans: &[Plan]) -> Result<Vec<(String, Buffer)>, Error> {
        let needed = graph::plan::lent_by_name(plans).into_iter();
        needed.map(|(name, bytes)| Ok((name.to_string(), self.allocate(name, bytes)?))).collect()
    }

    /// Allocates every buffer that a plan must be lent and that `lent` doesn't hold, or holds too small.
    pub fn allocate_for(&self, plan: &Plan, lent: &mut Vec<(String, Buffer)>) -> Result<(), Error> {
        for (_, needed) in plan.lent_buffers() {
            lent.retain(|(name, buffer)| *name != needed.name || buffer.bytes() >= needed.bytes);
            if !lent.iter().any(|(name, _)| *name == needed.name) {
                lent.push((needed.name.clone(), self.allocate(&needed.name, needed.bytes)?));
            }
        }
        Ok(())
    }
}

/// A plan that can be replayed.
pub struct Recording {
    replay: Box<dyn Replay>,
    plan: Plan,
}

impl Recording {
    /// What it replays.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Index of the input `name`, for `write`.
    pub fn input(&self, name: &str) -> Option<usize> {
        self.plan.inputs.iter().position(|b| b.name == name)
    }

    /// Index of the output `name`, for `read`.
    pub fn output(&self, name: &str) -> Option<usize> {
        self.plan.outputs.iter().position(|b| b.name == name)
    }

    /// Fills an input for the next replay; what isn't written keeps its bytes.
    pub fn write(&mut self, input: usize, bytes: &[u8]) -> Result<(), Error> {
        let binding = &self.plan.inputs[input];
        if binding.ty.bytes() != bytes.len() as u64 {
            let what =
                format!("input `{}` is {} bytes, {} were written", binding.name, binding.ty.bytes(), bytes.len());
            return Err(Error::Mismatch { device: self.plan.spec.name.clone(), what });
        }
        self.replay.write(input, bytes)
    }

    /// Runs the step once, without waiting for it.
    pub fn replay(&mut self) -> Result<Ticket, Error> {
        self.replay.replay()
    }

    /// Copies an output of one of the last `SLOTS` - 1 replays; waits for it if need be.
    pub fn read(&mut self, output: usize, ticket: Ticket, bytes: &mut [u8]) -> Result<(), Error> {
        self.replay.read(output, ticket, bytes)
    }

    /// Waits for a replay.
    pub fn wait(&mut self, ticket: Ticket) -> Result<(), Error> {
        self.replay.wait(ticket)
    }

    /// Replays once with each launch timed apart: seconds a launch.
    pub fn time_launches(&mut self) -> Option<Vec<f64>> {
        self.replay.time_launches()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}; {})", self.spec().kind, self.spec().name, self.reason)
    }
}
