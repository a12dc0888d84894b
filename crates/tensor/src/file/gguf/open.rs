//! A GGUF model on disk, in one file or in parts, its tensors read where they lie.

use super::{Error, Head, Metadata, Problem, TensorInfo, parse};
use crate::file::mmap::Mapped;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Which part of a model a file is, counted from 0.
pub const SPLIT_NUMBER_KEY: &str = "split.no";
/// How many parts a model is in.
pub const SPLIT_COUNT_KEY: &str = "split.count";
/// How many tensors all parts have together.
pub const SPLIT_TENSORS_KEY: &str = "split.tensors.count";

/// What to do about parts that don't belong together.
const PARTS_HELP: &str =
    "keep all parts of one model, and of no other, in one folder under the names that they came with";

/// A model's metadata and tensors. Nothing but the heads is read when it is opened.
#[derive(Debug)]
pub struct File {
    /// The first file.
    path: PathBuf,
    metadata: Metadata,
    version: u32,
    parts: Vec<Part>,
    /// Part, and place in it, of each tensor by name.
    places: HashMap<String, (usize, usize)>,
    warnings: Vec<String>,
}

/// One file of a model.
#[derive(Debug)]
struct Part {
    mapped: Mapped,
    head: Head,
}

impl File {
    /// Opens a file; of a model in parts, `PREFIX-00001-of-00003.gguf` and so on, any of them opens all.
    ///
    /// # Errors
    /// When a file is missing, can't be read or isn't valid, or parts don't belong together: the file, byte offset,
    /// field, and what to do.
    pub fn open(path: &Path) -> Result<File, Error> {
        let named = part(path)?;
        let count = split_number(&named, SPLIT_COUNT_KEY)?.unwrap_or(1);
        if count <= 1 {
            return File::of_parts(path, vec![named]);
        }
        let Some(name) = SplitName::of(path) else {
            let what = format!("it is part of a model in {count} parts, and its name doesn't say which");
            let help = "name the parts PREFIX-00001-of-00003.gguf and so on";
            return Err(wrong(&named, SPLIT_COUNT_KEY, what, help));
        };
        if name.count != count {
            let what = format!("it is {count}; the file's name says {}", name.count);
            return Err(wrong(&named, SPLIT_COUNT_KEY, what, PARTS_HELP));
        }
        let mut parts = Vec::new();
        for number in 1..=count {
            let path = name.path(path, number);
            if !path.exists() {
                let missing = std::io::Error::new(
                    std::io::ErrorKind::NotFound,
                    format!("part {number} of {count} is missing\n  help: {PARTS_HELP}"),
                );
                return Err(Error::Io { path, source: missing });
            }
            parts.push(part(&path)?);
        }
        check_parts(&parts)?;
        File::of_parts(&name.path(path, 1), parts)
    }

    fn of_parts(path: &Path, mut parts: Vec<Part>) -> Result<File, Error> {
        let mut places = HashMap::new();
        let mut warnings = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            for (place, tensor) in part.head.tensors.iter().enumerate() {
                if places.insert(tensor.name.clone(), (index, place)).is_some() {
                    let field = format!("tensor `{}`", tensor.name);
                    let what = "it is in another part too: the parts are not of one model";
                    return Err(wrong(part, &field, what.into(), PARTS_HELP));
                }
            }
            if part.head.trailing_bytes > 0 {
                let (path, bytes) = (part.mapped.path().display(), part.head.trailing_bytes);
                warnings.push(format!("{path}: {bytes} bytes after the last tensor belong to nothing"));
            }
        }
        let mut first = parts.first_mut().map(|part| &mut part.head);
        let metadata = first.as_mut().map(|head| std::mem::take(&mut head.metadata)).unwrap_or_default();
        let version = first.map_or(3, |head| head.version);
        Ok(File { path: path.into(), metadata, version, parts, places, warnings })
    }

    /// Keys and values; of a model in parts, the first part's.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The tensors with their bytes, in the files' order. Offsets count from the start of the tensor's own file.
    pub fn tensors(&self) -> impl Iterator<Item = (&TensorInfo, &[u8])> {
        self.parts.iter().flat_map(|part| part.head.tensors.iter().map(|tensor| (tensor, part.bytes(tensor))))
    }

    /// A tensor by its name, with its bytes where they lie in the file.
    pub fn tensor(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        let (part, place) = self.places.get(name)?;
        let part = self.parts.get(*part)?;
        let tensor = part.head.tensors.get(*place)?;
        Some((tensor, part.bytes(tensor)))
    }

    /// How many tensors there are.
    pub fn num_tensors(&self) -> usize {
        self.places.len()
    }

    /// The file that holds a tensor; the first one for a name that isn't there.
    pub fn path_of(&self, name: &str) -> &Path {
        let part = self.places.get(name).and_then(|(part, _)| self.parts.get(*part));
        part.map_or(&self.path, |part| part.mapped.path())
    }

    /// The files, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| part.mapped.path())
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.mapped.bytes().len() as u64).sum()
    }

    /// What is odd about the files, but no reason to refuse them.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Checks that no file has changed since it was opened.
    ///
    /// # Errors
    /// When one has, with its name.
    pub fn unchanged(&self) -> Result<(), Error> {
        self.parts.iter().try_for_each(|part| {
            part.mapped.unchanged().map_err(|source| Error::Io { path: part.mapped.path().into(), source })
        })
    }

    /// An error about a key of this model, for those who find it wrong.
    pub fn key_error(&self, key: &str, what: impl Into<String>, help: &'static str) -> Error {
        let offset = self.metadata.offset(key).unwrap_or(0);
        let problem = Problem::new(offset, format!("key `{key}`"), what).help(help);
        Error::Format { path: self.path.clone(), problem }
    }

    /// An error about a tensor of this model, for those who find it wrong.
    pub fn tensor_error(&self, name: &str, what: impl Into<String>, help: &'static str) -> Error {
        let offset = self.tensor(name).map_or(0, |(tensor, _)| tensor.offset);
        let problem = Problem::new(offset, format!("tensor `{name}`"), what).help(help);
        Error::Format { path: self.path_of(name).into(), problem }
    }
}

