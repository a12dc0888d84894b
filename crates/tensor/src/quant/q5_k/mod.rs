//! Q5_K: 8 groups of 32 numbers d s q - e m. d and e f16; 12 bytes of 6-bit s and m; 32 of fifth bits; 128 of low bits.

use super::{Format, blocks, half, scales_and_minima};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q5_K, decode: |bytes, out| blocks(bytes, out, decode) };

fn decode(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, e) = (half(block, 0), half(block, 2));
    let (scales, minima) = scales_and_minima(block[4..].first_chunk().expect("a block has 176 bytes"));
    for group in 0..8 {
        let (scale, minimum) = (d * f32::from(scales[group]), e * f32::from(minima[group]));
        for i in 0..32 {
            let low = block[48 + group / 2 * 32 + i] >> (group % 2 * 4) & 15;
            let q = low | (block[16 + i] >> group & 1) << 4;
            out[group * 32 + i] = scale * f32::from(q) - minimum;
        }
    }
}
