//! The logical device with its one queue, its timeline, and what is counted; all else holds it through `Rc`.
#![expect(unsafe_code, reason = "Vulkan is a C interface")]

use super::instance::{Instance, failed};
use super::physical::Physical;
use super::pipeline::Pipelines;
use crate::{Counters, Error};
use ash::vk;
use std::cell::Cell;

/// A logical device.
pub struct Core {
    /// Its functions.
    pub device: ash::Device,
    /// What it was made from.
    pub physical: Physical,
    /// Where command buffers come from.
    pub commands: vk::CommandPool,
    /// The pipelines made so far.
    pub pipelines: Pipelines,
    queue: vk::Queue,
    /// Counts the submissions that have ended.
    timeline: vk::Semaphore,
    submitted: Cell<u64>,
    ended: Cell<u64>,
    host_waits: Cell<u64>,
    device_allocations: Cell<u64>,
    allocated_bytes: Cell<u64>,
    /// Destroyed last: fields drop in order, after `drop` below.
    instance: Instance,
}

/// The barrier between launches that depend on each other.
pub const BETWEEN: vk::MemoryBarrier<'static> = vk::MemoryBarrier {
    src_access_mask: vk::AccessFlags::SHADER_WRITE,
    dst_access_mask: vk::AccessFlags::from_raw(
        vk::AccessFlags::SHADER_READ.as_raw() | vk::AccessFlags::SHADER_WRITE.as_raw(),
    ),
    s_type: vk::StructureType::MEMORY_BARRIER,
    p_next: std::ptr::null(),
    _marker: std::marker::PhantomData,
};

