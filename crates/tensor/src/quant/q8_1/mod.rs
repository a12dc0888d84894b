//! Q8_1: 32 numbers d q. d f16; s f16, which is d times the sum of the q; 32 signed bytes.
#![forbid(unsafe_code)]

use super::{Format, decoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q8_1, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 36], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for i in 0..32 {
        out[i] = f32::from(block[4 + i] as i8) * d;
    }
}
