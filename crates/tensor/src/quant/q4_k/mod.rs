//! Q4_K: 8 groups of 32 numbers d s q - e m. d and e f16; 12 bytes of 6-bit s and m; 128 bytes of 4-bit q.
#![forbid(unsafe_code)]

use super::common::{Importance, superblock::Search};
use super::{Format, decoder, encoder, half, pack_scales_and_minima, scales_and_minima};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q4_K, decode: decoder!(decode), encode: Some(encoder!(encode)) };

#[inline(always)]
fn decode(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, e) = (half(block, 0), half(block, 2));
    let (scales, minima) = scales_and_minima(block[4..].first_chunk().expect("a block has 144 bytes"));
    for group in 0..8 {
        let (scale, minimum) = (d * f32::from(scales[group]), e * f32::from(minima[group]));
        for i in 0..32 {
            let q = block[16 + group / 2 * 32 + i] >> (group % 2 * 4) & 15;
            out[group * 32 + i] = scale * f32::from(q) - minimum;
        }
    }
}

const SEARCH: Search = Search { levels: 15.0, most: 63.0, reach: 1.0, floor: 1.0, spread: 2.0 };

#[inline(always)]
fn encode(x: &[f32; 256], importance: Importance<'_, 256>, block: &mut [u8; 144]) {
    let groups = SEARCH.encode::<8, 32>(x, importance);
    block[0..2].copy_from_slice(&groups.d.to_le_bytes());
    block[2..4].copy_from_slice(&groups.e.to_le_bytes());
    block[4..16].copy_from_slice(&pack_scales_and_minima(&groups.scales, &groups.minima));
    let q = &groups.q;
    for pair in 0..4 {
        for i in 0..32 {
            block[16 + 32 * pair + i] = q[64 * pair + i] | q[64 * pair + 32 + i] << 4;
        }
    }
}
