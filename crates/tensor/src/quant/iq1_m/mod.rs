//! IQ1_M: 16 groups of 16 numbers d (2 s + 1) (c +- 1/8) from two codebook entries. 32 low bytes; 16 of high bits and signs; four u16 of four s and a quarter of d.
#![forbid(unsafe_code)]

use super::codebook::{IQ1_S, moved};
use super::{Format, chunk, decoder};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq1M, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 56], out: &mut [f32; 256]) {
    let words: [u16; 4] = std::array::from_fn(|i| u16::from_le_bytes(*chunk(block, 48 + 2 * i)));
    let bits = words.iter().enumerate().fold(0, |bits, (i, word)| bits | (word >> 12) << (4 * i));
    let d = half::f16::from_bits(bits).to_f32();
    let (outs, _) = out.as_chunks_mut::<8>();
    for group in 0..16 {
        let scale = d * f32::from(2 * (words[group / 4] >> (group % 4 * 3) & 7) + 1);
        for half in 0..2 {
            let eight = 2 * group + half;
            let high = block[32 + group] >> (4 * half) & 15;
            let delta = if high & 8 == 0 { 0.125 } else { -0.125 };
            let entry = usize::from(block[eight]) | usize::from(high & 7) << 8;
            moved(IQ1_S[entry], delta, scale, &mut outs[eight]);
        }
    }
}
