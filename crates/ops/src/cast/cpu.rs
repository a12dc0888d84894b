//! Casts on the CPU: loops without branches, which the compiler vectorises.

use super::CPU_CHUNK;
use crate::common::cpu::{Bf16, Element, F16, chunk, input, len, output};
use graph::CpuArgs;

crate::by_architecture!(
    /// From f32 to bf16.
    to_bf16,
    cast::<f32, Bf16>
);
crate::by_architecture!(
    /// From bf16 to f32.
    from_bf16,
    cast::<Bf16, f32>
);
crate::by_architecture!(
    /// From f32 to f16.
    to_f16,
    cast::<f32, F16>
);
crate::by_architecture!(
    /// From f16 to f32.
    from_f16,
    cast::<F16, f32>
);

#[inline(always)]
fn cast<A: Element, B: Element>(args: &CpuArgs, part: usize) {
    let range = chunk(len::<A>(args, 0), CPU_CHUNK, part);
    let from = &input::<A>(args, 0)[range.clone()];
    let to = output::<B>(args, 1, range);
    for (to, from) in to.iter_mut().zip(from) {
        *to = B::of(from.get());
    }
}