impl Part {
    fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        let (Ok(start), Ok(count)) = (usize::try_from(tensor.offset), usize::try_from(tensor.bytes)) else {
            return &[];
        };
        // `parse` has seen that it lies in the file.
        start.checked_add(count).and_then(|end| self.mapped.bytes().get(start..end)).unwrap_or_default()
    }
}

fn part(path: &Path) -> Result<Part, Error> {
    let mapped = Mapped::open(path).map_err(|source| Error::Io { path: path.into(), source })?;
    let head = parse(mapped.bytes()).map_err(|problem| Error::Format { path: path.into(), problem })?;
    Ok(Part { mapped, head })
}

/// An error about a field of a part: a key, at its place in the file.
fn wrong(part: &Part, field: &str, what: String, help: &'static str) -> Error {
    let offset = part.head.metadata.offset(field).unwrap_or(0);
    let field = if field.contains(' ') { field.to_string() } else { format!("key `{field}`") };
    Error::Format { path: part.mapped.path().into(), problem: Problem::new(offset, field, what).help(help) }
}

fn split_number(part: &Part, key: &str) -> Result<Option<u64>, Error> {
    let Some(value) = part.head.metadata.get(key) else { return Ok(None) };
    match value.unsigned() {
        Some(number) => Ok(Some(number)),
        None => Err(wrong(part, key, format!("it is {value}; it must be a whole number"), PARTS_HELP)),
    }
}

/// Whether each part is what its name says, and all are of one model.
fn check_parts(parts: &[Part]) -> Result<(), Error> {
    let count = parts.len() as u64;
    let expected = parts.first().map(|first| split_number(first, SPLIT_TENSORS_KEY)).transpose()?.flatten();
    let architecture = |part: &Part| part.head.metadata.get("general.architecture").cloned();
    let first = parts.first().and_then(architecture);
    let mut found = 0u64;
    for (number, part) in (0..).zip(parts) {
        let says = split_number(part, SPLIT_NUMBER_KEY)?;
        if says != Some(number) {
            let human = |number: u64| number.saturating_add(1);
            let says = says.map_or("no part".into(), |says| format!("part {}", human(says)));
            let what = format!("the file says that it is {says}; its name says part {}", human(number));
            return Err(wrong(part, SPLIT_NUMBER_KEY, what, PARTS_HELP));
        }
        for (key, all) in [(SPLIT_COUNT_KEY, Some(count)), (SPLIT_TENSORS_KEY, expected)] {
            let here = split_number(part, key)?;
            if here != all {
                let show = |number: Option<u64>| number.map_or("missing".into(), |number| number.to_string());
                let what =
                    format!("it is {}, and {} in the first part: they are not of one model", show(here), show(all));
                return Err(wrong(part, key, what, PARTS_HELP));
            }
        }
        let key = "general.architecture";
        if let Some(here) = architecture(part)
            && Some(&here) != first.as_ref()
        {
            let other = first.map_or("missing".into(), |value| value.to_string());
            let what = format!("it is {here}, and {other} in the first part: they are not of one model");
            return Err(wrong(part, key, what, PARTS_HELP));
        }
        found = found.saturating_add(part.head.tensors.len() as u64);
    }
    match (expected, parts.first()) {
        (Some(expected), Some(first)) if expected != found => {
            let what = format!("it is {expected}; the parts have {found} tensors: they are not of one model");
            Err(wrong(first, SPLIT_TENSORS_KEY, what, PARTS_HELP))
        }
        _ => Ok(()),
    }
}

/// `PREFIX-00002-of-00003.gguf`.
struct SplitName {
    prefix: String,
    count: u64,
}

impl SplitName {
    fn of(path: &Path) -> Option<SplitName> {
        let name = path.file_name()?.to_str()?;
        let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
        (digits(number) && digits(count)).then_some(())?;
        Some(SplitName { prefix: prefix.into(), count: count.parse().ok()? })
    }

    fn path(&self, beside: &Path, number: u64) -> PathBuf {
        beside.with_file_name(part_name(&self.prefix, number, self.count))
    }
}

/// The name of a part, `number` from 1 on.
pub fn part_name(prefix: &str, number: u64, count: u64) -> String {
    format!("{prefix}-{number:05}-of-{count:05}.gguf")
}
