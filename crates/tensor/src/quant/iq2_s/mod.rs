//! IQ2_S: 16 groups of 16 numbers d (s + 1/2) / 4 from two codebook entries. d f16; 32 low bytes of entries; 32 bytes of signs; 8 of high bits; 8 of 4-bit s.
#![forbid(unsafe_code)]

use super::codebook::{IQ2_S, iq2};
use super::{Format, decoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq2S, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 82], out: &mut [f32; 256]) {
    let d = half(block, 0);
    for eight in 0..32 {
        let high = block[66 + eight / 4] >> (eight % 4 * 2) & 3;
        let group = eight / 2;
        let scale = d * (0.5 + f32::from(block[74 + group / 2] >> (group % 2 * 4) & 15)) * 0.25;
        let entry = usize::from(block[2 + eight]) | usize::from(high) << 8;
        let values = iq2(IQ2_S[entry], block[34 + eight]);
        for i in 0..8 {
            out[8 * eight + i] = scale * values[i];
        }
    }
}
