//! New rows of k and v into a cache on the CPU: a part has some columns of every row, in the order of the tokens.
#![expect(unsafe_code, reason = "parts write columns of one matrix")]

use super::parts;
use crate::common::cpu::{input, pointer};
use bytemuck::Pod;
use graph::CpuArgs;

crate::by_architecture!(
    /// The kernel for an architecture.
    select,
    body::<u32>
);
crate::by_architecture!(
    /// The kernel of 16-bit elements for an architecture.
    select_narrow,
    body::<u16>
);

#[inline(always)]
fn body<T: Pod>(args: &CpuArgs, part: usize) {
    let [tokens, slots, width, columns] = *args.words else { unreachable!("the card gives four words") };
    let [tokens, slots, width, columns] = [tokens, slots, width, columns].map(|n| n as usize);
    let strip = width.div_ceil(parts(tokens, width));
    let (from, to) = (part * strip, width.min((part + 1) * strip));
    if from >= to {
        return;
    }
    let (qkv, mapping) = (input::<T>(args, 0), input::<u32>(args, 1));
    for (cache, first) in [(2, columns - 2 * width), (3, columns - width)] {
        let cache = pointer::<T>(args, cache);
        for (row, &slot) in qkv.chunks_exact(columns).zip(mapping) {
            let slot = slot as usize;
            if slot < slots {
                let row = &row[first + from..first + to];
                // SAFETY: the slot is in the cache, and these columns are this part's own.
                unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), cache.add(slot * width + from), row.len()) };
            }
        }
    }
}
