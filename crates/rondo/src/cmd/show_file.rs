//! `rondo show` of a model file: what it says, its tensors, and the memory that running it would take.
#![forbid(unsafe_code)]

use super::{Failure, Outcome, product, say};
use model::Config;
use model::family::{self, Form};
use model::memory::{Need, need};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use tensor::DType;
use tensor::file::{TensorInfo, Tensors, gguf, safetensors};
use tensor::quant;

/// Contexts that memory is told for.
const CONTEXTS: &[usize] = &[2048, 8192, 32_768];
/// Numbers that are decoded at once.
const STEP: usize = 1 << 14;

/// How many tensors there are of a type.
#[derive(Debug, Default, Serialize)]
struct Count {
    tensors: usize,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    offset: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Model {
    family: &'static str,
    num_parameters: u64,
    config: Config,
    /// What of it can't be computed yet.
    unsupported: Option<String>,
}

/// All of it.
#[derive(Debug, Serialize)]
struct Report {
    path: PathBuf,
    format: String,
    files: Vec<PathBuf>,
    bytes: u64,
    metadata: Map<String, Value>,
    formats: BTreeMap<&'static str, Count>,
    tensors: Vec<Tensor>,
    model: Option<Model>,
    memory: Vec<Need>,
    warnings: Vec<String>,
    verified: bool,
}

/// A file of either format.
enum Opened {
    Gguf(gguf::File),
    Safetensors(safetensors::File),
}

/// Whether `path` is a model file, or a folder with one, and no run.
pub fn is_model(path: &Path) -> bool {
    path.is_file() || [safetensors::SINGLE, safetensors::INDEX].iter().any(|name| path.join(name).is_file())
}

/// Shows it.
pub fn run(path: &Path, verify: bool, contexts: &[usize], json: bool) -> Outcome {
    let opened = open(path)?;
    let tensors = match &opened {
        Opened::Gguf(file) => file.tensors(),
        Opened::Safetensors(file) => file.tensors(),
    };
    let mut report = report(path, &opened, tensors);
    let known = understand(path, &opened, &mut report);
    if let Some(model) = &report.model {
        let weights = report.formats.values().map(|count| count.bytes).sum();
        let most = model.config.max_context;
        let mut all: Vec<usize> = if contexts.is_empty() { CONTEXTS.to_vec() } else { contexts.to_vec() };
        all.retain(|context| *context < most || !contexts.is_empty());
        all.extend(contexts.is_empty().then_some(most));
        report.memory = all.into_iter().map(|context| need(&model.config, weights, context)).collect();
    }
    let checked = known.and_then(|()| if verify { decode_all(tensors) } else { Ok(()) });
    report.verified = verify && checked.is_ok();
    report.warnings.iter().for_each(|warning| say(format_args!("warning: {warning}")));
    match json {
        true => product(super::json(&report)),
        false => print(&report),
    }
    checked
}

fn open(path: &Path) -> Result<Opened, Failure> {
    let safetensors = path.is_dir() || path.extension().is_some_and(|e| e == "safetensors" || e == "json");
    Ok(match safetensors {
        true => Opened::Safetensors(safetensors::File::open(path)?),
        false => Opened::Gguf(gguf::File::open(path)?),
    })
}

fn report(path: &Path, opened: &Opened, tensors: &Tensors) -> Report {
    let mut formats: BTreeMap<&'static str, Count> = BTreeMap::new();
    for (tensor, _) in tensors.iter() {
        let count = formats.entry(tensor.dtype.name()).or_default();
        count.tensors += 1;
        count.bytes += tensor.bytes;
    }
    let of = |(tensor, _): (&TensorInfo, &[u8])| Tensor {
        name: tensor.name.clone(),
        dtype: tensor.dtype.name(),
        shape: tensor.shape.to_vec(),
        offset: tensor.offset,
        bytes: tensor.bytes,
    };
    let (format, metadata, warnings) = match opened {
        Opened::Gguf(file) => {
            let metadata = file.metadata().iter().map(|(key, value)| (key.to_string(), plain(value)));
            (format!("GGUF version {}", file.version()), metadata.collect(), file.warnings().to_vec())
        }
        Opened::Safetensors(file) => {
            let metadata = file.metadata().iter().map(|(key, text)| (key.clone(), json!(text)));
            ("safetensors".into(), metadata.collect(), Vec::new())
        }
    };
    Report {
        path: path.into(),
        format,
        files: tensors.paths().map(Path::to_path_buf).collect(),
        bytes: tensors.file_bytes(),
        metadata,
        formats,
        tensors: tensors.iter().map(of).collect(),
        model: None,
        memory: Vec::new(),
        warnings,
        verified: false,
    }
}

/// A value as JSON; of long lists the beginning, in words.
fn plain(value: &gguf::Value) -> Value {
    match value {
        gguf::Value::String(text) => json!(text),
        gguf::Value::Bool(flag) => json!(flag),
        gguf::Value::Array(_) => json!(value.to_string()),
        _ => match (value.unsigned(), value.float()) {
            (Some(number), _) => json!(number),
            (_, Some(number)) => json!(number),
            _ => value.to_string().parse::<i64>().map_or(Value::Null, |number| json!(number)),
        },
    }
}

/// What model it is, by its metadata or the configuration beside it; a file of tensors or of a vocabulary alone is none.
fn understand(path: &Path, opened: &Opened, report: &mut Report) -> Outcome {
    let (family, config, warnings) = match opened {
        Opened::Gguf(file) if file.tensors().is_empty() && file.metadata().get("tokenizer.ggml.tokens").is_some() => {
            report.warnings.push("it holds a vocabulary, and no tensors".into());
            return Ok(());
        }
        Opened::Gguf(file) => {
            let known = family::of_gguf(file)?;
            (known.family, known.config, known.warnings)
        }
        Opened::Safetensors(file) => {
            let beside = path.join("config.json");
            if !path.is_dir() || !beside.is_file() {
                return Ok(());
            }
            let (family, config, _) = family::of_config_json(&beside)?;
            let warnings = family.check(&config, file.tensors(), Form::HuggingFace)?;
            (family, config, warnings)
        }
    };
    report.warnings.extend(warnings);
    let (num_parameters, unsupported) = (config.num_parameters(), config.unsupported());
    report.model = Some(Model { family: family.name, num_parameters, config, unsupported });
    Ok(())
}

/// Decodes every number of every tensor, on all cores.
fn decode_all(tensors: &Tensors) -> Outcome {
    tensors.unchanged()?;
    let all: Vec<_> = tensors.iter().collect();
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut numbers = vec![0f32; STEP];
        while let Some((tensor, bytes)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err((offset, what)) = decode(tensor.dtype, bytes, &mut numbers) {
                let problem = tensor::file::Problem::new(
                    tensor.offset.saturating_add(offset),
                    format!("tensor `{}`", tensor.name),
                    what,
                );
                return Err(problem.within(tensors.path_of(&tensor.name).unwrap_or(Path::new(""))));
            }
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let results = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Vec<_>>()
    });
    results.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(tensors.unchanged()?)
}

