//! `rondo run`: text that goes on from a prompt, made by a model that was trained: once, piped, or in a conversation.

mod conversation;
pub mod folder;
mod lines;
mod writer;

use super::{DeviceFlags, Failure, Outcome, piece, product, say};
use engine::{Finish, Sampling};
use serde_json::json;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::sync::Arc;
use tensor::number::shortest;
use writer::Writer;

/// Tokens of an answer, where nothing else is asked for.
const MOST_TOKENS: u32 = 256;
/// Bytes that are read from standard input, whatever the model: at least, and at most.
const LEAST_INPUT: usize = 1 << 20;
const MOST_INPUT: usize = 1 << 26;

/// Make text with a model that was trained: from a prompt, from standard input, or in a conversation.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A run's folder, or a model's: config.json, tokenizer.json, model.safetensors.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// What to go on from; without it standard input is read, or a conversation begins.
    #[arg(value_name = "PROMPT")]
    prompt: Option<String>,
    /// Of a run: which checkpoint, such as step-400 or best [default: the newest whole one].
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,
    /// What logits are divided by; 0 takes the likeliest token.
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f32,
    /// The same as --temperature 0.
    #[arg(long, conflicts_with = "temperature")]
    greedy: bool,
    /// Only so many of the likeliest tokens; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = super::count)]
    top_k: u32,
    /// Only the likeliest tokens that together have this probability.
    #[arg(long, value_name = "P", default_value_t = 0.95, allow_negative_numbers = true)]
    top_p: f32,
    /// Only tokens at least this share as likely as the likeliest.
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f32,
    /// Seed of the draws: the same seed gives the same text.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = super::whole)]
    seed: u64,
    /// Tokens to make at most.
    #[arg(long, value_name = "N", default_value_t = MOST_TOKENS, allow_negative_numbers = true, value_parser = super::count)]
    max_tokens: u32,
    /// Positions of prompt and answer together at most [default: the model's].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::count)]
    ctx: Option<u32>,
    /// Say speeds after each answer, on stderr.
    #[arg(long)]
    verbose: bool,
    /// Print one JSON object in place of the text; needs a prompt.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceFlags,
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        use engine::Error;
        use graph::plan::PlanError;
        match error {
            Error::Request(_) => Failure::usage(error),
            Error::Weight { .. } => Failure::bad_file(error),
            Error::Memory { .. } | Error::Plan(PlanError::Memory { .. } | PlanError::Allocation { .. }) => {
                Failure::resources(error)
            }
            Error::Device(e) => e.into(),
            Error::Trace(_) | Error::Plan(_) => Failure::failed(error),
        }
    }
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    let sampling = args.sampling();
    if let Some(what) = sampling.problem() {
        return Err(Failure::usage(what));
    }
    if args.ctx == Some(0) {
        return Err(Failure::usage("--ctx is 0; it must be at least 2\n  help: without it the context is the model's"));
    }
    let talks = args.prompt.is_none() && std::io::stdin().is_terminal();
    if talks && args.json {
        let folder = args.folder.display();
        let help = format!("rondo run {folder} \"Once upon\" --json, or pipe the prompt to it");
        return Err(Failure::usage(format!("--json needs a prompt: it prints one answer\n  help: {help}")));
    }
    let (folder, step) = folder::open(&args.folder, args.checkpoint.as_deref())?;
    let device = args.device.open()?;
    let engine = writer::engine(&device, &folder, args.ctx.unwrap_or(0) as usize)?;
    let model = &folder.config;
    let at = step.map(|step| format!(" after step {step}")).unwrap_or_default();
    say(format_args!(
        "model   {}{at}: {} layers · {} wide · {} tokens ({}) · context {} of {}",
        args.folder.display(),
        model.num_layers,
        model.hidden_size,
        model.vocab_size,
        folder.tokenizer.name(),
        engine.max_context(),
        model.max_context
    ));
    let max_tokens = args.max_tokens as usize;
    let mut writer = Writer { engine, folder, sampling, max_tokens, stop: Arc::default(), last: None };
    if talks {
        return conversation::converse(&mut writer, args.verbose);
    }
    let prompt = match &args.prompt {
        Some(prompt) => prompt.clone().into_bytes(),
        None => piped(&writer)?,
    };
    once(&mut writer, &prompt, &args)
}

/// The prompt that standard input is.
fn piped(writer: &Writer) -> Result<Vec<u8>, Failure> {
    let context = writer.engine.max_context();
    let longest = writer.folder.tokenizer.longest_token_bytes();
    // No prompt of more bytes has few enough tokens.
    let most = context.saturating_mul(longest).clamp(LEAST_INPUT, MOST_INPUT);
    let mut all = Vec::new();
    let mut input = std::io::stdin().lock().take(most as u64 + 1);
    input.read_to_end(&mut all).map_err(|e| Failure::failed(format!("standard input: {e}")))?;
    if all.len() > most {
        let read = graph::units::bytes(most as u64);
        let help = format!("prompt and answer together have {context} tokens at most");
        return Err(Failure::usage(format!("the prompt on standard input is longer than {read}\n  help: {help}")));
    }
    // The end of the last line is the shell's, not the prompt's.
    if all.last() == Some(&b'\n') {
        all.pop();
    }
    Ok(all)
}

impl Args {
    fn sampling(&self) -> Sampling {
        let temperature = if self.greedy { 0.0 } else { self.temperature };
        Sampling { temperature, top_k: self.top_k, top_p: self.top_p, min_p: self.min_p, seed: self.seed }
    }
}

/// One prompt, one answer.
fn once(writer: &mut Writer, prompt: &[u8], args: &Args) -> Outcome {
    let mut text = String::new();
    let answer = writer.answer(prompt, &mut |part| {
        text.push_str(part);
        args.json || piece(part)
    })?;
    if args.json {
        product(super::json(&json!({
            "text": text,
            "tokens": answer.tokens,
            "prompt_tokens": answer.prompt,
            "finish_reason": answer.finish.map(Finish::name),
            "prompt_tokens_per_second": answer.prompt_speed(),
            "tokens_per_second": answer.speed(),
            "percent_of_limit": answer.speed().map(|speed| writer.percent_of_limit(speed)).transpose()?,
            "seed": writer.sampling.seed,
            "temperature": shortest(writer.sampling.temperature),
            "device": super::describe(writer.engine.device()),
        })));
    } else {
        piece("\n");
    }
    if args.verbose {
        say(writer.stats()?);
    }
    Ok(())
}
