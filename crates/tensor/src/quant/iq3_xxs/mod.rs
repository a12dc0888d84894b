//! IQ3_XXS: 8 groups of 32 numbers d (s + 1/2) / 2 from eight codebook entries. d f16; 64 entries; a u32 a group of 4 x 7 signs and s.
#![forbid(unsafe_code)]

use super::codebook::{IQ3_XXS, even_signs, iq3, sign};
use super::{Format, decoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq3Xxs, decode: decoder!(decode), encode: None };

/// What the codes of an entry mean.
const VALUES: [f32; 8] = [4.0, 12.0, 20.0, 28.0, 36.0, 44.0, 52.0, 62.0];

#[inline(always)]
fn decode(block: &[u8; 98], out: &mut [f32; 256]) {
    let d = half(block, 0);
    for group in 0..8 {
        let at = 66 + 4 * group;
        let word = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        let scale = d * (0.5 + (word >> 28) as f32) * 0.5;
        for four in 0..8 {
            let codes = iq3(IQ3_XXS[usize::from(block[2 + 8 * group + four])]);
            let signs = even_signs(word >> (7 * (four / 2)));
            for i in 0..4 {
                out[32 * group + 4 * four + i] = scale * VALUES[codes[i]] * sign(signs, four % 2 * 4 + i);
            }
        }
    }
}
