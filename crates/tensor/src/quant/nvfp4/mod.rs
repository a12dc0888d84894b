//! NVFP4: 64 numbers of e2m1, each 16 with a scale of e4m3 without sign. Four scale bytes, then for each 16 numbers 8 bytes,
//! of which byte i has number i in its low half and i + 8 in its high half.
#![forbid(unsafe_code)]

use super::common::simd::lookup;
use super::{Format, chunk, decoder};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Nvfp4, decode: decoder!(decode), encode: None };

/// Twice the value of each code.
const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of what each scale byte says, for the doubled values.
const HALF_SCALES: [f32; 256] = half_scales();

const fn half_scales() -> [f32; 256] {
    let mut scales = [0f32; 256];
    let mut byte = 0;
    while byte < 256 {
        let (exponent, mantissa) = (byte as u32 >> 3 & 15, byte as u32 & 7);
        scales[byte] = match exponent {
            // The reference takes this one for zero, and heeds no sign elsewhere.
            15 if byte == 0x7F => 0.0,
            // Steps of 2^-10.
            0 => mantissa as f32 / 1024.0,
            // 2^(exponent - 8) and three bits more.
            _ => f32::from_bits((exponent + 119) << 23 | mantissa << 20),
        };
        byte += 1;
    }
    scales
}

#[inline(always)]
fn decode(block: &[u8; 36], out: &mut [f32; 64]) {
    for pair in 0..2 {
        // Eight numbers of the one 16, eight of the other; then the second halves of both.
        let values = lookup(&DOUBLED, chunk(block, 4 + 16 * pair));
        for (of, eight) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            let d = HALF_SCALES[usize::from(block[2 * pair + of])];
            for i in 0..8 {
                out[32 * pair + 16 * of + 8 * eight + i] = d * f32::from(values[16 * eight + 8 * of + i]);
            }
        }
    }
}
