//! Named tensors in one or several mapped files, read where they lie.
#![forbid(unsafe_code)]

use super::mmap::Mapped;
use super::problem::{Error, Problem};
use crate::{DType, Shape};
use std::collections::HashMap;
use std::path::Path;

/// A tensor's place in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first.
    pub shape: Shape,
    /// Bytes from the file's start.
    pub offset: u64,
    /// Bytes of it.
    pub bytes: u64,
}

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first.
    pub shape: Shape,
}

impl Planned {
    /// Bytes of it; `None` where its elements fill no whole blocks, or are more than can be counted.
    pub fn bytes(&self) -> Option<u64> {
        let elements = self.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
        u64::try_from(self.dtype.bytes(elements)?).ok()
    }
}

/// A model's tensors, whatever files they are in.
#[derive(Debug)]
pub struct Tensors {
    parts: Vec<(Mapped, Vec<TensorInfo>)>,
    /// Part, and place in it, of each tensor by name.
    places: HashMap<String, (usize, usize)>,
}

impl Tensors {
    /// Those of `parts`, in order: each a file with its tensors, which lie in it.
    ///
    /// # Errors
    /// When two have the same name.
    pub(super) fn new(parts: Vec<(Mapped, Vec<TensorInfo>)>, help: &'static str) -> Result<Tensors, Error> {
        let mut places = HashMap::new();
        for (index, (mapped, tensors)) in parts.iter().enumerate() {
            for (place, tensor) in tensors.iter().enumerate() {
                if places.insert(tensor.name.clone(), (index, place)).is_some() {
                    let what = "it is in another part too: the parts are not of one model";
                    let problem = Problem::new(tensor.offset, format!("tensor `{}`", tensor.name), what);
                    return Err(problem.help(help).within(mapped.path()));
                }
            }
        }
        Ok(Tensors { parts, places })
    }

    /// The tensors with their bytes, in the files' order. Offsets count from the start of the tensor's own file.
    pub fn iter(&self) -> impl Iterator<Item = (&TensorInfo, &[u8])> {
        self.parts
            .iter()
            .flat_map(|(mapped, tensors)| tensors.iter().map(move |tensor| (tensor, bytes(mapped, tensor))))
    }

    /// A tensor by its name, with its bytes where they lie in the file: `dtype.bytes(shape.elements())`, aligned to
    /// nothing in particular.
    pub fn get(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        let (part, place) = self.places.get(name)?;
        let (mapped, tensors) = self.parts.get(*part)?;
        let tensor = tensors.get(*place)?;
        Some((tensor, bytes(mapped, tensor)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The file that holds a tensor.
    pub fn path_of(&self, name: &str) -> Option<&Path> {
        let (part, _) = self.places.get(name)?;
        self.parts.get(*part).map(|(mapped, _)| mapped.path())
    }

    /// The files, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|(mapped, _)| mapped.path())
    }

    /// Bytes of all files.
    pub fn file_bytes(&self) -> u64 {
        self.parts.iter().map(|(mapped, _)| mapped.bytes().len() as u64).sum()
    }

    /// Checks that no file has changed since it was opened.
    ///
    /// # Errors
    /// When one has, with its name.
    pub fn unchanged(&self) -> Result<(), Error> {
        self.parts.iter().try_for_each(|(mapped, _)| mapped.unchanged().map_err(Error::io(mapped.path())))
    }

    /// An error about a tensor, for those who find it wrong.
    pub fn error(&self, name: &str, what: impl Into<String>, help: &'static str) -> Error {
        let offset = self.get(name).map_or(0, |(tensor, _)| tensor.offset);
        let path = self.path_of(name).or_else(|| self.paths().next()).unwrap_or(Path::new(""));
        Problem::new(offset, format!("tensor `{name}`"), what).help(help).within(path)
    }
}

/// A tensor's bytes. What has made `tensor` has seen that it lies in the file.
fn bytes<'a>(mapped: &'a Mapped, tensor: &TensorInfo) -> &'a [u8] {
    let (Ok(start), Ok(count)) = (usize::try_from(tensor.offset), usize::try_from(tensor.bytes)) else {
        return &[];
    };
    start.checked_add(count).and_then(|end| mapped.bytes().get(start..end)).unwrap_or_default()
}
