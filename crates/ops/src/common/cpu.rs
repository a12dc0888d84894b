//! How CPU kernels reach their operands, and how they are compiled for each instruction set.
#![expect(unsafe_code, reason = "operands are raw memory that other parts write too")]

use bytemuck::Pod;
use graph::CpuArgs;
use std::ops::Range;

/// Operand `i` as elements that no part of this launch writes.
pub fn input<'a, T: Pod>(args: &CpuArgs<'a>, i: usize) -> &'a [T] {
    let (pointer, bytes) = args.operands[i];
    // SAFETY: the planner placed the operand, aligned; a card uses `input` only where it allows no sharing with an output.
    unsafe { std::slice::from_raw_parts(pointer.cast(), bytes / size_of::<T>()) }
}

/// Elements `range` of operand `i`, which only this part of the launch touches.
#[expect(clippy::mut_from_ref, reason = "parts are disjoint by the card's contract")]
pub fn output<'a, T: Pod>(args: &CpuArgs<'a>, i: usize, range: Range<usize>) -> &'a mut [T] {
    let (pointer, bytes) = args.operands[i];
    assert!(range.start <= range.end && range.end * size_of::<T>() <= bytes);
    // SAFETY: in bounds by the assertion; the card cuts parts so that no two touch the same elements.
    unsafe { std::slice::from_raw_parts_mut(pointer.cast::<T>().add(range.start), range.len()) }
}

/// The address of operand `i`, for kernels whose output may lie in an input's memory.
pub fn pointer<T: Pod>(args: &CpuArgs, i: usize) -> *mut T {
    args.operands[i].0.cast()
}

/// Copies elements from `start` on to `to`; both may be the same memory.
pub fn copy_row(from: *const f32, start: usize, to: &mut [f32]) {
    // SAFETY: the card cuts parts so that the row is in bounds; `copy` allows that it is `to` itself.
    unsafe { std::ptr::copy(from.add(start), to.as_mut_ptr(), to.len()) };
}

/// The number of elements of operand `i`.
pub fn len<T: Pod>(args: &CpuArgs, i: usize) -> usize {
    args.operands[i].1 / size_of::<T>()
}

/// Part `part` of `len` elements cut every `chunk`.
pub fn chunk(len: usize, chunk: usize, part: usize) -> Range<usize> {
    part * chunk..len.min((part + 1) * chunk)
}

/// `by_architecture!(select, body)` makes `select(architecture)`: the `#[inline(always)]` function `body` compiled for
/// AVX-512, AVX2 and the build's own instruction set.
#[macro_export]
macro_rules! by_architecture {
    ($(#[$doc:meta])* $select:ident, $body:path) => {
        $(#[$doc])*
        #[expect(unsafe_code, reason = "a function compiled for an instruction set is unsafe to take as a plain one")]
        pub fn $select(architecture: &str) -> fn(&graph::CpuArgs, usize) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
                fn avx512(args: &graph::CpuArgs, part: usize) {
                    $body(args, part)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2(args: &graph::CpuArgs, part: usize) {
                    $body(args, part)
                }
                match architecture {
                    // SAFETY: the device reports an architecture only after detecting its features.
                    "avx512" => return |args, part| unsafe { avx512(args, part) },
                    // SAFETY: as above.
                    "avx2" => return |args, part| unsafe { avx2(args, part) },
                    _ => {}
                }
            }
            |args, part| $body(args, part)
        }
    };
}
