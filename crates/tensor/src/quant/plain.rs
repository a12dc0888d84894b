//! Plain numbers, as formats of one element a block.
#![forbid(unsafe_code)]

use super::common::simd::{Kernel, fastest};
use super::{Format, decoder};
use crate::DType;
use std::ops::Range;

/// f32.
pub const F32: Format = Format {
    dtype: DType::F32,
    decode: decoder!(f32_decode),
    encode: Some(|x, _, b| each::<4>(x, b, f32::to_le_bytes)),
};
/// f16.
pub const F16: Format = Format {
    dtype: DType::F16,
    decode: decoder!(f16_decode),
    encode: Some(|x, _, b| each::<2>(x, b, |x| half::f16::from_f32(x).to_le_bytes())),
};
/// bf16.
pub const BF16: Format = Format {
    dtype: DType::Bf16,
    decode: decoder!(bf16_decode),
    encode: Some(|x, _, b| fastest(ToBf16 { x, bytes: b })),
};

#[inline(always)]
fn f32_decode(block: &[u8; 4], out: &mut [f32; 1]) {
    out[0] = f32::from_le_bytes(*block);
}

#[inline(always)]
fn bf16_decode(block: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = f32::from_bits(u32::from(u16::from_le_bytes(*block)) << 16);
}

/// Without branches, so that it is done by vectors; subnormal numbers come out right by the multiplication.
#[inline(always)]
fn f16_decode(block: &[u8; 2], out: &mut [f32; 1]) {
    const REBIAS: f32 = f32::from_bits((127 + 112) << 23); // 2^112
    let bits = u32::from(u16::from_le_bytes(*block));
    let shifted = (bits & 0x7FFF) << 13;
    let finite = (f32::from_bits(shifted) * REBIAS).to_bits();
    let magnitude = if shifted >= 0x7C00 << 13 { shifted | 0x7F80_0000 } else { finite };
    out[0] = f32::from_bits(magnitude | (bits & 0x8000) << 16);
}

/// The upper half of an f32, rounded to nearest, to even in the middle.
#[inline(always)]
pub(super) fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if bits & 0x7FFF_FFFF > 0x7F80_0000 { quiet } else { rounded }) as u16
}

/// Magnitudes, as whole numbers, of the finite numbers of type `from` that would be infinities in `to`; none where there
/// are no such numbers.
pub fn bounds(from: DType, to: DType) -> Option<Range<u32>> {
    let infinity = f32::INFINITY.to_bits();
    match (from, to) {
        // From here on the nearest f16 is beyond its largest, 65504.
        (DType::F32 | DType::F64 | DType::Bf16, DType::F16) => Some(65_520f32.to_bits()..infinity),
        (from, DType::F16) if from.block_elements() > 1 => Some(65_520f32.to_bits()..infinity),
        // Blocks with scales in f16 reach no further than they.
        (DType::F32 | DType::F64 | DType::Mxfp4 | DType::Q8_K, DType::Bf16) => Some(0x7F7F_8000..infinity),
        _ => None,
    }
}

/// Where the first number stands whose magnitude is within `bounds`.
pub fn beyond(numbers: &[f32], bounds: &Range<u32>) -> Option<usize> {
    let mut any = false;
    fastest(Beyond { numbers, bounds, any: &mut any });
    any.then(|| numbers.iter().position(|x| bounds.contains(&magnitude(*x)))).flatten()
}

#[inline(always)]
fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7FFF_FFFF
}

struct Beyond<'a> {
    numbers: &'a [f32],
    bounds: &'a Range<u32>,
    any: &'a mut bool,
}

impl Kernel for Beyond<'_> {
    #[inline(always)]
    fn run(self) {
        let (from, span) = (self.bounds.start, self.bounds.end - self.bounds.start);
        // Without an early end, so that it is done by vectors.
        let within = |x: &f32| u32::from(magnitude(*x).wrapping_sub(from) < span);
        *self.any = self.numbers.iter().fold(0, |any, x| any | within(x)) != 0;
    }
}

fn each<const BYTES: usize>(x: &[f32], bytes: &mut [u8], encode: impl Fn(f32) -> [u8; BYTES]) {
    let (outs, _) = bytes.as_chunks_mut::<BYTES>();
    x.iter().zip(outs).for_each(|(x, out)| *out = encode(*x));
}

struct ToBf16<'a> {
    x: &'a [f32],
    bytes: &'a mut [u8],
}

impl Kernel for ToBf16<'_> {
    #[inline(always)]
    fn run(self) {
        let (outs, _) = self.bytes.as_chunks_mut::<2>();
        for (x, out) in self.x.iter().zip(outs) {
            *out = bf16_bits(*x).to_le_bytes();
        }
    }
}
