//! `rondo quantize`: a GGUF model's weights into smaller element types, one tensor after the other.
#![forbid(unsafe_code)]

use super::output::{Output, meant};
use super::progress::Progress;
use super::show_file::size;
use super::signals::Signals;
use super::{Failure, Outcome, product, say};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Instant;
use tensor::file::Error;
use tensor::file::atomic::Pending;
use tensor::file::gguf::{self, Metadata, Planned, TensorInfo, Value};
use tensor::file::mmap::Mapped;
use tensor::quant::imatrix::Imatrix;
use tensor::quant::recipe::{self, Chosen, Facts, Recipe};
use tensor::quant::transcode::{self, Loss, Transcode};
use tensor::{DType, quant};

/// Write a GGUF model's weights in smaller element types.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The model, a GGUF file; of a model in parts, any of them.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file to write; a GGUF file of this name is replaced once the new one is whole.
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// What to make of it: a recipe (q4_0, q8_0, q4_k_s, q4_k_m, q5_k_m, q6_k), which is llama.cpp's choice of type
    /// for each tensor; or one type for every weight matrix (f32, f16, bf16, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k,
    /// iq4_nl, iq4_xs, mxfp4).
    #[arg(long, value_name = "TYPE")]
    to: String,
    /// Every weight matrix in the one type, where --to is a recipe's name too.
    #[arg(long)]
    pure: bool,
    /// How much each column matters: a file of llama-imatrix, .dat or GGUF.
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Let blocks become other blocks, which loses twice; f32, f16 and bf16 are made of blocks without this.
    #[arg(long)]
    requantize: bool,
    /// Measure what each tensor loses: the root mean square of its errors, relative to that of its numbers.
    #[arg(long)]
    measure: bool,
    /// CPU threads [default: the cores that this process may use].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print what was written as JSON, with every tensor.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    let begun = Instant::now();
    let recipe = recipe(&args)?;
    let threads = match args.threads {
        Some(0) => return Err(Failure::usage("--threads must be at least 1")),
        Some(threads) => threads,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let signals = Signals::catch(args.json)?;
    signals.begin()?;
    let file = gguf::File::open(&args.input)?;
    file.warnings().iter().for_each(|warning| say(format_args!("warning: {warning}")));
    let mut output = Output::file(&args.output, file.tensors().paths().chain(args.imatrix.as_deref()))?;
    let imatrix = args.imatrix.as_deref().map(read_imatrix).transpose()?;
    let job = Job::new(&file, recipe, imatrix, &args, threads)?;
    let metadata = job.metadata(args.imatrix.as_deref());
    job.warn();
    let Some(losses) = job.write(&args.output, &mut output, &metadata, &signals.stop)? else {
        let message = format!("{}: interrupted, not written", args.output.display());
        return Err(Failure { message, ..signals.failure() });
    };
    job.report(&args.output, &losses, begun.elapsed().as_secs_f64(), args.json);
    Ok(())
}

fn recipe(args: &Args) -> Result<Recipe, Failure> {
    let to = &args.to;
    let named = Recipe::of_name(to);
    let recipe = match to.parse::<DType>() {
        _ if named.is_some() && !args.pure => named,
        Ok(dtype) if quant::format(dtype).is_some_and(quant::Format::encodes) => Some(Recipe::Pure(dtype)),
        Ok(dtype) => {
            let help = "q4_k_m is usual; `rondo help quantize` says which there are";
            return Err(Failure::usage(format!("--to {dtype}: it can be read, not written\n  help: {help}")));
        }
        Err(_) => None,
    };
    recipe.ok_or_else(|| {
        let encoded = quant::FORMATS.iter().filter(|format| format.encodes()).map(|format| format.dtype.name());
        let recipes: Vec<_> = Recipe::names().collect();
        let types: Vec<_> = encoded.filter(|name| args.pure || !recipes.contains(name)).collect();
        let (what, known, list) = match args.pure {
            true => ("--pure takes an element type", types.clone(), format!("there are {}", types.join(", "))),
            false => {
                let list =
                    format!("there are the recipes {}; and single types: {}", recipes.join(", "), types.join(", "));
                ("there is no such recipe or element type", [types, recipes].concat(), list)
            }
        };
        Failure::usage(format!("--to {to}: {what}\n  help: {}{list}", meant(to, &known)))
    })
}

