//! TQ1_0: 256 numbers d (q - 1), q from 0 to 2. 48 bytes of five and 4 of four base-3 digits, as fractions of 256; d f16.
#![forbid(unsafe_code)]

use super::{Format, chunk, decoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Tq1_0, decode: decoder!(decode), encode: None };

#[inline(always)]
fn decode(block: &[u8; 54], out: &mut [f32; 256]) {
    let d = half(block, 52);
    digits::<32>(chunk(block, 0), d, &mut out[..160]);
    digits::<16>(chunk(block, 32), d, &mut out[160..240]);
    digits::<4>(chunk(block, 48), d, &mut out[240..]);
}

/// The first digits of all bytes, then the second ones, and so on.
#[inline(always)]
fn digits<const BYTES: usize>(bytes: &[u8; BYTES], d: f32, out: &mut [f32]) {
    let mut rest = *bytes;
    let (outs, _) = out.as_chunks_mut::<BYTES>();
    for out in outs {
        // Three times the fraction byte / 256 carries its next digit.
        for i in 0..BYTES {
            let product = u16::from(rest[i]) * 3;
            rest[i] = product as u8;
            out[i] = d * f32::from((product >> 8) as i8 - 1);
        }
    }
}
