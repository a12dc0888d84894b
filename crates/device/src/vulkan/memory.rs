//! Device memory: slabs with addresses, memory that the host sees too, and copies between them.
#![expect(unsafe_code, reason = "Vulkan is a C interface")]

use super::core::Core;
use crate::{Error, Memory};
use ash::vk;
use graph::Place;
use std::any::Any;
use std::rc::Rc;

/// Bytes that one copy between host and device moves at most.
const STAGING_BYTES: u64 = 8 << 20;

/// One Vulkan buffer with its own memory.
pub struct Slab {
    core: Rc<Core>,
    buffer: vk::Buffer,
    memory: vk::DeviceMemory,
    bytes: u64,
    /// Its address on the device.
    pub address: u64,
    /// Its address on the host, where the host sees it.
    mapped: *mut u8,
}

/// Where a slab lies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In the device's memory.
    Device,
    /// Where the host writes and the device reads, in the device's memory if the host reaches it.
    HostWrites,
    /// Where the device writes and the host reads.
    HostReads,
}

impl Slab {
    /// Allocates at least `bytes` bytes, of any content.
    pub fn new(core: &Rc<Core>, purpose: &str, bytes: u64, kind: Kind) -> Result<Slab, Error> {
        let bytes = bytes.max(16).next_multiple_of(16);
        let usage = vk::BufferUsageFlags::STORAGE_BUFFER
            | vk::BufferUsageFlags::SHADER_DEVICE_ADDRESS
            | vk::BufferUsageFlags::TRANSFER_SRC
            | vk::BufferUsageFlags::TRANSFER_DST;
        let info = vk::BufferCreateInfo::default().size(bytes).usage(usage);
        // SAFETY: the device is alive; `drop` destroys the buffer.
        let buffer = unsafe { core.device.create_buffer(&info, None) }.map_err(|e| core.failed("vkCreateBuffer", e))?;
        let (memory, mapped) = (vk::DeviceMemory::null(), std::ptr::null_mut());
        let mut slab = Slab { core: core.clone(), buffer, memory, bytes: 0, address: 0, mapped };
        slab.back(purpose, kind)?;
        Ok(slab)
    }

    /// Gives the buffer its memory.
    fn back(&mut self, purpose: &str, kind: Kind) -> Result<(), Error> {
        let device = &self.core.device;
        // SAFETY: the buffer was made just now on this device.
        let need = unsafe { device.get_buffer_memory_requirements(self.buffer) };
        let mut last = vk::Result::ERROR_OUT_OF_DEVICE_MEMORY;
        for index in self.types(need.memory_type_bits, kind) {
            let mut flags = vk::MemoryAllocateFlagsInfo::default().flags(vk::MemoryAllocateFlags::DEVICE_ADDRESS);
            let info = vk::MemoryAllocateInfo::default()
                .allocation_size(need.size)
                .memory_type_index(index)
                .push_next(&mut flags);
            // SAFETY: the type is one of those that the buffer allows.
            match unsafe { device.allocate_memory(&info, None) } {
                Ok(memory) => {
                    self.memory = memory;
                    self.bytes = need.size;
                    self.core.count_allocation(need.size);
                    return self.bind(kind);
                }
                Err(e) => last = e,
            }
        }
        if last != vk::Result::ERROR_OUT_OF_DEVICE_MEMORY && last != vk::Result::ERROR_OUT_OF_HOST_MEMORY {
            return Err(self.core.failed("vkAllocateMemory", last));
        }
        let have = self.core.physical.spec.memory_bytes.saturating_sub(self.core.allocated_bytes());
        Err(Error::Memory { device: self.core.name().into(), purpose: purpose.into(), need: need.size, have })
    }

