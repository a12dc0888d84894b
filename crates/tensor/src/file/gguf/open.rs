//! A GGUF model on disk, in one file or in parts, its tensors read where they lie.

use super::{Error, Head, Metadata, Problem, TensorInfo, Tensors, parse};
use crate::file::mmap::Mapped;
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
    tensors: Tensors,
    warnings: Vec<String>,
}

/// One file of a model.
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
                return Err(Error::missing(&path, &format!("part {number} of {count} is missing"), PARTS_HELP));
            }
            parts.push(part(&path)?);
        }
        check_parts(&parts)?;
        File::of_parts(&name.path(path, 1), parts)
    }

    /// A model in one file whose bytes are in memory; `path` is for errors.
    ///
    /// # Errors
    /// When it isn't valid, or is one of several parts.
    pub fn of_bytes(path: &Path, bytes: Vec<u8>) -> Result<File, Error> {
        let part = part_of(Mapped::of_bytes(path, bytes))?;
        match split_number(&part, SPLIT_COUNT_KEY)?.unwrap_or(1) {
            0 | 1 => File::of_parts(path, vec![part]),
            count => Err(wrong(&part, SPLIT_COUNT_KEY, format!("it is one of {count} parts"), PARTS_HELP)),
        }
    }

    fn of_parts(path: &Path, mut parts: Vec<Part>) -> Result<File, Error> {
        let trailing = |part: &Part| {
            let (path, bytes) = (part.mapped.path().display(), part.head.trailing_bytes);
            (bytes > 0).then(|| format!("{path}: {bytes} bytes after the last tensor belong to nothing"))
        };
        let warnings = parts.iter().filter_map(trailing).collect();
        let mut first = parts.first_mut().map(|part| &mut part.head);
        let metadata = first.as_mut().map(|head| std::mem::take(&mut head.metadata)).unwrap_or_default();
        let version = first.map_or(3, |head| head.version);
        let parts = parts.into_iter().map(|part| (part.mapped, part.head.tensors)).collect();
        let tensors = Tensors::new(parts, PARTS_HELP)?;
        Ok(File { path: path.into(), metadata, version, tensors, warnings })
    }

    /// The file, or the first part.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keys and values; of a model in parts, the first part's.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The tensors of all parts.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// A tensor by its name, with its bytes where they lie in the file.
    pub fn tensor(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        self.tensors.get(name)
    }

    /// What is odd about the files, but no reason to refuse them.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// An error about a key, for those who find it wrong.
    pub fn key_error(&self, key: &str, what: impl Into<String>, help: &'static str) -> Error {
        let offset = self.metadata.offset(key).unwrap_or(0);
        Problem::new(offset, format!("key `{key}`"), what).help(help).within(&self.path)
    }
}

fn part(path: &Path) -> Result<Part, Error> {
    part_of(Mapped::open(path).map_err(Error::io(path))?)
}

fn part_of(mapped: Mapped) -> Result<Part, Error> {
    let head = parse(mapped.bytes()).map_err(|problem| problem.within(mapped.path()))?;
    Ok(Part { mapped, head })
}

/// An error about a key of a part.
fn wrong(part: &Part, key: &str, what: String, help: &'static str) -> Error {
    let offset = part.head.metadata.offset(key).unwrap_or(0);
    Problem::new(offset, format!("key `{key}`"), what).help(help).within(part.mapped.path())
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
