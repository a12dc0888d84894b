//! Q5_0: 32 numbers d (q - 16). d f16; 32 fifth bits as a u32; 16 bytes of low halves as in Q4_0.
#![forbid(unsafe_code)]

use super::common::search::{largest, symmetric};
use super::common::{Importance, put_half, put_halves, quantized};
use super::{Format, decoder, encoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q5_0, decode: decoder!(decode), encode: Some(encoder!(encode)) };

#[inline(always)]
fn decode(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half(block, 0);
    let fifth = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    let bit = |i: usize| (fifth >> i & 1) as i8 * 16;
    for i in 0..16 {
        out[i] = d * f32::from((block[6 + i] & 15) as i8 + bit(i) - 16);
        out[i + 16] = d * f32::from((block[6 + i] >> 4) as i8 + bit(i + 16) - 16);
    }
}

#[inline(always)]
fn encode(x: &[f32; 32], importance: Importance<'_, 32>, block: &mut [u8; 22]) {
    let d = match importance.columns {
        Some(_) => symmetric(x, &importance.weights(0, x, importance.mean_square, |_| 1.0), 16.0),
        None => largest(x) / -16.0,
    };
    let d = put_half(block, 0, d);
    let q = quantized(x, d, -16.0, 15.0).map(|q| (q + 16) as u8);
    let fifth = (0..32).fold(0u32, |bits, i| bits | u32::from(q[i] >> 4) << i);
    block[2..6].copy_from_slice(&fifth.to_le_bytes());
    put_halves(&mut block[6..], &q.map(|q| q & 15));
}
