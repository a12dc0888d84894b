//! Elementwise ops on the CPU: one loop, vectorised by the compiler.
#![expect(unsafe_code, reason = "the output may lie in the first input's memory")]

use super::CPU_CHUNK;
use crate::common::cpu::{chunk, len, pointer};
use graph::CpuArgs;

/// One part of y[i] = f(a[i], b[i mod period], s), with one or two inputs.
#[inline(always)]
pub fn map(args: &CpuArgs, part: usize, inputs: usize, f: impl Fn(f32, f32, f32) -> f32) {
    let [_, period, s] = *args.words else { unreachable!("the card gives three words") };
    let s = f32::from_bits(s);
    let range = chunk(len::<f32>(args, inputs), CPU_CHUNK, part);
    let a: *const f32 = pointer(args, 0);
    let y: *mut f32 = pointer(args, inputs);
    let (b, period): (*const f32, usize) = if inputs == 2 { (pointer(args, 1), period as usize) } else { (a, 0) };
    // SAFETY: the card cuts parts so that `range` is in bounds and touched by no other part; b is read in bounds of its
    // period, and the planner lets no other tensor share the output's memory.
    unsafe {
        if period == 0 {
            range.for_each(|i| *y.add(i) = f(*a.add(i), 0.0, s));
        } else if period == len::<f32>(args, 2) {
            range.for_each(|i| *y.add(i) = f(*a.add(i), *b.add(i), s));
        } else {
            let mut i = range.start;
            while i < range.end {
                let column = i % period;
                let run = (period - column).min(range.end - i);
                (0..run).for_each(|j| *y.add(i + j) = f(*a.add(i + j), *b.add(column + j), s));
                i += run;
            }
        }
    }
}
