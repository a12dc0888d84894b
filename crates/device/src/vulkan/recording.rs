//! A plan as dispatches, and the command buffer that replays them.
#![expect(unsafe_code, reason = "Vulkan is a C interface")]

use super::core::{BETWEEN, Core};
use super::memory::Slabs;
use super::pipeline::pipeline;
use super::shaders::{self, THREADS};
use crate::{Buffer, Error, SLOTS};
use ash::vk;
use graph::plan::BufferKind;
use graph::{Kernel, KernelSource, Launch, Place, Plan, PlannedLaunch, Shader};

/// One dispatch, ready to be recorded.
pub struct Dispatch {
    pipeline: vk::Pipeline,
    groups: [u32; 3],
    arguments: Vec<u8>,
}

/// The arguments of a kernel: addresses, then words.
pub fn arguments(addresses: &[u64], words: &[u32]) -> Vec<u8> {
    let words = words.iter().flat_map(|w| w.to_le_bytes());
    addresses.iter().flat_map(|a| a.to_le_bytes()).chain(words).collect()
}

/// Groups that cover `count` threads' work, in strides beyond a bound.
fn strided(core: &Core, count: u32) -> [u32; 3] {
    [count.div_ceil(THREADS).clamp(1, core.physical.max_groups[0].min(16384)), 1, 1]
}

/// One of the device's own shaders over `count` threads' work.
pub fn own(
    core: &Core,
    shader: &'static Shader,
    constants: &[u32],
    count: u32,
    data: Vec<u8>,
) -> Result<Dispatch, Error> {
    let pipeline = pipeline(core, shader, THREADS, constants)?;
    Ok(Dispatch { pipeline, groups: strided(core, count), arguments: data })
}

/// A shader that moves one slot of a ring: `begin` takes from and to, as its own order says.
pub fn ring(core: &Core, shader: &'static Shader, addresses: [u64; 3], words: u32) -> Result<Dispatch, Error> {
    own(core, shader, &[], words, arguments(&addresses, &[words, SLOTS as u32]))
}

/// Where the bytes of each of a plan's buffers are.
pub struct Places<'a> {
    core: &'a Core,
    plan: &'a Plan,
    slabs: Vec<Option<&'a Slabs>>,
}

impl<'a> Places<'a> {
    /// The lent buffers by name, and the recording's own two blocks.
    pub fn new(
        core: &'a Core,
        plan: &'a Plan,
        lent: &'a [(&str, &Buffer)],
        inputs: &'a Slabs,
        outputs: &'a Slabs,
    ) -> Result<Self, Error> {
        let mut slabs = Vec::new();
        for needed in &plan.buffers {
            slabs.push(match needed.kind {
                BufferKind::Inputs => Some(inputs),
                BufferKind::Outputs => Some(outputs),
                BufferKind::Arena | BufferKind::Region => match lent.iter().find(|(name, _)| *name == needed.name) {
                    None => None,
                    Some((_, buffer)) => {
                        let own = buffer.as_any().downcast_ref::<Slabs>().filter(|slabs| slabs.made_by(core));
                        let other = || core.mismatch(format!("buffer `{}` was made by another device", needed.name));
                        Some(own.ok_or_else(other)?)
                    }
                },
            });
        }
        Ok(Places { core, plan, slabs })
    }

    fn address(&self, place: &Place) -> Result<u64, Error> {
        let name = &self.plan.buffers[place.buffer].name;
        let slabs = self.slabs[place.buffer]
            .ok_or_else(|| self.core.mismatch(format!("buffer `{name}` is needed and wasn't lent")))?;
        slabs.address(place).ok_or_else(|| {
            let what = format!("bytes {}..+{} of `{name}` aren't in one allocation", place.offset, place.bytes);
            self.core.mismatch(what)
        })
    }

