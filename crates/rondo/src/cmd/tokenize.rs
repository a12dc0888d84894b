//! `rondo tokenize`: the tokens of a text, or the text of tokens, by a model's own vocabulary.
#![forbid(unsafe_code)]

use super::{Failure, Outcome, product, say};
use model::text::{Codec, CodecError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Show the tokens of a text, or with --decode the text of tokens.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A GGUF file, a tokenizer.json, or the folder of a model or a run.
    model: PathBuf,
    /// The text (one argument), or with --decode the ids [default: standard input].
    text: Vec<String>,
    /// Read ids, separated by white space or commas, and print their text.
    #[arg(long)]
    decode: bool,
    /// Take the names of control tokens for these, and add those that the model expects around a text.
    #[arg(long)]
    special: bool,
    /// As JSON, with each token's bytes and the time that it took.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    let start = Instant::now();
    let codec = Codec::open(&folder(&args.model)).map_err(failure)?;
    let open_seconds = start.elapsed().as_secs_f64();
    if args.text.len() > 1 && !args.decode {
        let help = "put it in quotation marks, or send it to standard input";
        return Err(Failure::usage(format!("the text is {} arguments\n  help: {help}", args.text.len())));
    }
    let input = match args.text.is_empty() {
        false => args.text.join(" ").into_bytes(),
        true => {
            let mut all = Vec::new();
            std::io::stdin()
                .lock()
                .read_to_end(&mut all)
                .map_err(|e| Failure::failed(format!("standard input: {e}")))?;
            all
        }
    };
    if args.decode { decode(&args, &codec, &input) } else { encode(&args, &codec, &input, open_seconds) }
}

fn encode(args: &Args, codec: &Codec, input: &[u8], open_seconds: f64) -> Outcome {
    let start = Instant::now();
    let ids = codec.encode(input, args.special).map_err(|(line, what)| {
        let line = line.map(|line| format!(" line {line}")).unwrap_or_default();
        Failure::bad_file(format!("the text{line}: {what}"))
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let ids = if args.special { codec.surround(ids) } else { ids };
    if !args.json {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        product(ids.join(" "));
        return Ok(());
    }
    let pieces: Vec<String> =
        ids.iter().map(|id| String::from_utf8_lossy(&codec.decode(&[*id], true)).into_owned()).collect();
    product(serde_json::json!({
        "ids": ids,
        "pieces": pieces,
        "vocab_size": codec.vocab_size(),
        "bytes": input.len(),
        "open_seconds": open_seconds,
        "seconds": seconds,
        "megabytes_per_second": input.len() as f64 / 1e6 / seconds.max(1e-9),
    }));
    Ok(())
}

fn decode(args: &Args, codec: &Codec, input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let mut ids = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']')).filter(|word| !word.is_empty())
    {
        let id = word.parse::<u32>().ok().filter(|id| (*id as usize) < codec.vocab_size());
        ids.push(id.ok_or_else(|| {
            let last = codec.vocab_size().saturating_sub(1);
            Failure::bad_file(format!("id {} is `{}`; the tokens are 0 to {last}", ids.len() + 1, short(word)))
        })?);
    }
    let bytes = codec.decode(&ids, args.special);
    if args.json {
        product(serde_json::json!({ "ids": ids, "text": String::from_utf8_lossy(&bytes) }));
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    // A reader who has left is no error.
    let _ = out.write_all(&bytes).and_then(|()| out.flush());
    if std::str::from_utf8(&bytes).is_err() {
        say("warning: these tokens don't end with a whole character");
    }
    Ok(())
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

fn failure(error: CodecError) -> Failure {
    Failure::bad_file(error)
}
