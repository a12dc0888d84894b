//! Numbers as bytes: elements of the plain types read, written and rounded, to the nearest and ties to even.

use crate::DType;
use half::{bf16, f16};

/// Elements as numbers. `bytes` holds whole elements of a plain type.
///
/// # Panics
/// When `dtype` is a block format: those have decoders of their own.
pub fn decode(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    fn each<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks::<N>().0.iter().map(|b| read(*b)).collect()
    }
    match dtype {
        DType::F32 => each(bytes, |b| f32::from_le_bytes(b).into()),
        DType::F64 => each(bytes, f64::from_le_bytes),
        DType::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).into()),
        DType::F16 => each(bytes, |b| f16::from_le_bytes(b).into()),
        DType::I32 => each(bytes, |b| i32::from_le_bytes(b).into()),
        DType::U32 => each(bytes, |b| u32::from_le_bytes(b).into()),
        DType::U8 => each(bytes, |b| u8::from_le_bytes(b).into()),
        DType::I8 => each(bytes, |b| i8::from_le_bytes(b).into()),
        block => panic!("{block} is a block format, not a plain number"),
    }
}

/// Numbers as elements of a plain type: floats rounded by way of f32, whole numbers cut.
///
/// # Panics
/// When `dtype` is a block format: those have encoders of their own.
pub fn encode(dtype: DType, numbers: &[f64]) -> Vec<u8> {
    fn each<const N: usize>(numbers: &[f64], write: impl Fn(f64) -> [u8; N]) -> Vec<u8> {
        numbers.iter().flat_map(|&x| write(x)).collect()
    }
    match dtype {
        DType::F32 => each(numbers, |x| (x as f32).to_le_bytes()),
        DType::F64 => each(numbers, f64::to_le_bytes),
        DType::Bf16 => each(numbers, |x| bf16::from_f32(x as f32).to_le_bytes()),
        DType::F16 => each(numbers, |x| f16::from_f32(x as f32).to_le_bytes()),
        DType::I32 => each(numbers, |x| (x as i32).to_le_bytes()),
        DType::U32 => each(numbers, |x| (x as u32).to_le_bytes()),
        DType::U8 => each(numbers, |x| (x as u8).to_le_bytes()),
        DType::I8 => each(numbers, |x| (x as i8).to_le_bytes()),
        block => panic!("{block} is a block format, not a plain number"),
    }
}

/// The bits of bf16 or f16 nearest to x, ties to even; any NaN is one.
///
/// # Panics
/// When `dtype` is neither.
pub fn bits16(dtype: DType, x: f32) -> u16 {
    match dtype {
        DType::Bf16 => bf16::from_f32(x).to_bits(),
        DType::F16 => f16::from_f32(x).to_bits(),
        other => panic!("{other} doesn't have 16 bits"),
    }
}

/// The f64 with the fewest decimal digits that is `x` as an f32: what JSON shows as 0.8 and not as 0.800000011920929.
pub fn shortest(x: f32) -> f64 {
    // What isn't finite is written and read as well.
    x.to_string().parse().unwrap_or(x.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_rounded() {
        let numbers = [0.0, -1.5, 65504.0, 3.0e-6, f64::INFINITY];
        for dtype in [DType::F32, DType::F64, DType::Bf16, DType::F16] {
            let back = decode(dtype, &encode(dtype, &numbers));
            let limit = if dtype == DType::Bf16 { 1.0 / 256.0 } else { 1.0 / 64.0 };
            assert!(numbers.iter().zip(&back).all(|(x, y)| x == y || (x - y).abs() <= limit * x.abs()), "{back:?}");
        }
        assert_eq!(decode(DType::U32, &encode(DType::U32, &[7.0, 4_294_967_295.0])), [7.0, 4_294_967_295.0]);
        assert_eq!(bits16(DType::F16, 1.0 + 1.0 / 2048.0), bits16(DType::F16, 1.0));
        assert!(decode(DType::Bf16, &bits16(DType::Bf16, f32::NAN).to_le_bytes())[0].is_nan());
    }

    #[test]
    fn the_shortest_digits_are_the_same_number() {
        assert_eq!((shortest(0.8), shortest(1e-5), shortest(-1e30), shortest(3.0)), (0.8, 1e-5, -1e30, 3.0));
        for bits in (0..u32::MAX).step_by(99_991) {
            let x = f32::from_bits(bits);
            assert!(x.is_nan() && shortest(x).is_nan() || shortest(x) as f32 == x, "{x:e}");
        }
    }
}
