//! IQ4_NL: 32 numbers d v[q] with a table v of 16 values. d f16; 16 bytes as in Q4_0.

use super::{Format, blocks, half};
use crate::DType;

/// The format.
pub const FORMAT: Format = Format { dtype: DType::Iq4Nl, decode: |bytes, out| blocks(bytes, out, decode) };

/// The values, denser near zero: as in PyPI's gguf package (MIT; ../codebook/LICENSE).
pub(super) const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

fn decode(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for i in 0..16 {
        out[i] = d * f32::from(VALUES[usize::from(block[2 + i] & 15)]);
        out[i + 16] = d * f32::from(VALUES[usize::from(block[2 + i] >> 4)]);
    }
}