/// Where the first number is that is no number, in bytes from the tensor's start.
fn decode(dtype: DType, bytes: &[u8], numbers: &mut [f32]) -> Result<(), (u64, String)> {
    let Some(format) = quant::format(dtype) else { return Ok(()) };
    let (elements, size) = (dtype.block_elements(), dtype.block_bytes());
    let step = STEP / elements * size;
    for (piece, at) in bytes.chunks(step).zip((0u64..).step_by(step)) {
        let count = piece.len() / size * elements;
        let numbers = numbers.get_mut(..count).unwrap_or_default();
        format.decode(piece, numbers).map_err(|what| (at, what))?;
        if let Some(place) = numbers.iter().position(|number| !number.is_finite()) {
            let value = numbers.get(place).copied().unwrap_or_default();
            let offset = at + (place / elements * size) as u64;
            return Err((offset, format!("element {place} of this block of {count} is {value}, which is no weight")));
        }
    }
    Ok(())
}

fn print(report: &Report) {
    let line = |what: &str, text: String| product(format_args!("{what:11} {text}"));
    let files = if report.files.len() > 1 { format!(" · {} files", report.files.len()) } else { String::new() };
    line("file", format!("{} · {} · {}{files}", report.path.display(), report.format, size(report.bytes)));
    if let Some(model) = &report.model {
        let c = &model.config;
        line("model", format!("{} · {} parameters", model.family, model.num_parameters));
        let heads = format!("{} heads of {} ({} of keys and values)", c.num_heads, c.head_dim(), c.kv_heads());
        let shape = format!("{} layers · {} wide · MLP {} · {heads}", c.num_layers, c.hidden_size, c.intermediate_size);
        line("shape", format!("{shape} · vocabulary {} · context {}", c.vocab_size, c.max_context));
        if let Some(what) = &model.unsupported {
            line("note", what.clone());
        }
    }
    for (name, count) in &report.formats {
        line("format", format!("{name:8} {:5} tensors · {}", count.tensors, size(count.bytes)));
    }
    for need in &report.memory {
        let parts = [need.weights_bytes, need.kv_cache_bytes, need.activation_bytes].map(size);
        let [weights, cache, between] = parts;
        let text = format!("{} = weights {weights} + cache {cache} + between layers {between}", size(need.total_bytes));
        line("memory", format!("context {:7}: {text}", need.context));
    }
    for (key, value) in &report.metadata {
        let text = value.as_str().map_or_else(|| value.to_string(), |text| text.escape_debug().to_string());
        let short: String = text.chars().take(100).collect();
        let more = if short.len() < text.len() { "…" } else { "" };
        line("key", format!("{key} = {short}{more}"));
    }
    for tensor in &report.tensors {
        let shape = tensor::Shape::from(&tensor.shape[..]);
        line(
            "tensor",
            format!("{:40} {:8} {shape} · byte {} · {}", tensor.name, tensor.dtype, tensor.offset, size(tensor.bytes)),
        );
    }
    if report.verified {
        line("verified", format!("all {} tensors decode to finite numbers", report.tensors.len()));
    }
}

/// Bytes in the largest unit that they fill.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
