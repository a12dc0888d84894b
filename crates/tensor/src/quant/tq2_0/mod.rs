//! TQ2_0: 256 numbers d (q - 1), q from 0 to 3. 64 bytes of 2-bit q; d f16.

use super::{Format, blocks, half};
use crate::DType;

/// The format.
pub const FORMAT: Format =
    Format { dtype: DType::Tq2_0, decode: |bytes, out| blocks(bytes, out, decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = half(block, 64);
    for i in 0..256 {
        let q = block[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        out[i] = d * f32::from(q as i8 - 1);
    }
}
