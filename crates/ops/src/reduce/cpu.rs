//! Sums on the CPU: a part adds the rows of one block, for one strip of columns, or one chunk of all elements.

use super::COLUMNS;
use crate::common::cpu::{chunk, input, output, sum};
use graph::CpuArgs;

crate::by_architecture!(
    /// The kernel of row sums for an architecture.
    select,
    body
);
crate::by_architecture!(
    /// The kernel of the sum of all elements for an architecture.
    select_all,
    all
);

#[inline(always)]
fn body(args: &CpuArgs, part: usize) {
    let [rows, columns, block_rows] = *args.words else { unreachable!("the card gives three words") };
    let (rows, columns, block_rows) = (rows as usize, columns as usize, block_rows as usize);
    let strips = columns.div_ceil(COLUMNS);
    let (block, strip) = (part / strips, part % strips);
    let x = input::<f32>(args, 0);
    let (from, to) = (strip * COLUMNS, columns.min((strip + 1) * COLUMNS));
    let y = output::<f32>(args, 1, block * columns + from..block * columns + to);
    y.fill(0.0);
    for row in block * block_rows..rows.min((block + 1) * block_rows) {
        for (y, x) in y.iter_mut().zip(&x[row * columns + from..row * columns + to]) {
            *y += x;
        }
    }
}

#[inline(always)]
fn all(args: &CpuArgs, part: usize) {
    let [elements, size] = *args.words else { unreachable!("the card gives two words") };
    let range = chunk(elements as usize, size as usize, part);
    output::<f32>(args, 1, part..part + 1)[0] = sum(&input::<f32>(args, 0)[range], |x| x);
}
