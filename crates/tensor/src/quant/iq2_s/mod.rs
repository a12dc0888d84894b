//! IQ2_S: 16 groups of 16 numbers d (s + 1/2) / 4 from two codebook entries. d f16; 32 low bytes of entries; 32 bytes of signs; 8 of high bits; 8 of 4-bit s.
#![forbid(unsafe_code)]

use super::codebook::{IQ2_S, SIGNS, scaled, signed};
use super::{Format, chunk, decoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq2S, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 82], out: &mut [f32; 256]) {
    let d = half(block, 0);
    let (outs, _) = out.as_chunks_mut::<8>();
    for pair in 0..8 {
        let scales = [block[74 + pair] & 15, block[74 + pair] >> 4].map(|s| d * (0.5 + f32::from(s)) * 0.25);
        let (low, signs) = (chunk::<4>(block, 2 + 4 * pair), chunk::<4>(block, 34 + 4 * pair));
        let high = usize::from(block[66 + pair]);
        for eight in 0..4 {
            let entry = usize::from(low[eight]) | (high >> (2 * eight) & 3) << 8;
            let values = signed(IQ2_S[entry], SIGNS[usize::from(signs[eight])]);
            scaled(values, scales[eight / 2], &mut outs[4 * pair + eight]);
        }
    }
}
