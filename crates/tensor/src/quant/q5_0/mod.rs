//! Q5_0: 32 numbers d (q - 16). d f16; 32 fifth bits as a u32; 16 bytes of low halves as in Q4_0.

use super::{Format, blocks, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q5_0, decode: |bytes, out| blocks(bytes, out, decode) };

fn decode(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half(block, 0);
    let fifth = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    let bit = |i: usize| (fifth >> i & 1) as i8 * 16;
    for i in 0..16 {
        out[i] = d * f32::from((block[6 + i] & 15) as i8 + bit(i) - 16);
        out[i + 16] = d * f32::from((block[6 + i] >> 4) as i8 + bit(i + 16) - 16);
    }
}
