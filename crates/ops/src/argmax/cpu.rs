//! The largest element's column on the CPU: lanes of columns first, then the lanes.

use super::ROWS;
use crate::common::cpu::{input, output};
use graph::CpuArgs;

/// Columns that are searched side by side.
const LANES: usize = 64;

crate::by_architecture!(
    /// The kernel for an architecture.
    select,
    body
);

#[inline(always)]
fn body(args: &CpuArgs, part: usize) {
    let [rows, n] = *args.words else { unreachable!("the card gives two words") };
    let (rows, n) = (rows as usize, n as usize);
    let x = input::<f32>(args, 0);
    let from = part * ROWS;
    let y = output::<u32>(args, 1, from..rows.min(from + ROWS));
    for (y, row) in y.iter_mut().zip(x[from * n..].chunks(n)) {
        *y = search(row);
    }
}

#[inline(always)]
fn search(row: &[f32]) -> u32 {
    let (mut best, mut at) = ([f32::NEG_INFINITY; LANES], [u32::MAX; LANES]);
    for (block, columns) in row.chunks(LANES).enumerate() {
        for (lane, &x) in columns.iter().enumerate() {
            if x > best[lane] {
                (best[lane], at[lane]) = (x, (block * LANES + lane) as u32);
            }
        }
    }
    let mut winner = (f32::NEG_INFINITY, u32::MAX);
    for lane in 0..LANES {
        if best[lane] > winner.0 || (best[lane] == winner.0 && at[lane] < winner.1) {
            winner = (best[lane], at[lane]);
        }
    }
    // Where nothing is above -infinity the first column is the answer.
    if winner.1 == u32::MAX { 0 } else { winner.1 }
}
