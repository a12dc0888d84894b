//! Q4_1: 32 numbers d q + m. d and m f16; 16 bytes, each with number i in its low half and i + 16 in its high half.

use super::{Format, blocks, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q4_1, decode: |bytes, out| blocks(bytes, out, decode) };

fn decode(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for i in 0..16 {
        out[i] = d * f32::from(block[4 + i] & 15) + m;
        out[i + 16] = d * f32::from(block[4 + i] >> 4) + m;
    }
}
