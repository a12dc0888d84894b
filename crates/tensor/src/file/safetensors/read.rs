//! The head of a safetensors file from its bytes, at least as strict as the reference library.
#![forbid(unsafe_code)]

use super::{Head, LARGEST_HEADER, METADATA, Problem, TensorInfo, dtype_of};
use crate::Shape;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// Most tensors of a file, and most of its own texts: in memory each takes more than in the file.
const MOST_ENTRIES: usize = 1 << 17;
/// Longest name of a tensor, in bytes.
const LONGEST_NAME: usize = 4096;
/// Bytes of all names at most; each is kept several times.
const MOST_NAMES: usize = 8 << 20;
/// Most dimensions of a tensor.
const MOST_DIMENSIONS: usize = 16;
/// Bytes before the header: its length.
const LENGTH_BYTES: usize = 8;

type Result<T> = std::result::Result<T, Problem>;

/// Reads the head of a safetensors file. `bytes` are the whole file: what the head says must fit it exactly.
///
/// Beyond what the reference library refuses, it refuses names that are there twice, a header that doesn't begin with
/// `{`, more than 16 dimensions, more than 131,072 tensors or texts, names of more than 4,096 bytes
/// each or 8 MiB together, and headers of more than 16 MiB.
///
/// # Errors
/// Where and what, at the first thing that is wrong.
pub fn head(bytes: &[u8]) -> Result<Head> {
    if let Some(problem) = another_format(bytes) {
        return Err(problem);
    }
    let header = header(bytes)?;
    let place = |part: &str| part.as_ptr().addr().saturating_sub(bytes.as_ptr().addr()) as u64;
    let entries: Entries =
        serde_json::from_str(header).map_err(|e| in_json(header, LENGTH_BYTES as u64, "the header", &e))?;
    let mut metadata = BTreeMap::new();
    let mut tensors = Vec::new();
    let mut names = HashSet::new();
    for (name, raw) in entries.0 {
        let at = place(raw.get());
        if name.len() > LONGEST_NAME {
            let what = format!("its name has {} bytes; more than {LONGEST_NAME} are refused", name.len());
            return Err(Problem::new(at, "a tensor", what));
        }
        let field = || format!("tensor `{name}`");
        if !names.insert(name.clone()) {
            return Err(Problem::new(at, field(), "its name is there twice"));
        }
        if name == METADATA {
            let texts: Texts = serde_json::from_str(raw.get()).map_err(|e| in_json(raw.get(), at, METADATA, &e))?;
            metadata = texts.0;
            continue;
        }
        let entry: Entry = serde_json::from_str(raw.get()).map_err(|e| in_json(raw.get(), at, &field(), &e))?;
        tensors.push((at, tensor(name.clone(), &entry, at)?));
    }
    let data_start = LENGTH_BYTES.saturating_add(header.len()) as u64;
    let tensors = placed(tensors, data_start, bytes.len() as u64)?;
    Ok(Head { metadata, tensors })
}

/// What the file is, if it is something else that is often found in its place.
fn another_format(bytes: &[u8]) -> Option<Problem> {
    let (what, help) = if bytes.starts_with(b"version https://git-lfs") {
        ("it is a Git LFS pointer, not the model itself", "fetch the file itself with `git lfs pull`")
    } else if bytes.starts_with(b"GGUF") {
        ("it is a GGUF file, not safetensors", "give it a name that ends in .gguf")
    } else if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
        ("it is a PyTorch file, which may hold code, not safetensors", "get the model as safetensors or GGUF")
    } else {
        return None;
    };
    Some(Problem::new(0, "the file's beginning", what).help(help))
}

/// The header's text.
fn header(bytes: &[u8]) -> Result<&str> {
    let field = "the header's length";
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(Problem::new(
            0,
            field,
            format!("it takes 8 bytes, and the file has {}: it is cut short", bytes.len()),
        ));
    };
    let length = u64::from_le_bytes(*length);
    if length > LARGEST_HEADER {
        let what = format!("it is {length}; more than {LARGEST_HEADER} are refused: this is no safetensors file");
        return Err(Problem::new(0, field, what).help("name a safetensors file, or get it again"));
    }
    let header = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let Some(header) = header else {
        return Err(Problem::new(
            0,
            field,
            format!("it is {length}, and the file has {} more: it is cut short", rest.len()),
        ));
    };
    let header = std::str::from_utf8(header).map_err(|e| {
        let at = LENGTH_BYTES.saturating_add(e.valid_up_to()) as u64;
        Problem::new(at, "the header", "it is not UTF-8")
    })?;
    if !header.starts_with('{') {
        return Err(Problem::new(LENGTH_BYTES as u64, "the header", "it does not begin with `{`"));
    }
    Ok(header)
}

