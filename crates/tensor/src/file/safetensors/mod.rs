//! Tensors in safetensors files: one file, or shards with an index, as Hugging Face's format describes them.
#![forbid(unsafe_code)]

mod open;
mod read;
mod write;

pub use super::problem::{Error, Problem};
pub use super::tensors::{Planned, TensorInfo, Tensors};
pub use open::{File, INDEX, SINGLE};
pub use read::head;
pub use write::{Writer, index, ordered, shard_name};

use super::atomic;
use crate::{DType, Shape};
use std::collections::BTreeMap;
use std::path::Path;

/// Bytes of a header at most: room for 131,072 tensors. The reference library allows 100,000,000, and so much to be
/// allocated for a small file.
pub const LARGEST_HEADER: u64 = 16 << 20;
/// The key of a file's own texts.
const METADATA: &str = "__metadata__";

/// What the head of a file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// The file's own texts.
    pub metadata: BTreeMap<String, String>,
    /// The tensors, in the order of their data.
    pub tensors: Vec<TensorInfo>,
}

/// A tensor read from a file: little-endian bytes, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first.
    pub shape: Shape,
    /// `dtype.bytes(shape.elements())` bytes.
    pub bytes: Vec<u8>,
}

/// Writes tensors to `path`, whole or not at all.
///
/// # Errors
/// When the file can't be written, or an element type has no safetensors form.
pub fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, DType, &'a [usize], &'a [u8])>,
    metadata: BTreeMap<String, String>,
) -> Result<(), Error> {
    let bytes = bytes(path, tensors, metadata)?;
    atomic::write(path, &bytes).map_err(Error::io(path))
}

/// What a file of tensors holds; `path` is for errors.
///
/// # Errors
/// When an element type has no safetensors form, or a tensor's bytes are not those of its shape.
pub fn bytes<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, DType, &'a [usize], &'a [u8])>,
    metadata: BTreeMap<String, String>,
) -> Result<Vec<u8>, Error> {
    let mut data = BTreeMap::new();
    let mut planned = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        planned.push(Planned { name: name.into(), dtype, shape: shape.into() });
        data.insert(name, bytes);
    }
    let planned = ordered(planned);
    let all = || -> std::io::Result<Vec<u8>> {
        let capacity = data.values().map(|bytes| bytes.len()).sum();
        let mut writer = Writer::new(Vec::with_capacity(capacity), &metadata, &planned)?;
        for tensor in &planned {
            writer.tensor(data.get(tensor.name.as_str()).copied().unwrap_or_default())?;
        }
        writer.finish()
    };
    all().map_err(Error::io(path))
}

/// Reads every tensor of `path`.
///
/// # Errors
/// When the file can't be read, is not a valid safetensors file, or holds an unsupported element type.
pub fn read(path: &Path) -> Result<BTreeMap<String, Stored>, Error> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    parse(path, &bytes)
}

/// The tensors of a file's bytes; `path` is for errors.
///
/// # Errors
/// When they are not a valid safetensors file, or hold an unsupported element type.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Stored>, Error> {
    let head = head(bytes).map_err(|problem| problem.within(path))?;
    let stored = |tensor: TensorInfo| {
        let start = usize::try_from(tensor.offset).ok()?;
        let end = start.checked_add(usize::try_from(tensor.bytes).ok()?)?;
        let bytes = bytes.get(start..end)?.to_vec();
        Some((tensor.name, Stored { dtype: tensor.dtype, shape: tensor.shape, bytes }))
    };
    // `head` has seen that every tensor lies in the file.
    Ok(head.tensors.into_iter().filter_map(stored).collect())
}

/// The format's names of element types, in its order: files begin with the last, so that all are aligned.
const TYPES: &[(&str, DType)] = &[
    ("U8", DType::U8),
    ("I8", DType::I8),
    ("I16", DType::I16),
    ("F16", DType::F16),
    ("BF16", DType::Bf16),
    ("I32", DType::I32),
    ("U32", DType::U32),
    ("F32", DType::F32),
    ("F64", DType::F64),
    ("I64", DType::I64),
];

/// Names that the format has, for types that nothing here computes with.
const OTHER_TYPES: &[&str] = &[
    "BOOL",
    "F4",
    "F6_E2M3",
    "F6_E3M2",
    "F8_E5M2",
    "F8_E4M3",
    "F8_E8M0",
    "F8_E4M3FNUZ",
    "F8_E5M2FNUZ",
    "U16",
    "C64",
    "U64",
];

/// The format's name of an element type; `None` for those that it doesn't have.
pub fn name_of(dtype: DType) -> Option<&'static str> {
    TYPES.iter().find(|(_, d)| *d == dtype).map(|(name, _)| *name)
}

/// The element type of the format's name, or why there is none.
fn dtype_of(name: &str) -> Result<DType, String> {
    match TYPES.iter().find(|(n, _)| *n == name) {
        Some((_, dtype)) => Ok(*dtype),
        None if OTHER_TYPES.contains(&name) => Err(format!("its element type {name} is not supported")),
        None => Err(format!("its element type {name:?} is unknown")),
    }
}

#[cfg(test)]
mod tests;