    fn bind(&mut self, kind: Kind) -> Result<(), Error> {
        let (core, device) = (&self.core, &self.core.device);
        let info = vk::BufferDeviceAddressInfo::default().buffer(self.buffer);
        // SAFETY: buffer and memory are new, of one device and of matching type; host memory is mapped once.
        unsafe {
            device.bind_buffer_memory(self.buffer, self.memory, 0).map_err(|e| core.failed("vkBindBufferMemory", e))?;
            self.address = device.get_buffer_device_address(&info);
            if kind != Kind::Device {
                let mapped = device.map_memory(self.memory, 0, vk::WHOLE_SIZE, vk::MemoryMapFlags::empty());
                self.mapped = mapped.map_err(|e| core.failed("vkMapMemory", e))?.cast();
                self.mapped.write_bytes(0, self.bytes as usize);
            }
        }
        Ok(())
    }

    /// The memory types that will do, the best first.
    fn types(&self, allowed: u32, kind: Kind) -> Vec<u32> {
        use vk::MemoryPropertyFlags as Flags;
        let host = Flags::HOST_VISIBLE | Flags::HOST_COHERENT;
        let (required, preferred) = match kind {
            Kind::Device => (Flags::DEVICE_LOCAL, Flags::empty()),
            Kind::HostWrites => (host, Flags::DEVICE_LOCAL),
            Kind::HostReads => (host, Flags::HOST_CACHED),
        };
        let types = self.core.physical.memory.memory_types_as_slice();
        let mut found: Vec<u32> = (0..types.len() as u32)
            .filter(|i| allowed & (1 << i) != 0 && types[*i as usize].property_flags.contains(required))
            .collect();
        found.sort_by_key(|i| !types[*i as usize].property_flags.contains(preferred));
        found
    }

    /// Copies into memory that the host sees.
    pub fn put(&self, offset: usize, bytes: &[u8]) {
        assert!(!self.mapped.is_null() && offset + bytes.len() <= self.bytes as usize);
        // SAFETY: mapped, and in bounds as just checked; the caller has waited for the device's last use of the range.
        unsafe { self.mapped.add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// Copies from memory that the host sees.
    pub fn get(&self, offset: usize, bytes: &mut [u8]) {
        assert!(!self.mapped.is_null() && offset + bytes.len() <= self.bytes as usize);
        // SAFETY: as in `put`.
        unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(self.mapped.add(offset), bytes.len()) };
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: owners wait for the device's last use before they let go; null handles are ignored.
        unsafe {
            self.core.device.destroy_buffer(self.buffer, None);
            self.core.device.free_memory(self.memory, None);
        }
        self.core.count_free(self.bytes);
    }
}

/// Copies between the host and slabs, through memory that both see.
pub struct Staging {
    core: Rc<Core>,
    up: Slab,
    down: Slab,
    commands: vk::CommandBuffer,
}

impl Staging {
    /// Its memory and its command buffer.
    pub fn new(core: &Rc<Core>) -> Result<Staging, Error> {
        let up = Slab::new(core, "copies to the device", STAGING_BYTES, Kind::HostWrites)?;
        let down = Slab::new(core, "copies from the device", STAGING_BYTES, Kind::HostReads)?;
        Ok(Staging { core: core.clone(), up, down, commands: core.new_commands()? })
    }

    /// Records, runs and waits for `commands`, after everything before it.
    fn run(&self, commands: impl FnOnce(&ash::Device, vk::CommandBuffer)) -> Result<(), Error> {
        let (core, device) = (&self.core, &self.core.device);
        let begin = vk::CommandBufferBeginInfo::default().flags(vk::CommandBufferUsageFlags::ONE_TIME_SUBMIT);
        let all = vk::PipelineStageFlags::ALL_COMMANDS;
        let memory = vk::AccessFlags::MEMORY_READ | vk::AccessFlags::MEMORY_WRITE;
        let before = [vk::MemoryBarrier::default().src_access_mask(memory).dst_access_mask(memory)];
        let to_host = [vk::MemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::TRANSFER_WRITE)
            .dst_access_mask(vk::AccessFlags::HOST_READ)];
        let none = vk::DependencyFlags::empty();
        // SAFETY: the command buffer isn't running: every use of it ends with the wait below.
        let recorded = unsafe {
            device.begin_command_buffer(self.commands, &begin).and_then(|()| {
                device.cmd_pipeline_barrier(self.commands, all, all, none, &before, &[], &[]);
                commands(device, self.commands);
                device.cmd_pipeline_barrier(self.commands, all, vk::PipelineStageFlags::HOST, none, &to_host, &[], &[]);
                device.end_command_buffer(self.commands)
            })
        };
        recorded.map_err(|e| core.failed("vkEndCommandBuffer", e))?;
        core.wait(core.submit(self.commands)?)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.core.free_commands(self.commands);
    }
}

