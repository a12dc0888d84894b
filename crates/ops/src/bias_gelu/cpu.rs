//! Bias and gelu on the CPU: a part adds and then transforms the piece of each row that it holds.
#![expect(unsafe_code, reason = "h may lie in x's memory")]

use super::CPU_CHUNK;
use crate::common::cpu::{Element, chunk, input, map_row, pointer};
use crate::common::math::erf;
use graph::CpuArgs;

crate::by_type_and_architecture!(
    /// The kernel for an architecture.
    select,
    body
);

#[inline(always)]
fn body<T: Element>(args: &CpuArgs, part: usize) {
    let [elements, columns] = *args.words else { unreachable!("the card gives two words") };
    let (elements, columns) = (elements as usize, columns as usize);
    let range = chunk(elements, CPU_CHUNK, part);
    let bias = input::<T>(args, 1);
    let (x, h, y): (*const T, *mut T, *mut T) = (pointer(args, 0), pointer(args, 2), pointer(args, 3));
    let mut i = range.start;
    while i < range.end {
        let column = i % columns;
        let run = (columns - column).min(range.end - i);
        let bias = &bias[column..column + run];
        // SAFETY: the run is in bounds and this part's alone; h may be x, y is apart from all.
        unsafe {
            map_row(x.add(i), h.add(i), run, |j, x| x + bias[j].get());
            map_row(h.add(i), y.add(i), run, |_, h| 0.5 * h * (1.0 + erf(h * std::f32::consts::FRAC_1_SQRT_2)));
        }
        i += run;
    }
}
