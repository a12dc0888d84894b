//! `rondo synth`: a model file of a published model's exact shape and types with random weights.
#![forbid(unsafe_code)]

use super::output::{Output, meant};
use super::progress::Progress;
use super::show_file::size;
use super::signals::Signals;
use super::{Failure, Outcome, product};
use model::family::{PRESETS, preset};
use model::synth::Synth;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tensor::file::atomic::Pending;
use tensor::file::gguf::{self, Planned};
use tensor::quant::recipe::Recipe;

/// Write a model file of a published model's exact shape and types, with random weights, for tests of speed.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// qwen2.5-0.5b, qwen2.5-1.5b, qwen2.5-7b, qwen2.5-32b, llama-3.2-1b or llama-3.1-8b.
    preset: String,
    /// The file to write; a GGUF file of this name is replaced once the new one is whole.
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// What types the tensors get: f32, f16, bf16, q4_0, q8_0, q4_k_s, q4_k_m, q5_k_m or q6_k.
    #[arg(long, default_value = "q4_k_m", value_name = "TYPE")]
    quant: String,
    /// A GGUF file whose tokenizer it gets, padded to the model's size; or no_vocab for none.
    #[arg(long, default_value = "no_vocab", value_name = "FILE")]
    vocab: PathBuf,
    /// What the random numbers are made of.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    let begun = Instant::now();
    let Some((family, config)) = preset(&args.preset) else {
        let known: Vec<_> = PRESETS.iter().map(|(name, ..)| *name).collect();
        let help = format!("{}there are {}", meant(&args.preset, &known), known.join(", "));
        return Err(Failure::usage(format!("{}: there is no such preset\n  help: {help}", args.preset)));
    };
    let Some(recipe) = Recipe::of_name(&args.quant) else {
        let known: Vec<_> = Recipe::names().collect();
        let help = format!("{}there are {}", meant(&args.quant, &known), known.join(", "));
        return Err(Failure::usage(format!("--quant {}: there is no such recipe\n  help: {help}", args.quant)));
    };
    let signals = Signals::catch(args.json)?;
    signals.begin()?;
    let vocabulary = match args.vocab.to_str() {
        Some("no_vocab") => None,
        _ => Some(gguf::File::open(&args.vocab)?),
    };
    let read = vocabulary.iter().flat_map(|file| file.tensors().paths());
    let mut output = Output::file(&args.output, read)?;
    let synth = Synth::new(&args.preset, family, &config, recipe, vocabulary.as_ref(), args.seed)
        .map_err(|what| Failure::bad_file(format!("--vocab {}: {what}", args.vocab.display())))?;
    let path = args.output.display();
    let done = output.begin(synth.bytes()).and_then(|()| write(&synth, &args.output, &signals.stop));
    if !done.map_err(|e| output.failure(&e))? {
        return Err(Failure { message: format!("{path}: interrupted, not written"), ..signals.failure() });
    }
    let (seconds, bytes) = (begun.elapsed().as_secs_f64(), synth.bytes());
    let per_second = bytes as f64 / seconds;
    match args.json {
        true => product(super::json(&serde_json::json!({
            "path": path.to_string(), "tensors": synth.planned.len(), "bytes": bytes, "seconds": seconds,
            "bytes_per_second": per_second,
        }))),
        false => product(format_args!(
            "{path}: {} tensors · {} · {seconds:.1} s, {}/s to the disk",
            synth.planned.len(),
            size(bytes),
            size(per_second as u64)
        )),
    }
    Ok(())
}

/// Writes the file, whole or not at all, and answers whether it was; it isn't when told to stop.
fn write(synth: &Synth, path: &Path, stop: &AtomicBool) -> std::io::Result<bool> {
    let sink = BufWriter::with_capacity(1 << 16, Pending::create(path)?);
    let mut writer = gguf::Writer::new(sink, &synth.metadata, &synth.planned)?;
    let mut progress = Progress::new(synth.bytes());
    let go_on = |tensor: &Planned, bytes: u64| {
        progress.done += bytes;
        progress.show(format_args!("{} {}", tensor.name, tensor.dtype));
        !stop.load(Ordering::Relaxed)
    };
    if !synth.write(&mut writer, go_on)? {
        return Ok(false);
    }
    writer.finish()?.into_inner().map_err(|e| e.into_error())?.commit()?;
    Ok(true)
}
