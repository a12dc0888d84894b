//! A GGUF file to a folder: config.json, safetensors in shards, and what else is known of the model.
#![forbid(unsafe_code)]

use super::numbers::{Way, converted, fit};
use super::{ConvertError, Made, Options, cannot_write, keep, small, target};
use crate::family::{self, Change, Expected, Known};
use crate::features::RopeChange;
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tensor::DType;
use tensor::file::gguf::{self, Value};
use tensor::file::safetensors::{INDEX, Planned, Writer, index, ordered, shard_name};
use tensor::file::{Error, TensorInfo, atomic, disk};

/// Bytes of a shard, about: as Hugging Face's tools make them.
const SHARD_BYTES: u64 = 5_000_000_000;
/// What to do about a tensor that can't be converted.
const HELP: &str = "convert a file whose tensors are f32, f16, bf16 or of a block format";

/// A part of a tensor of the GGUF file: the whole of it, or one of the experts that are stacked in it.
struct Part<'a> {
    info: &'a TensorInfo,
    bytes: &'a [u8],
    change: Change,
}

/// Writes a folder, whole or not at all.
///
/// # Errors
/// When the file is of no known family, a tensor can't be converted, or the folder is there or can't be written.
pub fn to_folder(file: &gguf::File, out: &Path, options: &mut Options) -> Result<Made, ConvertError> {
    let known = family::of_gguf(file)?;
    if let RopeChange::Factors { .. } = known.config.features.rope {
        let help = "use the GGUF file itself, or get the model as a folder";
        let what = "its factors are not made by Llama 3's rule, and config.json has no other way to say them";
        return Err(file.tensors().error("rope_freqs.weight", what, help).into());
    }
    let warnings = file.warnings().iter().chain(&known.warnings).cloned().collect();
    let mut made = Made { warnings, ..Made::default() };
    // A folder with nothing in it is replaced.
    if out.exists() && !std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none()) {
        let there =
            std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it is there already\n  help: name another folder");
        return Err(cannot_write(out)(there));
    }
    let mut name = out.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = out.with_file_name(name);
    let result = write(file, &known, &temporary, options, &mut made).and_then(|()| {
        file.tensors().unchanged()?;
        atomic::rename_folder(&temporary, out).map_err(cannot_write(out))
    });
    if result.is_err() {
        // The error that ended the work is the one to report.
        let _ = disk::remove_folder(&temporary);
    }
    // Nobody knows the name that it had meanwhile.
    let result = result.map_err(|error| match error {
        ConvertError::Write { path, source } => {
            let inner = path.strip_prefix(&temporary).ok().filter(|name| !name.as_os_str().is_empty());
            let path = inner.map_or(out.into(), |name| out.join(name));
            ConvertError::Write { path, source }
        }
        error => error,
    });
    made.files.iter_mut().for_each(|path| *path = out.join(path.file_name().unwrap_or_default()));
    result.map(|()| made)
}

fn write(
    file: &gguf::File,
    known: &Known,
    folder: &Path,
    options: &mut Options,
    made: &mut Made,
) -> Result<(), ConvertError> {
    let mut parts = HashMap::new();
    let mut planned = Vec::new();
    let matrices = matrices(file, known, options.to);
    for expected in known.family.tensors(&known.config) {
        for (name, part, shape) in parts_of(file, &expected)? {
            // They were of the matrices' type before GGUF had them in f32.
            let widened = options.to.is_none() && small(&expected) && part.info.dtype == DType::F32;
            let back = widened && fit(part.bytes, matrices, part.change);
            let dtype = if back { matrices } else { target(options.to, part.info.dtype) };
            planned.push(Planned { name: name.clone(), dtype, shape: shape.into() });
            parts.insert(name, part);
        }
    }
    (options.begin)(planned.iter().filter_map(Planned::bytes).sum()).map_err(cannot_write(folder))?;
    disk::create_folders(folder).map_err(cannot_write(folder))?;
    let shards = cut(ordered(planned));
    let mut rounded = 0;
    for (number, shard) in shards.iter().enumerate() {
        let path = folder.join(shard_name(number + 1, shards.len()));
        let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
        let sink = atomic::Pending::create(&path).map_err(cannot_write(&path))?;
        let mut writer = Writer::new(sink, &metadata, shard).map_err(cannot_write(&path))?;
        for tensor in shard {
            let Some(part) = parts.get(&tensor.name) else { continue };
            let (rows, types) = (tensor.shape.first().copied().unwrap_or(1), (part.info.dtype, tensor.dtype));
            let bytes = converted(part.bytes, rows, types, part.change, Way::ToFolder)
                .map_err(|(what, help)| file.tensors().error(&part.info.name, what, help))?;
            rounded += lost(part);
            writer.tensor(&bytes).map_err(cannot_write(&path))?;
            made.tensors += 1;
            made.bytes += bytes.len() as u64;
            if !(options.progress)(&tensor.name, bytes.len() as u64) {
                return Err(ConvertError::Stopped);
            }
        }
        writer.finish().and_then(atomic::Pending::commit).map_err(cannot_write(&path))?;
        made.files.push(path);
    }
    if rounded > 0 {
        made.warnings.push(format!("{rounded} weights of norms lose their last bits: a folder has what is added to 1"));
    }
    let mut text = |name: &str, text: String| -> Result<(), ConvertError> {
        let path: PathBuf = folder.join(name);
        atomic::write_new(&path, text.as_bytes()).map_err(cannot_write(&path))?;
        made.files.push(path);
        Ok(())
    };
    if shards.len() > 1 {
        text(INDEX, index(&shards))?;
    }
    let most = shards.iter().flatten().max_by_key(|tensor| tensor.bytes());
    text("config.json", configuration(file, known, most.map_or(DType::F32, |tensor| tensor.dtype)))?;
    text(keep::FILE, keep::text(file.metadata()))?;
    if let Some(template) = file.metadata().get("tokenizer.chat_template").and_then(Value::text) {
        text("chat_template.jinja", template.to_string())?;
    }
    match super::vocabulary::tokenizer_json(file.metadata()) {
        Ok(Some((tokenizer, config))) => {
            text("tokenizer.json", tokenizer)?;
            text("tokenizer_config.json", config)?;
        }
        Ok(None) => {}
        Err(what) => made.warnings.push(format!("the tokenizer is kept in {} alone: {what}", keep::FILE)),
    }
    Ok(())
}

