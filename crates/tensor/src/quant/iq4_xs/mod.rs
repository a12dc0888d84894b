//! IQ4_XS: 8 groups of 32 numbers d (s - 32) v[q]. d f16; high bits of s as a u16; 4 bytes of low bits; 128 bytes of q.
#![forbid(unsafe_code)]

use super::common::search::{at_least, at_most, inverse, largest, round};
use super::common::simd::lookup;
use super::common::{Importance, mean_square, put_half, put_halves};
use super::iq4_nl::{VALUES, nearest, scale};
use super::{Format, chunk, decoder, encoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq4Xs, decode: decoder!(decode), encode: Some(encoder!(encode)) };

#[inline(always)]
fn decode(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = half(block, 0);
    let high = u16::from_le_bytes([block[2], block[3]]);
    let (outs, _) = out.as_chunks_mut::<32>();
    for group in 0..8 {
        let low = block[4 + group / 2] >> (group % 2 * 4) & 15;
        let scale = (low | ((high >> (2 * group) & 3) as u8) << 4) as i8 - 32;
        let d = d * f32::from(scale);
        let values = lookup(&VALUES, chunk(block, 8 + group * 16));
        for i in 0..32 {
            outs[group][i] = d * f32::from(values[i]);
        }
    }
}

#[inline(always)]
fn encode(x: &[f32; 256], importance: Importance<'_, 256>, block: &mut [u8; 136]) {
    let spread = 2.0 * mean_square(x);
    let (groups, _) = x.as_chunks::<32>();
    let mut scales = [0f32; 8];
    for group in 0..8 {
        let x = &groups[group];
        scales[group] = scale(x, &importance.weights(32 * group, x, spread, |x| x * x));
    }
    let d = put_half(block, 0, largest(&scales) / -32.0);
    let factor = inverse(d);
    let mut high = 0u16;
    block[4..8].fill(0);
    for group in 0..8 {
        let scale = at_most(at_least(round(scales[group] * factor), -32.0), 31.0);
        let packed = (scale + 32.0) as u8;
        block[4 + group / 2] |= (packed & 15) << (group % 2 * 4);
        high |= u16::from(packed >> 4) << (2 * group);
        let factor = inverse(d * scale);
        put_halves(&mut block[8 + 16 * group..], &groups[group].map(|x| nearest(x * factor)));
    }
    block[2..4].copy_from_slice(&high.to_le_bytes());
}
