//! Named tensors in safetensors files, through the `safetensors` crate.
#![forbid(unsafe_code)]

use super::atomic;
use crate::{DType, Shape};
use safetensors::tensor::{Dtype as FileDtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

/// What can go wrong with a safetensors file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a valid safetensors file.
    #[error("{path}: not a valid safetensors file: {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// An element type that safetensors files can't hold, or that Rondo doesn't read.
    #[error("{path}: tensor `{tensor}` has element type {dtype}, which is not supported in safetensors files")]
    DType {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Its element type.
        dtype: String,
    },
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
    atomic::write(path, &bytes).map_err(|source| Error::Io { path: path.into(), source })
}

/// What a file of tensors holds; `path` is for errors.
///
/// # Errors
/// When an element type has no safetensors form.
pub fn bytes<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, DType, &'a [usize], &'a [u8])>,
    metadata: BTreeMap<String, String>,
) -> Result<Vec<u8>, Error> {
    let mut views = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let file_dtype = to_file(dtype).ok_or_else(|| Error::DType {
            path: path.into(),
            tensor: name.into(),
            dtype: dtype.name().into(),
        })?;
        let view = TensorView::new(file_dtype, shape.to_vec(), bytes).map_err(|e| format_error(path, &e))?;
        views.push((name, view));
    }
    let metadata = (!metadata.is_empty()).then(|| metadata.into_iter().collect());
    safetensors::tensor::serialize(views, metadata).map_err(|e| format_error(path, &e))
}

/// Reads every tensor of `path`.
///
/// # Errors
/// When the file can't be read, is not a valid safetensors file, or holds an unsupported element type.
pub fn read(path: &Path) -> Result<BTreeMap<String, Stored>, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
    parse(path, &bytes)
}

/// The tensors of a file's bytes; `path` is for errors.
///
/// # Errors
/// When they are not a valid safetensors file, or hold an unsupported element type.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Stored>, Error> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| format_error(path, &e))?;
    let mut out = BTreeMap::new();
    for (name, view) in file.iter() {
        let dtype = from_file(view.dtype()).ok_or_else(|| Error::DType {
            path: path.into(),
            tensor: name.into(),
            dtype: format!("{:?}", view.dtype()),
        })?;
        let stored = Stored { dtype, shape: view.shape().into(), bytes: view.data().to_vec() };
        out.insert(name.to_string(), stored);
    }
    Ok(out)
}

fn format_error(path: &Path, what: &dyn std::fmt::Display) -> Error {
    Error::Format { path: path.into(), what: what.to_string() }
}

const TYPES: [(DType, FileDtype); 8] = [
    (DType::F32, FileDtype::F32),
    (DType::F64, FileDtype::F64),
    (DType::Bf16, FileDtype::BF16),
    (DType::F16, FileDtype::F16),
    (DType::I32, FileDtype::I32),
    (DType::U32, FileDtype::U32),
    (DType::U8, FileDtype::U8),
    (DType::I8, FileDtype::I8),
];

fn to_file(dtype: DType) -> Option<FileDtype> {
    TYPES.iter().find(|(d, _)| *d == dtype).map(|(_, f)| *f)
}

fn from_file(dtype: FileDtype) -> Option<DType> {
    TYPES.iter().find(|(_, f)| *f == dtype).map(|(d, _)| *d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let path = std::env::temp_dir().join(format!("rondo-safetensors-{}.safetensors", std::process::id()));
        let data = [1.0f32, -2.5, 3.25, 0.0, 5.0, 6.0];
        let bytes = bytemuck::cast_slice(&data);
        write(&path, [("a.weight", DType::F32, &[2usize, 3][..], bytes)], BTreeMap::new()).unwrap();
        let back = read(&path).unwrap();
        assert_eq!(back["a.weight"], Stored { dtype: DType::F32, shape: [2, 3].into(), bytes: bytes.to_vec() });
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(read(&path), Err(Error::Format { .. })));
        std::fs::remove_file(&path).unwrap();
    }
}