/// The type that most of the matrices' numbers get.
fn matrices(file: &gguf::File, known: &Known, to: Option<DType>) -> DType {
    let mut counts = [(DType::F32, 0), (DType::F16, 0), (DType::Bf16, 0)];
    for expected in known.family.tensors(&known.config).iter().filter(|expected| !small(expected)) {
        let Some((info, _)) = file.tensor(&expected.gguf) else { continue };
        let dtype = target(to, info.dtype);
        counts.iter_mut().filter(|(kind, _)| *kind == dtype).for_each(|(_, count)| *count += info.shape.elements());
    }
    counts.iter().max_by_key(|(_, count)| *count).map_or(DType::F32, |(dtype, _)| *dtype)
}

/// How many numbers of a part don't come back to the last bit from what a folder has of them.
fn lost(part: &Part) -> usize {
    if part.change != Change::PlusOne || part.info.dtype != DType::F32 {
        return 0;
    }
    let numbers = part.bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    numbers.filter(|number| (number - 1.0) + 1.0 != *number).count()
}

/// The tensors of a folder that one of a GGUF file becomes.
fn parts_of<'a>(file: &'a gguf::File, expected: &Expected) -> Result<Vec<(String, Part<'a>, Vec<usize>)>, Error> {
    let Some((info, bytes)) = file.tensor(&expected.gguf) else { return Ok(Vec::new()) };
    let count = expected.hugging_face.len();
    let change = expected.change;
    if !expected.stacked {
        let whole = |name: &String| (name.clone(), Part { info, bytes, change }, expected.shape.clone());
        return Ok(expected.hugging_face.iter().map(whole).collect());
    }
    let size = bytes.len().checked_div(count).filter(|size| size * count == bytes.len() && *size > 0);
    let Some(size) = size else {
        return Err(file.tensors().error(&expected.gguf, format!("its bytes are not those of {count} experts"), HELP));
    };
    let shape: Vec<usize> = expected.shape.iter().skip(1).copied().collect();
    let names = expected.hugging_face.iter().zip(bytes.chunks(size));
    Ok(names.map(|(name, bytes)| (name.clone(), Part { info, bytes, change }, shape.clone())).collect())
}

/// Tensors as shards, in order.
fn cut(tensors: Vec<Planned>) -> Vec<Vec<Planned>> {
    let (mut shards, mut bytes) = (vec![Vec::new()], 0u64);
    for tensor in tensors {
        let more = tensor.bytes().unwrap_or(0);
        if bytes > 0 && bytes.saturating_add(more) > SHARD_BYTES {
            shards.push(Vec::new());
            bytes = 0;
        }
        bytes = bytes.saturating_add(more);
        if let Some(last) = shards.last_mut() {
            last.push(tensor);
        }
    }
    shards
}

/// config.json.
fn configuration(file: &gguf::File, known: &Known, most: DType) -> String {
    let mut all: Map<String, Json> = known.family.describe(&known.config).hugging_face;
    let name = match most {
        DType::Bf16 => "bfloat16",
        DType::F16 => "float16",
        _ => "float32",
    };
    all.insert("torch_dtype".into(), json!(name));
    for (key, gguf_key) in super::vocabulary::TOKEN_IDS {
        // Said where there is none: other programs have ids of their own for what isn't said.
        all.insert((*key).into(), json!(file.metadata().get(gguf_key).and_then(Value::unsigned)));
    }
    format!("{:#}\n", Json::Object(all))
}
