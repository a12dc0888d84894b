//! Models between GGUF and folders of safetensors with Hugging Face's names, tensor by tensor.
#![forbid(unsafe_code)]

mod folder;
mod gguf;
mod keep;
mod numbers;
mod own;
mod vocabulary;

pub use folder::to_folder;
pub use gguf::to_gguf;

use crate::family::Expected;
use crate::folder::FolderError;
use tensor::DType;
use tensor::file::Error;

/// What is asked for, and who hears of it.
pub struct Options<'a> {
    /// The type of all weights; none to keep f32, f16 and bf16 as they are, and make bf16 of all others. Vectors are f32
    /// in GGUF anyway, and in a folder of the matrices' type where none is asked for and all their numbers are of it.
    pub to: Option<DType>,
    /// Hears, before anything is written, how many bytes the tensors will take; its error is that of writing them.
    pub begin: &'a mut dyn FnMut(u64) -> std::io::Result<()>,
    /// Hears of the bytes written of each tensor; answers whether to go on.
    pub progress: &'a mut dyn FnMut(&str, u64) -> bool,
}

/// Why a model was not converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A file that can't be read, or says something that makes no sense.
    #[error(transparent)]
    File(#[from] Error),
    /// A folder of Rondo's that can't be read, or is of no kind that the other form has.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What was to be written could not be.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// `progress` has said to stop; nothing was written.
    #[error("interrupted, not written")]
    Stopped,
}

/// What was made.
#[derive(Debug, Default, serde::Serialize)]
pub struct Made {
    /// Files, in the order of writing.
    pub files: Vec<std::path::PathBuf>,
    /// Tensors written.
    pub tensors: usize,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// What the other form can't hold, or what is odd.
    pub warnings: Vec<String>,
}

fn cannot_write(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> ConvertError {
    let path = path.to_path_buf();
    move |source| ConvertError::Write { path, source }
}

/// The type that a tensor gets.
fn target(asked: Option<DType>, from: DType) -> DType {
    match (asked, from) {
        _ if !from.is_float() => from,
        (Some(dtype), _) => dtype,
        (None, DType::F32 | DType::F16 | DType::Bf16) => from,
        (None, _) => DType::Bf16,
    }
}

/// Whether a tensor is a vector or what routes tokens to experts, which GGUF files have in f32.
fn small(expected: &Expected) -> bool {
    expected.shape.len() < 2 || expected.gguf.ends_with("ffn_gate_inp.weight")
}

#[cfg(test)]
mod tests;
