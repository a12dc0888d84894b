//! Importance matrices: for each weight matrix the mean square of what each column is multiplied with, as llama.cpp's
//! `llama-imatrix` writes it, in its old form (`.dat`) and as GGUF.
#![forbid(unsafe_code)]

use crate::DType;
use crate::file::gguf::{self, Problem};
use std::collections::HashMap;

const HELP: &str = "make it again with llama-imatrix";
/// The keys of the GGUF form, and what it adds to a tensor's name.
const DATASETS: &str = "imatrix.datasets";
const CHUNKS: &str = "imatrix.chunk_count";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// What is known of a model's columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// By the name of the weight matrix: each column's importance; of matrices of experts, one expert after the other.
    entries: HashMap<String, Vec<f32>>,
    /// The text that it was measured on, if the file says so.
    pub dataset: Option<String>,
    /// In how many pieces, if the file says so.
    pub chunks: Option<u32>,
}

type Result<T> = std::result::Result<T, Problem>;

fn problem(at: usize, field: impl Into<String>, what: impl Into<String>) -> Problem {
    let offset = u64::try_from(at).unwrap_or(u64::MAX);
    Problem { offset, field: field.into(), what: what.into(), help: HELP }
}

impl Imatrix {
    /// Reads a file's bytes, in either form.
    ///
    /// # Errors
    /// Where and what, at the first thing that is wrong. No allocation is larger than the file.
    pub fn parse(bytes: &[u8]) -> Result<Imatrix> {
        let read = if bytes.starts_with(b"GGUF") { of_gguf(bytes) } else { of_old(bytes) }?;
        if read.entries.is_empty() {
            return Err(problem(0, "the importance matrix", "there is nothing in it"));
        }
        Ok(read)
    }

    /// How many weight matrices it knows.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The importance of each column of a weight matrix; of experts, one after the other.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.entries.get(name).map(Vec::as_slice)
    }

    fn insert(&mut self, at: usize, name: String, values: Vec<f32>) -> Result<()> {
        let field = || format!("the importance of `{name}`");
        if let Some(index) = values.iter().position(|value| !value.is_finite() || *value < 0.0) {
            let value = values.get(index).copied().unwrap_or(f32::NAN);
            return Err(problem(at, field(), format!("column {index} has {value}; a mean square is neither")));
        }
        if self.entries.contains_key(&name) {
            return Err(problem(at, field(), "it is there twice"));
        }
        self.entries.insert(name, values);
        Ok(())
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, field: &str) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count);
        let Some((end, bytes)) = end.and_then(|end| Some((end, self.bytes.get(self.at..end)?))) else {
            let left = self.bytes.len().saturating_sub(self.at);
            let what =
                format!("it takes {count} bytes, and the file has {left} more: it is cut short, or no such file");
            return Err(problem(self.at, field, what));
        };
        self.at = end;
        Ok(bytes)
    }

    /// A count of at least `least`, as an i32.
    fn count(&mut self, least: usize, field: &str) -> Result<usize> {
        let at = self.at;
        let bytes = self.take(4, field)?;
        let value = bytes.first_chunk().map_or(-1, |bytes| i32::from_le_bytes(*bytes));
        let count = usize::try_from(value).ok().filter(|count| *count >= least);
        count.ok_or_else(|| problem(at, field, format!("it is {value}; it must be at least {least}")))
    }

    fn text(&mut self, count: usize, field: &str) -> Result<String> {
        let at = self.at;
        let bytes = self.take(count, field)?;
        let text = std::str::from_utf8(bytes).map_err(|_| problem(at, field, "it is not UTF-8"))?;
        Ok(text.trim_end_matches('\0').to_string())
    }
}

/// Entries of a name, a number of calls and sums over those calls; then pieces and the text's name, which may be missing.
fn of_old(bytes: &[u8]) -> Result<Imatrix> {
    let mut reader = Reader { bytes, at: 0 };
    let mut read = Imatrix::default();
    let entries = reader.count(1, "the number of entries")?;
    for index in 0..entries {
        let field = format!("entry {index} of {entries}");
        let at = reader.at;
        let length = reader.count(1, &field)?;
        let name = reader.text(length, &field)?;
        let calls = reader.count(0, &field)?;
        let values = reader.count(1, &field)?;
        let bytes = reader.take(values.saturating_mul(4), &format!("the values of `{name}`"))?;
        let (values, _) = bytes.as_chunks::<4>();
        let divisor = if calls > 0 { calls as f32 } else { 1.0 };
        let values = values.iter().map(|value| f32::from_le_bytes(*value) / divisor).collect();
        read.insert(at, name, values)?;
    }
    if reader.at < bytes.len() {
        read.chunks = u32::try_from(reader.count(0, "the number of pieces")?).ok();
    }
    if reader.at < bytes.len() {
        let length = reader.count(0, "the name of the text")?;
        read.dataset = Some(reader.text(length, "the name of the text")?).filter(|name| !name.is_empty());
    }
    Ok(read)
}

