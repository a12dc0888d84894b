//! A folder of safetensors to a GGUF file.
#![forbid(unsafe_code)]

use super::numbers::{Way, converted};
use super::{ConvertError, Made, Options, cannot_write, keep, own, small, target, vocabulary};
use crate::config::Config;
use crate::family::{self, ConfigFile, Expected, Family, Form, factors};
use crate::features::RopeChange;
use std::path::Path;
use tensor::DType;
use tensor::file::gguf::{Metadata, Value, Writer};
use tensor::file::safetensors::File;
use tensor::file::{Error, Planned, Problem, TensorInfo, atomic};

/// What to do about a tensor that can't be converted.
const HELP: &str = "convert a model whose tensors are f32, f16 or bf16";

/// What some files don't say, as it is plain from their tensors or other keys.
const PLAIN: &[&str] = &[".vocab_size", "general.file_type", ".yarn_attn_factor", "_logit_softcapping"];

/// A folder's model.
struct Model<'a> {
    folder: &'a Path,
    family: &'static Family,
    config: Config,
    /// None for a model that Rondo trained, whose tokenizer is of the kind `tokenizer`.
    file: Option<ConfigFile>,
    tokenizer: String,
    tensors: File,
}

/// A tensor by Hugging Face's name: what it is a part of, and its own rows and bytes.
struct Part<'a> {
    info: &'a TensorInfo,
    rows: usize,
    bytes: &'a [u8],
}

impl<'a> Model<'a> {
    fn open(folder: &'a Path) -> Result<(Model<'a>, Vec<String>), ConvertError> {
        if let Some((config, tokenizer)) = own::config(folder)? {
            let tensors = File::open(folder)?;
            let what = |what: &str| tensors.tensors().error("", what, HELP);
            let family = own::family().ok_or_else(|| what("its family is not known"))?;
            let model = Model { folder, family, config, file: None, tokenizer, tensors };
            return Ok((model, Vec::new()));
        }
        let (family, config, file) = family::of_config_json(&folder.join("config.json"))?;
        let tensors = File::open(folder)?;
        let warnings = family.check(&config, tensors.tensors(), Form::HuggingFace)?;
        Ok((Model { folder, family, config, file: Some(file), tokenizer: String::new(), tensors }, warnings))
    }

    /// The tensor that Hugging Face calls `name`.
    ///
    /// # Errors
    /// When it is missing, or hasn't the rows of the model.
    fn part(&self, name: &str) -> Result<Part<'_>, Error> {
        let help = "get a whole file of this model";
        let missing = |name: &str| self.tensors.tensors().error(name, "it is missing, and the model needs it", help);
        if self.file.is_some() {
            let (info, bytes) = self.tensors.tensor(name).ok_or_else(|| missing(name))?;
            return Ok(Part { info, rows: info.shape.first().copied().unwrap_or(1), bytes });
        }
        let place = own::place(&self.config, name).ok_or_else(|| missing(name))?;
        let (info, bytes) = self.tensors.tensor(&place.name).ok_or_else(|| missing(&place.name))?;
        let all = info.shape.first().copied().unwrap_or(1);
        let range = place.rows.unwrap_or(0..all);
        let row = bytes.len().checked_div(all).unwrap_or(0);
        let at = range.start.checked_mul(row).zip(range.end.checked_mul(row));
        match at.and_then(|(start, end)| bytes.get(start..end)) {
            Some(bytes) => Ok(Part { info, rows: range.len(), bytes }),
            None => {
                let what = format!("it has {all} rows; the model needs {}", range.end);
                Err(self.tensors.tensors().error(&place.name, what, help))
            }
        }
    }
}

