//! Q6_K: 16 groups of 16 numbers d s (q - 32). 128 bytes of low bits, 64 of high bits, 16 signed s, d f16.

use super::{Format, blocks, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q6_K, decode: |bytes, out| blocks(bytes, out, decode) };

fn decode(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half(block, 208);
    for i in 0..256 {
        let (part, place) = (i / 128, i % 128);
        let low = block[64 * part + place % 64] >> (place / 64 * 4) & 15;
        let high = block[128 + 32 * part + place % 32] >> (place / 32 * 2) & 3;
        let scale = d * f32::from(block[192 + i / 16] as i8);
        out[i] = scale * f32::from((low | high << 4) as i8 - 32);
    }
}
