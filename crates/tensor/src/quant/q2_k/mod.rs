//! Q2_K: 16 groups of 16 numbers d s q - e m. 16 bytes, s low and m high; 64 bytes of 2-bit q; d and e f16.

use super::{Format, blocks, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q2_K, decode: |bytes, out| blocks(bytes, out, decode) };

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
