//! IQ3_S: 8 groups of 32 numbers d (2 s + 1) from eight codebook entries. d f16; 64 low bytes of entries; 8 of high bits; 32 of signs; 4 of 4-bit s.
#![forbid(unsafe_code)]

use super::codebook::{IQ3_S, iq3, sign};
use super::{Format, decoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq3S, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half(block, 0);
    for four in 0..64 {
        let group = four / 8;
        let high = block[66 + group] >> (four % 8) & 1;
        let codes = iq3(IQ3_S[usize::from(block[2 + four]) | usize::from(high) << 8]);
        let scale = d * f32::from(1 + 2 * (block[106 + group / 2] >> (group % 2 * 4) & 15));
        let signs = block[74 + four / 2];
        for i in 0..4 {
            // The values are the odd numbers from 1 to 15.
            out[4 * four + i] = scale * (2 * codes[i] + 1) as f32 * sign(signs, four % 2 * 4 + i);
        }
    }
}