/// Tensors `X.in_sum2` [experts, columns] and `X.counts` [experts, 1], both f32.
fn of_gguf(bytes: &[u8]) -> Result<Imatrix> {
    let head = gguf::parse(bytes)?;
    let floats = |tensor: &gguf::TensorInfo| -> Result<Vec<f32>> {
        let at = usize::try_from(tensor.offset).unwrap_or(usize::MAX);
        let wrong = |what: &str| problem(at, format!("tensor `{}`", tensor.name), what);
        if tensor.dtype != DType::F32 {
            return Err(wrong("its element type is not f32"));
        }
        let count = usize::try_from(tensor.bytes).unwrap_or(usize::MAX);
        let data = at.checked_add(count).and_then(|end| bytes.get(at..end));
        let (values, _) = data.ok_or_else(|| wrong("it is not in the file"))?.as_chunks::<4>();
        Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
    };
    let by_name: HashMap<&str, &gguf::TensorInfo> = head.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut read = Imatrix::default();
    for tensor in &head.tensors {
        let at = usize::try_from(tensor.offset).unwrap_or(usize::MAX);
        let wrong = |what: &str| problem(at, format!("tensor `{}`", tensor.name), what);
        let Some(name) = tensor.name.strip_suffix(SUMS) else { continue };
        let counts = by_name.get(format!("{name}{COUNTS}").as_str()).ok_or_else(|| wrong("its counts are missing"))?;
        let (mut sums, counts) = (floats(tensor)?, floats(counts)?);
        if sums.is_empty() || counts.is_empty() || !sums.len().is_multiple_of(counts.len()) {
            return Err(wrong(&format!("{} sums and {} counts don't belong together", sums.len(), counts.len())));
        }
        let columns = sums.len().div_ceil(counts.len());
        for (sums, count) in sums.chunks_mut(columns).zip(&counts) {
            // An expert that nothing went to: all columns count the same.
            sums.iter_mut().for_each(|sum| *sum = if *count > 0.0 { *sum / count.round() } else { 1.0 });
        }
        read.insert(at, name.into(), sums)?;
    }
    read.chunks = head.metadata.get(CHUNKS).and_then(gguf::Value::unsigned).and_then(|n| u32::try_from(n).ok());
    let datasets = head.metadata.get(DATASETS).and_then(gguf::Value::array).and_then(gguf::Array::strings);
    read.dataset = datasets.and_then(<[String]>::first).cloned();
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;
    use gguf::{Array, Planned, Value};

    fn old() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(2i32.to_le_bytes());
        for (name, calls, values) in [("a.weight", 4i32, [4.0f32, 8.0]), ("b.weight", 0, [1.0, 0.0])] {
            bytes.extend((name.len() as i32).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(calls.to_le_bytes());
            bytes.extend((values.len() as i32).to_le_bytes());
            values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        }
        bytes.extend(7i32.to_le_bytes());
        bytes.extend(8i32.to_le_bytes());
        bytes.extend(b"some.txt");
        bytes
    }

    fn new(sums: &[f32], counts: &[f32], counts_name: &str) -> Vec<u8> {
        let planned = |name: &str, shape: Shape| Planned { name: name.into(), dtype: DType::F32, shape };
        let metadata = [(CHUNKS, Value::U32(9)), (DATASETS, Value::Array(Array::String(vec!["other.txt".into()])))];
        let tensors = [
            (planned("e.weight.in_sum2", Shape::from([counts.len(), sums.len() / counts.len()])), bytes_of(sums)),
            (planned(counts_name, Shape::from([counts.len(), 1])), bytes_of(counts)),
        ];
        let tensors: Vec<_> = tensors.iter().map(|(p, b)| (p.clone(), b.as_slice())).collect();
        gguf::write(Vec::new(), &metadata.into_iter().collect(), &tensors).expect("it can be written")
    }

    fn bytes_of(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn both_forms_are_read() {
        let read = Imatrix::parse(&old()).expect("it is whole");
        assert_eq!((read.len(), read.chunks, read.dataset.as_deref()), (2, Some(7), Some("some.txt")));
        assert_eq!(read.get("a.weight"), Some(&[1.0, 2.0][..]));
        assert_eq!(read.get("b.weight"), Some(&[1.0, 0.0][..]));
        let read = Imatrix::parse(&new(&[2.0, 4.0, 5.0, 6.0], &[2.0, 0.0], "e.weight.counts")).expect("it is whole");
        assert_eq!((read.chunks, read.dataset.as_deref()), (Some(9), Some("other.txt")));
        assert_eq!(read.get("e.weight"), Some(&[1.0, 2.0, 1.0, 1.0][..]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let whole = old();
        // Without the last part, or both, the file is whole.
        let allowed = [whole.len() - 12, whole.len() - 16];
        for end in 0..whole.len() {
            assert_eq!(Imatrix::parse(&whole[..end]).is_ok(), allowed.contains(&end), "{end}");
        }
        let says = |bytes: &[u8], what: &str| {
            let text = Imatrix::parse(bytes).expect_err(what).to_string();
            assert!(text.contains(what), "{text}");
        };
        let mut bytes = whole.clone();
        bytes[..4].copy_from_slice(&(-1i32).to_le_bytes());
        says(&bytes, "byte 0: the number of entries: it is -1");
        let mut bytes = whole.clone();
        bytes[4..8].copy_from_slice(&i32::MAX.to_le_bytes());
        says(&bytes, "byte 8: entry 0 of 2: it takes 2147483647 bytes");
        let mut bytes = whole.clone();
        bytes[24..28].copy_from_slice(&f32::NAN.to_le_bytes());
        says(&bytes, "column 0 has NaN");
        says(&new(&[1.0, 2.0], &[1.0], "f.weight.counts"), "its counts are missing");
        says(&new(&[-1.0, 2.0], &[1.0], "e.weight.counts"), "column 0 has -1");
    }
}
