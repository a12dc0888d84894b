//! Q4_0: 32 numbers d (q - 8). d f16; 16 bytes, each with number i in its low half and i + 16 in its high half.
#![forbid(unsafe_code)]

use super::common::search::{largest, symmetric};
use super::common::{Importance, put_half, put_halves, quantized};
use super::{Format, decoder, encoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q4_0, decode: decoder!(decode), encode: Some(encoder!(encode)) };

#[inline(always)]
fn decode(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for i in 0..16 {
        out[i] = d * f32::from((block[2 + i] & 15) as i8 - 8);
        out[i + 16] = d * f32::from((block[2 + i] >> 4) as i8 - 8);
    }
}

#[inline(always)]
fn encode(x: &[f32; 32], importance: Importance<'_, 32>, block: &mut [u8; 18]) {
    let d = match importance.columns {
        Some(_) => symmetric(x, &importance.weights(0, x, importance.mean_square, |_| 1.0), 8.0),
        None => largest(x) / -8.0,
    };
    let d = put_half(block, 0, d);
    let q = quantized(x, d, -8.0, 7.0).map(|q| (q + 8) as u8);
    put_halves(&mut block[2..], &q);
}