/// A tensor whose offset counts from the data's start still.
fn tensor(name: String, entry: &Entry, at: u64) -> Result<TensorInfo> {
    let field = format!("tensor `{name}`");
    let dtype = dtype_of(&entry.dtype)
        .map_err(|what| Problem::new(at, &field, what).help("get the model in float32, bfloat16 or float16"))?;
    let (begin, end) = entry.data_offsets;
    let Some(bytes) = end.checked_sub(begin) else {
        return Err(Problem::new(at, field, format!("it ends at {end}, before it begins at {begin}")));
    };
    let sizes: Option<Vec<usize>> = entry.shape.0.iter().map(|size| usize::try_from(*size).ok()).collect();
    let elements = entry.shape.0.iter().try_fold(1u64, |product, size| product.checked_mul(*size));
    let needed = elements.and_then(|elements| elements.checked_mul(dtype.block_bytes() as u64));
    // A size of zero hides how large the others are: they must make sense by themselves.
    let all = entry.shape.0.iter().filter(|size| **size > 0).try_fold(1u64, |product, size| product.checked_mul(*size));
    let (Some(sizes), Some(needed), Some(_)) = (sizes, needed, all) else {
        return Err(Problem::new(at, field, format!("its sizes {:?} are too large", entry.shape.0)));
    };
    if needed != bytes {
        let what =
            format!("{dtype}{} takes {needed} bytes; its offsets {begin} to {end} hold {bytes}", Shape::from(sizes));
        return Err(Problem::new(at, field, what));
    }
    Ok(TensorInfo { name, dtype, shape: sizes.into(), offset: begin, bytes })
}

/// Checks that the tensors cover the data exactly, and makes offsets count from the file's start.
fn placed(mut found: Vec<(u64, TensorInfo)>, data_start: u64, length: u64) -> Result<Vec<TensorInfo>> {
    found.sort_by_key(|(_, tensor)| (tensor.offset, tensor.bytes));
    let mut reached = 0u64;
    let mut before = None;
    for (at, tensor) in &mut found {
        let (begin, end) = (tensor.offset, tensor.offset.saturating_add(tensor.bytes));
        if begin != reached {
            let after = before.as_ref().map_or("the data begins".into(), |name| format!("tensor `{name}` ends"));
            let what = match begin < reached {
                true => format!("its data begins at {begin}, before {after} at {reached}"),
                false => {
                    format!("its data begins at {begin}, but {after} at {reached}: what is between belongs to nothing")
                }
            };
            return Err(Problem::new(*at, format!("tensor `{}`", tensor.name), what));
        }
        let file_end = data_start.checked_add(end).filter(|end| *end <= length);
        if file_end.is_none() {
            let there = length.saturating_sub(data_start);
            let what = format!("its data ends at {end}, and the file has {there} bytes of data: it is cut short");
            return Err(Problem::new(*at, format!("tensor `{}`", tensor.name), what));
        }
        tensor.offset = data_start.saturating_add(begin);
        reached = end;
        before = Some(tensor.name.clone());
    }
    let used = data_start.saturating_add(reached);
    if used != length {
        let what = format!("{} bytes after the last tensor belong to nothing", length.saturating_sub(used));
        return Err(Problem::new(used, "the file's end", what));
    }
    Ok(found.into_iter().map(|(_, tensor)| tensor).collect())
}

/// What the JSON parser says about `text`, which begins at byte `start` of the file.
fn in_json(text: &str, start: u64, field: &str, error: &serde_json::Error) -> Problem {
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = before.saturating_add(error.column().saturating_sub(1)).min(text.len());
    let said = error.to_string();
    // The place is in the offset already.
    let what = said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what);
    Problem::new(start.saturating_add(at as u64), field, what)
}

/// Names with what stands at each, unread.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Of;
        impl<'de> Visitor<'de> for Of {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut entries: Vec<(String, &RawValue)> = Vec::new();
                let mut names = 0usize;
                while let Some(entry) = map.next_entry::<String, &RawValue>()? {
                    names = names.saturating_add(entry.0.len());
                    if names > MOST_NAMES {
                        return Err(A::Error::custom(format!("more than {MOST_NAMES} bytes of names are refused")));
                    }
                    if entries.len() >= MOST_ENTRIES {
                        return Err(A::Error::custom(format!("more than {MOST_ENTRIES} tensors are refused")));
                    }
                    entries.push(entry);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Of).map(Entries)
    }
}

/// The texts of `__metadata__`.
struct Texts(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Of;
        impl<'de> Visitor<'de> for Of {
            type Value = BTreeMap<String, String>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some((key, text)) = map.next_entry::<String, String>()? {
                    if texts.len() >= MOST_ENTRIES {
                        return Err(A::Error::custom(format!("more than {MOST_ENTRIES} texts are refused")));
                    }
                    if texts.contains_key(&key) {
                        return Err(A::Error::custom(format!("the key {key:?} is there twice")));
                    }
                    texts.insert(key, text);
                }
                Ok(texts)
            }
        }
        deserializer.deserialize_map(Of).map(Texts)
    }
}

/// What stands at a tensor's name.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Sizes,
    data_offsets: (u64, u64),
}

struct Sizes(Vec<u64>);

impl<'de> Deserialize<'de> for Sizes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Of;
        impl<'de> Visitor<'de> for Of {
            type Value = Vec<u64>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of sizes")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Self::Value, A::Error> {
                let mut sizes = Vec::new();
                while let Some(size) = list.next_element()? {
                    if sizes.len() >= MOST_DIMENSIONS {
                        return Err(A::Error::custom(format!("more than {MOST_DIMENSIONS} dimensions are refused")));
                    }
                    sizes.push(size);
                }
                Ok(sizes)
            }
        }
        deserializer.deserialize_seq(Of).map(Sizes)
    }
}
