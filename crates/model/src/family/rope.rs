//! Rotary positions as files say them: Llama 3's way, linear, YaRN, and Phi 3's factors.
#![forbid(unsafe_code)]

use super::{Described, Key, ROPE_THETA, Source};
use crate::config::{Config, RopeScaling};
use crate::features::RopeChange;
use serde_json::{Map, Value as Json, json};
use std::f64::consts::TAU;
use tensor::file::Error;

const KIND: Key = Key("rope.scaling.type", "rope_scaling");
const FACTOR: Key = Key("rope.scaling.factor", "rope_scaling");
const ORIGINAL: Key = Key("rope.scaling.original_context_length", "original_max_position_embeddings");
const ATTENTION_FACTOR: Key = Key("rope.scaling.attn_factor", "");
const BETA_FAST: Key = Key("rope.scaling.yarn_beta_fast", "");
const BETA_SLOW: Key = Key("rope.scaling.yarn_beta_slow", "");
/// What a model's wavelengths end at where its files don't say it.
const THETA: f32 = 10_000.0;
/// Lists of factors are no longer.
const MOST_FACTORS: usize = 1 << 15;

/// The base of the wavelengths.
pub(super) fn theta(source: &Source) -> Result<f32, Error> {
    if let Some(theta) = source.number(ROPE_THETA)? {
        return Ok(theta);
    }
    let Source::HuggingFace(file) = source else { return Ok(THETA) };
    let theta = parameters(file.get("rope_parameters")).and_then(|all| all.get("rope_theta")).and_then(Json::as_f64);
    Ok(theta.map_or(THETA, |theta| theta as f32))
}

/// The parameters of layers that see everything: some configurations have a set for each kind of layer.
fn parameters(all: Option<&Json>) -> Option<&Map<String, Json>> {
    let all = all?.as_object()?;
    all.get("full_attention").and_then(Json::as_object).or(Some(all))
}

/// How the frequencies are changed.
pub(super) fn read(config: &mut Config, source: &Source) -> Result<(), Error> {
    match source {
        Source::Gguf { .. } => read_gguf(config, source),
        Source::HuggingFace(file) => {
            let name = if file.get("rope_scaling").is_some() { "rope_scaling" } else { "rope_parameters" };
            let Some(value) = file.get(name) else { return Ok(()) };
            let Some(all) = parameters(Some(value)) else { return Err(file.error(name, "it must be an object")) };
            read_object(config, source, Key("", name), all)
        }
    }
}

fn read_gguf(config: &mut Config, source: &Source) -> Result<(), Error> {
    if let Some(factors) = source.tensor("rope_freqs.weight") {
        match llama3(config, &factors) {
            Some(scaling) => config.rope_scaling = scaling,
            None => config.features.rope = RopeChange::Factors { factors },
        }
        return Ok(());
    }
    let original = source.size(ORIGINAL)?;
    let attention_factor = source.number(ATTENTION_FACTOR)?;
    if let (Some(short), Some(long)) =
        (source.tensor("rope_factors_short.weight"), source.tensor("rope_factors_long.weight"))
    {
        let original_max_position = original.unwrap_or(config.max_context);
        config.features.rope = RopeChange::LongRope { short, long, original_max_position, attention_factor };
        return Ok(());
    }
    let factor = || source.number(FACTOR)?.ok_or_else(|| source.error(FACTOR, "it is missing"));
    config.features.rope = match source.text(KIND)?.as_deref() {
        None | Some("none") => RopeChange::None,
        Some("linear") => RopeChange::Linear { factor: factor()? },
        Some("yarn") => RopeChange::Yarn {
            factor: factor()?,
            original_max_position: original.unwrap_or(config.max_context),
            beta_fast: source.number(BETA_FAST)?.unwrap_or(32.0),
            beta_slow: source.number(BETA_SLOW)?.unwrap_or(1.0),
            attention_factor,
        },
        Some("longrope") => {
            return Err(source.error(KIND, "it is longrope, and the tensors rope_factors_long and _short are missing"));
        }
        Some(other) => return Err(source.error(KIND, format!("{other:?} is not supported"))),
    };
    Ok(())
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
        match number("original_max_position_embeddings")? {
            Some(positions) if positions >= 1.0 => Ok(positions as usize),
            Some(_) => Err(source.error(key, "its original_max_position_embeddings must be positive")),
            None => Ok(source.size(Key("", "original_max_position_embeddings"))?.unwrap_or(config.max_context)),
        }
    };
    let kind = all.get("rope_type").or_else(|| all.get("type")).and_then(Json::as_str);
    match kind {
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
        Some("yarn") => {
            config.features.rope = RopeChange::Yarn {
                factor: need("factor")?,
                original_max_position: original()?,
                beta_fast: number("beta_fast")?.unwrap_or(32.0),
                beta_slow: number("beta_slow")?.unwrap_or(1.0),
                attention_factor: number("attention_factor")?,
            }
        }
        Some("longrope" | "su") => {
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
            let attention_factor = number("attention_factor")?;
            config.features.rope =
                RopeChange::LongRope { short, long, original_max_position: original()?, attention_factor };
        }
        Some(other) => return Err(source.error(key, format!("its type {other:?} is not supported"))),
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
            if let Some(factor) = attention_factor {
                set("attention_factor", exact(*factor));
                out.number(ATTENTION_FACTOR, *factor);
            }
        }
        RopeChange::LongRope { short, long, original_max_position, attention_factor } => {
            set("rope_type", json!("longrope"));
            set("short_factor", short.iter().map(|f| exact(*f)).collect());
            set("long_factor", long.iter().map(|f| exact(*f)).collect());
            out.size(ORIGINAL, *original_max_position);
            if let Some(factor) = attention_factor {
                set("attention_factor", exact(*factor));
                out.number(ATTENTION_FACTOR, *factor);
            }
        }
    }
    if !object.is_empty() {
        out.hugging_face.insert("rope_scaling".into(), object.into());
    }
}

/// What Llama 3's scaling divides each frequency by, from the highest to the lowest: GGUF's tensor `rope_freqs`.
pub fn factors(scaling: &RopeScaling, theta: f32, dimensions: usize) -> Vec<f32> {
    let (factor, low, high) =
        (f64::from(scaling.factor), f64::from(scaling.low_freq_factor), f64::from(scaling.high_freq_factor));
    let original = scaling.original_max_position as f64;
    let one = |pair: usize| {
        let frequency = f64::from(theta).powf(-((2 * pair) as f64) / dimensions as f64);
        let turns = original * frequency / TAU;
        let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        // As Hugging Face's: the frequency becomes a mixture of itself and of it divided by the factor.
        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
    };
    (0..dimensions / 2).map(one).collect()
}

/// The scaling that has made a list of factors, if it is Llama 3's with its published bounds.
fn llama3(config: &Config, given: &[f32]) -> Option<RopeScaling> {
    let dimensions = config.features.rotary_dim.unwrap_or(config.head_dim());
    if given.len() != dimensions / 2 {
        return None;
    }
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * b.abs();
    // The lowest frequencies are divided by the whole factor; narrow heads have none that are so low.
    [*given.last()?, 8.0, 32.0].into_iter().find_map(|factor| {
        let scaling = RopeScaling { factor, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position: 8192 };
        let made = factors(&scaling, config.rope_theta, dimensions);
        (factor > 1.0 && given.iter().zip(&made).all(near)).then_some(scaling)
    })
}
