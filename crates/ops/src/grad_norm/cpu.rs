//! The gradient norm on the CPU: a part squares one chunk in lanes that are added in a fixed order.

use super::CPU_CHUNK;
use crate::common::cpu::{chunk, input, output};
use graph::CpuArgs;

crate::by_architecture!(
    /// The kernel of the chunks for an architecture.
    select,
    chunks
);

/// Sums that are kept side by side.
const LANES: usize = 64;
/// Bits of infinity. Without their signs, bits order like the numbers, and what isn't finite is the greatest.
const INFINITE: u32 = 0x7f80_0000;

#[inline(always)]
fn chunks(args: &CpuArgs, part: usize) {
    let g = &input::<f32>(args, 0)[chunk(args.words[0] as usize, CPU_CHUNK, part)];
    let (mut sums, mut greatest) = ([0.0f32; LANES], [0u32; LANES]);
    let mut vectors = g.chunks_exact(LANES);
    for vector in &mut vectors {
        for j in 0..LANES {
            sums[j] += vector[j] * vector[j];
            greatest[j] = greatest[j].max(vector[j].to_bits() & 0x7fff_ffff);
        }
    }
    for (j, x) in vectors.remainder().iter().enumerate() {
        sums[j] += x * x;
        greatest[j] = greatest[j].max(x.to_bits() & 0x7fff_ffff);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for j in 0..half {
            sums[j] += sums[j + half];
        }
        half /= 2;
    }
    output::<f32>(args, 1, part..part + 1)[0] = sums[0];
    output::<u32>(args, 2, part..part + 1)[0] = match greatest.into_iter().fold(0, u32::max) < INFINITE {
        true => 0,
        false => (part * CPU_CHUNK + g.iter().rposition(|x| !x.is_finite()).map_or(0, |i| i + 1)) as u32,
    };
}

/// The norm, the flag and the last place from the chunks, in order; the sum in f64: there is one for thousands of
/// elements.
pub fn total(args: &CpuArgs, _: usize) {
    let sum: f64 = input::<f32>(args, 0).iter().map(|&s| f64::from(s)).sum();
    let end = input::<u32>(args, 1).iter().copied().fold(0, u32::max);
    output::<f32>(args, 2, 0..1)[0] = sum.sqrt() as f32;
    output::<u32>(args, 3, 0..1)[0] = u32::from(end == 0);
    output::<u32>(args, 4, 0..1)[0] = end.wrapping_sub(1);
}
