//! Launches: the closed list of what a device runs. An op's card lowers a call to launches; devices know nothing else.

use std::fmt;
use tensor::DType;

/// CUDA C++ text, compiled by NVRTC at run time.
#[derive(Debug)]
pub struct CudaSource {
    /// The file's name, for messages and the cache.
    pub name: &'static str,
    /// The whole text; it includes no header.
    pub text: &'static str,
}

/// A compute shader, compiled ahead of time by `tools/shaders`.
#[derive(Debug)]
pub struct Shader {
    /// Unique name; the SPIR-V lies in `crates/ops/spirv/<name>.spv`.
    pub name: &'static str,
    /// The GLSL file, relative to `crates/ops/src`.
    pub source: &'static str,
    /// Macros that it is compiled with.
    pub defines: &'static [(&'static str, &'static str)],
    /// The compiled module.
    pub spirv: &'static [u8],
}

/// Where a kernel's code comes from.
#[derive(Clone, Copy, Debug)]
pub enum KernelSource {
    /// Compiled when a plan is recorded.
    Cuda(&'static CudaSource),
    /// Compiled when Rondo was built.
    Vulkan(&'static Shader),
}

/// Which of a call's tensors an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// Input i, read.
    Input(usize),
    /// Output i, written; also read where the launch accumulates into it.
    Output(usize),
    /// Scratch i, read and written.
    Scratch(usize),
}

/// A GPU kernel. It is given the operands' addresses in order, then the words.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its code.
    pub source: KernelSource,
    /// The function: a `__global__` function's name, or `main` in a shader.
    pub entry: &'static str,
    /// Compile-time constants: `-DNAME=VALUE` for CUDA; specialization constants 1, 2, ... in this order for Vulkan,
    /// whose constant 0 is `threads`.
    pub constants: Vec<(&'static str, u32)>,
    /// Groups (blocks, workgroups) in x, y, z.
    pub groups: [u32; 3],
    /// Threads of a group.
    pub threads: u32,
    /// Dynamic shared memory (CUDA only).
    pub shared_bytes: u32,
    /// Parameter words.
    pub words: Vec<u32>,
    /// The tensors it touches.
    pub operands: Vec<Operand>,
}

/// The memory and words that a CPU kernel works on.
pub struct CpuArgs<'a> {
    /// Address and bytes of each operand, in order.
    pub operands: &'a [(*mut u8, usize)],
    /// Parameter words.
    pub words: &'a [u32],
}

/// A function of one part, over slices that no other part writes.
#[derive(Clone)]
pub struct CpuKernel {
    /// The kernel's name, for messages.
    pub name: &'static str,
    /// How many parts there are: set by shape alone, never by threads.
    pub parts: usize,
    /// Computes one part.
    pub run: fn(&CpuArgs, usize),
    /// Parameter words.
    pub words: Vec<u32>,
    /// The tensors it touches.
    pub operands: Vec<Operand>,
}

impl fmt::Debug for CpuKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuKernel")
            .field("name", &self.name)
            .field("parts", &self.parts)
            .field("words", &self.words)
            .field("operands", &self.operands)
            .finish()
    }
}

/// What a library matmul does after the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// d = a b.
    None,
    /// d = a b + bias, a row of n.
    Bias,
    /// d = d + a b.
    Accumulate,
}

/// A library's matrix product with f32 sums, row-major: d[m, n] = op(a)[m, k] op(b)[k, n], `batch` times at the given strides.
#[derive(Clone, Debug)]
pub struct Gemm {
    /// Element type of a, b, bias and d.
    pub dtype: DType,
    /// Rows of d.
    pub m: usize,
    /// Columns of d.
    pub n: usize,
    /// Terms of each sum.
    pub k: usize,
    /// Independent products.
    pub batch: usize,
    /// Elements between products of a, b and d.
    pub strides: [usize; 3],
    /// a is stored as [k, m].
    pub transpose_a: bool,
    /// b is stored as [n, k].
    pub transpose_b: bool,
    /// What follows the product.
    pub epilogue: Epilogue,
    /// a.
    pub a: Operand,
    /// b.
    pub b: Operand,
    /// The bias, with `Epilogue::Bias`.
    pub bias: Option<Operand>,
    /// d.
    pub d: Operand,
    /// Memory for the library, and its bytes.
    pub scratch: (Operand, u64),
}

/// One thing that a device runs.
#[derive(Clone, Debug)]
pub enum Launch {
    /// A GPU kernel.
    Kernel(Kernel),
    /// A CPU kernel.
    Cpu(CpuKernel),
    /// A library's matrix product.
    Gemm(Gemm),
    /// A copy between operands of equal size.
    Copy {
        /// Read.
        from: Operand,
        /// Written.
        to: Operand,
    },
    /// Every 32-bit word set to one value.
    Fill {
        /// Written.
        to: Operand,
        /// The value.
        word: u32,
    },
}

impl Launch {
    /// The tensors it touches, in the order in which a device is given their places.
    pub fn operands(&self) -> Vec<Operand> {
        match self {
            Launch::Kernel(k) => k.operands.clone(),
            Launch::Cpu(k) => k.operands.clone(),
            Launch::Gemm(g) => [g.a, g.b, g.d, g.scratch.0].into_iter().chain(g.bias).collect(),
            Launch::Copy { from, to } => vec![*from, *to],
            Launch::Fill { to, .. } => vec![*to],
        }
    }

    /// The same launch with each operand replaced.
    #[must_use]
    pub fn with_operands(mut self, replace: impl Fn(Operand) -> Operand) -> Self {
        let each = |operand: &mut Operand| *operand = replace(*operand);
        match &mut self {
            Launch::Kernel(k) => k.operands.iter_mut().for_each(each),
            Launch::Cpu(k) => k.operands.iter_mut().for_each(each),
            Launch::Gemm(g) => {
                [&mut g.a, &mut g.b, &mut g.d, &mut g.scratch.0].into_iter().chain(&mut g.bias).for_each(each);
            }
            Launch::Copy { from, to } => [from, to].into_iter().for_each(each),
            Launch::Fill { to, .. } => each(to),
        }
        self
    }

    /// A short name for listings.
    pub fn name(&self) -> &str {
        match self {
            Launch::Kernel(k) => match k.source {
                KernelSource::Cuda(_) => k.entry,
                KernelSource::Vulkan(s) => s.name,
            },
            Launch::Cpu(k) => k.name,
            Launch::Gemm(_) => "gemm",
            Launch::Copy { .. } => "copy",
            Launch::Fill { .. } => "fill",
        }
    }
}

/// A call as launches, and the scratch memory they share.
#[derive(Clone, Debug, Default)]
pub struct Lowering {
    /// Bytes of each scratch tensor.
    pub scratch: Vec<u64>,
    /// The launches, in order.
    pub launches: Vec<Launch>,
}

impl Lowering {
    /// One launch and no scratch.
    pub fn one(launch: Launch) -> Self {
        Lowering { scratch: Vec::new(), launches: vec![launch] }
    }
}
