//! `rondo convert`: a GGUF file to a folder of safetensors as Hugging Face's tools read it, and back.
#![forbid(unsafe_code)]

use super::show_file::size;
use super::signals::Signals;
use super::{Failure, Outcome, product, say, terminal};
use model::convert::{ConvertError, Options, to_folder, to_gguf};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tensor::DType;
use tensor::file::gguf;

/// Convert a model between GGUF and a folder of safetensors with Hugging Face's names.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A GGUF file; a folder with config.json and safetensors; or a run, whose newest checkpoint is taken.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The folder to make of a file, or the file to make of a folder.
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// The type of the weights, f32, f16 or bf16 [default: as they are; of blocks, bf16].
    #[arg(long, value_name = "TYPE")]
    to: Option<DType>,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

impl From<ConvertError> for Failure {
    fn from(error: ConvertError) -> Self {
        match error {
            ConvertError::File(error) => Failure::bad_file(error),
            ConvertError::Folder(error) => Failure::bad_file(error),
            ConvertError::Write { .. } => Failure::failed(error),
            ConvertError::Stopped => Failure { code: 130, message: error.to_string() },
        }
    }
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    if let Some(dtype) = args.to
        && !matches!(dtype, DType::F32 | DType::F16 | DType::Bf16)
    {
        let help = "it takes f32, f16 or bf16; `rondo quantize` makes blocks";
        return Err(Failure::usage(format!("--to {dtype}: not a type that convert makes\n  help: {help}")));
    }
    let begun = Instant::now();
    let signals = Signals::catch(args.json)?;
    signals.begin()?;
    let mut shown = false;
    let mut done = 0u64;
    let mut progress = |name: &str, bytes: u64| {
        done += bytes;
        if terminal::live() {
            let text: String =
                format!("{} · {name}", size(done)).chars().take(terminal::columns().saturating_sub(1)).collect();
            let mut stderr = std::io::stderr().lock();
            // Work goes on without its reader.
            let _ = write!(stderr, "\r\x1b[2K{text}").and_then(|()| stderr.flush());
            shown = true;
        }
        !signals.stop.load(Ordering::Relaxed)
    };
    let mut options = Options { to: args.to, progress: &mut progress };
    let input = match args.input.join("checkpoints").is_dir() {
        true => super::run::folder::open(&args.input, None)?.0.path,
        false => args.input.clone(),
    };
    let made = match input.is_dir() {
        true => to_gguf(&input, &args.output, &mut options),
        false => gguf::File::open(&input)
            .map_err(ConvertError::File)
            .and_then(|file| to_folder(&file, &args.output, &mut options)),
    };
    if shown {
        // As above.
        let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
    }
    let made = made.map_err(|error| match error {
        ConvertError::Stopped => {
            Failure { message: format!("{}: {error}", args.output.display()), ..signals.failure() }
        }
        error => error.into(),
    })?;
    made.warnings.iter().for_each(|warning| say(format_args!("warning: {warning}")));
    match args.json {
        true => product(super::json(&made)),
        false => product(format_args!(
            "{}: {} tensors · {} · {} files · {:.1} s",
            args.output.display(),
            made.tensors,
            size(made.bytes),
            made.files.len(),
            begun.elapsed().as_secs_f64()
        )),
    }
    Ok(())
}
