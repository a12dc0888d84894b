//! IQ2_XS: 16 groups of 16 numbers d (s + 1/2) / 4 from two codebook entries. d f16; 32 u16 of an entry and 7 signs; 8 bytes of 4-bit s.
#![forbid(unsafe_code)]

use super::codebook::{IQ2_XS, even_signs, iq2};
use super::{Format, decoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq2Xs, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 74], out: &mut [f32; 256]) {
    let d = half(block, 0);
    for eight in 0..32 {
        let word = u16::from_le_bytes([block[2 + 2 * eight], block[3 + 2 * eight]]);
        let group = eight / 2;
        let scale = d * (0.5 + f32::from(block[66 + group / 2] >> (group % 2 * 4) & 15)) * 0.25;
        let values = iq2(IQ2_XS[usize::from(word & 511)], even_signs(u32::from(word >> 9)));
        for i in 0..8 {
            out[8 * eight + i] = scale * values[i];
        }
    }
}
