//! Q4_0: 32 numbers d (q - 8). d f16; 16 bytes, each with number i in its low half and i + 16 in its high half.

use super::{Format, blocks, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q4_0, decode: |bytes, out| blocks(bytes, out, decode) };

fn decode(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for i in 0..16 {
        out[i] = d * f32::from((block[2 + i] & 15) as i8 - 8);
        out[i + 16] = d * f32::from((block[2 + i] >> 4) as i8 - 8);
    }
}
