//! A safetensors file to any sink: the head, then each tensor's bytes in the order of the head; and an index of shards.
#![forbid(unsafe_code)]

use super::{METADATA, Planned, TYPES, name_of};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Writes a file's tensors one after the other, so that they needn't be in memory together.
pub struct Writer<W: Write> {
    sink: W,
    expected: std::vec::IntoIter<(String, u64)>,
}

/// The order that the reference library writes: the widest elements first, so that all are aligned, then by name.
pub fn ordered(mut tensors: Vec<Planned>) -> Vec<Planned> {
    let width = |tensor: &Planned| TYPES.iter().position(|(_, dtype)| *dtype == tensor.dtype);
    tensors.sort_by(|a, b| width(b).cmp(&width(a)).then_with(|| a.name.cmp(&b.name)));
    tensors
}

impl<W: Write> Writer<W> {
    /// Writes the head.
    ///
    /// # Errors
    /// When the sink fails, a name is there twice, or the format can't hold a shape or an element type.
    pub fn new(mut sink: W, metadata: &BTreeMap<String, String>, tensors: &[Planned]) -> io::Result<Self> {
        let mut header = Map::new();
        if !metadata.is_empty() {
            header.insert(METADATA.into(), json!(metadata));
        }
        let (mut offset, mut expected) = (0u64, Vec::with_capacity(tensors.len()));
        for tensor in tensors {
            let name = &tensor.name;
            let dtype = name_of(tensor.dtype).ok_or_else(|| {
                invalid(format!(
                    "tensor `{name}` has element type {}, which safetensors files can't hold",
                    tensor.dtype
                ))
            })?;
            let bytes = tensor.bytes();
            let Some((bytes, end)) = bytes.and_then(|bytes| Some((bytes, offset.checked_add(bytes)?))) else {
                return Err(invalid(format!("tensor `{name}`: its sizes {} are too large", tensor.shape)));
            };
            let entry = json!({ "dtype": dtype, "shape": &tensor.shape[..], "data_offsets": [offset, end] });
            if header.insert(name.clone(), entry).is_some() {
                return Err(invalid(format!("tensor `{name}` is there twice")));
            }
            expected.push((name.clone(), bytes));
            offset = end;
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        sink.write_all(&(header.len() as u64).to_le_bytes())?;
        sink.write_all(&header)?;
        Ok(Writer { sink, expected: expected.into_iter() })
    }

    /// Writes the next tensor's bytes.
    ///
    /// # Errors
    /// When the sink fails, or these are not as many bytes as the head says.
    pub fn tensor(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some((name, expected)) = self.expected.next() else {
            return Err(invalid("there are more tensors than the head names".into()));
        };
        if expected != bytes.len() as u64 {
            return Err(invalid(format!("tensor `{name}` has {} bytes; the head says {expected}", bytes.len())));
        }
        self.sink.write_all(bytes)
    }

    /// The sink, once every tensor is written.
    ///
    /// # Errors
    /// When tensors are missing.
    pub fn finish(mut self) -> io::Result<W> {
        match self.expected.next() {
            Some((name, _)) => Err(invalid(format!("tensor `{name}` was not written"))),
            None => Ok(self.sink),
        }
    }
}

/// The name of a shard, `number` from 1 on; of the only one, the single file's.
pub fn shard_name(number: usize, count: usize) -> String {
    match count {
        1 => super::SINGLE.into(),
        _ => format!("model-{number:05}-of-{count:05}.safetensors"),
    }
}

/// The text of the index of a model's shards.
pub fn index(shards: &[Vec<Planned>]) -> String {
    let mut places = BTreeMap::new();
    for (shard, tensors) in shards.iter().enumerate() {
        let file = shard_name(shard.saturating_add(1), shards.len());
        tensors.iter().for_each(|tensor| _ = places.insert(tensor.name.as_str(), file.clone()));
    }
    let bytes: u64 = shards.iter().flatten().filter_map(Planned::bytes).sum();
    let index = json!({ "metadata": { "total_size": bytes }, "weight_map": places });
    format!("{index:#}\n")
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
