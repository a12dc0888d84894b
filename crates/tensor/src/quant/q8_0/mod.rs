//! Q8_0: 32 numbers d q. d f16; 32 signed bytes.
#![forbid(unsafe_code)]

use super::common::{Importance, put_half, quantized, search::largest};
use super::{Format, decoder, encoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q8_0, decode: decoder!(decode), encode: Some(encoder!(encode)) };

#[inline(always)]
fn decode(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for i in 0..32 {
        out[i] = f32::from(block[2 + i] as i8) * d;
    }
}

#[inline(always)]
fn encode(x: &[f32; 32], _: Importance<'_, 32>, block: &mut [u8; 34]) {
    let d = put_half(block, 0, largest(x).abs() / 127.0);
    let q = quantized(x, d, -127.0, 127.0);
    for i in 0..32 {
        block[2 + i] = q[i] as u8;
    }
}
