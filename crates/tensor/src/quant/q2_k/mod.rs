//! Q2_K: 16 groups of 16 numbers d s q - e m. 16 bytes, s low and m high; 64 bytes of 2-bit q; d and e f16.
#![forbid(unsafe_code)]

use super::common::{Importance, superblock::Search};
use super::{Format, chunk, decoder, encoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q2_K, decode: decoder!(decode), encode: Some(encoder!(encode)) };

#[inline(always)]
fn decode(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, e) = (half(block, 80), half(block, 82));
    let (outs, _) = out.as_chunks_mut::<32>();
    // Rows of 32 numbers, whose codes lie in the same bits; two groups each.
    for row in 0..8 {
        let codes = chunk::<32>(block, 16 + row / 4 * 32);
        let mut q = [0f32; 32];
        for i in 0..32 {
            q[i] = f32::from(codes[i] >> (row % 4 * 2) & 3);
        }
        for half in 0..2 {
            let group = block[2 * row + half];
            let (scale, minimum) = (d * f32::from(group & 15), e * f32::from(group >> 4));
            for i in 16 * half..16 * half + 16 {
                outs[row][i] = scale * q[i] - minimum;
            }
        }
    }
}

const SEARCH: Search = Search { levels: 3.0, most: 15.0, reach: 0.9, floor: 1.0, spread: 1.0 };

#[inline(always)]
fn encode(x: &[f32; 256], importance: Importance<'_, 256>, block: &mut [u8; 84]) {
    let groups = SEARCH.encode::<16, 16>(x, importance);
    for group in 0..16 {
        block[group] = groups.scales[group] | groups.minima[group] << 4;
    }
    for part in 0..2 {
        for i in 0..32 {
            let q = |shift: usize| groups.q[128 * part + 32 * shift + i] << (2 * shift);
            block[16 + 32 * part + i] = q(0) | q(1) | q(2) | q(3);
        }
    }
    block[80..82].copy_from_slice(&groups.d.to_le_bytes());
    block[82..84].copy_from_slice(&groups.e.to_le_bytes());
}
