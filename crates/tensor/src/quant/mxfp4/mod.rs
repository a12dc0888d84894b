//! MXFP4: 32 numbers of e2m1 with one power of two (OCP Microscaling Formats 1.0). The exponent byte, then 16 bytes as in Q4_0.
#![forbid(unsafe_code)]

use super::common::search::{inverse, largest};
use super::common::simd::lookup;
use super::common::{Importance, put_halves};
use super::{Format, chunk, decoder, encoder};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Mxfp4, decode: decoder!(decode), encode: Some(encoder!(encode)) };

/// Twice the value of each code.
const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// 2^(exponent - 128): half of what the byte says, for the doubled values.
fn half_scale(exponent: u8) -> f32 {
    let exponent = u32::from(exponent);
    f32::from_bits(if exponent < 2 { 0x0020_0000 << exponent } else { (exponent - 1) << 23 })
}

#[inline(always)]
fn decode(block: &[u8; 17], out: &mut [f32; 32]) {
    let d = half_scale(block[0]);
    let values = lookup(&DOUBLED, chunk(block, 1));
    for i in 0..32 {
        out[i] = d * f32::from(values[i]);
    }
}

/// The code nearest to a value that is doubled already; the smaller one in the middle.
#[inline(always)]
fn code(doubled: f32) -> u8 {
    let magnitude = doubled.abs();
    let mut code = 0;
    for i in 0..7 {
        code += u8::from(magnitude > (f32::from(DOUBLED[i]) + f32::from(DOUBLED[i + 1])) / 2.0);
    }
    if doubled < 0.0 && code > 0 { code | 8 } else { code }
}

#[inline(always)]
fn codes(x: &[f32; 32], exponent: u8) -> [u8; 32] {
    let factor = inverse(half_scale(exponent));
    x.map(|x| code(x * factor))
}

#[inline(always)]
fn encode(x: &[f32; 32], importance: Importance<'_, 32>, block: &mut [u8; 17]) {
    let largest = largest(x).abs();
    // The exponent of the largest number less that of the largest code, 4 to 6; one more may lose less by clipping.
    let least = ((largest.to_bits() >> 23) as u8).saturating_sub(2);
    let mut best = (f32::INFINITY, least);
    for exponent in [least, least.saturating_add(1).min(254)] {
        let (scale, codes) = (half_scale(exponent), codes(x, exponent));
        let mut error = 0.0;
        for i in 0..32 {
            let difference = x[i] - scale * f32::from(DOUBLED[usize::from(codes[i])]);
            error += importance.columns.map_or(1.0, |w| w[i]) * difference * difference;
        }
        if error < best.0 {
            best = (error, exponent);
        }
    }
    block[0] = best.1;
    put_halves(&mut block[1..], &codes(x, best.1));
}