/// Device memory in slabs of equal size, the last one smaller.
pub struct Slabs {
    slabs: Vec<Slab>,
    slab_bytes: u64,
    bytes: u64,
    staging: Rc<Staging>,
}

impl Slabs {
    /// Allocates zeros, in slabs of at most `slab_bytes`.
    pub fn new(
        core: &Rc<Core>,
        staging: &Rc<Staging>,
        purpose: &str,
        bytes: u64,
        slab_bytes: u64,
    ) -> Result<Slabs, Error> {
        let mut slabs = Vec::new();
        let mut rest = bytes;
        while rest > 0 {
            let size = rest.min(slab_bytes);
            slabs.push(Slab::new(core, purpose, size, Kind::Device)?);
            rest -= size;
        }
        staging.run(|device, commands| {
            for slab in &slabs {
                // SAFETY: the command buffer is being recorded, and `run` waits while `slabs` is alive.
                unsafe { device.cmd_fill_buffer(commands, slab.buffer, 0, vk::WHOLE_SIZE, 0) };
            }
        })?;
        Ok(Slabs { slabs, slab_bytes, bytes, staging: staging.clone() })
    }

    /// Whether they are this device's.
    pub fn made_by(&self, core: &Core) -> bool {
        std::ptr::eq(Rc::as_ptr(&self.staging.core), core)
    }

    /// The device's address of a place; `None` if it straddles two slabs or ends outside.
    pub fn address(&self, place: &Place) -> Option<u64> {
        let slab = place.offset / self.slab_bytes;
        let last = (place.offset + place.bytes.max(1) - 1) / self.slab_bytes;
        if slab != last || place.offset + place.bytes > self.bytes {
            return None;
        }
        Some(self.slabs.get(slab as usize)?.address + place.offset % self.slab_bytes)
    }

    /// Cuts a range into pieces within one slab and one staging buffer: slab, offset in it, bytes done before, bytes.
    fn pieces(&self, offset: u64, bytes: usize) -> Result<Vec<(&Slab, u64, usize, usize)>, Error> {
        if offset.checked_add(bytes as u64).is_none_or(|end| end > self.bytes) {
            let what = format!("bytes {offset}..+{bytes} of a buffer of {} bytes", self.bytes);
            return Err(self.staging.core.mismatch(what));
        }
        let mut pieces = Vec::new();
        let mut done = 0;
        while done < bytes {
            let at = offset + done as u64;
            let inside = at % self.slab_bytes;
            let size = (self.slab_bytes - inside).min(STAGING_BYTES).min((bytes - done) as u64) as usize;
            pieces.push((&self.slabs[(at / self.slab_bytes) as usize], inside, done, size));
            done += size;
        }
        Ok(pieces)
    }
}

impl Memory for Slabs {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let staging = &self.staging;
        for (slab, inside, done, size) in self.pieces(offset, bytes.len())? {
            staging.up.put(0, &bytes[done..done + size]);
            let region = [vk::BufferCopy { src_offset: 0, dst_offset: inside, size: size as u64 }];
            // SAFETY: the command buffer is being recorded, the ranges are inside both buffers, and `run` waits.
            staging.run(|device, commands| unsafe {
                device.cmd_copy_buffer(commands, staging.up.buffer, slab.buffer, &region);
            })?;
        }
        Ok(())
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let staging = &self.staging;
        for (slab, inside, done, size) in self.pieces(offset, bytes.len())? {
            let region = [vk::BufferCopy { src_offset: inside, dst_offset: 0, size: size as u64 }];
            // SAFETY: as in `write`.
            staging.run(|device, commands| unsafe {
                device.cmd_copy_buffer(commands, slab.buffer, staging.down.buffer, &region);
            })?;
            staging.down.get(0, &mut bytes[done..done + size]);
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
