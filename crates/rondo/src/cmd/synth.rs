//! `rondo synth`: a model file of a published model's exact shape and types with random weights.
#![forbid(unsafe_code)]

use super::show_file::size;
use super::{Failure, Outcome, product};
use model::family::{PRESETS, preset};
use model::synth::Synth;
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::Instant;
use tensor::file::atomic::Pending;
use tensor::file::gguf;
use tensor::quant::recipe::Recipe;

/// Write a model file of a published model's exact shape and types, with random weights, for tests of speed.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// qwen2.5-0.5b, qwen2.5-1.5b, qwen2.5-7b, qwen2.5-32b, llama-3.2-1b or llama-3.1-8b.
    preset: String,
    /// The file to write.
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
        let help = format!("there are {}", known.join(", "));
        return Err(Failure::usage(format!("{}: there is no such preset\n  help: {help}", args.preset)));
    };
    let Some(recipe) = Recipe::of_name(&args.quant) else {
        let known: Vec<_> = Recipe::names().collect();
        let help = format!("there are {}", known.join(", "));
        return Err(Failure::usage(format!("--quant {}: there is no such recipe\n  help: {help}", args.quant)));
    };
    let vocabulary = match args.vocab.to_str() {
        Some("no_vocab") => None,
        _ => Some(gguf::File::open(&args.vocab)?),
    };
    let synth = Synth::new(&args.preset, family, &config, recipe, vocabulary.as_ref(), args.seed)
        .map_err(|what| Failure::bad_file(format!("{}: {what}", args.vocab.display())))?;
    let path = args.output.display();
    let failed = |e: std::io::Error| Failure::failed(format!("{path}: {e}"));
    let pending = Pending::create(&args.output).map_err(failed)?;
    let sink = BufWriter::with_capacity(1 << 16, pending);
    let mut writer = gguf::Writer::new(sink, &synth.metadata, &synth.planned).map_err(failed)?;
    synth.write(&mut writer, |_| {}).map_err(failed)?;
    let sink = writer.finish().map_err(failed)?;
    sink.into_inner().map_err(|e| failed(e.into_error()))?.commit().map_err(failed)?;
    let (seconds, bytes) = (begun.elapsed().as_secs_f64(), synth.bytes());
    let per_second = bytes as f64 / seconds;
    match args.json {
        true => product(super::json(&serde_json::json!({
            "path": args.output, "tensors": synth.planned.len(), "bytes": bytes, "seconds": seconds,
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
