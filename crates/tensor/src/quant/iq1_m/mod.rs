//! IQ1_M: 16 groups of 16 numbers d (2 s + 1) (c +- 1/8) from two codebook entries. 32 low bytes; 16 of high bits and signs; four u16 of four s and a quarter of d.
#![forbid(unsafe_code)]

use super::codebook::{IQ1_S, iq1};
use super::{Format, decoder};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq1M, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 56], out: &mut [f32; 256]) {
    let scales: [u16; 4] = std::array::from_fn(|i| u16::from_le_bytes([block[48 + 2 * i], block[49 + 2 * i]]));
    let bits = scales.iter().enumerate().fold(0, |bits, (i, word)| bits | (word >> 12) << (4 * i));
    let d = half::f16::from_bits(bits).to_f32();
    for eight in 0..32 {
        let high = block[32 + eight / 2] >> (eight % 2 * 4) & 15;
        let group = eight / 2;
        let scale = d * f32::from(2 * (scales[group / 4] >> (group % 4 * 3) & 7) + 1);
        let delta = if high & 8 == 0 { 0.125 } else { -0.125 };
        let values = iq1(IQ1_S[usize::from(block[eight]) | usize::from(high & 7) << 8]);
        for i in 0..8 {
            out[8 * eight + i] = scale * (values[i] + delta);
        }
    }
}
