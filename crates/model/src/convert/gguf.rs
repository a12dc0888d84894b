//! A folder of safetensors to a GGUF file.
#![forbid(unsafe_code)]

use super::numbers::{Way, converted};
use super::{ConvertError, Made, Options, cannot_write, keep, target, vocabulary};
use crate::config::Config;
use crate::family::{self, ConfigFile, Expected, Family, Form, factors};
use crate::features::RopeChange;
use std::path::Path;
use tensor::DType;
use tensor::file::gguf::{Metadata, Value, Writer};
use tensor::file::safetensors::File;
use tensor::file::{Error, Planned, Problem, atomic};

/// What to do about a tensor that can't be converted.
const HELP: &str = "convert a model whose tensors are f32, f16 or bf16";

/// Writes a GGUF file, whole or not at all.
///
/// # Errors
/// When the folder is of no known family, a tensor is missing or can't be converted, or the file can't be written.
pub fn to_gguf(folder: &Path, out: &Path, options: &mut Options) -> Result<Made, ConvertError> {
    let (family, config, file) = family::of_config_json(&folder.join("config.json"))?;
    let tensors = File::open(folder)?;
    let mut made = Made { warnings: family.check(&config, tensors.tensors(), Form::HuggingFace)?, ..Made::default() };
    let expected = family.tensors(&config);
    let planned = plan(&expected, &tensors, options.to);
    let metadata = metadata(folder, family, &config, &file, &planned, &mut made)?;
    let sink = atomic::Pending::create(out).map_err(cannot_write(out))?;
    let mut writer = Writer::new(sink, &metadata, &planned).map_err(cannot_write(out))?;
    for (tensor, expected) in planned.iter().zip(&expected) {
        if expected.hugging_face.is_empty() {
            writer.tensor(&table(&config, &expected.gguf)).map_err(cannot_write(out))?;
        }
        for name in &expected.hugging_face {
            let Some((info, bytes)) = tensors.tensor(name) else { continue };
            let rows = info.shape.first().copied().unwrap_or(1);
            let bytes = converted(bytes, rows, (info.dtype, tensor.dtype), expected.change, Way::ToGguf)
                .map_err(|what| tensors.tensors().error(name, what, HELP))?;
            writer.piece(&bytes).map_err(cannot_write(out))?;
            made.bytes += bytes.len() as u64;
            if !(options.progress)(name, info.bytes) {
                return Err(ConvertError::Stopped);
            }
        }
        made.tensors += 1;
    }
    tensors.tensors().unchanged()?;
    writer.finish().and_then(atomic::Pending::commit).map_err(cannot_write(out))?;
    made.files.push(out.into());
    Ok(made)
}

/// The tensors of the file: vectors, and what routes tokens to experts, stay f32 or become it, as in other programs' files,
/// unless types are kept.
fn plan(expected: &[Expected], tensors: &File, to: Option<DType>) -> Vec<Planned> {
    let one = |expected: &Expected| {
        let from =
            expected.hugging_face.first().and_then(|name| tensors.tensor(name)).map_or(DType::F32, |(t, _)| t.dtype);
        let small = expected.shape.len() < 2 || expected.gguf.ends_with("ffn_gate_inp.weight");
        let dtype = match to {
            Some(_) if small && from.is_float() => DType::F32,
            to => target(to, from),
        };
        Planned { name: expected.gguf.clone(), dtype, shape: expected.shape.clone().into() }
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

fn metadata(
    folder: &Path,
    family: &Family,
    config: &Config,
    file: &ConfigFile,
    planned: &[Planned],
    made: &mut Made,
) -> Result<Metadata, Error> {
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
            // Some files don't say what is plain from their tensors.
            None => was_kept && (key.ends_with(".vocab_size") || key == "general.file_type"),
            Some(there) => there == value || (there.unsigned().is_some() && there.unsigned() == value.unsigned()),
        };
        if !same {
            metadata.set(key, value.clone());
        }
    }
    if !was_kept {
        made.warnings.extend(vocabulary::of_folder(folder, family, config, file, &mut metadata)?);
    }
    Ok(metadata)
}
