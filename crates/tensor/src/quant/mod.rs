//! Block formats: one folder a format, each with its layout and what its bytes mean in f32.
//!
//! The arithmetic of each `decode` is ggml's, operation for operation in f32, so that results agree bit for bit with
//! the reference in PyPI's gguf package.

mod codebook;
mod common;
pub mod imatrix;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod mxfp4;
pub mod nf4;
mod nvfp4;
pub mod plain;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod q8_1;
mod q8_k;
pub mod recipe;
mod tq1_0;
mod tq2_0;
pub mod transcode;

use crate::DType;
use common::{decoder, encoder};

/// What is known of a format.
pub struct Format {
    /// The element type.
    pub dtype: DType,
    /// Whole blocks into as many numbers as they hold.
    decode: fn(&[u8], &mut [f32]),
    /// Numbers into whole blocks; `None` for the formats that are only read.
    encode: Option<fn(&[f32], Option<&[f32]>, &mut [u8])>,
}

/// Every format that can be decoded.
pub const FORMATS: &[&Format] = &[
    &plain::F32,
    &plain::F16,
    &plain::BF16,
    &q4_0::FORMAT,
    &q4_1::FORMAT,
    &q5_0::FORMAT,
    &q5_1::FORMAT,
    &q8_0::FORMAT,
    &q8_1::FORMAT,
    &q2_k::FORMAT,
    &q3_k::FORMAT,
    &q4_k::FORMAT,
    &q5_k::FORMAT,
    &q6_k::FORMAT,
    &q8_k::FORMAT,
    &tq1_0::FORMAT,
    &tq2_0::FORMAT,
    &mxfp4::FORMAT,
    &nvfp4::FORMAT,
    &iq1_s::FORMAT,
    &iq1_m::FORMAT,
    &iq2_xxs::FORMAT,
    &iq2_xs::FORMAT,
    &iq2_s::FORMAT,
    &iq3_xxs::FORMAT,
    &iq3_s::FORMAT,
    &iq4_nl::FORMAT,
    &iq4_xs::FORMAT,
];

/// The format of an element type.
pub fn format(dtype: DType) -> Option<&'static Format> {
    FORMATS.iter().copied().find(|format| format.dtype == dtype)
}

impl Format {
    /// Decodes whole blocks: `out.len()` numbers from `bytes`.
    ///
    /// # Errors
    /// When `bytes` are not as many as `out.len()` numbers take.
    pub fn decode(&self, bytes: &[u8], out: &mut [f32]) -> Result<(), String> {
        self.check(bytes.len(), out.len())?;
        (self.decode)(bytes, out);
        Ok(())
    }

    /// Whether numbers can be encoded.
    pub fn encodes(&self) -> bool {
        self.encode.is_some()
    }

    /// Encodes `x` into whole blocks. `importance`, where it is known, weighs each column's squared error: `x` are then
    /// whole rows of as many columns. Formats that have nothing to choose ignore it.
    ///
    /// # Errors
    /// When `bytes` are not as many as `x` takes, rows are not whole, or the format is only read.
    pub fn encode(&self, x: &[f32], importance: Option<&[f32]>, bytes: &mut [u8]) -> Result<(), String> {
        self.check(bytes.len(), x.len())?;
        let Some(encode) = self.encode else { return Err(format!("{} can be read, not written", self.dtype)) };
        if let Some(columns) = importance.map(<[f32]>::len) {
            let block = self.dtype.block_elements();
            if columns == 0 || !columns.is_multiple_of(block) || !x.len().is_multiple_of(columns) {
                return Err(format!(
                    "{} numbers are not whole rows of {columns} columns in blocks of {block}",
                    x.len()
                ));
            }
        }
        encode(x, importance, bytes);
        Ok(())
    }

    fn check(&self, bytes: usize, elements: usize) -> Result<(), String> {
        match self.dtype.bytes(elements) {
            Some(expected) if expected == bytes => Ok(()),
            _ => Err(format!("{bytes} bytes are not {elements} numbers of type {}", self.dtype)),
        }
    }
}

/// The f16 in two little-endian bytes of a block.
#[inline(always)]
fn half(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// `SIZE` bytes of a block, whose place is checked once for all.
#[inline(always)]
fn chunk<const SIZE: usize>(block: &[u8], at: usize) -> &[u8; SIZE] {
    block[at..].first_chunk().expect("what formats ask for lies in their blocks")
}

/// The eight 6-bit scales and eight 6-bit minima that Q4_K and Q5_K pack into 12 bytes.
#[inline(always)]
fn scales_and_minima(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut minima) = ([0; 8], [0; 8]);
    for i in 0..4 {
        scales[i] = packed[i] & 63;
        minima[i] = packed[4 + i] & 63;
        scales[4 + i] = packed[8 + i] & 15 | packed[i] >> 6 << 4;
        minima[4 + i] = packed[8 + i] >> 4 | packed[4 + i] >> 6 << 4;
    }
    (scales, minima)
}

/// The inverse of [`scales_and_minima`].
#[inline(always)]
fn pack_scales_and_minima(scales: &[u8; 8], minima: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for i in 0..4 {
        packed[i] = scales[i] | scales[4 + i] >> 4 << 6;
        packed[4 + i] = minima[i] | minima[4 + i] >> 4 << 6;
        packed[8 + i] = scales[4 + i] & 15 | minima[4 + i] << 4;
    }
    packed
}

#[cfg(test)]
mod tests;