impl Core {
    /// Makes the logical device with what `lacks` asked for.
    pub fn open(instance: Instance, physical: Physical) -> Result<Core, Error> {
        let priorities = [1.0];
        let queues =
            [vk::DeviceQueueCreateInfo::default().queue_family_index(physical.family).queue_priorities(&priorities)];
        let extensions: Vec<_> = physical.extensions.iter().map(|n| n.as_ptr()).collect();
        let mut address = vk::PhysicalDeviceBufferDeviceAddressFeatures::default().buffer_device_address(true);
        let mut timeline = vk::PhysicalDeviceTimelineSemaphoreFeatures::default().timeline_semaphore(true);
        let mut control = vk::PhysicalDeviceSubgroupSizeControlFeatures::default()
            .subgroup_size_control(true)
            .compute_full_subgroups(physical.full_subgroups);
        let features = vk::PhysicalDeviceFeatures::default().shader_int64(physical.int64);
        let mut storage16 =
            vk::PhysicalDevice16BitStorageFeatures::default().storage_buffer16_bit_access(physical.storage16);
        let mut info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&extensions)
            .enabled_features(&features)
            .push_next(&mut address)
            .push_next(&mut timeline)
            .push_next(&mut storage16);
        if physical.fixed_subgroup || physical.full_subgroups {
            info = info.push_next(&mut control);
        }
        // SAFETY: the physical device is this instance's, and every pointer in `info` outlives the call.
        let device =
            unsafe { instance.raw.create_device(physical.raw, &info, None) }.map_err(failed("vkCreateDevice"))?;
        // SAFETY: the family was asked for with one queue.
        let queue = unsafe { device.get_device_queue(physical.family, 0) };
        let mut core = Core {
            device,
            commands: vk::CommandPool::null(),
            pipelines: Pipelines::default(),
            queue,
            timeline: vk::Semaphore::null(),
            submitted: Cell::new(0),
            ended: Cell::new(0),
            host_waits: Cell::new(0),
            device_allocations: Cell::new(0),
            allocated_bytes: Cell::new(0),
            physical,
            instance,
        };
        core.make_shared()?;
        Ok(core)
    }

    fn make_shared(&mut self) -> Result<(), Error> {
        let pool = vk::CommandPoolCreateInfo::default()
            .queue_family_index(self.physical.family)
            .flags(vk::CommandPoolCreateFlags::RESET_COMMAND_BUFFER);
        let mut kind = vk::SemaphoreTypeCreateInfo::default().semaphore_type(vk::SemaphoreType::TIMELINE);
        let semaphore = vk::SemaphoreCreateInfo::default().push_next(&mut kind);
        // SAFETY: the device is alive; what is made here is destroyed in `drop`.
        unsafe {
            self.commands =
                self.device.create_command_pool(&pool, None).map_err(|e| self.failed("vkCreateCommandPool", e))?;
            self.timeline =
                self.device.create_semaphore(&semaphore, None).map_err(|e| self.failed("vkCreateSemaphore", e))?;
        }
        self.pipelines.open(&self.device, &self.physical).map_err(|e| self.failed("vkCreatePipelineLayout", e))
    }

    /// The device's name, for messages.
    pub fn name(&self) -> &str {
        &self.physical.spec.name
    }

    /// A failed call.
    pub fn failed(&self, call: &'static str, result: vk::Result) -> Error {
        Error::Driver { device: self.name().into(), call, what: result.to_string() }
    }

    /// Something that doesn't fit.
    pub fn mismatch(&self, what: impl Into<String>) -> Error {
        Error::Mismatch { device: self.name().into(), what: what.into() }
    }

    /// Runs a command buffer after all before it; answers the timeline's value at its end. Allocates nothing.
    pub fn submit(&self, commands: vk::CommandBuffer) -> Result<u64, Error> {
        let value = self.submitted.get() + 1;
        let (commands, semaphores, values) = ([commands], [self.timeline], [value]);
        let mut timeline = vk::TimelineSemaphoreSubmitInfo::default().signal_semaphore_values(&values);
        let info = [vk::SubmitInfo::default()
            .command_buffers(&commands)
            .signal_semaphores(&semaphores)
            .push_next(&mut timeline)];
        // SAFETY: the command buffer is recorded, its memory is held by its owner until it has ended, and only this
        // thread uses the queue (`Core` is not `Sync`).
        unsafe { self.device.queue_submit(self.queue, &info, vk::Fence::null()) }
            .map_err(|e| self.failed("vkQueueSubmit", e))?;
        self.submitted.set(value);
        Ok(value)
    }

    /// Waits until the timeline has reached `value`; counted only where it hasn't yet.
    pub fn wait(&self, value: u64) -> Result<(), Error> {
        if value <= self.ended.get() {
            return Ok(());
        }
        // SAFETY: the semaphore is alive as long as the core.
        let ended = unsafe { self.device.get_semaphore_counter_value(self.timeline) }
            .map_err(|e| self.failed("vkGetSemaphoreCounterValue", e))?;
        self.ended.set(ended);
        if value <= ended {
            return Ok(());
        }
        self.host_waits.set(self.host_waits.get() + 1);
        let (semaphores, values) = ([self.timeline], [value]);
        let info = vk::SemaphoreWaitInfo::default().semaphores(&semaphores).values(&values);
        // SAFETY: as above.
        unsafe { self.device.wait_semaphores(&info, u64::MAX) }.map_err(|e| self.failed("vkWaitSemaphores", e))?;
        self.ended.set(value);
        Ok(())
    }

    /// A new command buffer, to be given back with `free_commands`.
    pub fn new_commands(&self) -> Result<vk::CommandBuffer, Error> {
        let info = vk::CommandBufferAllocateInfo::default().command_pool(self.commands).command_buffer_count(1);
        // SAFETY: the pool is alive as long as the core.
        let buffers = unsafe { self.device.allocate_command_buffers(&info) };
        Ok(buffers.map_err(|e| self.failed("vkAllocateCommandBuffers", e))?[0])
    }

    /// Gives a command buffer back that isn't running any more.
    pub fn free_commands(&self, commands: vk::CommandBuffer) {
        // SAFETY: it is this pool's, and the caller has waited for its end.
        unsafe { self.device.free_command_buffers(self.commands, &[commands]) };
    }

    /// Counts an allocation of device memory.
    pub fn count_allocation(&self, bytes: u64) {
        self.device_allocations.set(self.device_allocations.get() + 1);
        self.allocated_bytes.set(self.allocated_bytes.get() + bytes);
    }

    /// Counts freed device memory.
    pub fn count_free(&self, bytes: u64) {
        self.allocated_bytes.set(self.allocated_bytes.get() - bytes);
    }

    /// Bytes of device memory in use.
    pub fn allocated_bytes(&self) -> u64 {
        self.allocated_bytes.get()
    }

    /// What the driver says is free of the device's memory; `None` where it doesn't say.
    pub fn budget(&self) -> Option<u64> {
        super::physical::free_bytes(&self.instance, &self.physical)
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        Counters {
            submissions: self.submitted.get(),
            host_waits: self.host_waits.get(),
            device_allocations: self.device_allocations.get(),
            validation_messages: self.instance.messages(),
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // SAFETY: buffers and recordings hold the core, so they are gone; nothing of it runs any more after the wait.
        unsafe {
            let _ = self.device.device_wait_idle();
            self.pipelines.destroy(&self.device);
            self.device.destroy_semaphore(self.timeline, None);
            self.device.destroy_command_pool(self.commands, None);
            self.device.destroy_device(None);
        }
    }
}
