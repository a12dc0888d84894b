//! What one node of a graph does: a kernel, a copy, a fill or a product, added to a graph or queued by itself.

use super::driver::{Function, Gpu, STEP, step_constants};
use super::gemm::Product;
use super::handles::{Executable, Graph};
use crate::Error;
use cudarc::driver::sys;
use graph::{Kernel, KernelSource, Launch, Operand};
use std::ffi::c_void;
use std::ptr::{from_ref, null_mut};
use std::rc::Rc;

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

/// A launch over its operands' addresses; `bytes` is the size of the first operand.
pub fn work(gpu: &Rc<Gpu>, launch: &Launch, addresses: &[u64], bytes: u64) -> Result<Work, Error> {
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

/// A kernel over its operands' addresses.
pub fn call(gpu: &Rc<Gpu>, kernel: &Kernel, addresses: &[u64]) -> Result<Work, Error> {
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
    pub fn add(&self, gpu: &Gpu, graph: &Graph, dependencies: &[sys::CUgraphNode]) -> Result<sys::CUgraphNode, Error> {
        let mut node = null_mut();
        let (first, count) = (dependencies.as_ptr(), dependencies.len());
        match self {
            Work::Kernel(call) => {
                let mut arguments = call.pointers();
                let parameters = call.parameters(&mut arguments);
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
    /// As a graph's node takes it, with the places of its arguments.
    fn parameters(&self, arguments: &mut [*mut c_void]) -> sys::CUDA_KERNEL_NODE_PARAMS {
        sys::CUDA_KERNEL_NODE_PARAMS {
            func: self.function.0,
            gridDimX: self.groups[0],
            gridDimY: self.groups[1],
            gridDimZ: self.groups[2],
            blockDimX: self.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: self.shared_bytes,
            kernelParams: arguments.as_mut_ptr(),
            extra: null_mut(),
            kern: null_mut(),
            ctx: null_mut(),
        }
    }

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
    let graph = Graph(graph);
    launched?;
    gpu.check("cuStreamEndCapture", ended)?;
    Ok(graph)
}

/// A kernel of the device's own over operands' addresses, to be queued by itself.
pub fn prepare(gpu: &Rc<Gpu>, kernel: &Kernel, addresses: &[u64]) -> Result<Work, Error> {
    gpu.load([kernel].into_iter())?;
    call(gpu, kernel, addresses)
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
