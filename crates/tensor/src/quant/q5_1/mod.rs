//! Q5_1: 32 numbers d q + m. d and m f16; 32 fifth bits as a u32; 16 bytes of low halves as in Q4_0.
#![forbid(unsafe_code)]

use super::common::search::{affine, at_least, at_most, extremes, inverse, round};
use super::common::{Importance, put_half, put_halves};
use super::{Format, decoder, encoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q5_1, decode: decoder!(decode), encode: Some(encoder!(encode)) };

#[inline(always)]
fn decode(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    let fifth = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    let bit = |i: usize| (fifth >> i & 1) as u8 * 16;
    for i in 0..16 {
        out[i] = d * f32::from((block[8 + i] & 15) + bit(i)) + m;
        out[i + 16] = d * f32::from((block[8 + i] >> 4) + bit(i + 16)) + m;
    }
}

#[inline(always)]
fn encode(x: &[f32; 32], importance: Importance<'_, 32>, block: &mut [u8; 24]) {
    let (d, m) = match importance.columns {
        Some(_) => {
            let (d, m) = affine(x, &importance.weights(0, x, importance.mean_square, |_| 1.0), 31.0, 0.9);
            (d, -m)
        }
        None => {
            let (low, high) = extremes(x);
            ((high - low) / 31.0, low)
        }
    };
    let (d, m) = (put_half(block, 0, d), put_half(block, 2, m));
    let factor = inverse(d);
    let q: [u8; 32] = std::array::from_fn(|i| at_most(at_least(round((x[i] - m) * factor), 0.0), 31.0) as u8);
    let fifth = (0..32).fold(0u32, |bits, i| bits | u32::from(q[i] >> 4) << i);
    block[4..8].copy_from_slice(&fifth.to_le_bytes());
    put_halves(&mut block[8..], &q.map(|q| q & 15));
}
