//! IQ1_S: 8 groups of 32 numbers d (2 s + 1) (c +- 1/8) from four codebook entries. d f16; 32 low bytes of entries; a u16 a group of high bits, s and the sign.
#![forbid(unsafe_code)]

use super::codebook::{IQ1_S, moved};
use super::{Format, chunk, decoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq1S, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 50], out: &mut [f32; 256]) {
    let d = half(block, 0);
    let (outs, _) = out.as_chunks_mut::<8>();
    for group in 0..8 {
        let word = u16::from_le_bytes(*chunk(block, 34 + 2 * group));
        let scale = d * f32::from(2 * (word >> 12 & 7) + 1);
        let delta = if word & 0x8000 == 0 { 0.125 } else { -0.125 };
        for eight in 0..4 {
            let entry = u16::from(block[2 + 4 * group + eight]) | (word >> (3 * eight) & 7) << 8;
            moved(IQ1_S[usize::from(entry)], delta, scale, &mut outs[4 * group + eight]);
        }
    }
}
