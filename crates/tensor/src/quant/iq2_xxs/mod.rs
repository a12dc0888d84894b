//! IQ2_XXS: 8 groups of 32 numbers d (s + 1/2) / 4 from four codebook entries. d f16; a group: 4 entries, then a u32 of 4 x 7 signs and s.
#![forbid(unsafe_code)]

use super::codebook::{EVEN_SIGNS, IQ2_XXS, scaled, signed};
use super::{Format, chunk, decoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq2Xxs, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = half(block, 0);
    let (outs, _) = out.as_chunks_mut::<8>();
    for group in 0..8 {
        let at = 2 + 8 * group;
        let word = u32::from_le_bytes(*chunk(block, at + 4));
        let scale = d * (0.5 + (word >> 28) as f32) * 0.25;
        for eight in 0..4 {
            let signs = EVEN_SIGNS[(word >> (7 * eight) & 127) as usize];
            let values = signed(IQ2_XXS[usize::from(block[at + eight])], signs);
            scaled(values, scale, &mut outs[4 * group + eight]);
        }
    }
}
