//! One plan as one CUDA graph: explicit nodes, and the plan's own dependencies as edges.

use super::driver::{DeviceMemory, Gpu, PinnedMemory};
use super::handles::{Event, Executable, Graph};
use super::work::{Work, call, own_kernel, work};
use crate::{Buffer, Error, Memory, Replay, SLOTS, Ticket};
use cudarc::driver::sys;
use graph::plan::BufferKind;
use graph::{DeviceKind, Kernel, Launch, Plan};
use std::ptr::null_mut;
use std::rc::Rc;

/// A recorded plan.
pub struct Step {
    /// First, so that it goes before what its nodes refer to.
    executable: Executable,
    works: Vec<Work>,
    begin: Work,
    end: Work,
    inputs: Ring,
    outputs: Ring,
    /// The event of the replay that used each slot last.
    events: Vec<Event>,
    next: u64,
    _counter: DeviceMemory,
    _lent: Vec<Buffer>,
    gpu: Rc<Gpu>,
}

/// The block that the host writes or reads, on the device, and its ring of slots on the host.
struct Ring {
    block: DeviceMemory,
    slots: PinnedMemory,
    /// Size of a slot: whole vectors of 16 bytes.
    bytes: usize,
    /// The block as the host last wrote it; empty for outputs.
    image: Vec<u8>,
    /// First byte and bytes of each binding.
    bindings: Vec<(usize, usize)>,
}

impl Ring {
    fn new(gpu: &Rc<Gpu>, plan: &Plan, kind: BufferKind) -> Result<Ring, Error> {
        let bytes: u64 = plan.buffers.iter().filter(|b| b.kind == kind).map(|b| b.bytes).sum();
        let bytes = bytes.next_multiple_of(16) as usize;
        let (purpose, bound) =
            if kind == BufferKind::Inputs { ("inputs", &plan.inputs) } else { ("outputs", &plan.outputs) };
        Ok(Ring {
            block: DeviceMemory::new(gpu, purpose, bytes as u64)?,
            slots: PinnedMemory::new(gpu, bytes * SLOTS)?,
            bytes,
            image: if kind == BufferKind::Inputs { vec![0; bytes] } else { Vec::new() },
            bindings: bound.iter().map(|b| (b.place.offset as usize, b.place.bytes as usize)).collect(),
        })
    }

    fn vectors(&self) -> u32 {
        u32::try_from(self.bytes / 16).expect("a step's inputs and outputs are below 64 GiB")
    }
}

impl Step {
    /// Records a plan over the lent buffers.
    pub fn record(gpu: &Rc<Gpu>, plan: &Plan, lent: &[(&str, &Buffer)]) -> Result<Step, Error> {
        if plan.spec.kind != DeviceKind::Cuda || plan.spec.architecture != gpu.spec.architecture {
            return Err(gpu.mismatch(format!("the plan is for {} ({})", plan.spec.kind, plan.spec.architecture)));
        }
        gpu.enter()?;
        let inputs = Ring::new(gpu, plan, BufferKind::Inputs)?;
        let outputs = Ring::new(gpu, plan, BufferKind::Outputs)?;
        let counter = DeviceMemory::new(gpu, "counters", 16)?;
        let bases = bases(gpu, plan, lent, &inputs, &outputs)?;
        let begin = own_kernel("step_begin", 3, vec![inputs.vectors()], inputs.vectors());
        let end = own_kernel("step_end", 4, vec![outputs.vectors()], outputs.vectors());
        let kernels = plan.launches.iter().filter_map(|l| match &l.launch {
            Launch::Kernel(kernel) => Some(kernel),
            _ => None,
        });
        gpu.load(kernels.chain([&begin, &end]))?;
        let at = counter.address();
        let begin = call(gpu, &begin, &[inputs.slots.address(), inputs.block.address(), at])?;
        let end = call(gpu, &end, &[outputs.block.address(), outputs.slots.address(), at, at + 4])?;
        let works = plan.launches.iter().map(|launch| {
            let addresses: Vec<_> = launch.places.iter().map(|(place, _)| bases[place.buffer] + place.offset).collect();
            work(gpu, &launch.launch, &addresses, launch.places.first().map_or(0, |(place, _)| place.bytes))
        });
        let works = works.collect::<Result<Vec<_>, _>>()?;
        let executable = build(gpu, plan, &works, &begin, &end)?;
        let events = (0..SLOTS).map(|_| Event::new(gpu, false)).collect::<Result<Vec<_>, _>>()?;
        let held = lent.iter().map(|(_, buffer)| Rc::clone(buffer)).collect();
        let gpu = Rc::clone(gpu);
        let step = Step {
            executable,
            works,
            begin,
            end,
            inputs,
            outputs,
            events,
            next: 0,
            _counter: counter,
            _lent: held,
            gpu,
        };
        step.warm_up()?;
        Ok(step)
    }

