//! The head of a GGUF file from its bytes: nothing in it is believed before it is checked against the file's length.

use super::{
    ALIGNMENT, ALIGNMENT_KEY, Array, CONVERT_AGAIN, Head, Kind, LONGEST_NAME, MOST_DIMENSIONS, Metadata, Problem,
    TensorInfo, Value, aligned, dtype_of,
};
use crate::Shape;
use std::collections::HashSet;

/// What to do about a tensor of a type that isn't read.
const OTHER_TYPE: &str = "get the model in another quantization, or convert the original model again";
/// Lists within lists go no deeper.
const DEEPEST: usize = 4;
/// Longest key, in bytes.
const LONGEST_KEY: usize = 65_535;
/// Most tensors, and most keys.
const MOST_ENTRIES: u64 = 65_536;
/// Bytes that the head may take in memory, beyond as many as the file has behind it: short texts take more than in the
/// file.
const FREE_BYTES: usize = 56 << 20;
/// Bytes in memory of a text beside its characters.
const TEXT_BYTES: usize = 24 + 16;
/// Bytes in memory of a list beside its values, of a key and its value, and of a tensor.
const LIST_BYTES: usize = 64;
const PAIR_BYTES: usize = 160;
const TENSOR_BYTES: usize = 400;
/// Bytes of a key's length, type and least value.
const LEAST_PAIR: u64 = 8 + 4 + 1;
/// Bytes of a tensor's name length, dimensions' count, type and offset.
const LEAST_TENSOR: u64 = 8 + 4 + 4 + 8;

type Result<T> = std::result::Result<T, Problem>;

/// Reads the head of a GGUF file. `bytes` are the whole file: what the head says must fit in it.
///
/// # Errors
/// Where and what, at the first thing that is wrong. Nothing is allocated for what isn't in the file, and all together
/// takes at most the file's size and 64 MiB, the file's own pages counted.
pub fn parse(bytes: &[u8]) -> Result<Head> {
    let mut reader = Reader { bytes, at: 0, held: 0 };
    let version = magic_and_version(&mut reader)?;
    let tensors_at = reader.at;
    let tensors = reader.u64("the number of tensors")?;
    let pairs_at = reader.at;
    let pairs = reader.u64("the number of keys")?;
    reader.fits(pairs_at, "the number of keys", pairs, LEAST_PAIR)?;
    reader.fits(tensors_at, "the number of tensors", tensors, LEAST_TENSOR)?;
    for (at, field, count) in [(tensors_at, "the number of tensors", tensors), (pairs_at, "the number of keys", pairs)]
    {
        if count > MOST_ENTRIES {
            return Err(problem(at, field, format!("it is {count}; more than {MOST_ENTRIES} are refused")));
        }
    }
    let mut metadata = Metadata::default();
    let mut alignment = ALIGNMENT;
    for index in 0..pairs {
        let at = reader.at;
        let key = reader.key(index)?;
        if metadata.get(&key).is_some() {
            return Err(problem(at, format!("key `{key}`"), "it is there twice"));
        }
        let value_at = reader.at;
        let value = reader.value(&key)?;
        if key == ALIGNMENT_KEY {
            alignment = alignment_of(&value).map_err(|what| problem(value_at, format!("key `{key}`"), what))?;
        }
        metadata.set(key, value);
        metadata.found_at(at as u64);
    }
    let mut found = Vec::new();
    let mut names = HashSet::new();
    for index in 0..tensors {
        let at = reader.at;
        let tensor = reader.tensor(index, tensors)?;
        if !names.insert(tensor.name.clone()) {
            return Err(problem(at, format!("tensor `{}`", tensor.name), "its name is there twice"));
        }
        found.push((at, tensor));
    }
    place(&reader, version, metadata, alignment, found)
}

