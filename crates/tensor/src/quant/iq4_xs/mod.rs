//! IQ4_XS: 8 groups of 32 numbers d (s - 32) v[q]. d f16; high bits of s as a u16; 4 bytes of low bits; 128 bytes of q.

use super::{Format, blocks, half, iq4_nl::VALUES};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq4Xs, decode: |bytes, out| blocks(bytes, out, decode) };

fn decode(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = half(block, 0);
    let high = u16::from_le_bytes([block[2], block[3]]);
    for group in 0..8 {
        let low = block[4 + group / 2] >> (group % 2 * 4) & 15;
        let scale = (low | ((high >> (2 * group) & 3) as u8) << 4) as i8 - 32;
        let d = d * f32::from(scale);
        for i in 0..16 {
            let byte = block[8 + group * 16 + i];
            out[group * 32 + i] = d * f32::from(VALUES[usize::from(byte & 15)]);
            out[group * 32 + 16 + i] = d * f32::from(VALUES[usize::from(byte >> 4)]);
        }
    }
}
