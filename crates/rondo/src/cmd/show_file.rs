//! `rondo show` of a model file: what it says, its tensors, and the memory that running it would take.
#![forbid(unsafe_code)]

use super::progress::Progress;
use super::signals::Signals;
use super::{Failure, Outcome, path_text, product, say};
use model::Config;
use model::family::{self, Form};
use model::memory::{Need, need};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tensor::DType;
use tensor::file::{Content, Problem, TensorInfo, Tensors, gguf, printable, safetensors};
use tensor::quant;

/// Contexts that memory is told for.
const CONTEXTS: &[usize] = &[2048, 8192, 32_768];
/// Numbers that are decoded at once.
const STEP: usize = 1 << 14;
/// Lists of at most so many values are told whole; of longer ones so many.
const WHOLE_LIST: usize = 16;
const FIRST: usize = 8;
/// Characters of a value that are printed.
const WIDEST: usize = 100;
/// Tensors with something wrong that are named besides the first.
const MOST_WRONG: usize = 15;
/// What names the model in the two kinds of files.
const NAMES_OF_MODELS: [&str; 3] = ["key `general.architecture`", "key `architectures`", "key `model_type`"];
/// How often the progress of reading is shown.
const EVERY: Duration = Duration::from_millis(5);

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
    path: String,
    format: String,
    files: Vec<String>,
    bytes: u64,
    metadata: Map<String, Value>,
    formats: BTreeMap<&'static str, Count>,
    tensors: Vec<Tensor>,
    model: Option<Model>,
    memory: Vec<Need>,
    warnings: Vec<String>,
    verified: bool,
    /// Tensors of whole numbers, of which there is nothing to decode.
    whole_number_tensors: usize,
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
    // Reading every byte takes long: it is ended as other long work is.
    let signals = if verify { Some(Signals::catch(json)?) } else { None };
    signals.as_ref().map_or(Ok(()), Signals::begin)?;
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
        for context in contexts.iter().filter(|context| **context > most) {
            report.warnings.push(format!("--context {context}: the model has positions for {most} only"));
        }
        report.memory = all.into_iter().map(|context| need(&model.config, weights, context)).collect();
    }
    // Whatever model it is or isn't: a number that is none is one.
    let checked = match &signals {
        Some(signals) => decode_all(tensors, &signals.stop),
        None => Ok(Vec::new()),
    };
    if let (Ok(_), Some(signals)) = (&checked, &signals)
        && signals.stop.load(Ordering::Relaxed)
    {
        return Err(Failure { message: format!("{}: interrupted", path.display()), ..signals.failure() });
    }
    let checked = checked.and_then(|wrong| report.tell(wrong));
    report.verified = verify && checked.is_ok();
    if let (Err(_), Err(unknown)) = (&checked, &known) {
        report.warnings.push(unknown.first_line());
    }
    report.warnings.iter().for_each(|warning| say(format_args!("warning: {}", printable(warning))));
    match json {
        true => product(super::json(&report)),
        false => print(&report),
    }
    checked.and(known)
}

impl Report {
    /// The first tensor with something wrong as the failure, and the others as warnings.
    fn tell(&mut self, wrong: Vec<Failure>) -> Outcome {
        let (count, mut wrong) = (wrong.len(), wrong.into_iter());
        let Some(first) = wrong.next() else { return Ok(()) };
        self.warnings.extend(wrong.by_ref().take(MOST_WRONG).map(|failure| failure.first_line()));
        if wrong.len() > 0 {
            self.warnings.push(format!("{} more tensors, {count} in all, hold numbers that are none", wrong.len()));
        }
        Err(first)
    }
}

fn open(path: &Path) -> Result<Opened, Failure> {
    let named = |ending: &str| path.extension().is_some_and(|e| e == ending);
    let safetensors = match Content::of(path) {
        Content::Gguf => false,
        Content::Safetensors => true,
        Content::Other => path.is_dir() || named("safetensors") || named("json"),
    };
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
        path: path_text(path),
        format,
        files: tensors.paths().map(path_text).collect(),
        bytes: tensors.file_bytes(),
        metadata,
        formats,
        tensors: tensors.iter().map(of).collect(),
        model: None,
        memory: Vec::new(),
        warnings,
        verified: false,
        whole_number_tensors: tensors.iter().filter(|(tensor, _)| !decodes(tensor.dtype)).count(),
    }
}