/// Checks that every tensor lies in the file, apart from the others, and makes offsets count from the file's start.
fn place(
    reader: &Reader,
    version: u32,
    metadata: Metadata,
    alignment: u64,
    mut found: Vec<(usize, TensorInfo)>,
) -> Result<Head> {
    let length = reader.bytes.len() as u64;
    let head = reader.at as u64;
    let data_start = aligned(head, alignment).filter(|start| *start <= length || found.is_empty());
    let Some(data_start) = data_start else {
        return Err(problem(
            reader.at,
            "the tensors' data",
            format!("it is not there: the file ends at byte {length}"),
        ));
    };
    let mut ranges = Vec::with_capacity(found.len());
    for (at, tensor) in &mut found {
        let field = || format!("tensor `{}`", tensor.name);
        if !tensor.offset.is_multiple_of(alignment) {
            let what = format!("its offset {} is no multiple of the alignment, {alignment}", tensor.offset);
            return Err(problem(*at, field(), what));
        }
        let start = data_start.checked_add(tensor.offset);
        let end = start.and_then(|start| start.checked_add(tensor.bytes));
        let (Some(start), Some(end)) = (start, end) else {
            return Err(problem(*at, field(), format!("its offset {} is beyond any file", tensor.offset)));
        };
        if end > length {
            let what = format!(
                "it ends at byte {end} but the file has {length}: it is cut short ({}% is there) or damaged",
                (u128::from(length) * 100).checked_div(u128::from(end)).unwrap_or(0)
            );
            return Err(problem(*at, field(), what));
        }
        tensor.offset = start;
        if tensor.bytes > 0 {
            ranges.push((start, end, *at, tensor.name.clone()));
        }
    }
    ranges.sort();
    for pair in ranges.windows(2) {
        if let [(_, end, _, first), (start, _, at, second)] = pair
            && start < end
        {
            let what = format!("it begins at byte {start}, inside tensor `{first}`, which ends at byte {end}");
            return Err(problem(*at, format!("tensor `{second}`"), what));
        }
    }
    let used = ranges.last().map_or(data_start.min(length), |(_, end, ..)| *end);
    let padded = aligned(used, alignment).unwrap_or(used);
    let trailing_bytes = length.saturating_sub(padded);
    let tensors = found.into_iter().map(|(_, tensor)| tensor).collect();
    Ok(Head { version, metadata, tensors, data_start, trailing_bytes })
}

fn magic_and_version(reader: &mut Reader) -> Result<u32> {
    let length = reader.bytes.len();
    let magic = reader.take(4, || "the magic number".into())?;
    if magic != b"GGUF" {
        let none = format!("it is `{}`, not `GGUF`: this is no GGUF file", magic.escape_ascii());
        let (what, help) = match magic {
            b"ggml" | b"lmgg" | b"fmgg" | b"tjgg" | b"GGML" | b"GGMF" | b"GGJT" => {
                ("it is a model in a format older than GGUF", CONVERT_AGAIN)
            }
            b"vers" if length < 1024 => {
                ("it is a Git LFS pointer, not the model itself", "fetch the file itself with `git lfs pull`")
            }
            b"PK\x03\x04" => {
                ("it is a zip archive or a PyTorch file, not GGUF", "get the model as GGUF or safetensors")
            }
            _ => (none.as_str(), "name a GGUF file"),
        };
        return Err(problem(0, "the magic number", what).help(help));
    }
    let at = reader.at;
    let version = reader.u32("the version")?;
    match version {
        2 | 3 => Ok(version),
        1 => Err(problem(at, "the version", "it is 1, which nobody reads any more").help(CONVERT_AGAIN)),
        _ if matches!(version.swap_bytes(), 1..=3) => {
            Err(problem(at, "the version", "the file is for big-endian machines").help(CONVERT_AGAIN))
        }
        _ => {
            let newer = "read it with a newer version of Rondo, or get the model in another file";
            Err(problem(at, "the version", format!("it is {version}; versions 2 and 3 are supported")).help(newer))
        }
    }
}

fn alignment_of(value: &Value) -> std::result::Result<u64, String> {
    let Value::U32(alignment) = value else {
        return Err(format!("its type is {}; it must be u32", value.kind().name()));
    };
    if !alignment.is_power_of_two() {
        return Err(format!("it is {alignment}; it must be a power of two"));
    }
    if *alignment > 1 << 20 {
        return Err(format!("it is {alignment}; more than 1048576 is refused"));
    }
    Ok(u64::from(*alignment))
}

fn problem(at: usize, field: impl Into<String>, what: impl Into<String>) -> Problem {
    Problem::new(at as u64, field, what)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Bytes in memory of what was read.
    held: usize,
}

macro_rules! numbers {
    ($($name:ident $ty:ty;)*) => {
        $(fn $name(&mut self, field: &str) -> Result<$ty> {
            self.number(field).map(<$ty>::from_le_bytes)
        })*
    };
}

impl<'a> Reader<'a> {
    numbers! { u32 u32; u64 u64; }

    fn number<const N: usize>(&mut self, field: &str) -> Result<[u8; N]> {
        let at = self.at;
        let bytes = self.take(N, || field.into())?;
        bytes.try_into().map_err(|_| problem(at, field, "it is cut short"))
    }

    fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    fn take(&mut self, count: usize, field: impl FnOnce() -> String) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count);
        let Some((end, bytes)) = end.and_then(|end| Some((end, self.bytes.get(self.at..end)?))) else {
            let what = format!("it takes {count} bytes, and the file has {} more: it is cut short", self.left());
            return Err(problem(self.at, field(), what));
        };
        self.at = end;
        Ok(bytes)
    }

    /// Whether `count` things of at least `least` bytes each can be in what is left of the file.
    fn fits(&self, at: usize, field: impl Into<String>, count: u64, least: u64) -> Result<usize> {
        let left = self.left() as u64;
        match (count.checked_mul(least), usize::try_from(count)) {
            (Some(bytes), Ok(count)) if bytes <= left => Ok(count),
            _ => {
                let what = format!("it is {count}, at least {least} bytes each, and the file has {left} more");
                Err(problem(at, field, what))
            }
        }
    }

    /// Counts what is to be kept in memory.
    fn hold(&mut self, at: usize, field: impl FnOnce() -> String, bytes: usize) -> Result<()> {
        self.held = self.held.saturating_add(bytes);
        match self.held <= FREE_BYTES.saturating_add(self.left()) {
            true => Ok(()),
            false => Err(problem(at, field(), "the head takes more memory than a file of this size may")),
        }
    }

    fn string(&mut self, field: impl Fn() -> String) -> Result<String> {
        let at = self.at;
        let length = self.number::<8>(&field()).map(u64::from_le_bytes)?;
        let length = self.fits(at, format!("the length of {}", field()), length, 1)?;
        self.hold(at, &field, length)?;
        let bytes_at = self.at;
        let bytes = self.take(length, &field)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_string()),
            Err(e) => Err(problem(bytes_at.saturating_add(e.valid_up_to()), field(), "it is not UTF-8")),
        }
    }

    fn key(&mut self, index: u64) -> Result<String> {
        let at = self.at;
        let key = self.string(|| format!("key {index}"))?;
        // Kept twice: in order, and to be found by.
        self.hold(at, || format!("key {index}"), key.len().saturating_add(PAIR_BYTES))?;
        let what = if key.is_empty() {
            "it is empty"
        } else if key.len() > LONGEST_KEY {
            "it is longer than 65535 bytes"
        } else if key.contains('\0') {
            "it contains a zero byte"
        } else {
            return Ok(key);
        };
        Err(problem(at, format!("key {index}"), what))
    }

    fn kind(&mut self, key: &str) -> Result<Kind> {
        let at = self.at;
        let number = self.u32(key)?;
        Kind::of_number(number)
            .ok_or_else(|| problem(at, format!("key `{key}`"), format!("its value has the unknown type {number}")))
    }

    fn flag(&mut self, key: &str) -> Result<bool> {
        let at = self.at;
        match self.number::<1>(key)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(problem(at, format!("key `{key}`"), format!("its flag is {other}; it must be 0 or 1"))),
        }
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        Ok(match self.kind(key)? {
            Kind::U8 => Value::U8(u8::from_le_bytes(self.number(key)?)),
            Kind::I8 => Value::I8(i8::from_le_bytes(self.number(key)?)),
            Kind::U16 => Value::U16(u16::from_le_bytes(self.number(key)?)),
            Kind::I16 => Value::I16(i16::from_le_bytes(self.number(key)?)),
            Kind::U32 => Value::U32(u32::from_le_bytes(self.number(key)?)),
            Kind::I32 => Value::I32(i32::from_le_bytes(self.number(key)?)),
            Kind::F32 => Value::F32(f32::from_le_bytes(self.number(key)?)),
            Kind::Bool => Value::Bool(self.flag(key)?),
            Kind::String => Value::String(self.string(|| format!("the text of key `{key}`"))?),
            Kind::U64 => Value::U64(u64::from_le_bytes(self.number(key)?)),
            Kind::I64 => Value::I64(i64::from_le_bytes(self.number(key)?)),
            Kind::F64 => Value::F64(f64::from_le_bytes(self.number(key)?)),
            Kind::Array => Value::Array(self.array(key, 1)?),
        })
    }

    fn array(&mut self, key: &str, depth: usize) -> Result<Array> {
        let at = self.at;
        if depth > DEEPEST {
            return Err(problem(at, format!("key `{key}`"), format!("its lists are more than {DEEPEST} deep")));
        }
        let kind = self.kind(key)?;
        let count_at = self.at;
        let count = self.u64(key)?;
        let field = || format!("the length of key `{key}`");
        let least = match kind {
            Kind::U8 | Kind::I8 | Kind::Bool => 1,
            Kind::U16 | Kind::I16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
            Kind::U64 | Kind::I64 | Kind::F64 | Kind::String => 8,
            Kind::Array => 12,
        };
        let count = self.fits(count_at, field(), count, least)?;
        let each = match kind {
            Kind::String => TEXT_BYTES,
            Kind::Array => LIST_BYTES,
            _ => usize::try_from(least).unwrap_or(TEXT_BYTES),
        };
        self.hold(count_at, field, count.saturating_mul(each))?;
        Ok(match kind {
            Kind::U8 => Array::U8(self.numbers(count, key, u8::from_le_bytes)?),
            Kind::I8 => Array::I8(self.numbers(count, key, i8::from_le_bytes)?),
            Kind::U16 => Array::U16(self.numbers(count, key, u16::from_le_bytes)?),
            Kind::I16 => Array::I16(self.numbers(count, key, i16::from_le_bytes)?),
            Kind::U32 => Array::U32(self.numbers(count, key, u32::from_le_bytes)?),
            Kind::I32 => Array::I32(self.numbers(count, key, i32::from_le_bytes)?),
            Kind::F32 => Array::F32(self.numbers(count, key, f32::from_le_bytes)?),
            Kind::U64 => Array::U64(self.numbers(count, key, u64::from_le_bytes)?),
            Kind::I64 => Array::I64(self.numbers(count, key, i64::from_le_bytes)?),
            Kind::F64 => Array::F64(self.numbers(count, key, f64::from_le_bytes)?),
            Kind::Bool => Array::Bool((0..count).map(|_| self.flag(key)).collect::<Result<_>>()?),
            Kind::String => {
                let mut texts = Vec::with_capacity(count);
                for index in 0..count {
                    texts.push(self.string(|| format!("text {index} of key `{key}`"))?);
                }
                Array::String(texts)
            }
            Kind::Array => {
                let mut lists = Vec::with_capacity(count);
                for _ in 0..count {
                    lists.push(self.array(key, depth.saturating_add(1))?);
                }
                Array::Array(lists)
            }
        })
    }

    /// `count` numbers in one piece.
    fn numbers<const N: usize, T>(&mut self, count: usize, key: &str, of: fn([u8; N]) -> T) -> Result<Vec<T>> {
        let bytes = self.take(count.saturating_mul(N), || format!("the values of key `{key}`"))?;
        let (values, _) = bytes.as_chunks::<N>();
        Ok(values.iter().map(|value| of(*value)).collect())
    }

    fn tensor(&mut self, index: u64, count: u64) -> Result<TensorInfo> {
        let at = self.at;
        let unnamed = || format!("tensor {index} of {count}");
        let name = self.string(|| format!("the name of {}", unnamed()))?;
        if name.is_empty() || name.len() > LONGEST_NAME {
            let what = format!("its name has {} bytes; it must have 1 to {LONGEST_NAME}", name.len());
            return Err(problem(at, unnamed(), what));
        }
        let field = format!("tensor `{name}`");
        self.hold(at, unnamed, TENSOR_BYTES)?;
        let at = self.at;
        let dimensions = self.u32(&field)? as usize;
        if dimensions == 0 || dimensions > MOST_DIMENSIONS {
            let what = format!("it has {dimensions} dimensions; there must be 1 to {MOST_DIMENSIONS}");
            return Err(problem(at, field, what));
        }
        let sizes_at = self.at;
        let mut sizes = Vec::with_capacity(dimensions);
        for _ in 0..dimensions {
            sizes.push(self.u64(&field)?);
        }
        let type_at = self.at;
        let dtype = dtype_of(self.u32(&field)?).map_err(|what| problem(type_at, &field, what).help(OTHER_TYPE))?;
        let offset = self.u64(&field)?;
        let too_large = || problem(sizes_at, &field, format!("its sizes {sizes:?} are too large"));
        let elements = sizes.iter().try_fold(1u64, |product, size| product.checked_mul(*size)).ok_or_else(too_large)?;
        // A size of zero hides how large the others are: they must make sense by themselves.
        sizes.iter().filter(|size| **size > 0).try_fold(1u64, |p, size| p.checked_mul(*size)).ok_or_else(too_large)?;
        let row = sizes.first().copied().unwrap_or(0);
        if !row.is_multiple_of(dtype.block_elements() as u64) {
            let what =
                format!("its rows have {row} elements, which {dtype} blocks of {} don't fill", dtype.block_elements());
            return Err(problem(sizes_at, &field, what));
        }
        let bytes = usize::try_from(elements).ok().and_then(|elements| dtype.bytes(elements));
        let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes <= u64::MAX / 2);
        let bytes = bytes.ok_or_else(too_large)?;
        let shape: Option<Vec<usize>> = sizes.iter().rev().map(|size| usize::try_from(*size).ok()).collect();
        let shape = Shape::from(shape.ok_or_else(too_large)?.as_slice());
        Ok(TensorInfo { name, dtype, shape, offset, bytes })
    }
}