    /// A planned launch as a dispatch.
    pub fn dispatch(&self, planned: &PlannedLaunch) -> Result<Dispatch, Error> {
        let addresses = planned.places.iter().map(|(p, _)| self.address(p)).collect::<Result<Vec<_>, _>>()?;
        let refuse = |what: &str| {
            let op = &self.plan.nodes[planned.node].op;
            Err(self.core.mismatch(format!("`{op}` was lowered to {what}: plan it for this device")))
        };
        match &planned.launch {
            Launch::Kernel(kernel) => match kernel.source {
                KernelSource::Vulkan(shader) => self.kernel(kernel, shader, &addresses),
                KernelSource::Cuda(_) => refuse("a CUDA kernel"),
            },
            Launch::Cpu(_) => refuse("a CPU kernel"),
            Launch::Gemm(_) => refuse("a library's matrix product"),
            Launch::Copy { .. } => {
                let bytes = planned.places[0].0.bytes;
                // What follows an odd number of 16-bit elements is padding: everything starts at whole words.
                let bytes = planned.places[1].0.bytes.min(bytes).next_multiple_of(4);
                let words = self.words(bytes, &addresses)?;
                let wide = words.is_multiple_of(4) && addresses.iter().all(|a| a.is_multiple_of(16));
                let count = if wide { words / 4 } else { words };
                own(self.core, &shaders::COPY, &[u32::from(wide)], count, arguments(&addresses, &[count]))
            }
            Launch::Fill { word, .. } => {
                let words = self.words(planned.places[0].0.bytes, &addresses)?;
                own(self.core, &shaders::FILL, &[], words, arguments(&addresses, &[words, *word]))
            }
        }
    }

    /// Bytes as whole words at whole-word addresses.
    fn words(&self, bytes: u64, addresses: &[u64]) -> Result<u32, Error> {
        let whole = bytes.is_multiple_of(4) && addresses.iter().all(|a| a.is_multiple_of(4));
        let words = u32::try_from(bytes / 4).ok().filter(|_| whole);
        words.ok_or_else(|| self.core.mismatch(format!("a copy or fill of {bytes} bytes isn't one of whole words")))
    }

    fn kernel(&self, kernel: &Kernel, shader: &'static Shader, addresses: &[u64]) -> Result<Dispatch, Error> {
        let core = self.core;
        let data = arguments(addresses, &kernel.words);
        let most = core.physical.spec.argument_bytes as usize;
        if data.len() > most {
            let what = format!("shader `{}` takes {} bytes of arguments; at most {most}", shader.name, data.len());
            return Err(core.mismatch(what));
        }
        for (axis, (groups, most)) in kernel.groups.iter().zip(&core.physical.max_groups).enumerate() {
            if groups > most {
                let axis = ["x", "y", "z"][axis];
                let what = format!("shader `{}` wants {groups} groups in {axis}; at most {most}", shader.name);
                return Err(core.mismatch(what));
            }
        }
        let constants: Vec<u32> = kernel.constants.iter().map(|(_, value)| *value).collect();
        let pipeline = pipeline(core, shader, kernel.threads, &constants)?;
        Ok(Dispatch { pipeline, groups: kernel.groups, arguments: data })
    }
}

/// A step's dispatches: the ends, and the launches by level.
pub struct Step {
    /// Takes the inputs.
    pub begin: Dispatch,
    /// The launches, in the plan's order.
    pub launches: Vec<Dispatch>,
    /// Indices of the launches of each level.
    pub levels: Vec<Vec<usize>>,
    /// Hands out the outputs.
    pub end: Dispatch,
}

/// A command buffer being recorded.
struct Recorder<'a> {
    device: &'a ash::Device,
    commands: vk::CommandBuffer,
    layout: vk::PipelineLayout,
}

