//! `rondo tokenize`: the tokens of a text, or the text of tokens, by a model's own vocabulary.
#![forbid(unsafe_code)]

use super::{Failure, Outcome, product, say};
use model::text::{Codec, CodecError};
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes of standard input at most; tokens take more memory than their text.
const LARGEST: u64 = 1 << 30;

/// Show the tokens of a text, or with --decode the text of tokens.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A GGUF file, a tokenizer.json, or the folder of a model or a run.
    model: PathBuf,
    /// The text (one argument), or with --decode the ids [default: standard input, of 1 GiB at most].
    text: Vec<String>,
    /// Read ids, separated by white space or commas, and print their text.
    #[arg(long)]
    decode: bool,
    /// Take the names of control tokens for these, and add those that the model expects around a text.
    #[arg(long)]
    special: bool,
    /// As JSON, with each token's bytes in hexadecimal, whether some aren't whole characters, and the time that it took.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    let start = Instant::now();
    let model = folder(&args.model);
    let codec = Codec::open(&model).map_err(|error| failure(error, &model))?;
    let open_seconds = start.elapsed().as_secs_f64();
    if args.text.len() > 1 && !args.decode {
        let help = "put it in quotation marks, or send it to standard input";
        return Err(Failure::usage(format!("the text is {} arguments\n  help: {help}", args.text.len())));
    }
    let input = match args.text.is_empty() {
        false => args.text.join(" ").into_bytes(),
        true => standard_input()?,
    };
    if args.decode { decode(&args, &codec, &input) } else { encode(&args, &codec, &input, open_seconds) }
}

fn standard_input() -> Result<Vec<u8>, Failure> {
    let help = "send it in parts, cut at ends of lines";
    let mut all = Vec::new();
    std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut all).map_err(|e| match e.kind() {
        ErrorKind::OutOfMemory => Failure::resources(format!("standard input: {e}\n  help: {help}")),
        _ => Failure::failed(format!("standard input: {e}")),
    })?;
    if all.len() as u64 > LARGEST {
        let what = format!("standard input: it has more than {} GiB", LARGEST >> 30);
        return Err(Failure::bad_file(format!("{what}\n  help: {help}")));
    }
    Ok(all)
}

fn encode(args: &Args, codec: &Codec, input: &[u8], open_seconds: f64) -> Outcome {
    let start = Instant::now();
    let ids = codec.encode(input, args.special).map_err(|(line, what)| {
        let line = line.map(|line| format!(" line {line}")).unwrap_or_default();
        let help = "these tokens are of text: send it as UTF-8, such as by `iconv -t UTF-8`";
        Failure::bad_file(format!("the text{line}: {what}\n  help: {help}"))
    })?;
    if let Ok(text) = std::str::from_utf8(input) {
        warn_of_lost(&codec.lost(text));
    }
    let seconds = start.elapsed().as_secs_f64();
    let ids = if args.special { codec.surround(ids) } else { ids };
    if !args.json {
        let mut line = String::with_capacity(6 * ids.len());
        for (i, id) in ids.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            // A string takes all that is written.
            let _ = write!(line, "{space}{id}");
        }
        product(line);
        return Ok(());
    }
    let each = codec.decode_each(&ids, true);
    let pieces: Vec<_> = each.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
    product(serde_json::json!({
        "ids": ids,
        "pieces": pieces,
        "bytes": each.iter().map(|bytes| hexadecimal(bytes)).collect::<Vec<_>>(),
        "lossy": each.iter().any(|bytes| std::str::from_utf8(bytes).is_err()),
        "vocab_size": codec.vocab_size(),
        "input_bytes": input.len(),
        "open_seconds": open_seconds,
        "seconds": seconds,
        "megabytes_per_second": input.len() as f64 / 1e6 / seconds.max(1e-9),
    }));
    Ok(())
}

fn decode(args: &Args, codec: &Codec, input: &[u8]) -> Outcome {
    let ids = ids(&String::from_utf8_lossy(input), codec.vocab_size()).map_err(|what| {
        // A file's mistake or the command line's.
        if args.text.is_empty() { Failure::bad_file(format!("standard input: {what}")) } else { Failure::usage(what) }
    })?;
    let each = codec.decode_each(&ids, args.special);
    let bytes = each.concat();
    let lossy = std::str::from_utf8(&bytes).is_err();
    if args.json {
        product(serde_json::json!({
            "ids": ids,
            "text": String::from_utf8_lossy(&bytes),
            "bytes": each.iter().map(|bytes| hexadecimal(bytes)).collect::<Vec<_>>(),
            "lossy": lossy,
        }));
    } else {
        let mut out = std::io::stdout().lock();
        // A reader who has left is no error.
        let _ = out.write_all(&bytes).and_then(|()| out.flush());
    }
    if lossy {
        say("warning: these tokens aren't whole characters: some of their bytes are no UTF-8");
    }
    Ok(())
}

/// Ids below `count`, separated by white space, or each from the next by a comma; brackets don't count.
fn ids(text: &str, count: usize) -> Result<Vec<u32>, String> {
    let text = text.replace(['[', ']'], " ");
    let mut ids = Vec::new();
    let has_commas = text.contains(',');
    for part in text.split(',') {
        let before = ids.len();
        for word in part.split_whitespace() {
            let id = word.parse::<u32>().ok().filter(|id| (*id as usize) < count);
            ids.push(id.ok_or_else(|| {
                let (number, last, word) = (ids.len() + 1, count.saturating_sub(1), short(word));
                let help = "give ids as `rondo tokenize` prints them, by the same model";
                format!("id {number} is `{word}`; the tokens are 0 to {last}\n  help: {help}")
            })?);
        }
        if has_commas && ids.len() == before {
            let help = "put one id between two commas, and none at the ends";
            return Err(format!("id {} is missing: a comma has none beside it\n  help: {help}", before + 1));
        }
    }
    Ok(ids)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Says which characters a vocabulary has nothing for.
fn warn_of_lost(lost: &[char]) {
    const SHOWN: usize = 8;
    if lost.is_empty() {
        return;
    }
    let first: Vec<_> = lost.iter().take(SHOWN).map(|c| format!("{c:?} (U+{:04X})", u32::from(*c))).collect();
    let more = if lost.len() > SHOWN { format!(" and {} more", lost.len() - SHOWN) } else { String::new() };
    say(format_args!("warning: the vocabulary has no token for {}{more}: left out", first.join(", ")));
}

fn short(word: &str) -> String {
    word.chars().take(30).collect()
}

/// The folder with the tokenizer: of a run its newest checkpoint.
fn folder(path: &Path) -> PathBuf {
    let checkpoints = path.join("checkpoints");
    let newest = ::train::checkpoint::list(&checkpoints).into_iter().next();
    newest.map_or_else(|| path.to_path_buf(), |(_, folder)| folder)
}

fn failure(error: CodecError, model: &Path) -> Failure {
    let file = tensor::file::gguf_in(model).filter(|_| !model.join("tokenizer.json").exists());
    match (error, file) {
        (error, Some(file)) => Failure::bad_file(format!("{error}\n  help: there is {file} in it: name that file")),
        (error @ CodecError::Io { .. }, None) => Failure::bad_file(format!(
            "{error}\n  help: give a GGUF file, a tokenizer.json, or a model's or run's folder"
        )),
        (error, None) => Failure::bad_file(error),
    }
}
