//! Q5_1: 32 numbers d q + m. d and m f16; 32 fifth bits as a u32; 16 bytes of low halves as in Q4_0.

use super::{Format, blocks, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q5_1, decode: |bytes, out| blocks(bytes, out, decode) };

fn decode(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    let fifth = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    let bit = |i: usize| (fifth >> i & 1) as u8 * 16;
    for i in 0..16 {
        out[i] = d * f32::from((block[8 + i] & 15) + bit(i)) + m;
        out[i + 16] = d * f32::from((block[8 + i] >> 4) + bit(i + 16)) + m;
    }
}
