//! Rotary positions as files say them: Llama 3's way, linear, YaRN, and Phi 3's factors.
#![forbid(unsafe_code)]

use super::{ConfigFile, Described, Key, ROPE_THETA, Source, llama3};
use crate::config::{Config, RopeScaling};
use crate::features::RopeChange;
use serde_json::{Map, Value as Json, json};
use tensor::file::Error;

const KIND: Key = Key("rope.scaling.type", "rope_scaling");
const FACTOR: Key = Key("rope.scaling.factor", "rope_scaling");
const ORIGINAL: Key = Key("rope.scaling.original_context_length", "original_max_position_embeddings");
const ATTENTION_FACTOR: Key = Key("rope.scaling.attn_factor", "");
/// What some converters write: all that sines and cosines are multiplied by.
const WHOLE_ATTENTION_FACTOR: Key = Key("rope.scaling.yarn_attn_factor", "");
/// As old files call the factor.
const OLD_FACTOR: Key = Key("rope.scale_linear", "");
const BETA_FAST: Key = Key("rope.scaling.yarn_beta_fast", "");
const BETA_SLOW: Key = Key("rope.scaling.yarn_beta_slow", "");
/// What a model's wavelengths end at where its files don't say it.
const THETA: f32 = 10_000.0;
/// Lists of factors are no longer.
const MOST_FACTORS: usize = 1 << 15;

/// The base of the wavelengths, if it is said.
pub(super) fn said_theta(source: &Source) -> Result<Option<f32>, Error> {
    let Source::HuggingFace(file) = source else { return source.number(ROPE_THETA) };
    let within = object_of(file).and_then(|(_, all)| parameters(Some(all))?.get("rope_theta")?.as_f64());
    match within {
        Some(theta) => Ok(Some(theta as f32)),
        None => source.number(ROPE_THETA),
    }
}

/// The base of the wavelengths.
pub(super) fn theta(source: &Source) -> Result<f32, Error> {
    Ok(said_theta(source)?.unwrap_or(THETA))
}

/// What is said of rotary positions, and the key that it is said at.
fn object_of(file: &ConfigFile) -> Option<(&'static str, &Json)> {
    ["rope_scaling", "rope_parameters"].into_iter().find_map(|name| Some((name, file.get(name)?)))
}

/// The parameters of layers that see everything: some configurations have a set for each kind of layer.
fn parameters(all: Option<&Json>) -> Option<&Map<String, Json>> {
    let all = all?.as_object()?;
    all.get("full_attention").and_then(Json::as_object).or(Some(all))
}

/// The kind of scaling that an object names.
fn kind_of(all: &Map<String, Json>) -> Option<&str> {
    all.get("rope_type").or_else(|| all.get("type")).and_then(Json::as_str)
}

/// The base of the wavelengths of layers with a window, where parameters of their own say it.
///
/// # Errors
/// When these layers' frequencies are scaled.
pub(super) fn local_theta(source: &Source) -> Result<Option<f32>, Error> {
    let Source::HuggingFace(file) = source else { return Ok(None) };
    let of_layers = |(name, all): (_, &'_ Json)| Some((name, all.get("sliding_attention")?.as_object()?.clone()));
    let Some((name, all)) = object_of(file).and_then(of_layers) else { return Ok(None) };
    match kind_of(&all) {
        None | Some("default") => {}
        Some(kind) => {
            let kind: String = kind.chars().take(48).collect();
            let what = format!("its sliding_attention is of the type {kind:?}; such layers' frequencies aren't scaled");
            return Err(source.unsupported(Key("", name), what));
        }
    }
    match all.get("rope_theta").filter(|theta| !theta.is_null()) {
        None => Ok(None),
        Some(theta) => match theta.as_f64().filter(|theta| theta.is_finite() && *theta >= 1.0) {
            Some(theta) => Ok(Some(theta as f32)),
            None => Err(source.error(Key("", name), "its sliding_attention's rope_theta must be a number from 1 on")),
        },
    }
}

/// How the frequencies are changed.
pub(super) fn read(config: &mut Config, source: &Source) -> Result<(), Error> {
    let Source::HuggingFace(file) = source else { return read_gguf(config, source) };
    let Some((name, value)) = object_of(file) else { return Ok(()) };
    let Some(all) = parameters(Some(value)) else { return Err(file.error(name, "it must be an object")) };
    let own = config.features.sliding_window.as_ref().is_some_and(|window| window.rope_theta.is_some());
    if let Some(local) = value.get("sliding_attention").filter(|local| !local.is_null() && !own)
        && local.as_object() != Some(all)
    {
        return Err(source.unsupported(Key("", name), "its layers differ in it, which they don't in such models"));
    }
    read_object(config, source, Key("", name), all)
}

/// The part of each head that is turned, where it is said.
pub(super) fn partial(source: &Source, key: Key) -> Result<Option<f32>, Error> {
    let Source::HuggingFace(file) = source else { return Ok(None) };
    match object_of(file).and_then(|(_, all)| parameters(Some(all))?.get(key.1)?.as_f64()) {
        Some(part) => Ok(Some(part as f32)),
        None => source.number(key),
    }
}

/// What YaRN multiplies sines and cosines by where nothing else is said.
fn yarn_factor(factor: f32, scale: f32) -> f32 {
    if factor <= 1.0 { 1.0 } else { (0.1 * f64::from(scale) * f64::from(factor).ln() + 1.0) as f32 }
}

/// What longrope multiplies sines and cosines by for a context `factor` times the original one.
fn long_factor(factor: f64, original: usize) -> f32 {
    if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() as f32 }
}

fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-5 * b.abs()
}

fn read_gguf(config: &mut Config, source: &Source) -> Result<(), Error> {
    let kind = source.text(KIND)?;
    let factor = match source.number(FACTOR)? {
        None => source.number(OLD_FACTOR)?,
        factor => factor,
    };
    // 0 says nothing, and a factor alone is linear.
    let factor = factor.filter(|factor| *factor != 0.0);
    let kind = match kind.as_deref() {
        None if factor.is_some_and(|factor| factor != 1.0) => "linear",
        None => "none",
        Some(kind) => kind,
    };
    let attention_factor = source.number(ATTENTION_FACTOR)?;
    let alone =
        |what: &str| match (kind, attention_factor) {
            ("linear" | "yarn", _) if factor != Some(1.0) => Err(source
                .unsupported(KIND, format!("it is {kind}, and there are {what}: both together are not supported"))),
            _ => Ok(()),
        };
    if let Some(factors) = source.tensor("rope_freqs.weight") {
        alone("factors of rotary frequencies")?;
        match llama3::fitted(config, &factors) {
            Some(scaling) => config.rope_scaling = scaling,
            None => config.features.rope = RopeChange::Factors { factors },
        }
        return Ok(());
    }
    let original = source.size(ORIGINAL)?.unwrap_or(config.max_context);
    if let (Some(short), Some(long)) =
        (source.tensor("rope_factors_short.weight"), source.tensor("rope_factors_long.weight"))
    {
        alone("factors for short and long contexts")?;
        let unsaid = long_factor(config.max_context as f64 / original as f64, original);
        let attention_factor = attention_factor.filter(|factor| !near(*factor, unsaid));
        config.features.rope = RopeChange::LongRope { short, long, original_max_position: original, attention_factor };
        return Ok(());
    }
    let need = || factor.ok_or_else(|| source.error(FACTOR, "it is missing"));
    config.features.rope = match kind {
        "none" => RopeChange::None,
        "linear" => RopeChange::Linear { factor: need()? },
        "yarn" => {
            let factor = need()?;
            // GGUF's multiplies what is computed anyway; some converters write another key with the whole.
            let whole = attention_factor.map(|more| more * yarn_factor(factor, 1.0));
            let attention_factor = match (whole, source.number(WHOLE_ATTENTION_FACTOR)?) {
                (Some(whole), Some(said)) if near(whole, said) => Some(said),
                (Some(whole), _) => Some(whole),
                (None, said) => said,
            };
            RopeChange::Yarn {
                factor,
                original_max_position: original,
                beta_fast: source.number(BETA_FAST)?.unwrap_or(32.0),
                beta_slow: source.number(BETA_SLOW)?.unwrap_or(1.0),
                attention_factor,
            }
        }
        "longrope" => {
            return Err(source.error(KIND, "it is longrope, and the tensors rope_factors_long and _short are missing"));
        }
        other => return Err(source.unsupported(KIND, format!("{other:?} is not supported"))),
    };
    let scaled = matches!(config.features.rope, RopeChange::Yarn { .. });
    match attention_factor.filter(|factor| !scaled && *factor != 1.0) {
        Some(factor) => {
            Err(source.unsupported(ATTENTION_FACTOR, format!("it is {factor} for positions that aren't scaled so")))
        }
        None => Ok(()),
    }
}

