//! One plan as one CUDA graph: explicit nodes, and the plan's own dependencies as edges.

use super::driver::{DeviceMemory, Function, Gpu, PinnedMemory, STEP, step_constants};
use super::gemm::Product;
use crate::{Buffer, Error, Memory, Replay, SLOTS, Ticket};
use cudarc::driver::sys;
use graph::plan::BufferKind;
use graph::{DeviceKind, Kernel, KernelSource, Launch, Operand, Plan};
use std::ffi::c_void;
use std::ptr::{from_ref, null_mut};
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

/// What one node does.
pub enum Work {
    Kernel(Call),
    Copy {
        from: u64,
        to: u64,
        bytes: usize,
    },
    Fill {
        to: u64,
        word: u32,
        words: usize,
    },
    Product(Product),
    /// A copy onto itself.
    Nothing,
}

/// A kernel with its arguments.
pub struct Call {
    function: Function,
    groups: [u32; 3],
    threads: u32,
    shared_bytes: u32,
    /// Addresses, then words in the lower halves.
    arguments: Vec<u64>,
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

/// A kernel of the device's own, for `vectors` vectors of 16 bytes.
pub fn own_kernel(entry: &'static str, operands: usize, words: Vec<u32>, vectors: u32) -> Kernel {
    Kernel {
        source: KernelSource::Cuda(&STEP),
        entry,
        constants: step_constants(),
        groups: [vectors.div_ceil(256).clamp(1, 1024), 1, 1],
        threads: 256,
        shared_bytes: 0,
        words,
        operands: (0..operands).map(Operand::Scratch).collect(),
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

/// A launch over its operands' addresses; `bytes` is the size of the first operand.
fn work(gpu: &Rc<Gpu>, launch: &Launch, addresses: &[u64], bytes: u64) -> Result<Work, Error> {
    match (launch, addresses) {
        (Launch::Kernel(kernel), _) => call(gpu, kernel, addresses),
        (Launch::Gemm(gemm), _) => Ok(Work::Product(Product::plan(gpu, gemm, addresses)?)),
        (Launch::Copy { .. }, &[from, to]) if from == to => Ok(Work::Nothing),
        (Launch::Copy { .. }, &[from, to]) if (from | to | bytes).is_multiple_of(16) && bytes < 64 << 30 => {
            let vectors = (bytes / 16) as u32;
            let copy = own_kernel("step_copy", 2, vec![vectors], vectors);
            call(gpu, &copy, &[from, to])
        }
        (Launch::Copy { .. }, &[from, to]) => Ok(Work::Copy { from, to, bytes: bytes as usize }),
        (Launch::Fill { word, .. }, &[to]) => Ok(Work::Fill { to, word: *word, words: bytes as usize / 4 }),
        _ => Err(gpu.mismatch(format!("`{}` is no launch for CUDA", launch.name()))),
    }
}

fn call(gpu: &Rc<Gpu>, kernel: &Kernel, addresses: &[u64]) -> Result<Work, Error> {
    if kernel.operands.len() != addresses.len() {
        let what = format!("`{}` has {} operands and {} places", kernel.entry, kernel.operands.len(), addresses.len());
        return Err(gpu.mismatch(what));
    }
    Ok(Work::Kernel(Call {
        function: gpu.function(kernel)?,
        groups: kernel.groups,
        threads: kernel.threads,
        shared_bytes: kernel.shared_bytes,
        arguments: addresses.iter().copied().chain(kernel.words.iter().map(|w| u64::from(*w))).collect(),
    }))
}

impl Work {
    /// Adds it to a graph, after `dependencies`.
    fn add(&self, gpu: &Gpu, graph: &Graph, dependencies: &[sys::CUgraphNode]) -> Result<sys::CUgraphNode, Error> {
        let mut node = null_mut();
        let (first, count) = (dependencies.as_ptr(), dependencies.len());
        match self {
            Work::Kernel(call) => {
                let mut arguments = call.pointers();
                let parameters = sys::CUDA_KERNEL_NODE_PARAMS {
                    func: call.function.0,
                    gridDimX: call.groups[0],
                    gridDimY: call.groups[1],
                    gridDimZ: call.groups[2],
                    blockDimX: call.threads,
                    blockDimY: 1,
                    blockDimZ: 1,
                    sharedMemBytes: call.shared_bytes,
                    kernelParams: arguments.as_mut_ptr(),
                    extra: null_mut(),
                    kern: null_mut(),
                    ctx: null_mut(),
                };
                // SAFETY: the function takes as many bytes of arguments as there are; they are copied.
                let result = unsafe { sys::cuGraphAddKernelNode_v2(&mut node, graph.0, first, count, &parameters) };
                gpu.check("cuGraphAddKernelNode", result)?;
            }
            Work::Copy { from, to, bytes } => {
                let parameters = linear_copy(*from, *to, *bytes);
                let context = gpu.context();
                // SAFETY: the planner placed both ranges.
                let result =
                    unsafe { sys::cuGraphAddMemcpyNode(&mut node, graph.0, first, count, &parameters, context) };
                gpu.check("cuGraphAddMemcpyNode", result)?;
            }
            Work::Fill { to, word, words } => {
                let parameters = sys::CUDA_MEMSET_NODE_PARAMS {
                    dst: *to,
                    pitch: words * 4,
                    value: *word,
                    elementSize: 4,
                    width: *words,
                    height: 1,
                };
                let context = gpu.context();
                // SAFETY: the planner placed the range.
                let result =
                    unsafe { sys::cuGraphAddMemsetNode(&mut node, graph.0, first, count, &parameters, context) };
                gpu.check("cuGraphAddMemsetNode", result)?;
            }
            Work::Product(product) => {
                let child = capture(gpu, product)?;
                // SAFETY: the child was made for this; it is copied.
                let result = unsafe { sys::cuGraphAddChildGraphNode(&mut node, graph.0, first, count, child.0) };
                gpu.check("cuGraphAddChildGraphNode", result)?;
            }
            Work::Nothing => {
                // SAFETY: the dependencies are nodes of this graph.
                let result = unsafe { sys::cuGraphAddEmptyNode(&mut node, graph.0, first, count) };
                gpu.check("cuGraphAddEmptyNode", result)?;
            }
        }
        Ok(node)
    }

    /// Queues it by itself.
    pub fn launch(&self, gpu: &Gpu) -> Result<(), Error> {
        match self {
            Work::Kernel(call) => {
                let ([x, y, z], mut arguments) = (call.groups, call.pointers());
                // SAFETY: the function takes as many bytes of arguments as there are; they are copied.
                let result = unsafe {
                    let (function, shared) = (call.function.0, call.shared_bytes);
                    let (threads, arguments) = (call.threads, arguments.as_mut_ptr());
                    sys::cuLaunchKernel(function, x, y, z, threads, 1, 1, shared, gpu.stream, arguments, null_mut())
                };
                gpu.check("cuLaunchKernel", result)
            }
            // SAFETY: the planner placed both ranges.
            Work::Copy { from, to, bytes } => {
                gpu.check("cuMemcpyDtoDAsync", unsafe { sys::cuMemcpyDtoDAsync_v2(*to, *from, *bytes, gpu.stream) })
            }
            // SAFETY: the planner placed the range.
            Work::Fill { to, word, words } => {
                gpu.check("cuMemsetD32Async", unsafe { sys::cuMemsetD32Async(*to, *word, *words, gpu.stream) })
            }
            Work::Product(product) => product.launch(gpu, gpu.stream),
            Work::Nothing => Ok(()),
        }
    }
}

impl Call {
    /// Where the driver finds each argument.
    fn pointers(&self) -> Vec<*mut c_void> {
        self.arguments.iter().map(|argument| from_ref(argument).cast_mut().cast()).collect()
    }
}

/// A copy of one row of `bytes` bytes.
fn linear_copy(from: u64, to: u64, bytes: usize) -> sys::CUDA_MEMCPY3D {
    let kind = sys::CUmemorytype_enum::CU_MEMORYTYPE_DEVICE;
    sys::CUDA_MEMCPY3D {
        srcXInBytes: 0,
        srcY: 0,
        srcZ: 0,
        srcLOD: 0,
        srcMemoryType: kind,
        srcHost: std::ptr::null(),
        srcDevice: from,
        srcArray: null_mut(),
        reserved0: null_mut(),
        srcPitch: bytes,
        srcHeight: 1,
        dstXInBytes: 0,
        dstY: 0,
        dstZ: 0,
        dstLOD: 0,
        dstMemoryType: kind,
        dstHost: null_mut(),
        dstDevice: to,
        dstArray: null_mut(),
        reserved1: null_mut(),
        dstPitch: bytes,
        dstHeight: 1,
        WidthInBytes: bytes,
        Height: 1,
        Depth: 1,
    }
}

/// A product's kernels as a graph of their own.
fn capture(gpu: &Gpu, product: &Product) -> Result<Graph, Error> {
    // The library may load its kernels now, which is no work of the stream.
    let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED;
    // SAFETY: the stream lives and isn't capturing.
    gpu.check("cuStreamBeginCapture", unsafe { sys::cuStreamBeginCapture_v2(gpu.stream, mode) })?;
    let launched = product.launch(gpu, gpu.stream);
    let mut graph = null_mut();
    // SAFETY: the capture began above.
    let ended = unsafe { sys::cuStreamEndCapture(gpu.stream, &mut graph) };
    launched?;
    gpu.check("cuStreamEndCapture", ended)?;
    Ok(Graph(graph))
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

/// A graph being built.
struct Graph(sys::CUgraph);

impl Graph {
    fn new(gpu: &Gpu) -> Result<Graph, Error> {
        let mut handle = null_mut();
        // SAFETY: the place is for a handle.
        gpu.check("cuGraphCreate", unsafe { sys::cuGraphCreate(&mut handle, 0) })?;
        Ok(Graph(handle))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by the driver for this owner.
        unsafe { sys::cuGraphDestroy(self.0) };
    }
}

/// A graph ready to be launched.
pub struct Executable {
    handle: sys::CUgraphExec,
    gpu: Rc<Gpu>,
}

impl Executable {
    fn new(gpu: &Rc<Gpu>, graph: &Graph) -> Result<Executable, Error> {
        let mut handle = null_mut();
        // SAFETY: the graph lives; the place is for a handle.
        let result = unsafe { sys::cuGraphInstantiateWithFlags(&mut handle, graph.0, 0) };
        gpu.check("cuGraphInstantiate", result)?;
        Ok(Executable { handle, gpu: Rc::clone(gpu) })
    }

    /// A chain of `length` shortest launches, to be timed.
    pub fn chain(gpu: &Rc<Gpu>, length: usize) -> Result<Executable, Error> {
        let nothing = Kernel { threads: 32, ..own_kernel("step_nothing", 0, vec![0], 0) };
        gpu.load([&nothing].into_iter())?;
        let (work, graph) = (call(gpu, &nothing, &[])?, Graph::new(gpu)?);
        let mut last = Vec::new();
        for _ in 0..length {
            last = vec![work.add(gpu, &graph, &last)?];
        }
        Executable::new(gpu, &graph)
    }

    /// Queues one run of it.
    pub fn launch(&self) -> Result<(), Error> {
        // SAFETY: graph and stream live.
        self.gpu.check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(self.handle, self.gpu.stream) })
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        let _ = self.gpu.enter();
        let _ = self.gpu.synchronize();
        // SAFETY: made by `new`, and no run of it is queued.
        unsafe { sys::cuGraphExecDestroy(self.handle) };
    }
}

/// A mark in the stream.
pub struct Event(sys::CUevent);

impl Event {
    /// An event, with a time or without.
    pub fn new(gpu: &Gpu, timed: bool) -> Result<Event, Error> {
        let mut handle = null_mut();
        let flags = if timed { 0 } else { sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32 };
        // SAFETY: the place is for a handle.
        gpu.check("cuEventCreate", unsafe { sys::cuEventCreate(&mut handle, flags) })?;
        Ok(Event(handle))
    }

    /// Marks what was queued so far.
    pub fn record(&self, gpu: &Gpu) -> Result<(), Error> {
        // SAFETY: event and stream live.
        gpu.check("cuEventRecord", unsafe { sys::cuEventRecord(self.0, gpu.stream) })
    }

    /// Seconds from this mark to a later one, both reached.
    pub fn seconds_until(&self, gpu: &Gpu, later: &Event) -> Result<f64, Error> {
        let mut milliseconds = 0.0;
        // SAFETY: both are timed and recorded.
        let result = unsafe { sys::cuEventElapsedTime_v2(&mut milliseconds, self.0, later.0) };
        gpu.check("cuEventElapsedTime", result)?;
        Ok(f64::from(milliseconds) * 1e-3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `new`.
        unsafe { sys::cuEventDestroy_v2(self.0) };
    }
}

/// A kernel of the device's own over operands' addresses, to be queued by itself.
pub fn prepare(gpu: &Rc<Gpu>, kernel: &Kernel, addresses: &[u64]) -> Result<Work, Error> {
    gpu.load([kernel].into_iter())?;
    call(gpu, kernel, addresses)
}
