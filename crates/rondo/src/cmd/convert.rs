//! `rondo convert`: a GGUF file to a folder of safetensors as Hugging Face's tools read it, and back.
#![forbid(unsafe_code)]

use super::output::Output;
use super::progress::Progress;
use super::show_file::size;
use super::signals::Signals;
use super::{Failure, Outcome, product, say};
use model::convert::{ConvertError, Options, to_folder, to_gguf};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;
use tensor::DType;
use tensor::file::{Content, Tensors, gguf, gguf_in, printable};

/// Convert a model between GGUF and a folder of safetensors with Hugging Face's names.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A GGUF file; a folder with config.json and safetensors; or a run, whose newest checkpoint is taken.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The folder to make of a file, in a folder that is there; or the file to make of a folder: a GGUF file of this name
    /// is replaced once the new one is whole.
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// The type of the weights, f32, f16 or bf16 [default: as they are; of blocks, bf16].
    #[arg(long, value_name = "TYPE")]
    to: Option<DType>,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
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
    let input = match args.input.join("checkpoints").is_dir() {
        true => super::run::folder::open(&args.input, None)?.0.path,
        false => args.input.clone(),
    };
    if let Some(file) = gguf_in(&input).filter(|_| input.is_dir() && !input.join("config.json").exists()) {
        let help = format!("there is {file} in it: name that file");
        return Err(Failure::bad_file(format!("{}: there is no config.json in it\n  help: {help}", input.display())));
    }
    if Content::of(&input) == Content::Safetensors {
        let help = "name its folder, with the config.json of the model";
        return Err(Failure::bad_file(format!("{}: it is a safetensors file\n  help: {help}", input.display())));
    }
    let file = if input.is_dir() { None } else { Some(gguf::File::open(&input)?) };
    file.as_ref().map_or(Ok(()), |file| has_no_scales(file.tensors()))?;
    let output = RefCell::new(match &file {
        Some(_) => Output::folder(&args.output, &input)?,
        None => Output::file(&args.output, files(&input).iter().map(PathBuf::as_path))?,
    });
    let progress = RefCell::new(Progress::new(0));
    let mut begin = |bytes| {
        progress.borrow_mut().expect(bytes);
        output.borrow_mut().begin(bytes)
    };
    let mut go_on = |name: &str, bytes| {
        let mut progress = progress.borrow_mut();
        progress.done += bytes;
        progress.show(name);
        !signals.stop.load(Ordering::Relaxed)
    };
    let mut options = Options { to: args.to, begin: &mut begin, progress: &mut go_on };
    let made = match &file {
        Some(file) => to_folder(file, &args.output, &mut options),
        None => to_gguf(&input, &args.output, &mut options),
    };
    drop(progress.into_inner());
    let made = made.map_err(|error| match error {
        ConvertError::Stopped => {
            Failure { message: format!("{}: {error}", args.output.display()), ..signals.failure() }
        }
        ConvertError::Write { source, .. } => output.borrow().failure(&source),
        ConvertError::File(error) => error.into(),
        ConvertError::Folder(error) => Failure::bad_file(error),
    })?;
    made.warnings.iter().for_each(|warning| say(format_args!("warning: {}", printable(warning))));
    match args.json {
        true => product(super::json(&serde_json::json!({
            "files": made.files.iter().map(super::path_text).collect::<Vec<_>>(),
            "tensors": made.tensors,
            "bytes": made.bytes,
            "warnings": made.warnings,
        }))),
        false => product(format_args!(
            "{}: {} tensors · {} · {} · {:.1} s",
            args.output.display(),
            made.tensors,
            size(made.bytes),
            match made.files.len() {
                1 => "1 file".to_string(),
                files => format!("{files} files"),
            },
            begun.elapsed().as_secs_f64()
        )),
    }
    Ok(())
}

/// Checks that there is no NVFP4 tensor whose numbers another tensor multiplies: without it they would be other numbers.
fn has_no_scales(tensors: &Tensors) -> Outcome {
    let scale = |name: &str| format!("{}.scale", name.strip_suffix(".weight").unwrap_or(name));
    let of_four_bits = tensors.iter().filter(|(tensor, _)| tensor.dtype == DType::Nvfp4);
    let mut scaled = of_four_bits.filter(|(tensor, _)| tensors.get(&scale(&tensor.name)).is_some());
    scaled.next().map_or(Ok(()), |(tensor, _)| {
        let what =
            format!("it is nvfp4 with a scale of its own, `{}`, which convert doesn't apply", scale(&tensor.name));
        Err(tensors.error(&tensor.name, what, "convert another file of this model, such as of bf16").into())
    })
}

/// The files of a model's folder, all of which may be read.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let gguf = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "gguf");
    entries.map(|entry| entry.path()).filter(|path| !gguf(path)).collect()
}
