//! Row sums on the CPU: a part adds the rows of one block, for one strip of columns.

use super::COLUMNS;
use crate::common::cpu::{input, output};
use graph::CpuArgs;

crate::by_architecture!(
    /// The kernel for an architecture.
    select,
    body
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
