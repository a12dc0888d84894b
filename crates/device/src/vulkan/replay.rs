//! Replays of a recorded step: slots of inputs and outputs, tickets, and times of launches.
#![expect(unsafe_code, reason = "Vulkan is a C interface")]

use super::core::Core;
use super::memory::{Kind, Slab, Slabs, Staging};
use super::recording::{Places, Step, record_step, record_timed, ring};
use super::shaders;
use crate::{Buffer, Error, Replay, SLOTS, Ticket};
use ash::vk;
use graph::Plan;
use graph::plan::{Binding, BufferKind};
use std::ops::Range;
use std::rc::Rc;

/// A block of the device that the host fills or reads, and its ring of slots.
struct Ring {
    block: Slabs,
    slots: Slab,
    bytes: usize,
    /// Bytes of each binding in a slot.
    bindings: Vec<Range<usize>>,
}

impl Ring {
    fn new(
        core: &Rc<Core>,
        staging: &Rc<Staging>,
        plan: &Plan,
        kind: BufferKind,
        bindings: &[Binding],
    ) -> Result<Ring, Error> {
        let bytes: u64 = plan.buffers.iter().filter(|b| b.kind == kind).map(|b| b.bytes).sum();
        let bytes = bytes.max(16).next_multiple_of(16);
        let most = core.physical.spec.largest_allocation.min(u64::from(u32::MAX) / 2);
        if bytes * SLOTS as u64 > most {
            let what = format!("{SLOTS} slots of {bytes} bytes of inputs or outputs don't fit {most} bytes");
            return Err(core.mismatch(what));
        }
        if let Some(odd) = bindings.iter().find(|b| plan.buffers[b.place.buffer].kind != kind) {
            return Err(core.mismatch(format!("`{}` isn't in the block of its kind", odd.name)));
        }
        let (name, memory) = match kind {
            BufferKind::Inputs => ("inputs", Kind::HostWrites),
            _ => ("outputs", Kind::HostReads),
        };
        let range = |b: &Binding| b.place.offset as usize..(b.place.offset + b.place.bytes) as usize;
        Ok(Ring {
            block: Slabs::new(core, staging, name, bytes, bytes)?,
            slots: Slab::new(core, name, bytes * SLOTS as u64, memory)?,
            bytes: bytes as usize,
            bindings: bindings.iter().map(range).collect(),
        })
    }

    fn address(&self) -> u64 {
        let whole = graph::Place { buffer: 0, offset: 0, bytes: self.bytes as u64 };
        self.block.address(&whole).expect("a block is one slab")
    }
}

/// A command buffer with timestamps, made when first asked for.
struct Timed {
    commands: vk::CommandBuffer,
    clock: vk::QueryPool,
}

/// A recorded step.
pub struct Recorded {
    core: Rc<Core>,
    step: Step,
    commands: vk::CommandBuffer,
    timed: Option<Timed>,
    inputs: Ring,
    outputs: Ring,
    /// What the next replay's inputs are.
    image: Vec<u8>,
    /// The timeline's value at the end of the last replay of each slot.
    ends: [u64; SLOTS],
    next: u64,
    /// Counts replays on the device.
    _count: Slabs,
    /// What was lent, held as long as it may be used.
    _lent: Vec<Buffer>,
}

impl Recorded {
    /// Records a plan over the lent buffers.
    pub fn new(
        core: &Rc<Core>,
        staging: &Rc<Staging>,
        plan: &Plan,
        lent: &[(&str, &Buffer)],
    ) -> Result<Recorded, Error> {
        let inputs = Ring::new(core, staging, plan, BufferKind::Inputs, &plan.inputs)?;
        let outputs = Ring::new(core, staging, plan, BufferKind::Outputs, &plan.outputs)?;
        let count = Slabs::new(core, staging, "the count of replays", 16, 16)?;
        let counter = count.address(&graph::Place { buffer: 0, offset: 0, bytes: 16 }).expect("one slab");
        let places = Places::new(core, plan, lent, &inputs.block, &outputs.block)?;
        let mut levels = vec![Vec::new(); plan.levels()];
        for (i, launch) in plan.launches.iter().enumerate() {
            levels[launch.level].push(i);
        }
        levels.retain(|level| !level.is_empty());
        let from = [counter, inputs.slots.address, inputs.address()];
        let to = [counter, outputs.address(), outputs.slots.address];
        let step = Step {
            begin: ring(core, &shaders::BEGIN, from, (inputs.bytes / 4) as u32)?,
            launches: plan.launches.iter().map(|l| places.dispatch(l)).collect::<Result<_, _>>()?,
            levels,
            end: ring(core, &shaders::END, to, (outputs.bytes / 4) as u32)?,
        };
        Ok(Recorded {
            core: core.clone(),
            commands: record_step(core, &step)?,
            step,
            timed: None,
            image: vec![0; inputs.bytes],
            inputs,
            outputs,
            ends: [0; SLOTS],
            next: 0,
            _count: count,
            _lent: lent.iter().map(|(_, buffer)| (*buffer).clone()).collect(),
        })
    }

