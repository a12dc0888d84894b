//! TQ1_0: 256 numbers d (q - 1), q from 0 to 2. 48 bytes of five and 4 of four base-3 digits, as fractions of 256; d f16.
#![forbid(unsafe_code)]

use super::{Format, decoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Tq1_0, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 54], out: &mut [f32; 256]) {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    let d = half(block, 52);
    // Digit `digit` of the fraction byte / 256: the digits before it are shifted out, the next is what 3 times the rest carries.
    let trit = |byte: u8, digit: usize| ((u16::from(byte.wrapping_mul(POWERS[digit])) * 3) >> 8) as i8 - 1;
    for i in 0..256 {
        let q = match i {
            0..160 => trit(block[i % 32], i / 32),
            160..240 => trit(block[32 + i % 16], (i - 160) / 16),
            _ => trit(block[48 + i % 4], (i - 240) / 4),
        };
        out[i] = d * f32::from(q);
    }
}
