//! Plain numbers, as formats of one element a block.

use super::{Format, blocks};
use crate::DType;

/// f32.
pub const F32: Format =
    Format { dtype: DType::F32, decode: |b, o| blocks::<4, 1>(b, o, |b, o| o[0] = f32::from_le_bytes(*b)) };
/// f16.
pub const F16: Format = Format {
    dtype: DType::F16,
    decode: |b, o| blocks::<2, 1>(b, o, |b, o| o[0] = half::f16::from_le_bytes(*b).to_f32()),
};
/// bf16.
pub const BF16: Format = Format {
    dtype: DType::Bf16,
    decode: |b, o| blocks::<2, 1>(b, o, |b, o| o[0] = half::bf16::from_le_bytes(*b).to_f32()),
};
