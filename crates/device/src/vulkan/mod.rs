//! Any vendor's GPU through Vulkan, loaded at run time: a recording is one resubmittable command buffer.

mod core;
mod instance;
mod measure;
mod memory;
mod physical;
mod pipeline;
mod recording;
mod replay;
mod shaders;
#[cfg(test)]
mod tests;

use crate::{Buffer, Counters, Error, Machine, Options, Replay, room};
use graph::{Limits, Plan, Spec};
use std::rc::Rc;

/// An open Vulkan device.
pub struct Vulkan {
    spec: Spec,
    staging: Rc<memory::Staging>,
    core: Rc<core::Core>,
}

impl Vulkan {
    /// Opens the device `index`, or the first GPU, or a software device if there is no GPU.
    ///
    /// # Errors
    /// When the loader, a driver, the device or a feature that it needs isn't there; each is named.
    pub fn open(index: Option<usize>, options: &Options) -> Result<Self, Error> {
        Self::open_any(index, true, options)
    }

    /// Opens the first GPU; a software device does not count.
    ///
    /// # Errors
    /// When there is none.
    pub fn open_gpu(options: &Options) -> Result<Self, Error> {
        Self::open_any(None, false, options)
    }

    fn open_any(index: Option<usize>, software: bool, options: &Options) -> Result<Self, Error> {
        let instance = instance::Instance::open(options.validation)?;
        let physical = physical::choose(&instance, index, software)?;
        let core = Rc::new(core::Core::open(instance, physical)?);
        let staging = Rc::new(memory::Staging::new(&core)?);
        Ok(Vulkan { spec: core.physical.spec.clone(), staging, core })
    }
}

impl Machine for Vulkan {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn allocate(&self, purpose: &str, bytes: u64) -> Result<Buffer, Error> {
        let have = self.free_bytes();
        // A software device's memory is the host's, which it hands out without looking.
        if self.spec.has("software") && bytes > have {
            let device = self.core.name().into();
            return Err(Error::Memory { device, purpose: purpose.into(), need: bytes, have });
        }
        let slab = self.spec.largest_allocation;
        Ok(Rc::new(memory::Slabs::new(&self.core, &self.staging, purpose, bytes, slab)?))
    }

    fn record(&self, plan: &Plan, buffers: &[(&str, &Buffer)]) -> Result<Box<dyn Replay>, Error> {
        Ok(Box::new(replay::Recorded::new(&self.core, &self.staging, plan, buffers)?))
    }

    fn free_bytes(&self) -> u64 {
        let budget = self.core.budget();
        let left = self.spec.memory_bytes.saturating_sub(self.core.allocated_bytes());
        let free = budget.map_or(left, |budget| budget.min(self.spec.memory_bytes));
        if self.spec.has("software") { free.min(room::host().free) } else { free }
    }

    fn counters(&self) -> Counters {
        self.core.counters()
    }

    fn measure_limits(&self) -> Result<Limits, Error> {
        measure::limits(&self.core)
    }
}
