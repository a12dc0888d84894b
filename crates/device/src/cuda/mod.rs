//! NVIDIA GPUs through CUDA, loaded at run time: a recording is one CUDA graph.
#![expect(unsafe_code, reason = "the driver and NVRTC are C libraries")]

mod cubin;
pub mod folders;
pub mod nvrtc;

use crate::{Buffer, Counters, Error, Machine, Replay};
use graph::{Plan, Spec};

/// An open NVIDIA GPU.
pub struct Cuda {
    spec: Spec,
}

impl Cuda {
    /// Opens the GPU `index`.
    ///
    /// # Errors
    /// When the driver, NVRTC or the GPU isn't there.
    pub fn open(index: usize) -> Result<Self, Error> {
        let device = format!("cuda:{index}");
        Err(Error::Unavailable { device, what: "no driver".into(), advice: "use --device cpu".into() })
    }
}

impl Machine for Cuda {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn allocate(&self, _purpose: &str, _bytes: u64) -> Result<Buffer, Error> {
        unreachable!()
    }

    fn record(&self, _plan: &Plan, _buffers: &[(&str, &Buffer)]) -> Result<Box<dyn Replay>, Error> {
        unreachable!()
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}