/// A list as JSON, a long one as its length and type and its first values.
fn list(array: &gguf::Array) -> Value {
    use gguf::Array;
    let shown = if array.len() > WHOLE_LIST { FIRST } else { WHOLE_LIST };
    let first: Vec<Value> = match array {
        Array::U8(all) => all.iter().take(shown).map(|n| json!(n)).collect(),
        Array::I8(all) => all.iter().take(shown).map(|n| json!(n)).collect(),
        Array::U16(all) => all.iter().take(shown).map(|n| json!(n)).collect(),
        Array::I16(all) => all.iter().take(shown).map(|n| json!(n)).collect(),
        Array::U32(all) => all.iter().take(shown).map(|n| json!(n)).collect(),
        Array::I32(all) => all.iter().take(shown).map(|n| json!(n)).collect(),
        Array::F32(all) => all.iter().take(shown).map(|n| json!(tensor::number::shortest(*n))).collect(),
        Array::Bool(all) => all.iter().take(shown).map(|n| json!(n)).collect(),
        Array::String(all) => all.iter().take(shown).map(|n| json!(n)).collect(),
        Array::U64(all) => all.iter().take(shown).map(|n| json!(n)).collect(),
        Array::I64(all) => all.iter().take(shown).map(|n| json!(n)).collect(),
        Array::F64(all) => all.iter().take(shown).map(|n| json!(n)).collect(),
        Array::Array(all) => all.iter().take(shown).map(list).collect(),
    };
    if array.len() <= WHOLE_LIST {
        return first.into();
    }
    json!({ "count": array.len(), "type": array.kind().name(), "first": first })
}

/// Such JSON in a line.
fn brief(value: &Value) -> String {
    let items = |all: &[Value]| all.iter().map(brief).collect::<Vec<_>>().join(", ");
    match value {
        Value::Array(all) => format!("[{}]", items(all)),
        Value::Object(list) => {
            let first = list.get("first").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let count = list.get("count").and_then(Value::as_u64).unwrap_or(0);
            format!("[{}, and {} more]", items(first), count.saturating_sub(first.len() as u64))
        }
        other => other.to_string(),
    }
}

/// A value as JSON.
fn plain(value: &gguf::Value) -> Value {
    match value {
        gguf::Value::String(text) => json!(text),
        gguf::Value::Bool(flag) => json!(flag),
        gguf::Value::Array(array) => list(array),
        gguf::Value::F32(number) => json!(tensor::number::shortest(*number)),
        _ => match (value.unsigned(), value.float()) {
            (Some(number), _) => json!(number),
            (_, Some(number)) => json!(number),
            _ => value.to_string().parse::<i64>().map_or(Value::Null, |number| json!(number)),
        },
    }
}

/// What model it is, by its metadata or the configuration beside it; a file of tensors or of a vocabulary alone is none,
/// and one of a model that nobody knows here is no bad file.
fn understand(path: &Path, opened: &Opened, report: &mut Report) -> Outcome {
    match model_of(path, opened, report) {
        Err(tensor::file::Error::Format { problem, .. }) if NAMES_OF_MODELS.contains(&problem.field.as_str()) => {
            report.warnings.push(format!("{}: {}: what it takes to run isn't known", problem.field, problem.what));
            Ok(())
        }
        other => Ok(other?),
    }
}

