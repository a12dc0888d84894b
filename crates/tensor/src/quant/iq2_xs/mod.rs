//! IQ2_XS: 16 groups of 16 numbers d (s + 1/2) / 4 from two codebook entries. d f16; 32 u16 of an entry and 7 signs; 8 bytes of 4-bit s.
#![forbid(unsafe_code)]

use super::codebook::{EVEN_SIGNS, IQ2_XS, scaled, signed};
use super::{Format, chunk, decoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq2Xs, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 74], out: &mut [f32; 256]) {
    let d = half(block, 0);
    let (outs, _) = out.as_chunks_mut::<8>();
    for pair in 0..8 {
        let scales = [block[66 + pair] & 15, block[66 + pair] >> 4].map(|s| d * (0.5 + f32::from(s)) * 0.25);
        for eight in 0..4 {
            let word = u16::from_le_bytes(*chunk(block, 2 + 8 * pair + 2 * eight));
            let values = signed(IQ2_XS[usize::from(word & 511)], EVEN_SIGNS[usize::from(word >> 9)]);
            scaled(values, scales[eight / 2], &mut outs[4 * pair + eight]);
        }
    }
}