fn read_object(config: &mut Config, source: &Source, key: Key, all: &Map<String, Json>) -> Result<(), Error> {
    let number = |name: &str| match all.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number as f32)),
            None => Err(source.error(key, format!("its {name} must be a number"))),
        },
    };
    let need = |name: &str| number(name)?.ok_or_else(|| source.error(key, format!("its {name} is missing")));
    let original = || -> Result<usize, Error> {
        // The one outside counts where there are two.
        if let Some(positions) = source.size(Key("", "original_max_position_embeddings"))?.filter(|size| *size > 0) {
            return Ok(positions);
        }
        match number("original_max_position_embeddings")? {
            Some(positions) if positions >= 1.0 => Ok(positions as usize),
            Some(_) => Err(source.error(key, "its original_max_position_embeddings must be positive")),
            None => Ok(config.max_context),
        }
    };
    match kind_of(all) {
        None if key.1 == "rope_scaling" => return Err(source.error(key, "its rope_type is missing")),
        None | Some("default") => {}
        Some("linear") => config.features.rope = RopeChange::Linear { factor: need("factor")? },
        Some("llama3") => {
            config.rope_scaling = RopeScaling {
                factor: need("factor")?,
                low_freq_factor: need("low_freq_factor")?,
                high_freq_factor: need("high_freq_factor")?,
                original_max_position: original()?,
            }
        }
        // Phi 3's first files call longrope so.
        Some("yarn") if !all.contains_key("long_factor") => {
            if all.get("truncate") == Some(&Json::Bool(false)) {
                let what = "its truncate is false: the bounds of YaRN's ramp are rounded to whole dimensions";
                return Err(source.unsupported(key, what));
            }
            let factor = need("factor")?;
            let attention_factor = match (number("attention_factor")?, number("mscale")?, number("mscale_all_dim")?) {
                (None, Some(scale), Some(all_dim)) if scale != 0.0 && all_dim != 0.0 => {
                    Some(yarn_factor(factor, scale) / yarn_factor(factor, all_dim))
                }
                (said, ..) => said,
            };
            config.features.rope = RopeChange::Yarn {
                factor,
                original_max_position: original()?,
                beta_fast: number("beta_fast")?.unwrap_or(32.0),
                beta_slow: number("beta_slow")?.unwrap_or(1.0),
                attention_factor,
            }
        }
        Some("longrope" | "su" | "yarn") => {
            let list = |name: &str| -> Result<Vec<f32>, Error> {
                let list = all.get(name).and_then(Json::as_array).filter(|list| list.len() <= MOST_FACTORS);
                let numbers = list.and_then(|list| list.iter().map(|n| n.as_f64().map(|n| n as f32)).collect());
                numbers.ok_or_else(|| source.error(key, format!("its {name} must be a list of numbers")))
            };
            let (short, long) = (list("short_factor")?, list("long_factor")?);
            let pairs = config.features.rotary_dim.unwrap_or(config.head_dim()) / 2;
            if short.len() != pairs || long.len() != pairs {
                let what = format!("its factors are {} and {}; heads have {pairs} pairs", short.len(), long.len());
                return Err(source.error(key, what));
            }
            let original = original()?;
            // By the contexts' sizes where no factor is said.
            let said = number("factor")?.map(|factor| long_factor(f64::from(factor), original));
            let unsaid = long_factor(config.max_context as f64 / original as f64, original);
            let attention_factor = number("attention_factor")?.or(said).filter(|factor| !near(*factor, unsaid));
            config.features.rope =
                RopeChange::LongRope { short, long, original_max_position: original, attention_factor };
        }
        Some(other) => {
            let other: String = other.chars().take(48).collect();
            return Err(source.unsupported(key, format!("its type {other:?} is not supported")));
        }
    }
    Ok(())
}

/// The scaling out of the configuration.
pub(super) fn write(config: &Config, out: &mut Described) {
    let mut object = Map::new();
    let mut set = |name: &str, value: Json| _ = object.insert(name.into(), value);
    let exact = |number: f32| json!(number.to_string().parse::<f64>().unwrap_or_else(|_| f64::from(number)));
    let scaling = config.rope_scaling;
    if scaling.factor != 1.0 {
        set("rope_type", json!("llama3"));
        set("factor", exact(scaling.factor));
        set("low_freq_factor", exact(scaling.low_freq_factor));
        set("high_freq_factor", exact(scaling.high_freq_factor));
        set("original_max_position_embeddings", json!(scaling.original_max_position));
    }
    match &config.features.rope {
        RopeChange::None | RopeChange::Factors { .. } => {}
        RopeChange::Linear { factor } => {
            set("rope_type", json!("linear"));
            set("factor", exact(*factor));
            out.text(Key(KIND.0, ""), "linear");
            out.number(Key(FACTOR.0, ""), *factor);
        }
        RopeChange::Yarn { factor, original_max_position, beta_fast, beta_slow, attention_factor } => {
            set("rope_type", json!("yarn"));
            set("factor", exact(*factor));
            set("original_max_position_embeddings", json!(original_max_position));
            set("beta_fast", exact(*beta_fast));
            set("beta_slow", exact(*beta_slow));
            out.text(Key(KIND.0, ""), "yarn");
            out.number(Key(FACTOR.0, ""), *factor);
            out.size(Key(ORIGINAL.0, ""), *original_max_position);
            out.number(BETA_FAST, *beta_fast);
            out.number(BETA_SLOW, *beta_slow);
            if let Some(whole) = attention_factor {
                set("attention_factor", exact(*whole));
                out.number(ATTENTION_FACTOR, whole / yarn_factor(*factor, 1.0));
                out.number(WHOLE_ATTENTION_FACTOR, *whole);
            }
        }
        RopeChange::LongRope { short, long, original_max_position, attention_factor } => {
            set("rope_type", json!("longrope"));
            set("short_factor", short.iter().map(|f| exact(*f)).collect());
            set("long_factor", long.iter().map(|f| exact(*f)).collect());
            out.size(ORIGINAL, *original_max_position);
            if let Some(factor) = attention_factor {
                set("attention_factor", exact(*factor));
            }
            let original = *original_max_position;
            let unsaid = || long_factor(config.max_context as f64 / original as f64, original);
            out.number(ATTENTION_FACTOR, attention_factor.unwrap_or_else(unsaid));
        }
    }
    if !object.is_empty() {
        out.hugging_face.insert("rope_scaling".into(), object.into());
    }
}