/// Bytes of an importance matrix at most: four times what the largest published model takes.
const LARGEST_IMATRIX: usize = 4 << 30;

fn read_imatrix(path: &Path) -> Result<Imatrix, Failure> {
    let mapped = Mapped::open(path).map_err(Error::io(path))?;
    let bytes = mapped.bytes();
    if bytes.len() > LARGEST_IMATRIX {
        let what = format!(
            "it has {}, and no importance matrix more than {}",
            size(bytes.len() as u64),
            size(LARGEST_IMATRIX as u64)
        );
        return Err(Failure::bad_file(format!("{}: {what}\n  help: name a file of llama-imatrix", path.display())));
    }
    Ok(Imatrix::parse(bytes).map_err(|problem| problem.within(path))?)
}

/// Numbers that are made, and written, at once.
const PART: usize = 1 << 22;

/// Rows of a tensor, and what is to become of them.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// The tensor's bytes before these.
    before: usize,
    bytes: &'a [u8],
    from: &'static quant::Format,
    to: &'static quant::Format,
    importance: Option<&'a [f32]>,
}

/// Bytes to be written.
enum Piece<'a> {
    /// As they lie in the input.
    Same(&'a [u8]),
    Made(Vec<u8>),
}

/// A model, and what is to become of it.
struct Job<'a> {
    file: &'a gguf::File,
    recipe: Recipe,
    imatrix: Option<Imatrix>,
    threads: usize,
    measure: bool,
    tensors: Vec<(&'a TensorInfo, &'a [u8])>,
    chosen: Vec<Chosen>,
    planned: Vec<Planned>,
}

impl<'a> Job<'a> {
    fn new(
        file: &'a gguf::File,
        recipe: Recipe,
        imatrix: Option<Imatrix>,
        args: &Args,
        threads: usize,
    ) -> Result<Self, Failure> {
        let tensors: Vec<_> = file.tensors().iter().collect();
        let list: Vec<_> = tensors.iter().map(|(t, _)| (t.name.as_str(), t.dtype, &t.shape)).collect();
        let chosen = recipe::choose(recipe, &facts(file.metadata(), imatrix.is_some()), &list);
        let plan = |((tensor, _), chosen): (&(&TensorInfo, &[u8]), &Chosen)| Planned {
            name: tensor.name.clone(),
            dtype: chosen.dtype,
            shape: tensor.shape.clone(),
        };
        let planned: Vec<_> = tensors.iter().zip(&chosen).map(plan).collect();
        let job = Job { file, recipe, imatrix, threads, measure: args.measure, tensors, chosen, planned };
        // Before anything is written: all that can be known.
        for ((tensor, _), chosen) in job.tensors.iter().zip(&job.chosen) {
            let blocks = tensor.dtype.block_elements() > 1 && chosen.dtype.block_elements() > 1;
            if tensor.dtype != chosen.dtype && blocks && !args.requantize {
                let what = format!("it is {} already, and would become {}", tensor.dtype, chosen.dtype);
                let help = "quantize the original model, or add --requantize, which loses more";
                return Err(file.tensors().error(&tensor.name, what, help).into());
            }
            if tensor.dtype != chosen.dtype {
                job.importance(tensor)?;
            }
        }
        Ok(job)
    }

    /// Says what isn't as the recipe means it.
    fn warn(&self) {
        if self.tensors.is_empty() {
            say(format_args!(
                "warning: {}: it has no tensors: its metadata alone is written",
                self.file.path().display()
            ));
        }
        let mut fallbacks: BTreeMap<(DType, DType), Vec<&TensorInfo>> = BTreeMap::new();
        for ((tensor, _), chosen) in self.tensors.iter().zip(&self.chosen) {
            if chosen.dtype != chosen.wanted {
                fallbacks.entry((chosen.wanted, chosen.dtype)).or_default().push(tensor);
            }
        }
        for ((wanted, dtype), tensors) in &fallbacks {
            let Some(first) = tensors.first() else { continue };
            let (count, row) = (tensors.len(), first.shape.last());
            let others = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
            say(format_args!(
                "warning: {}{others}: {dtype} instead of {wanted}, whose blocks don't fill rows of {row}",
                first.name
            ));
        }
        if let Some(imatrix) = &self.imatrix {
            let known = |(tensor, _): &&(&TensorInfo, _)| imatrix.get(&tensor.name).is_some();
            if !self.tensors.iter().any(|tensor| known(&tensor)) {
                say("warning: the importance matrix knows none of these tensors: is it of this model?");
            }
        }
    }

