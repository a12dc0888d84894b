//! Q2_K: 16 groups of 16 numbers d s q - e m. 16 bytes, s low and m high; 64 bytes of 2-bit q; d and e f16.

use super::common::{Importance, superblock::Search};
use super::{Format, blocks, encode_blocks, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format {
    dtype: DType::Q2_K,
    decode: |bytes, out| blocks(bytes, out, decode),
    encode: Some(|x, importance, bytes| encode_blocks(x, importance, bytes, encode)),
};

#[inline(always)]
fn decode(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, e) = (half(block, 80), half(block, 82));
    for i in 0..256 {
        let (part, place) = (i / 128, i % 32);
        let shift = i % 128 / 32 * 2;
        let q = block[16 + 32 * part + place] >> shift & 3;
        let scale = block[i / 16];
        out[i] = d * f32::from(scale & 15) * f32::from(q) - e * f32::from(scale >> 4);
    }
}

const SEARCH: Search = Search { levels: 3.0, most: 15.0, reach: 0.9, floor: 0.5, spread: 1.0 };

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
