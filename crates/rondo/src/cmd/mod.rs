//! The verbs, one file each, and what they share: outcomes with exit codes, the device flags, printing.

pub mod bench;
pub mod check;
pub mod debug;
pub mod doctor;
pub mod ops;
pub mod plan;
pub mod plot;
pub mod run;
pub mod samples;
pub mod train;
pub mod tune;

use device::{Choice, Device, Options};
use std::fmt::Display;
use std::io::Write;

/// Why a verb ended early, and the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    /// 1 failed, 2 usage, 3 bad input file, 4 not enough resources, 130 or 143 interrupted.
    pub code: u8,
    /// What is wrong, where, and what to do; empty where all was said already.
    pub message: String,
}

/// What a verb answers.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// Exit code 1: it was tried and failed.
    pub fn failed(what: impl Display) -> Self {
        Failure { code: 1, message: what.to_string() }
    }

    /// Exit code 2: flags or configuration that make no sense.
    pub fn usage(what: impl Display) -> Self {
        Failure { code: 2, message: what.to_string() }
    }

    /// Exit code 3: a file that can't be used.
    pub fn bad_file(what: impl Display) -> Self {
        Failure { code: 3, message: what.to_string() }
    }

    /// Exit code 4: memory, or a device that isn't there.
    pub fn resources(what: impl Display) -> Self {
        Failure { code: 4, message: what.to_string() }
    }

    /// Says it on stderr.
    pub fn print(&self) {
        if !self.message.is_empty() {
            say(format_args!("error: {}", self.message));
        }
    }
}

impl From<device::Error> for Failure {
    fn from(error: device::Error) -> Self {
        match error {
            device::Error::Unavailable { .. } | device::Error::Memory { .. } => Failure::resources(error),
            _ => Failure::failed(error),
        }
    }
}

impl From<::train::Error> for Failure {
    fn from(error: ::train::Error) -> Self {
        use ::train::Error;
        use ::train::config::Origin;
        match error {
            Error::Config(ref e) if matches!(e.origin, Origin::File(_)) => Failure::bad_file(error),
            Error::Config(_) => Failure::usage(error),
            Error::Data { .. } | Error::Tensors(_) => Failure::bad_file(error),
            Error::Plan(graph::plan::PlanError::Memory { .. } | graph::plan::PlanError::Allocation { .. }) => {
                Failure::resources(error)
            }
            Error::Device(e) => e.into(),
            _ => Failure::failed(error),
        }
    }
}

/// The flags of every verb that computes.
#[derive(clap::Args, Clone, Debug)]
pub struct DeviceFlags {
    /// Where to compute: best, cpu, cuda, cuda:N, vulkan or vulkan:N.
    #[arg(long, default_value = "best", value_name = "DEVICE")]
    pub device: Choice,
    /// CPU threads [default: the cores that this process may use].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl DeviceFlags {
    /// Opens the device, and names it with the reason in the first line on stderr.
    pub fn open(&self) -> Result<Device, Failure> {
        if self.threads == Some(0) {
            return Err(Failure::usage("--threads must be at least 1"));
        }
        let options = Options { threads: self.threads, ..Options::default() };
        let device = Device::open(self.device, &options)?;
        say(format_args!("rondo {} · {}", env!("CARGO_PKG_VERSION"), describe(&device)));
        Ok(device)
    }
}

/// The device in words, with the reason for taking it.
pub fn describe(device: &Device) -> String {
    let spec = device.spec();
    format!("{} · {}, {} · {}", spec.kind, spec.name, spec.architecture, device.reason())
}

/// Says something on stderr, whether or not anybody reads it.
pub fn say(text: impl Display) {
    // Work goes on without its reader.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints the product of a verb on stdout. A reader who has left (`| head`) is no error.
pub fn product(text: impl Display) {
    // Nothing is left to tell a reader who has gone, and stderr has had the messages.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Plain data as JSON, indented.
pub fn json(data: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(data).expect("it is plain data")
}
