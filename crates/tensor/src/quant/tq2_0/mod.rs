//! TQ2_0: 256 numbers d (q - 1), q from 0 to 3. 64 bytes of 2-bit q; d f16.
#![forbid(unsafe_code)]

use super::{Format, chunk, decoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Tq2_0, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = half(block, 64);
    let (outs, _) = out.as_chunks_mut::<32>();
    for row in 0..8 {
        let codes = chunk::<32>(block, row / 4 * 32);
        for i in 0..32 {
            let q = codes[i] >> (row % 4 * 2) & 3;
            outs[row][i] = d * f32::from(q as i8 - 1);
        }
    }
}
