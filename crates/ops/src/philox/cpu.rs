//! Philox on the CPU: a part draws its blocks of four.

use super::CPU_CHUNK;
use crate::common::cpu::{chunk, input, output};
use graph::CpuArgs;
use tensor::rng::{philox4x32, unit};

crate::by_architecture!(
    /// The kernel for an architecture.
    select,
    body
);

#[inline(always)]
fn body(args: &CpuArgs, part: usize) {
    let [n, key_low, key_high, low, high] = *args.words else { unreachable!("the card gives five words") };
    let (low, high) = (f32::from_bits(low), f32::from_bits(high));
    let step = input::<u32>(args, 0)[0];
    let range = chunk(n as usize, CPU_CHUNK, part);
    let first = range.start / 4;
    for (block, out) in output::<f32>(args, 1, range).chunks_mut(4).enumerate() {
        let words = philox4x32([(first + block) as u32, 0, step, 0], [key_low, key_high]);
        for (y, word) in out.iter_mut().zip(words) {
            *y = low + (high - low) * unit(word);
        }
    }
}
