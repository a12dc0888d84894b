//! GGUF version 3 to any sink: the head, then each tensor's bytes in the order of the head.

use super::{
    ALIGNMENT, ALIGNMENT_KEY, Array, LONGEST_NAME, MOST_DIMENSIONS, Metadata, Planned, Value, aligned, number_of,
};
use std::io::{self, Write};

/// Writes a file's tensors one after the other, so that they needn't be in memory together.
pub struct Writer<W: Write> {
    sink: W,
    alignment: u64,
    expected: std::vec::IntoIter<(String, u64)>,
    /// The tensor that was begun, its bytes, and how many of them are still to come.
    open: Option<(String, u64, u64)>,
}

impl<W: Write> Writer<W> {
    /// Writes the head.
    ///
    /// # Errors
    /// When the sink fails, or the format can't hold a name, a shape or an element type.
    pub fn new(mut sink: W, metadata: &Metadata, tensors: &[Planned]) -> io::Result<Self> {
        let alignment = metadata.get(ALIGNMENT_KEY).and_then(Value::unsigned).unwrap_or(ALIGNMENT);
        if !alignment.is_power_of_two() {
            return Err(invalid(format!("the alignment is {alignment}; it must be a power of two")));
        }
        let mut head = Vec::new();
        head.extend_from_slice(b"GGUF");
        head.extend_from_slice(&3u32.to_le_bytes());
        head.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
        head.extend_from_slice(&(metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata.iter() {
            text(&mut head, key);
            head.extend_from_slice(&value.kind().number().to_le_bytes());
            put(&mut head, value);
        }
        let (mut offset, mut expected) = (0u64, Vec::with_capacity(tensors.len()));
        for tensor in tensors {
            let bytes = describe(&mut head, tensor, offset)?;
            expected.push((tensor.name.clone(), bytes));
            offset =
                offset.checked_add(bytes).and_then(|end| aligned(end, alignment)).ok_or_else(|| too_large(tensor))?;
        }
        pad(&mut head, alignment);
        sink.write_all(&head)?;
        Ok(Writer { sink, alignment, expected: expected.into_iter(), open: None })
    }

    /// Writes the next tensor's bytes.
    ///
    /// # Errors
    /// When the sink fails, or these are not as many bytes as the head says.
    pub fn tensor(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.expected.as_slice().first() {
            Some((name, expected)) if *expected != bytes.len() as u64 => {
                Err(invalid(format!("tensor `{name}` has {} bytes; the head says {expected}", bytes.len())))
            }
            _ => self.piece(bytes),
        }
    }

    /// Writes a piece of the next tensor's bytes; what comes after its last is the tensor after it.
    ///
    /// # Errors
    /// When the sink fails, or there are more bytes than the head says.
    pub fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        let begun = self.open.take().or_else(|| self.expected.next().map(|(name, all)| (name, all, all)));
        let Some((name, all, left)) = begun else {
            return Err(invalid("there are more tensors than the head names".into()));
        };
        let Some(left) = left.checked_sub(bytes.len() as u64) else {
            return Err(invalid(format!("tensor `{name}` has more bytes than the {all} that the head says")));
        };
        self.sink.write_all(bytes)?;
        if left > 0 {
            self.open = Some((name, all, left));
            return Ok(());
        }
        let end = aligned(all, self.alignment).unwrap_or(all);
        let zeros = vec![0; usize::try_from(end.saturating_sub(all)).unwrap_or(0)];
        self.sink.write_all(&zeros)
    }

    /// The sink, once every tensor is written.
    ///
    /// # Errors
    /// When tensors are missing.
    pub fn finish(mut self) -> io::Result<W> {
        match self.open.take().map(|(name, ..)| name).or_else(|| self.expected.next().map(|(name, _)| name)) {
            Some(name) => Err(invalid(format!("tensor `{name}` was not written to its end"))),
            None => Ok(self.sink),
        }
    }
}

/// A whole file's bytes into `sink`.
///
/// # Errors
/// As [`Writer`]'s.
pub fn write<W: Write>(sink: W, metadata: &Metadata, tensors: &[(Planned, &[u8])]) -> io::Result<W> {
    let planned: Vec<_> = tensors.iter().map(|(planned, _)| planned.clone()).collect();
    let mut writer = Writer::new(sink, metadata, &planned)?;
    for (_, bytes) in tensors {
        writer.tensor(bytes)?;
    }
    writer.finish()
}

/// A tensor's entry in the head; answers its bytes.
fn describe(head: &mut Vec<u8>, tensor: &Planned, offset: u64) -> io::Result<u64> {
    let (name, dtype) = (&tensor.name, tensor.dtype);
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(invalid(format!(
            "tensor `{name}`: GGUF names have 1 to {LONGEST_NAME} bytes, this one {}",
            name.len()
        )));
    }
    let sizes: Vec<u64> =
        if tensor.shape.is_empty() { vec![1] } else { tensor.shape.iter().rev().map(|s| *s as u64).collect() };
    if sizes.len() > MOST_DIMENSIONS {
        return Err(invalid(format!(
            "tensor `{name}`: GGUF holds {MOST_DIMENSIONS} dimensions at most, this has {}",
            sizes.len()
        )));
    }
    let number =
        number_of(dtype).ok_or_else(|| invalid(format!("tensor `{name}`: GGUF has no element type {dtype}")))?;
    if !tensor.shape.last().is_multiple_of(dtype.block_elements()) {
        let row = tensor.shape.last();
        return Err(invalid(format!("tensor `{name}`: its rows have {row} elements, which {dtype} blocks don't fill")));
    }
    let bytes = tensor.bytes().ok_or_else(|| too_large(tensor))?;
    text(head, name);
    head.extend_from_slice(&(sizes.len() as u32).to_le_bytes());
    sizes.iter().for_each(|size| head.extend_from_slice(&size.to_le_bytes()));
    head.extend_from_slice(&number.to_le_bytes());
    head.extend_from_slice(&offset.to_le_bytes());
    Ok(bytes)
}

