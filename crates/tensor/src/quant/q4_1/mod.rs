//! Q4_1: 32 numbers d q + m. d and m f16; 16 bytes, each with number i in its low half and i + 16 in its high half.
#![forbid(unsafe_code)]

use super::common::search::{affine, at_least, at_most, extremes, inverse, round};
use super::common::{Importance, put_half, put_halves};
use super::{Format, decoder, encoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q4_1, decode: decoder!(decode), encode: Some(encoder!(encode)) };

#[inline(always)]
fn decode(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for i in 0..16 {
        out[i] = d * f32::from(block[4 + i] & 15) + m;
        out[i + 16] = d * f32::from(block[4 + i] >> 4) + m;
    }
}

#[inline(always)]
fn encode(x: &[f32; 32], importance: Importance<'_, 32>, block: &mut [u8; 20]) {
    let (d, m) = match importance.columns {
        Some(_) => {
            let (d, m) = affine(x, &importance.weights(0, x, importance.mean_square, |_| 1.0), 15.0, 0.9);
            (d, -m)
        }
        None => {
            let (low, high) = extremes(x);
            ((high - low) / 15.0, low)
        }
    };
    let (d, m) = (put_half(block, 0, d), put_half(block, 2, m));
    let factor = inverse(d);
    let q: [u8; 32] = std::array::from_fn(|i| at_most(at_least(round((x[i] - m) * factor), 0.0), 15.0) as u8);
    put_halves(&mut block[4..], &q);
}
