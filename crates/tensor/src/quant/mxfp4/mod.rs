//! MXFP4: 32 numbers of e2m1 with one power of two (OCP Microscaling Formats 1.0). The exponent byte, then 16 bytes as in Q4_0.

use super::{Format, blocks};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Mxfp4, decode: |bytes, out| blocks(bytes, out, decode) };

/// Twice the value of each code.
const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 2^(exponent - 128): half of what the byte says, for the doubled values.
fn half_scale(exponent: u8) -> f32 {
    let exponent = u32::from(exponent);
    f32::from_bits(if exponent < 2 { 0x0020_0000 << exponent } else { (exponent - 1) << 23 })
}

fn decode(block: &[u8; 17], out: &mut [f32; 32]) {
    let d = half_scale(block[0]);
    for i in 0..16 {
        out[i] = d * f32::from(DOUBLED[usize::from(block[1 + i] & 15)]);
        out[i + 16] = d * f32::from(DOUBLED[usize::from(block[1 + i] >> 4)]);
    }
}
