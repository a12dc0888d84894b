//! IQ4_NL: 32 numbers d v[q] with a table v of 16 values. d f16; 16 bytes as in Q4_0.
#![forbid(unsafe_code)]

use super::common::search::{inverse, largest};
use super::common::simd::lookup;
use super::common::{Importance, put_half, put_halves};
use super::{Format, chunk, decoder, encoder, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq4Nl, decode: decoder!(decode), encode: Some(encoder!(encode)) };

/// The values, denser near zero: as in PyPI's gguf package (MIT; ../codebook/LICENSE).
pub(super) const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

#[inline(always)]
fn decode(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(block, 0);
    let values = lookup(&VALUES, chunk(block, 2));
    for i in 0..32 {
        out[i] = d * f32::from(values[i]);
    }
}

/// Where one value ends and the next begins.
const BOUNDS: [f32; 15] = bounds();

const fn bounds() -> [f32; 15] {
    let mut bounds = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        bounds[i] = (VALUES[i] as f32 + VALUES[i + 1] as f32) / 2.0;
        i += 1;
    }
    bounds
}

/// Which value is nearest to x.
#[inline(always)]
pub(super) fn nearest(x: f32) -> u8 {
    let mut index = 0;
    for bound in BOUNDS {
        index += u8::from(x > bound);
    }
    index
}

/// The value nearest to x.
#[inline(always)]
fn nearest_value(x: f32) -> f32 {
    let mut value = f32::from(VALUES[0]);
    for i in 0..15 {
        value = if x > BOUNDS[i] { f32::from(VALUES[i + 1]) } else { value };
    }
    value
}

/// A scale for 32 numbers: sixteen divisors are tried, as for the formats of whole numbers, in which the largest
/// number becomes about the first value, and sixteen in which it becomes about the last.
#[inline(always)]
pub(super) fn scale(x: &[f32; 32], w: &[f32; 32]) -> f32 {
    let largest = largest(x);
    let (mut best, mut scale) = (0.0, largest / f32::from(VALUES[0]));
    for end in [VALUES[0], VALUES[15]] {
        let mut factors = [0f32; 16];
        for k in 0..16 {
            factors[k] = (f32::from(end) + (k as f32 - 7.5)) * inverse(largest);
        }
        let (mut xq, mut qq) = ([0f32; 16], [0f32; 16]);
        for i in 0..32 {
            let wx = w[i] * x[i];
            for k in 0..16 {
                let value = nearest_value(factors[k] * x[i]);
                xq[k] += wx * value;
                qq[k] += w[i] * value * value;
            }
        }
        for k in 0..16 {
            if qq[k] > 0.0 && xq[k] * xq[k] / qq[k] > best {
                (best, scale) = (xq[k] * xq[k] / qq[k], xq[k] / qq[k]);
            }
        }
    }
    scale
}

#[inline(always)]
fn encode(x: &[f32; 32], importance: Importance<'_, 32>, block: &mut [u8; 18]) {
    let weights = importance.weights(0, x, 2.0 * importance.mean_square, |x| x * x);
    let factor = inverse(put_half(block, 0, scale(x, &weights)));
    put_halves(&mut block[2..], &x.map(|x| nearest(x * factor)));
}
