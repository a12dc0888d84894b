//! What several ops share: memory access and math on CPU, device code, and short forms for cards.

pub mod cpu;
pub mod math;

use graph::{CpuArgs, CpuKernel, Kernel, KernelSource, Launch, Operand};

/// `Input(0)`, ..., `Input(inputs - 1)`, `Output(0)`, ..., `Output(outputs - 1)`: the usual operands of a kernel.
pub fn operands(inputs: usize, outputs: usize) -> Vec<Operand> {
    (0..inputs).map(Operand::Input).chain((0..outputs).map(Operand::Output)).collect()
}

/// A CPU launch.
pub fn cpu(
    name: &'static str,
    run: fn(&CpuArgs, usize),
    parts: usize,
    words: Vec<u32>,
    operands: Vec<Operand>,
) -> Launch {
    Launch::Cpu(CpuKernel { name, parts, run, words, operands })
}

/// Groups in x that every Vulkan device takes; kernels that may need more go on in strides.
pub const MOST_GROUPS: usize = 65_535;

/// A GPU launch with no constants and no dynamic shared memory.
pub fn gpu(
    source: KernelSource,
    entry: &'static str,
    groups: [usize; 3],
    threads: u32,
    words: Vec<u32>,
    operands: Vec<Operand>,
) -> Launch {
    let groups = groups.map(|n| u32::try_from(n).expect("a launch's groups fit 32 bits"));
    Launch::Kernel(Kernel { source, entry, constants: Vec::new(), groups, threads, shared_bytes: 0, words, operands })
}
