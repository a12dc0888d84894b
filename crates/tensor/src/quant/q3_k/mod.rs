//! Q3_K: 16 groups of 16 numbers d (s - 32) (q - 4). 32 bytes of third bits; 64 of low bits; 12 of 6-bit s; d f16.

use super::{Format, blocks, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q3_K, decode: |bytes, out| blocks(bytes, out, decode) };

fn decode(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half(block, 108);
    for i in 0..256 {
        let (part, place) = (i / 128, i % 32);
        let shift = i % 128 / 32 * 2;
        let low = (block[32 + 32 * part + place] >> shift & 3) as i8;
        let third = (block[place] >> (i / 32) & 1) as i8;
        let group = i / 16;
        let scale_low = block[96 + group % 8] >> (group / 8 * 4) & 15;
        let scale_high = block[104 + group % 4] >> (group / 4 * 2) & 3;
        let scale = (scale_low | scale_high << 4) as i8 - 32;
        out[i] = d * f32::from(scale) * f32::from(low + 4 * third - 4);
    }
}
