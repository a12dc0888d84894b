//! IQ3_XXS: 8 groups of 32 numbers d (s + 1/2) / 2 from eight codebook entries. d f16; 64 entries; a u32 a group of 4 x 7 signs and s.
#![forbid(unsafe_code)]

use super::codebook::{EVEN_SIGNS, IQ3_XXS, pair, scaled, signed};
use super::{Format, chunk, decoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq3Xxs, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 98], out: &mut [f32; 256]) {
    let d = half(block, 0);
    let (outs, _) = out.as_chunks_mut::<8>();
    for group in 0..8 {
        let word = u32::from_le_bytes(*chunk(block, 66 + 4 * group));
        let scale = d * (0.5 + (word >> 28) as f32) * 0.5;
        for eight in 4 * group..4 * group + 4 {
            let [first, second] = chunk::<2>(block, 2 + 2 * eight).map(|entry| IQ3_XXS[usize::from(entry)]);
            let signs = EVEN_SIGNS[(word >> (eight % 4 * 7) & 127) as usize];
            scaled(signed(pair(first, second), signs), scale, &mut outs[eight]);
        }
    }
}