fn model_of(path: &Path, opened: &Opened, report: &mut Report) -> Result<(), tensor::file::Error> {
    let (family, config, warnings) = match opened {
        Opened::Gguf(file) if kind(file).is_some_and(|kind| kind != "model") => {
            report.warnings.push(format!("general.type is {:?}: it is no model by itself", kind(file).unwrap_or("")));
            return Ok(());
        }
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

/// What a file says that it is.
fn kind(file: &gguf::File) -> Option<&str> {
    file.metadata().get("general.type").and_then(gguf::Value::text)
}

/// Whether there are numbers of this type to decode: there is nothing wrong that a whole number could be.
fn decodes(dtype: DType) -> bool {
    dtype == DType::F64 || quant::format(dtype).is_some()
}

/// Decodes every number of every tensor, on all cores, until it is told to stop; answers what is wrong, tensor by tensor.
fn decode_all(tensors: &Tensors, stop: &AtomicBool) -> Result<Vec<Failure>, Failure> {
    tensors.unchanged()?;
    let all: Vec<_> = tensors.iter().collect();
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let worker = || {
        let (mut numbers, mut wrong) = (vec![0f32; STEP], Vec::new());
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((tensor, bytes)) = all.get(index) else { return wrong };
            let go_on = |read: usize| {
                done.fetch_add(read as u64, Ordering::Relaxed);
                !stop.load(Ordering::Relaxed)
            };
            match decode(tensor.dtype, bytes, &mut numbers, go_on) {
                Ok(true) => {}
                Ok(false) => return wrong,
                Err((offset, what)) => {
                    let field = format!("tensor `{}`", tensor.name);
                    let problem = Problem::new(tensor.offset.saturating_add(offset), field, what);
                    wrong.push((index, problem.within(tensors.path_of(&tensor.name).unwrap_or(Path::new("")))));
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut wrong = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let mut progress = Progress::new(tensors.file_bytes());
        while !workers.iter().all(|worker| worker.is_finished()) {
            std::thread::sleep(EVERY);
            progress.done = done.load(Ordering::Relaxed);
            progress.show(format_args!("of {} read", size(tensors.file_bytes())));
        }
        drop(progress);
        workers
            .into_iter()
            .flat_map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Vec<_>>()
    });
    tensors.unchanged()?;
    wrong.sort_by_key(|(index, _)| *index);
    Ok(wrong.into_iter().map(|(_, error)| error.into()).collect())
}

/// Whether all was read before `go_on` said no; or where the first number is that is no number, in bytes from the
/// tensor's start.
fn decode(
    dtype: DType,
    bytes: &[u8],
    numbers: &mut [f32],
    go_on: impl Fn(usize) -> bool,
) -> Result<bool, (u64, String)> {
    let wrong = |element: usize, value: &dyn std::fmt::Display, offset: u64| {
        (offset, format!("element {element} is {value}, which is no weight"))
    };
    let (elements, size) = (dtype.block_elements(), dtype.block_bytes());
    let step = STEP / elements * size;
    for (piece, at) in bytes.chunks(step).zip((0usize..).step_by(step)) {
        if dtype == DType::F64 {
            let found = piece.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes));
            if let Some((place, value)) = found.enumerate().find(|(_, number)| !number.is_finite()) {
                return Err(wrong(at / size + place, &value, (at + place * size) as u64));
            }
        } else if let Some(format) = quant::format(dtype) {
            let count = piece.len() / size * elements;
            let numbers = numbers.get_mut(..count).unwrap_or_default();
            format.decode(piece, numbers).map_err(|what| (at as u64, what))?;
            if let Some(place) = numbers.iter().position(|number| !number.is_finite()) {
                let value = numbers.get(place).copied().unwrap_or_default();
                return Err(wrong(at / size * elements + place, &value, (at + place / elements * size) as u64));
            }
        }
        if !go_on(piece.len()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn print(report: &Report) {
    let line = |what: &str, text: String| product(format_args!("{what:11} {text}"));
    let files = if report.files.len() > 1 { format!(" · {} files", report.files.len()) } else { String::new() };
    line("file", format!("{} · {} · {}{files}", printable(&report.path), report.format, size(report.bytes)));
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
        line("format", format!("{name:8} {:>12} · {}", tensors_of(count.tensors), size(count.bytes)));
    }
    for need in &report.memory {
        let parts = [need.weights_bytes, need.kv_cache_bytes, need.activation_bytes].map(size);
        let [weights, cache, between] = parts;
        let text = format!("{} = weights {weights} + cache {cache} + between layers {between}", size(need.total_bytes));
        line("memory", format!("context {:7}: {text}", need.context));
    }
    for (key, value) in &report.metadata {
        let text = brief(value);
        let text = printable(&text);
        let short: String = text.chars().take(WIDEST).collect();
        let more = if short.len() < text.len() { "…" } else { "" };
        line("key", format!("{} = {short}{more}", printable(key)));
    }
    for tensor in &report.tensors {
        let shape = tensor::Shape::from(&tensor.shape[..]);
        line(
            "tensor",
            format!(
                "{:40} {:8} {shape} · byte {} · {}",
                printable(&tensor.name),
                tensor.dtype,
                tensor.offset,
                size(tensor.bytes)
            ),
        );
    }
    if report.verified {
        let whole = report.whole_number_tensors;
        let decoded = report.tensors.len() - whole;
        match decoded {
            0 => {}
            1 => line("verified", "1 tensor decodes to finite numbers".into()),
            _ => line("verified", format!("all {decoded} tensors decode to finite numbers")),
        }
        if whole > 0 {
            let have = if whole == 1 { "has" } else { "have" };
            line("verified", format!("{} of whole numbers {have} nothing to decode", tensors_of(whole)));
        }
    }
}

fn tensors_of(count: usize) -> String {
    format!("{count} tensor{}", if count == 1 { "" } else { "s" })
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
