//! Q6_K: 16 groups of 16 numbers d s (q - 32). 128 bytes of low bits, 64 of high bits, 16 signed s, d f16.
#![forbid(unsafe_code)]

use super::common::search::{at_most, inverse, largest, round, symmetric, whole_symmetric};
use super::common::{Importance, put_half, quantized};
use super::{Format, chunk, decoder, encoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q6_K, decode: decoder!(decode), encode: Some(encoder!(encode)) };

#[inline(always)]
fn decode(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half(block, 208);
    let scales = chunk::<16>(block, 192).map(|scale| d * f32::from(scale as i8));
    let (outs, _) = out.as_chunks_mut::<32>();
    let (pairs, _) = scales.as_chunks::<2>();
    for part in 0..2 {
        let (first, second) = (chunk::<32>(block, 64 * part), chunk::<32>(block, 64 * part + 32));
        let high = chunk::<32>(block, 128 + 32 * part);
        row::<0, 0>(first, high, &pairs[4 * part], &mut outs[4 * part]);
        row::<0, 2>(second, high, &pairs[4 * part + 1], &mut outs[4 * part + 1]);
        row::<4, 4>(first, high, &pairs[4 * part + 2], &mut outs[4 * part + 2]);
        row::<4, 6>(second, high, &pairs[4 * part + 3], &mut outs[4 * part + 3]);
    }
}

/// 32 numbers, two groups, whose codes begin at the same bits: constants, since shifts by a variable are slow on bytes.
#[inline(always)]
fn row<const LOW: u8, const HIGH: u8>(low: &[u8; 32], high: &[u8; 32], scales: &[f32; 2], out: &mut [f32; 32]) {
    let mut q = [0f32; 32];
    for i in 0..32 {
        let code = low[i] >> LOW & 15 | (high[i] >> HIGH & 3) << 4;
        q[i] = f32::from(code as i8 - 32);
    }
    for half in 0..2 {
        for i in 16 * half..16 * half + 16 {
            out[i] = scales[half] * q[i];
        }
    }
}

#[inline(always)]
fn encode(x: &[f32; 256], importance: Importance<'_, 256>, block: &mut [u8; 210]) {
    let (groups, _) = x.as_chunks::<16>();
    let (mut scales, mut all_weights) = ([0f32; 16], [[0f32; 16]; 16]);
    for group in 0..16 {
        let x = &groups[group];
        let weights = match importance.columns {
            Some(columns) => std::array::from_fn(|i| columns[16 * group + i]),
            None => x.map(|x| x * x),
        };
        scales[group] = symmetric(x, &weights, 32.0);
        all_weights[group] = weights;
    }
    let d = put_half(block, 208, largest(&scales) / -128.0);
    let factor = inverse(d);
    let mut all = [0u8; 256];
    for group in 0..16 {
        let scale = at_most(round(scales[group] * factor), 127.0);
        let scale = whole_symmetric(&groups[group], &all_weights[group], d, scale, 32.0, (-128.0, 127.0));
        block[192 + group] = scale as i8 as u8;
        let q = quantized(&groups[group], d * scale, -32.0, 31.0);
        for i in 0..16 {
            all[16 * group + i] = (q[i] + 32) as u8;
        }
    }
    for part in 0..2 {
        let q = &all[128 * part..128 * part + 128];
        for i in 0..64 {
            block[64 * part + i] = q[i] & 15 | q[64 + i] << 4;
        }
        for i in 0..32 {
            block[128 + 32 * part + i] = q[i] >> 4 | q[32 + i] >> 4 << 2 | q[64 + i] >> 4 << 4 | q[96 + i] >> 4 << 6;
        }
    }
}