    /// Uploads the graph, and makes each call of a replay once in a way that does nothing, so that no replay allocates.
    fn warm_up(&self) -> Result<(), Error> {
        let gpu = &self.gpu;
        // SAFETY: graph and stream live.
        gpu.check("cuGraphUpload", unsafe { sys::cuGraphUpload(self.executable.handle, gpu.stream) })?;
        let empty = Graph::new(gpu)?;
        let mut node = null_mut();
        // SAFETY: an empty node without dependencies.
        gpu.check("cuGraphAddEmptyNode", unsafe { sys::cuGraphAddEmptyNode(&mut node, empty.0, std::ptr::null(), 0) })?;
        let empty = Executable::new(gpu, &empty)?;
        empty.launch()?;
        for event in &self.events {
            event.record(gpu)?;
        }
        gpu.synchronize()?;
        self.wait_for(0)?;
        // SAFETY: the event was recorded above.
        gpu.check("cuEventSynchronize", unsafe { sys::cuEventSynchronize(self.events[0].0) })
    }

    /// Waits until the replay that used `slot` last has ended; counts if it hadn't.
    fn wait_for(&self, slot: usize) -> Result<(), Error> {
        let event = &self.events[slot];
        // SAFETY: the event was recorded at least once.
        let state = unsafe { sys::cuEventQuery(event.0) };
        if state != sys::CUresult::CUDA_ERROR_NOT_READY {
            return self.gpu.check("cuEventQuery", state);
        }
        self.gpu.count(|c| c.host_waits += 1);
        // SAFETY: as above.
        self.gpu.check("cuEventSynchronize", unsafe { sys::cuEventSynchronize(event.0) })
    }

    /// Puts the inputs into the next replay's slot.
    fn fill_slot(&mut self) -> Result<usize, Error> {
        self.gpu.enter()?;
        let slot = (self.next % SLOTS as u64) as usize;
        self.wait_for(slot)?;
        self.inputs.slots.put(slot * self.inputs.bytes, &self.inputs.image);
        Ok(slot)
    }

    fn time(&mut self) -> Result<Vec<f64>, Error> {
        let gpu = Rc::clone(&self.gpu);
        let slot = self.fill_slot()?;
        let events = (0..=self.works.len()).map(|_| Event::new(&gpu, true)).collect::<Result<Vec<_>, _>>()?;
        let nanoseconds = 15_000 * (self.works.len() as u32 + 4).min(100_000);
        let delay = Kernel { threads: 32, ..own_kernel("step_delay", 0, vec![nanoseconds], 0) };
        call(&gpu, &delay, &[])?.launch(&gpu)?;
        self.begin.launch(&gpu)?;
        events[0].record(&gpu)?;
        for (work, event) in self.works.iter().zip(&events[1..]) {
            work.launch(&gpu)?;
            event.record(&gpu)?;
        }
        self.end.launch(&gpu)?;
        self.events[slot].record(&gpu)?;
        self.next += 1;
        gpu.synchronize()?;
        events.windows(2).map(|pair| pair[0].seconds_until(&gpu, &pair[1])).collect()
    }
}

impl Replay for Step {
    fn write(&mut self, index: usize, bytes: &[u8]) -> Result<(), Error> {
        match self.inputs.bindings.get(index) {
            Some(&(offset, size)) if size == bytes.len() => {
                self.inputs.image[offset..][..size].copy_from_slice(bytes);
                Ok(())
            }
            _ => Err(self.gpu.mismatch(format!("input {index} doesn't take {} bytes", bytes.len()))),
        }
    }

    fn replay(&mut self) -> Result<Ticket, Error> {
        let slot = self.fill_slot()?;
        self.executable.launch()?;
        self.events[slot].record(&self.gpu)?;
        self.gpu.count(|c| c.submissions += 1);
        self.next += 1;
        Ok(Ticket(self.next - 1))
    }