fn too_large(tensor: &Planned) -> io::Error {
    invalid(format!("tensor `{}`: its sizes {} are too large", tensor.name, tensor.shape))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn pad(head: &mut Vec<u8>, alignment: u64) {
    let end = aligned(head.len() as u64, alignment).unwrap_or(0);
    head.resize(usize::try_from(end).unwrap_or(head.len()).max(head.len()), 0);
}

fn text(head: &mut Vec<u8>, text: &str) {
    head.extend_from_slice(&(text.len() as u64).to_le_bytes());
    head.extend_from_slice(text.as_bytes());
}

fn put(head: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => head.extend_from_slice(&v.to_le_bytes()),
        Value::I8(v) => head.extend_from_slice(&v.to_le_bytes()),
        Value::U16(v) => head.extend_from_slice(&v.to_le_bytes()),
        Value::I16(v) => head.extend_from_slice(&v.to_le_bytes()),
        Value::U32(v) => head.extend_from_slice(&v.to_le_bytes()),
        Value::I32(v) => head.extend_from_slice(&v.to_le_bytes()),
        Value::F32(v) => head.extend_from_slice(&v.to_le_bytes()),
        Value::U64(v) => head.extend_from_slice(&v.to_le_bytes()),
        Value::I64(v) => head.extend_from_slice(&v.to_le_bytes()),
        Value::F64(v) => head.extend_from_slice(&v.to_le_bytes()),
        Value::Bool(v) => head.push(u8::from(*v)),
        Value::String(v) => text(head, v),
        Value::Array(v) => put_array(head, v),
    }
}

fn put_array(head: &mut Vec<u8>, array: &Array) {
    head.extend_from_slice(&array.kind().number().to_le_bytes());
    head.extend_from_slice(&(array.len() as u64).to_le_bytes());
    match array {
        Array::U8(values) => head.extend_from_slice(values),
        Array::I8(values) => values.iter().for_each(|v| head.extend_from_slice(&v.to_le_bytes())),
        Array::U16(values) => values.iter().for_each(|v| head.extend_from_slice(&v.to_le_bytes())),
        Array::I16(values) => values.iter().for_each(|v| head.extend_from_slice(&v.to_le_bytes())),
        Array::U32(values) => values.iter().for_each(|v| head.extend_from_slice(&v.to_le_bytes())),
        Array::I32(values) => values.iter().for_each(|v| head.extend_from_slice(&v.to_le_bytes())),
        Array::F32(values) => values.iter().for_each(|v| head.extend_from_slice(&v.to_le_bytes())),
        Array::U64(values) => values.iter().for_each(|v| head.extend_from_slice(&v.to_le_bytes())),
        Array::I64(values) => values.iter().for_each(|v| head.extend_from_slice(&v.to_le_bytes())),
        Array::F64(values) => values.iter().for_each(|v| head.extend_from_slice(&v.to_le_bytes())),
        Array::Bool(values) => values.iter().for_each(|v| head.push(u8::from(*v))),
        Array::String(values) => values.iter().for_each(|v| text(head, v)),
        Array::Array(values) => values.iter().for_each(|v| put_array(head, v)),
    }
}