/// Writes a GGUF file, whole or not at all.
///
/// # Errors
/// When the folder is of no known family, a tensor is missing or can't be converted, or the file can't be written.
pub fn to_gguf(folder: &Path, out: &Path, options: &mut Options) -> Result<Made, ConvertError> {
    let (model, mut warnings) = Model::open(folder)?;
    warnings.extend(model.family.left_out_elsewhere(&model.config));
    let mut made = Made { warnings, ..Made::default() };
    let expected = model.family.tensors(&model.config);
    let planned = plan(&expected, &model, options.to)?;
    let metadata = metadata(&model, &planned, &mut made)?;
    (options.begin)(planned.iter().filter_map(Planned::bytes).sum()).map_err(cannot_write(out))?;
    let sink = atomic::Pending::create(out).map_err(cannot_write(out))?;
    let mut writer = Writer::new(sink, &metadata, &planned).map_err(cannot_write(out))?;
    for (tensor, expected) in planned.iter().zip(&expected) {
        if expected.hugging_face.is_empty() {
            writer.tensor(&table(&model.config, &expected.gguf)).map_err(cannot_write(out))?;
        }
        for name in &expected.hugging_face {
            let part = model.part(name)?;
            let types = (part.info.dtype, tensor.dtype);
            let bytes = converted(part.bytes, part.rows, types, expected.change, Way::ToGguf)
                .map_err(|(what, help)| model.tensors.tensors().error(&part.info.name, what, help))?;
            writer.piece(&bytes).map_err(cannot_write(out))?;
            made.bytes += bytes.len() as u64;
            if !(options.progress)(name, bytes.len() as u64) {
                return Err(ConvertError::Stopped);
            }
        }
        made.tensors += 1;
    }
    model.tensors.tensors().unchanged()?;
    writer.finish().and_then(atomic::Pending::commit).map_err(cannot_write(out))?;
    made.files.push(out.into());
    Ok(made)
}

/// The tensors of the file: vectors, and what routes tokens to experts, are f32 whatever the rest is. Other programs
/// write them so, and read them in no other type.
fn plan(expected: &[Expected], model: &Model, to: Option<DType>) -> Result<Vec<Planned>, Error> {
    let one = |expected: &Expected| {
        let from = match expected.hugging_face.first() {
            Some(name) => model.part(name)?.info.dtype,
            None => DType::F32,
        };
        let dtype = if small(expected) && from.is_float() { DType::F32 } else { target(to, from) };
        Ok(Planned { name: expected.gguf.clone(), dtype, shape: expected.shape.clone().into() })
    };
    expected.iter().map(one).collect()
}

/// The numbers of a tensor that Hugging Face's files have in their configuration.
fn table(config: &Config, name: &str) -> Vec<u8> {
    let dimensions = config.features.rotary_dim.unwrap_or(config.head_dim());
    let numbers = match (&config.features.rope, name) {
        (RopeChange::LongRope { long, .. }, "rope_factors_long.weight") => long.clone(),
        (RopeChange::LongRope { short, .. }, "rope_factors_short.weight") => short.clone(),
        (RopeChange::Factors { factors }, _) => factors.clone(),
        _ => factors(&config.rope_scaling, config.rope_theta, dimensions),
    };
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn metadata(model: &Model, planned: &[Planned], made: &mut Made) -> Result<Metadata, Error> {
    let Model { folder, family, config, .. } = model;
    let kept = folder.join(keep::FILE);
    let was_kept = kept.exists();
    let mut metadata = if was_kept {
        let text = std::fs::read_to_string(&kept).map_err(Error::io(&kept))?;
        let help = "delete the file, which convert has made, to do without it";
        keep::read(&text).map_err(|what| Problem::new(0, "the file", what).help(help).within(&kept))?
    } else {
        let name = folder.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        [("general.architecture", family.architecture.to_string()), ("general.name", name.unwrap_or_default())]
            .into_iter()
            .map(|(key, text)| (key, Value::String(text)))
            .collect()
    };
    let architecture = Value::String(family.architecture.into());
    if metadata.get("general.architecture") != Some(&architecture) {
        metadata.set("general.architecture", architecture);
    }
    let most = planned.iter().max_by_key(|tensor| tensor.bytes()).map_or(DType::F32, |tensor| tensor.dtype);
    let number = match most {
        DType::F16 => 1,
        DType::Bf16 => 32,
        _ => 0,
    };
    let described = family.describe(config).gguf;
    let file_type = [("general.file_type", Value::U32(number))];
    for (key, value) in file_type.iter().map(|(key, value)| (*key, value)).chain(described.iter()) {
        let same = match metadata.get(key) {
            // Where all layers have it, a list says the same.
            Some(Value::Array(_)) => true,
            Some(Value::F64(number)) => value.float() == Some(f64::from(*number as f32)),
            None => was_kept && PLAIN.iter().any(|plain| key.ends_with(plain)),
            Some(there) => there == value || (there.unsigned().is_some() && there.unsigned() == value.unsigned()),
        };
        if !same {
            metadata.set(key, value.clone());
        }
    }
    match &model.file {
        _ if was_kept => {}
        Some(file) => made.warnings.extend(vocabulary::of_folder(folder, family, config, file, &mut metadata)?),
        None => made.warnings.extend(vocabulary::of_own(folder, &model.tokenizer, config, &mut metadata)?),
    }
    Ok(metadata)
}
