//! GGUF, versions 2 and 3: metadata and tensors in one file or in parts, as ggml's docs/gguf.md describes it.
#![forbid(unsafe_code)]

mod open;
mod read;
mod value;
mod write;

pub use super::problem::{Error, Problem};
pub use super::tensors::{Planned, TensorInfo, Tensors};
pub use open::{File, SPLIT_COUNT_KEY, SPLIT_NUMBER_KEY, SPLIT_TENSORS_KEY, part_name};
pub use read::parse;
pub use value::{Array, Kind, Metadata, Value};
pub use write::{Writer, write};

use crate::DType;

/// Data starts, and each tensor in it, at a multiple of this where a file says nothing else.
pub const ALIGNMENT: u64 = 32;
/// The key that says something else.
pub const ALIGNMENT_KEY: &str = "general.alignment";
/// Most dimensions of a tensor.
pub const MOST_DIMENSIONS: usize = 4;
/// Longest name of a tensor, in bytes.
pub const LONGEST_NAME: usize = 63;

/// What the head of a file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// 2 or 3.
    pub version: u32,
    /// Keys and values, in the file's order.
    pub metadata: Metadata,
    /// The tensors, in the file's order.
    pub tensors: Vec<TensorInfo>,
    /// Where the tensors' data begins, in bytes from the file's start.
    pub data_start: u64,
    /// Bytes after the last tensor that belong to nothing.
    pub trailing_bytes: u64,
}

/// What to do with a file that is right, but nobody reads any more.
const CONVERT_AGAIN: &str = "convert the original model again, or get a newer file of it";

/// GGUF's number of each element type; the numbers left out are of types that ggml has removed or Rondo doesn't know.
const TYPES: &[(u32, DType)] = &[
    (0, DType::F32),
    (1, DType::F16),
    (2, DType::Q4_0),
    (3, DType::Q4_1),
    (6, DType::Q5_0),
    (7, DType::Q5_1),
    (8, DType::Q8_0),
    (9, DType::Q8_1),
    (10, DType::Q2_K),
    (11, DType::Q3_K),
    (12, DType::Q4_K),
    (13, DType::Q5_K),
    (14, DType::Q6_K),
    (15, DType::Q8_K),
    (16, DType::Iq2Xxs),
    (17, DType::Iq2Xs),
    (18, DType::Iq3Xxs),
    (19, DType::Iq1S),
    (20, DType::Iq4Nl),
    (21, DType::Iq3S),
    (22, DType::Iq2S),
    (23, DType::Iq4Xs),
    (24, DType::I8),
    (25, DType::I16),
    (26, DType::I32),
    (27, DType::I64),
    (28, DType::F64),
    (29, DType::Iq1M),
    (30, DType::Bf16),
    (34, DType::Tq1_0),
    (35, DType::Tq2_0),
    (39, DType::Mxfp4),
    (40, DType::Nvfp4),
];

/// The element type of GGUF's number, or why there is none.
fn dtype_of(number: u32) -> Result<DType, String> {
    if let Some((_, dtype)) = TYPES.iter().find(|(n, _)| *n == number) {
        return Ok(*dtype);
    }
    Err(match number {
        4 | 5 => format!("element type {number} (Q4_2, Q4_3) was removed from the format"),
        31..=33 | 36..=38 => {
            format!("element type {number} (rearranged for one kind of processor) was removed from the format")
        }
        41 => "element type 41 (Q1_0) is not supported".into(),
        _ => format!("element type {number} is unknown"),
    })
}

/// GGUF's number of an element type; `None` for those that it doesn't have.
pub fn number_of(dtype: DType) -> Option<u32> {
    TYPES.iter().find(|(_, d)| *d == dtype).map(|(n, _)| *n)
}

/// `at` rounded up to a multiple of `alignment`, a power of two.
fn aligned(at: u64, alignment: u64) -> Option<u64> {
    let mask = alignment.checked_sub(1)?;
    Some(at.checked_add(mask)? & !mask)
}

#[cfg(test)]
mod tests;
