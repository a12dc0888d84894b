//! SwiGLU on the CPU: a part computes the piece of each row that it holds.
#![expect(unsafe_code, reason = "the gradient may lie in gate_up's memory")]

use super::CPU_CHUNK;
use crate::common::cpu::{Element, chunk, input, output, pointer};
use crate::common::math::exp;
use graph::CpuArgs;
use std::ops::Range;

crate::by_type_and_architecture!(
    /// The forward kernel for an architecture.
    select,
    forward
);
crate::by_type_and_architecture!(
    /// The backward kernel for an architecture.
    select_backward,
    backward
);

/// Elements that are held apart while the gradient takes their place.
const BLOCK: usize = 256;

/// The pieces of a part, of at most BLOCK elements of one row each: where they are in y, and in gate_up.
#[inline(always)]
fn pieces(args: &CpuArgs, part: usize) -> (usize, impl Iterator<Item = (Range<usize>, usize)>) {
    let [elements, n] = *args.words else { unreachable!("the card gives two words") };
    let n = n as usize;
    let Range { mut start, end } = chunk(elements as usize, CPU_CHUNK, part);
    let next = move || {
        (start < end).then(|| {
            let (row, column) = (start / n, start % n);
            let piece = start..start + BLOCK.min(n - column).min(end - start);
            start = piece.end;
            (piece, row * 2 * n + column)
        })
    };
    (n, std::iter::from_fn(next))
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn forward<T: Element>(args: &CpuArgs, part: usize) {
    let gate_up = input::<T>(args, 0);
    let (n, pieces) = pieces(args, part);
    for (piece, at) in pieces {
        let count = piece.len();
        let y = output::<T>(args, 1, piece);
        let (g, u) = (&gate_up[at..at + count], &gate_up[at + n..at + n + count]);
        for ((y, g), u) in y.iter_mut().zip(g).zip(u) {
            let (g, u) = (g.get(), u.get());
            *y = T::of(g / (1.0 + exp(-g)) * u);
        }
    }
}

#[inline(always)]
fn backward<T: Element>(args: &CpuArgs, part: usize) {
    let (gate_up, d): (*const T, *mut T) = (pointer(args, 0), pointer(args, 2));
    let dy = input::<T>(args, 1);
    let (n, pieces) = pieces(args, part);
    for (piece, at) in pieces {
        let count = piece.len();
        let dy = &dy[piece];
        let (mut g, mut u) = ([T::of(0.0); BLOCK], [T::of(0.0); BLOCK]);
        // SAFETY: both pieces are in bounds and this part's alone; d is gate_up or apart from it, and what is there is read
        // before it is written.
        let (dg, du) = unsafe {
            std::ptr::copy_nonoverlapping(gate_up.add(at), g.as_mut_ptr(), count);
            std::ptr::copy_nonoverlapping(gate_up.add(at + n), u.as_mut_ptr(), count);
            let slice = |at| std::slice::from_raw_parts_mut(d.add(at), count);
            (slice(at), slice(at + n))
        };
        for j in 0..count {
            let (g, u) = (g[j].get(), u[j].get());
            let s = sigmoid(g);
            let through = dy[j].get() * s;
            dg[j] = T::of(through * u * (1.0 + g * (1.0 - s)));
            du[j] = T::of(through * g);
        }
    }
}
