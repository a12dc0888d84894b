//! Q3_K: 16 groups of 16 numbers d (s - 32) (q - 4). 32 bytes of third bits; 64 of low bits; 12 of 6-bit s; d f16.
#![forbid(unsafe_code)]

use super::common::search::{at_least, at_most, inverse, round, sum, symmetric, whole_symmetric};
use super::common::{Importance, mean_square, put_half, quantized};
use super::{Format, chunk, decoder, encoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q3_K, decode: decoder!(decode), encode: Some(encoder!(encode)) };

#[inline(always)]
fn decode(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half(block, 108);
    let (outs, _) = out.as_chunks_mut::<32>();
    // Rows of 32 numbers, whose codes lie in the same bits; two groups each.
    for row in 0..8 {
        let (lows, thirds) = (chunk::<32>(block, 32 + row / 4 * 32), chunk::<32>(block, 0));
        let mut q = [0f32; 32];
        for i in 0..32 {
            let code = lows[i] >> (row % 4 * 2) & 3 | (thirds[i] >> row & 1) << 2;
            q[i] = f32::from(code as i8 - 4);
        }
        for half in 0..2 {
            let group = 2 * row + half;
            let scale_low = block[96 + group % 8] >> (group / 8 * 4) & 15;
            let scale_high = block[104 + group % 4] >> (group / 4 * 2) & 3;
            let scale = d * f32::from((scale_low | scale_high << 4) as i8 - 32);
            for i in 16 * half..16 * half + 16 {
                outs[row][i] = scale * q[i];
            }
        }
    }
}

#[inline(always)]
fn encode(x: &[f32; 256], importance: Importance<'_, 256>, block: &mut [u8; 110]) {
    let spread = 2.0 * mean_square(x);
    let (groups, _) = x.as_chunks::<16>();
    let (mut scales, mut sums, mut all_weights) = ([0f32; 16], [0f32; 16], [[0f32; 16]; 16]);
    for group in 0..16 {
        let x = &groups[group];
        let floor = 0.5 * mean_square(x);
        let weights = importance.weights(16 * group, x, spread, |x| floor + x * x);
        scales[group] = symmetric(x, &weights, 4.0);
        sums[group] = sum::<16>(|i| weights[i]);
        all_weights[group] = weights;
    }
    let d = put_half(block, 108, symmetric(&scales, &sums, 32.0));
    let factor = inverse(d);
    block[..108].fill(0);
    let mut all = [0u8; 256];
    for group in 0..16 {
        let scale = at_most(at_least(round(scales[group] * factor), -32.0), 31.0);
        let scale = whole_symmetric(&groups[group], &all_weights[group], d, scale, 4.0, (-32.0, 31.0));
        let packed = (scale + 32.0) as u8;
        block[96 + group % 8] |= (packed & 15) << (group / 8 * 4);
        block[104 + group % 4] |= packed >> 4 << (group / 4 * 2);
        let q = quantized(&groups[group], d * scale, -4.0, 3.0);
        for i in 0..16 {
            all[16 * group + i] = (q[i] + 4) as u8;
        }
    }
    for i in 0..32 {
        block[i] = (0..8).fold(0, |bits, third| bits | (all[32 * third + i] >> 2) << third);
    }
    for part in 0..2 {
        for i in 0..32 {
            let low = |shift: usize| (all[128 * part + 32 * shift + i] & 3) << (2 * shift);
            block[32 + 32 * part + i] = low(0) | low(1) | low(2) | low(3);
        }
    }
}