    /// Fills the next slot and submits.
    fn submit(&mut self, commands: vk::CommandBuffer) -> Result<Ticket, Error> {
        let slot = (self.next % SLOTS as u64) as usize;
        self.core.wait(self.ends[slot])?;
        self.inputs.slots.put(slot * self.inputs.bytes, &self.image);
        self.ends[slot] = self.core.submit(commands)?;
        self.next += 1;
        Ok(Ticket(self.next - 1))
    }

    /// Makes the command buffer with timestamps.
    fn timed(&mut self) -> Result<&Timed, Error> {
        if self.timed.is_none() {
            let count = self.step.launches.len() as u32 + 1;
            let info = vk::QueryPoolCreateInfo::default().query_type(vk::QueryType::TIMESTAMP).query_count(count);
            // SAFETY: the device is alive; `drop` destroys the pool.
            let clock = unsafe { self.core.device.create_query_pool(&info, None) }
                .map_err(|e| self.core.failed("vkCreateQueryPool", e))?;
            let commands = record_timed(&self.core, &self.step, clock)?;
            self.timed = Some(Timed { commands, clock });
        }
        Ok(self.timed.as_ref().expect("made just now"))
    }

    fn times(&mut self, seconds_per_tick: f64) -> Result<Vec<f64>, Error> {
        let Timed { commands, clock } = *self.timed()?;
        let ticket = self.submit(commands)?;
        self.wait(ticket)?;
        let mut ticks = vec![0_u64; self.step.launches.len() + 1];
        let flags = vk::QueryResultFlags::TYPE_64 | vk::QueryResultFlags::WAIT;
        // SAFETY: the pool has as many queries as `ticks`, all written by the replay that has ended.
        unsafe { self.core.device.get_query_pool_results(clock, 0, &mut ticks, flags) }
            .map_err(|e| self.core.failed("vkGetQueryPoolResults", e))?;
        let mask = self.core.physical.tick_mask;
        let mut seconds = vec![0.0; self.step.launches.len()];
        for (pair, launch) in ticks.windows(2).zip(self.step.levels.iter().flatten()) {
            seconds[*launch] = (pair[1].wrapping_sub(pair[0]) & mask) as f64 * seconds_per_tick;
        }
        Ok(seconds)
    }
}

impl Replay for Recorded {
    fn write(&mut self, index: usize, bytes: &[u8]) -> Result<(), Error> {
        let range = self.inputs.bindings[index].clone();
        if range.len() != bytes.len() {
            let what = format!("input {index} is {} bytes, {} were written", range.len(), bytes.len());
            return Err(self.core.mismatch(what));
        }
        self.image[range].copy_from_slice(bytes);
        Ok(())
    }

    fn replay(&mut self) -> Result<Ticket, Error> {
        self.submit(self.commands)
    }

    fn read(&mut self, index: usize, ticket: Ticket, bytes: &mut [u8]) -> Result<(), Error> {
        let range = self.outputs.bindings[index].clone();
        if range.len() != bytes.len() {
            let what = format!("output {index} is {} bytes, {} were asked for", range.len(), bytes.len());
            return Err(self.core.mismatch(what));
        }
        if ticket.0 + (SLOTS as u64) < self.next {
            let what = format!("replay {} is gone: {} replays came after it", ticket.0, self.next - 1 - ticket.0);
            return Err(self.core.mismatch(what));
        }
        self.wait(ticket)?;
        let slot = (ticket.0 % SLOTS as u64) as usize;
        self.outputs.slots.get(slot * self.outputs.bytes + range.start, bytes);
        Ok(())
    }

    fn wait(&mut self, ticket: Ticket) -> Result<(), Error> {
        if ticket.0 >= self.next {
            return Err(self.core.mismatch(format!("there was no replay {} yet", ticket.0)));
        }
        if ticket.0 + (SLOTS as u64) < self.next {
            return Ok(());
        }
        self.core.wait(self.ends[(ticket.0 % SLOTS as u64) as usize])
    }

    fn time_launches(&mut self) -> Option<Vec<f64>> {
        let seconds_per_tick = self.core.physical.seconds_per_tick?;
        self.times(seconds_per_tick).ok()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let last = self.ends.iter().copied().max().unwrap_or(0);
        // A lost device has nothing running any more.
        let _ = self.core.wait(last);
        self.core.free_commands(self.commands);
        if let Some(Timed { commands, clock }) = self.timed.take() {
            self.core.free_commands(commands);
            // SAFETY: the pool isn't in use after the wait above.
            unsafe { self.core.device.destroy_query_pool(clock, None) };
        }
    }
}
