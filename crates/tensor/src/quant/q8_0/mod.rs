//! Q8_0: 32 numbers d q. d f16; 32 signed bytes.

use super::{Format, blocks, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Q8_0, decode: |bytes, out| blocks(bytes, out, decode) };

fn decode(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for i in 0..32 {
        out[i] = f32::from(block[2 + i] as i8) * d;
    }
}