    /// The file's own, with what has changed.
    fn metadata(&self, imatrix: Option<&Path>) -> Metadata {
        const SPLIT: [&str; 3] = ["split.no", "split.count", "split.tensors.count"];
        let kept = self.file.metadata().iter().filter(|(key, _)| !SPLIT.contains(key));
        let mut metadata: Metadata = kept.map(|(key, value)| (key, value.clone())).collect();
        metadata.set("general.quantization_version", Value::U32(2));
        if let Some(number) = self.recipe.file_type() {
            metadata.set("general.file_type", Value::U32(number));
        }
        if let (Some(known), Some(path)) = (&self.imatrix, imatrix) {
            let count = |count: usize| Value::U32(u32::try_from(count).unwrap_or(u32::MAX));
            metadata.set("quantize.imatrix.file", Value::String(path.display().to_string()));
            if let Some(dataset) = &known.dataset {
                metadata.set("quantize.imatrix.dataset", Value::String(dataset.clone()));
            }
            metadata.set("quantize.imatrix.entries_count", count(known.len()));
            if let Some(chunks) = known.chunks {
                metadata.set("quantize.imatrix.chunks_count", Value::U32(chunks));
            }
        }
        metadata
    }

    /// Writes the file, whole or not at all, and answers what each tensor has lost, where that is measured; `None` if it
    /// was told to stop. Pieces are written while the next ones are made.
    fn write(
        &self,
        path: &Path,
        output: &mut Output,
        metadata: &Metadata,
        stop: &AtomicBool,
    ) -> Result<Option<Vec<Option<Loss>>>, Failure> {
        let begun = output.begin(self.planned.iter().filter_map(Planned::bytes).sum());
        let failed = |source| output.failure(&source);
        let pending = begun.and_then(|()| Pending::create(path)).map_err(failed)?;
        let mut writer = gguf::Writer::new(pending, metadata, &self.planned).map_err(failed)?;
        let (made, written) = std::thread::scope(|scope| {
            let (full, pieces) = sync_channel(1);
            let (used, spare) = channel();
            let writing = scope.spawn(move || {
                for piece in pieces {
                    match piece {
                        Piece::Same(bytes) => writer.piece(bytes)?,
                        Piece::Made(bytes) => {
                            writer.piece(&bytes)?;
                            // When all are made, nobody needs it any more.
                            let _ = used.send(bytes);
                        }
                    }
                }
                Ok(writer)
            });
            let made = self.make(&full, &spare, stop);
            drop(full);
            // A panic there is a broken invariant, and goes on here.
            (made, writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        // What can't be written is why making ends.
        let writer = written.map_err(failed)?;
        let Some(losses) = made? else { return Ok(None) };
        let pending = writer.finish().map_err(failed)?;
        self.file.tensors().unchanged()?;
        pending.commit().map_err(failed)?;
        Ok(Some(losses))
    }

    /// Makes all pieces of all tensors; ends early when told to stop, or when they aren't written any more.
    fn make<'b>(
        &'b self,
        full: &SyncSender<Piece<'b>>,
        spare: &Receiver<Vec<u8>>,
        stop: &AtomicBool,
    ) -> Result<Option<Vec<Option<Loss>>>, Failure> {
        let mut progress = Progress::new(self.tensors.iter().map(|(tensor, _)| tensor.bytes).sum());
        let mut losses = Vec::with_capacity(self.tensors.len());
        for ((tensor, bytes), planned) in self.tensors.iter().zip(&self.planned) {
            let what = format!("{} {} -> {}", tensor.name, tensor.dtype, planned.dtype);
            progress.show(&what);
            if tensor.dtype == planned.dtype {
                if stop.load(Ordering::Relaxed) || full.send(Piece::Same(bytes)).is_err() {
                    return Ok(None);
                }
                progress.done += tensor.bytes;
                losses.push(None);
                continue;
            }
            let work = self.work(tensor, bytes, planned.dtype)?;
            let mut loss = self.measure.then(Loss::default);
            for part in &work {
                let mut out = spare.try_recv().unwrap_or_default();
                let more = self.encode(tensor, part, &mut out)?;
                loss = loss.map(|before| before.and(more));
                if stop.load(Ordering::Relaxed) || full.send(Piece::Made(out)).is_err() {
                    return Ok(None);
                }
                progress.done += part.bytes.len() as u64;
                progress.show(&what);
            }
            losses.push(loss);
        }
        Ok(Some(losses))
    }

    /// A tensor in parts of whole rows, about `PART` numbers each.
    fn work(&self, tensor: &TensorInfo, bytes: &'a [u8], to: DType) -> Result<Vec<Part<'_>>, Failure> {
        let unknown = |dtype: DType| {
            let help = "quantize a model of floating-point numbers";
            Failure::from(self.file.tensors().error(&tensor.name, format!("{dtype} can't be converted"), help))
        };
        let from = quant::format(tensor.dtype).ok_or_else(|| unknown(tensor.dtype))?;
        let to = quant::format(to).ok_or_else(|| unknown(to))?;
        let importance = self.importance(tensor)?;
        let columns = tensor.shape.last().max(1);
        // Each expert's matrix has columns of its own.
        let matrix = bytes.len() / if importance.is_some() { experts(tensor) } else { 1 };
        let row = from.dtype.bytes(columns).filter(|row| *row > 0).ok_or_else(|| unknown(from.dtype))?;
        let (mut parts, mut before) = (Vec::new(), 0);
        for (index, matrix) in bytes.chunks(matrix.max(1)).enumerate() {
            let importance = importance.and_then(|known| known.get(index * columns..(index + 1) * columns));
            for bytes in matrix.chunks(row * (PART / columns).max(1)) {
                parts.push(Part { before, bytes, from, to, importance });
                before += bytes.len();
            }
        }
        Ok(parts)
    }

    /// A part's bytes in its other type; answers what it has lost, where that is measured.
    fn encode(&self, tensor: &TensorInfo, part: &Part, out: &mut Vec<u8>) -> Result<Loss, Failure> {
        let Part { before, bytes, from, to, importance } = *part;
        let wrong = |what: String, help| Failure::from(self.file.tensors().error(&tensor.name, what, help));
        let elements = bytes.len() / from.dtype.block_bytes() * from.dtype.block_elements();
        let count = to.dtype.bytes(elements).unwrap_or(0);
        out.resize(count, 0);
        let work = Transcode { from, to, importance, threads: self.threads };
        let done =
            if self.measure { work.measured(bytes, out) } else { work.run(bytes, out).map(|()| Loss::default()) };
        done.map_err(|error| match error {
            transcode::Error::Number { index, value } => {
                let (size, numbers) = (from.dtype.block_bytes(), from.dtype.block_elements());
                let at = tensor.offset.saturating_add((before + index / numbers * size) as u64);
                let error = transcode::Error::Number { index: before / size * numbers + index, value };
                wrong(format!("{error}; it lies at byte {at}"), "the model is damaged: get it again")
            }
            transcode::Error::Narrow { index, value, to } => {
                let (size, numbers) = (from.dtype.block_bytes(), from.dtype.block_elements());
                let error = transcode::Error::Narrow { index: before / size * numbers + index, value, to };
                let help = if to == DType::F16 { "bf16 holds it" } else { "f32 holds it" };
                wrong(error.to_string(), help)
            }
            transcode::Error::Shape(what) => wrong(what, "quantize a model of floating-point numbers"),
        })
    }

    /// What the importance matrix says of a tensor, which must be of its sizes.
    fn importance(&self, tensor: &TensorInfo) -> Result<Option<&[f32]>, Failure> {
        let Some(known) = self.imatrix.as_ref().and_then(|imatrix| imatrix.get(&tensor.name)) else { return Ok(None) };
        let columns = tensor.shape.last();
        let experts = experts(tensor);
        if known.len() == columns * experts {
            return Ok(Some(known));
        }
        // Rows of the embedding are looked up, and its columns are nobody's inputs.
        if tensor.name == "token_embd.weight" {
            return Ok(None);
        }
        let what =
            format!("the importance matrix has {} columns for it, and it has {columns} x {experts}", known.len());
        Err(self.file.tensors().error(&tensor.name, what, "make the importance matrix from this very model").into())
    }

    fn report(&self, path: &Path, losses: &[Option<Loss>], seconds: f64, json: bool) {
        let mut types: BTreeMap<&str, usize> = BTreeMap::new();
        self.planned.iter().for_each(|planned| *types.entry(planned.dtype.name()).or_default() += 1);
        let bytes: u64 = self.planned.iter().filter_map(Planned::bytes).sum();
        let before: u64 = self.tensors.iter().map(|(tensor, _)| tensor.bytes).sum();
        let weights: usize = self.planned.iter().map(|planned| planned.shape.elements()).sum();
        let bits = (weights > 0).then(|| bytes as f64 * 8.0 / weights as f64);
        let list: Vec<_> = types.iter().map(|(name, count)| format!("{count} {name}")).collect();
        let all = losses.iter().flatten().fold(Loss::default(), |all, loss| all.and(*loss));
        let lost = if self.measure { format!(" · error {:.3}%", all.relative() * 100.0) } else { String::new() };
        if let Some(bits) = bits {
            say(format_args!(
                "{} · {} tensors: {} · {:.1} MB -> {:.1} MB, {bits:.2} bits a weight{lost} · {seconds:.1} s on {} threads",
                self.recipe.name(),
                self.planned.len(),
                list.join(", "),
                before as f64 / 1e6,
                bytes as f64 / 1e6,
                self.threads
            ));
        }
        if !json {
            for (planned, loss) in self.planned.iter().zip(losses) {
                if let Some(loss) = loss {
                    let (name, percent) = (&planned.name, loss.relative() * 100.0);
                    say(format_args!("  {name:<40} {:<7} error {percent:.3}%", planned.dtype));
                }
            }
            return product(path.display());
        }
        product(super::json(&json!({
            "path": super::path_text(path),
            "recipe": self.recipe.name(),
            "types": types,
            "bytes_before": before,
            "bytes": bytes,
            "bits_per_weight": bits,
            "threads": self.threads,
            "seconds": seconds,
            "error": (self.measure && weights > 0).then(|| all.relative()),
            "tensors": self.described(losses),
        })));
    }

    /// Each tensor, for JSON.
    fn described(&self, losses: &[Option<Loss>]) -> Vec<Json> {
        let tensors = self.tensors.iter().zip(&self.chosen).zip(losses);
        let describe = |(((tensor, _), chosen), loss): ((&(&TensorInfo, &[u8]), &Chosen), &Option<Loss>)| {
            json!({
                "name": tensor.name,
                "from": tensor.dtype.name(),
                "to": chosen.dtype.name(),
                "instead_of": (chosen.dtype != chosen.wanted).then(|| chosen.wanted.name()),
                "error": loss.map(|loss| loss.relative()),
            })
        };
        tensors.map(describe).collect()
    }
}

/// How many matrices a tensor is.
fn experts(tensor: &TensorInfo) -> usize {
    if tensor.shape.len() > 2 { tensor.shape.iter().next().copied().unwrap_or(1).max(1) } else { 1 }
}

/// What of a model the choice of types depends on, as far as its metadata says so.
fn facts(metadata: &Metadata, importance: bool) -> Facts {
    let architecture = metadata.get("general.architecture").and_then(Value::text).unwrap_or_default().to_string();
    let number = |key: &str| {
        let value = metadata.get(&format!("{architecture}.{key}"));
        // A list has one number a layer.
        let first = |value: &Value| value.array().and_then(|list| list.unsigned()?.first().copied());
        let number = value.and_then(|value| value.unsigned().or_else(|| first(value)));
        number.and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
    };
    let num_heads = number("attention.head_count");
    Facts {
        num_layers: number("block_count"),
        num_heads,
        num_kv_heads: match number("attention.head_count_kv") {
            0 => num_heads,
            heads => heads,
        },
        num_experts: number("expert_count"),
        importance,
        architecture,
    }
}
