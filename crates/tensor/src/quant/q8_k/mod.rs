//! Q8_K: 256 numbers d q. d f32; 256 signed bytes; the sums of each 16 of them as i16.
#![forbid(unsafe_code)]

use super::{Format, decoder};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q8_K, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 292], out: &mut [f32; 256]) {
    let d = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    for i in 0..256 {
        out[i] = d * f32::from(block[4 + i] as i8);
    }
}
