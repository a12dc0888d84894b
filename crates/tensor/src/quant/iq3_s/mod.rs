//! IQ3_S: 8 groups of 32 numbers d (2 s + 1) from eight codebook entries. d f16; 64 low bytes of entries; 8 of high bits; 32 of signs; 4 of 4-bit s.
#![forbid(unsafe_code)]

use super::codebook::{IQ3_S, SIGNS, pair, scaled, signed};
use super::{Format, chunk, decoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq3S, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half(block, 0);
    let (outs, _) = out.as_chunks_mut::<8>();
    for group in 0..8 {
        let scale = d * f32::from(1 + 2 * (block[106 + group / 2] >> (group % 2 * 4) & 15));
        let (low, signs) = (chunk::<8>(block, 2 + 8 * group), chunk::<4>(block, 74 + 4 * group));
        let high = usize::from(block[66 + group]);
        for eight in 0..4 {
            let [first, second] =
                [2 * eight, 2 * eight + 1].map(|four| IQ3_S[usize::from(low[four]) | (high >> four & 1) << 8]);
            let values = signed(pair(first, second), SIGNS[usize::from(signs[eight])]);
            scaled(values, scale, &mut outs[4 * group + eight]);
        }
    }
}
