//! Elementwise ops on the CPU: one loop, vectorised by the compiler.
#![expect(unsafe_code, reason = "the output may lie in the first input's memory")]

use super::CPU_CHUNK;
use crate::common::cpu::{Element, chunk, len, map_row, pointer};
use graph::CpuArgs;

/// One part of y[i] = f(a[i], b[i mod period], s), with one or two inputs.
#[inline(always)]
pub fn map<T: Element>(args: &CpuArgs, part: usize, inputs: usize, f: impl Fn(f32, f32, f32) -> f32) {
    let [_, period, s] = *args.words else { unreachable!("the card gives three words") };
    let (s, period) = (f32::from_bits(s), period as usize);
    let range = chunk(len::<T>(args, inputs), CPU_CHUNK, part);
    let a: *const T = pointer(args, 0);
    let y: *mut T = pointer(args, inputs);
    // SAFETY: the card cuts parts so that `range` is in bounds and touched by no other part; b is read in bounds of its
    // period, and the planner lets only the first input share the output's memory.
    unsafe {
        let (mut i, n) = (range.start, range.len());
        if inputs == 1 {
            return map_row(a.add(i), y.add(i), n, |_, a| f(a, 0.0, s));
        }
        let b: *const T = pointer(args, 1);
        if period == len::<T>(args, 2) {
            let b = b.add(i);
            return map_row(a.add(i), y.add(i), n, |j, a| f(a, (*b.add(j)).get(), s));
        }
        if period == 1 {
            let b = (*b).get();
            return map_row(a.add(i), y.add(i), n, |_, a| f(a, b, s));
        }
        while i < range.end {
            let run = (period - i % period).min(range.end - i);
            let b = b.add(i % period);
            map_row(a.add(i), y.add(i), run, |j, a| f(a, (*b.add(j)).get(), s));
            i += run;
        }
    }
}

/// f(a, b, s).
#[inline(always)]
pub fn apply(f: impl Fn(f32, f32, f32) -> f32, a: f32, b: f32, s: f32) -> f32 {
    f(a, b, s)
}