    fn read(&mut self, index: usize, ticket: Ticket, bytes: &mut [u8]) -> Result<(), Error> {
        if ticket.0 + (SLOTS as u64) <= self.next {
            return Err(self.gpu.mismatch(format!("replay {} is too long ago to be read", ticket.0)));
        }
        self.wait(ticket)?;
        match self.outputs.bindings.get(index) {
            Some(&(offset, size)) if size == bytes.len() => {
                let slot = (ticket.0 % SLOTS as u64) as usize;
                self.outputs.slots.get(slot * self.outputs.bytes + offset, bytes);
                Ok(())
            }
            _ => Err(self.gpu.mismatch(format!("output {index} doesn't give {} bytes", bytes.len()))),
        }
    }

    fn wait(&mut self, ticket: Ticket) -> Result<(), Error> {
        if ticket.0 >= self.next {
            return Err(self.gpu.mismatch(format!("replay {} has not begun", ticket.0)));
        }
        // A slot is used again only when its last replay has ended.
        if ticket.0 + (SLOTS as u64) < self.next {
            return Ok(());
        }
        self.gpu.enter()?;
        self.wait_for((ticket.0 % SLOTS as u64) as usize)
    }

    fn time_launches(&mut self) -> Option<Vec<f64>> {
        self.time().ok()
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let _ = self.gpu.enter();
        let _ = self.gpu.synchronize();
    }
}

/// The address of each of the plan's buffers; zero where it has no bytes.
fn bases(
    gpu: &Rc<Gpu>,
    plan: &Plan,
    lent: &[(&str, &Buffer)],
    inputs: &Ring,
    outputs: &Ring,
) -> Result<Vec<u64>, Error> {
    let base = |buffer: &graph::plan::BufferPlan| match buffer.kind {
        BufferKind::Inputs => Ok(inputs.block.address()),
        BufferKind::Outputs => Ok(outputs.block.address()),
        BufferKind::Arena | BufferKind::Region if buffer.bytes == 0 => Ok(0),
        BufferKind::Arena | BufferKind::Region => {
            let found = lent.iter().find(|(name, _)| *name == buffer.name);
            let memory = found.and_then(|(_, b)| b.as_any().downcast_ref::<DeviceMemory>());
            match memory {
                Some(memory) if memory.belongs_to(gpu) && memory.bytes() >= buffer.bytes => Ok(memory.address()),
                _ => Err(gpu.mismatch(format!("no memory of this GPU was lent for buffer `{}`", buffer.name))),
            }
        }
    };
    plan.buffers.iter().map(base).collect()
}

/// The whole step: inputs from the ring, the plan's launches, outputs to the ring.
fn build(gpu: &Rc<Gpu>, plan: &Plan, works: &[Work], begin: &Work, end: &Work) -> Result<Executable, Error> {
    let graph = Graph::new(gpu)?;
    let begin = begin.add(gpu, &graph, &[])?;
    let mut nodes = Vec::with_capacity(works.len());
    // Which launches the inputs' copy comes before, and which no launch waits for.
    let (mut begun, mut last) = (Vec::with_capacity(works.len()), vec![true; works.len()]);
    for (index, (launch, work)) in plan.launches.iter().zip(works).enumerate() {
        let reads_inputs = launch.places.iter().any(|(p, _)| plan.buffers[p.buffer].kind == BufferKind::Inputs);
        let follows = launch.after.iter().any(|&i| begun[i]);
        let mut dependencies: Vec<_> = launch.after.iter().map(|&i| nodes[i]).collect();
        if reads_inputs && !follows {
            dependencies.push(begin);
        }
        debug_assert!(launch.after.iter().all(|&i| i < index));
        launch.after.iter().for_each(|&i| last[i] = false);
        begun.push(reads_inputs || follows);
        nodes.push(work.add(gpu, &graph, &dependencies)?);
    }
    let mut dependencies: Vec<_> = nodes.iter().zip(&last).filter(|(_, last)| **last).map(|(node, _)| *node).collect();
    if !begun.contains(&true) {
        dependencies.push(begin);
    }
    end.add(gpu, &graph, &dependencies)?;
    Executable::new(gpu, &graph)
}
