//! NVIDIA GPUs through CUDA, loaded at run time: a recording is one CUDA graph.
#![expect(unsafe_code, reason = "the driver, cuBLASLt and NVRTC are C libraries")]

mod cubin;
mod driver;
pub mod folders;
mod gemm;
mod handles;
mod measure;
pub mod nvrtc;
mod recording;
mod work;

use crate::{Buffer, Counters, Error, Machine, Options, Replay};
use driver::{DeviceMemory, Gpu};
use graph::{Kernel, Limits, Plan, Spec};
use std::rc::Rc;

/// An open NVIDIA GPU.
pub struct Cuda {
    gpu: Rc<Gpu>,
}

impl Cuda {
    /// Opens the GPU `index`.
    ///
    /// # Errors
    /// When the driver, NVRTC or the GPU isn't there.
    pub fn open(index: usize, options: &Options) -> Result<Self, Error> {
        Ok(Cuda { gpu: Gpu::open(index, options)? })
    }

    /// Measures what it does at best.
    ///
    /// # Errors
    /// When a driver call fails.
    pub fn measure(&self) -> Result<Limits, Error> {
        measure::limits(&self.gpu)
    }
}

impl Machine for Cuda {
    fn spec(&self) -> &Spec {
        &self.gpu.spec
    }

    fn allocate(&self, purpose: &str, bytes: u64) -> Result<Buffer, Error> {
        Ok(Rc::new(DeviceMemory::new(&self.gpu, purpose, bytes)?))
    }

    fn record(&self, plan: &Plan, buffers: &[(&str, &Buffer)]) -> Result<Box<dyn Replay>, Error> {
        Ok(Box::new(recording::Step::record(&self.gpu, plan, buffers)?))
    }

    fn free_bytes(&self) -> u64 {
        self.gpu.free_bytes()
    }

    fn counters(&self) -> Counters {
        self.gpu.counters.get()
    }

    fn measure_limits(&self) -> Result<Limits, Error> {
        self.measure()
    }
}

/// The kernels that the device itself runs, to be compiled by tests.
pub fn own_kernels() -> Vec<Kernel> {
    [
        ("step_begin", 3, 1),
        ("step_end", 4, 1),
        ("step_copy", 2, 1),
        ("step_delay", 0, 1),
        ("step_nothing", 0, 1),
        ("step_multiply_adds", 1, 2),
    ]
    .map(|(entry, operands, words)| work::own_kernel(entry, operands, vec![0; words], 1))
    .into()
}