impl Recorder<'_> {
    fn barrier(&self, from: vk::PipelineStageFlags, to: vk::PipelineStageFlags, memory: vk::MemoryBarrier) {
        // SAFETY: the command buffer is being recorded.
        unsafe {
            let none = vk::DependencyFlags::empty();
            self.device.cmd_pipeline_barrier(self.commands, from, to, none, &[memory], &[], &[]);
        }
    }

    /// After everything that the queue was given before.
    fn after_all(&self) {
        let memory = vk::MemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::MEMORY_WRITE)
            .dst_access_mask(BETWEEN.dst_access_mask);
        self.barrier(vk::PipelineStageFlags::ALL_COMMANDS, vk::PipelineStageFlags::COMPUTE_SHADER, memory);
    }

    fn between(&self) {
        self.barrier(vk::PipelineStageFlags::COMPUTE_SHADER, vk::PipelineStageFlags::COMPUTE_SHADER, BETWEEN);
    }

    fn to_host(&self) {
        let memory = vk::MemoryBarrier::default()
            .src_access_mask(vk::AccessFlags::SHADER_WRITE)
            .dst_access_mask(vk::AccessFlags::HOST_READ);
        self.barrier(vk::PipelineStageFlags::COMPUTE_SHADER, vk::PipelineStageFlags::HOST, memory);
    }

    fn dispatch(&self, dispatch: &Dispatch) {
        let [x, y, z] = dispatch.groups;
        if x == 0 || y == 0 || z == 0 {
            return;
        }
        let stage = vk::ShaderStageFlags::COMPUTE;
        // SAFETY: the pipeline lives as long as the core; the addresses are of memory that the recording holds.
        unsafe {
            self.device.cmd_bind_pipeline(self.commands, vk::PipelineBindPoint::COMPUTE, dispatch.pipeline);
            if !dispatch.arguments.is_empty() {
                self.device.cmd_push_constants(self.commands, self.layout, stage, 0, &dispatch.arguments);
            }
            self.device.cmd_dispatch(self.commands, x, y, z);
        }
    }
}

/// Records into a new command buffer that may be submitted again while it still runs.
fn record(core: &Core, body: impl FnOnce(&Recorder)) -> Result<vk::CommandBuffer, Error> {
    let commands = core.new_commands()?;
    let info = vk::CommandBufferBeginInfo::default().flags(vk::CommandBufferUsageFlags::SIMULTANEOUS_USE);
    // SAFETY: the command buffer is new.
    unsafe { core.device.begin_command_buffer(commands, &info) }.map_err(|e| core.failed("vkBeginCommandBuffer", e))?;
    body(&Recorder { device: &core.device, commands, layout: core.pipelines.layout });
    // SAFETY: it is being recorded.
    unsafe { core.device.end_command_buffer(commands) }.map_err(|e| core.failed("vkEndCommandBuffer", e))?;
    Ok(commands)
}

/// The step with one barrier between levels.
pub fn record_step(core: &Core, step: &Step) -> Result<vk::CommandBuffer, Error> {
    record(core, |to| {
        to.after_all();
        to.dispatch(&step.begin);
        to.between();
        for level in &step.levels {
            level.iter().for_each(|i| to.dispatch(&step.launches[*i]));
            to.between();
        }
        to.dispatch(&step.end);
        to.to_host();
    })
}

/// The step with each launch alone between two timestamps of `clock`.
pub fn record_timed(core: &Core, step: &Step, clock: vk::QueryPool) -> Result<vk::CommandBuffer, Error> {
    record(core, |to| {
        let stamp = |index: usize| {
            // SAFETY: the command buffer is being recorded; the pool has one query more than there are launches.
            unsafe {
                let stage = vk::PipelineStageFlags::BOTTOM_OF_PIPE;
                to.device.cmd_write_timestamp(to.commands, stage, clock, index as u32);
            }
        };
        // SAFETY: as above.
        unsafe { to.device.cmd_reset_query_pool(to.commands, clock, 0, step.launches.len() as u32 + 1) };
        to.after_all();
        to.dispatch(&step.begin);
        to.between();
        stamp(0);
        for (i, launch) in step.levels.iter().flatten().enumerate() {
            to.dispatch(&step.launches[*launch]);
            to.between();
            stamp(i + 1);
        }
        to.dispatch(&step.end);
        to.to_host();
    })
}

/// Dispatches one after the other, between the two timestamps of `clock` if there is one.
pub fn record_row(core: &Core, row: &[Dispatch], clock: vk::QueryPool) -> Result<vk::CommandBuffer, Error> {
    record(core, |to| {
        let stamp = |index: u32| {
            if clock != vk::QueryPool::null() {
                let stage = vk::PipelineStageFlags::BOTTOM_OF_PIPE;
                // SAFETY: the command buffer is being recorded; the pool has two queries.
                unsafe { to.device.cmd_write_timestamp(to.commands, stage, clock, index) };
            }
        };
        if clock != vk::QueryPool::null() {
            // SAFETY: as above.
            unsafe { to.device.cmd_reset_query_pool(to.commands, clock, 0, 2) };
        }
        to.after_all();
        stamp(0);
        for dispatch in row {
            to.dispatch(dispatch);
            to.between();
        }
        stamp(1);
    })
}
