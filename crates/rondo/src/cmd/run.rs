//! `rondo run`: text that goes on from a prompt, made by a model that was trained: once, piped, or in a conversation.

use super::{DeviceFlags, Failure, Outcome, product, say};
use ::train::checkpoint;
use device::Device;
use engine::{Engine, Finish, Request, Sampling};
use model::Folder;
use model::text::{END, Stream};
use serde_json::json;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Tokens of an answer, where nothing else is asked for.
const MOST_TOKENS: usize = 256;
/// The commands of a conversation.
const COMMANDS: &str = "/set temperature|top_k|top_p|min_p|seed|max_tokens VALUE   change how text is made
/show    the model and the settings      /stats   speeds of the last answer
/?       this text                       /bye     leave (so does Ctrl-D)
\"\"\"      begins and ends a prompt of several lines; Ctrl-C stops an answer";

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
    #[arg(long, value_name = "T", default_value_t = 0.8)]
    temperature: f32,
    /// The same as --temperature 0.
    #[arg(long, conflicts_with = "temperature")]
    greedy: bool,
    /// Only so many of the likeliest tokens; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    top_k: u32,
    /// Only the likeliest tokens that together have this probability.
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f32,
    /// Only tokens at least this share as likely as the likeliest.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,
    /// Seed of the draws: the same seed gives the same text.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Tokens to make at most.
    #[arg(long, value_name = "N", default_value_t = MOST_TOKENS)]
    max_tokens: usize,
    /// Positions of prompt and answer together at most [default: the model's].
    #[arg(long, value_name = "N", default_value_t = 0)]
    ctx: usize,
    /// Say speeds at the end, on stderr.
    #[arg(long)]
    verbose: bool,
    /// Print one JSON object in place of the text.
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
            Error::Memory(_) | Error::Plan(PlanError::Memory { .. } | PlanError::Allocation { .. }) => {
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
    let (folder, step) = open(&args.folder, args.checkpoint.as_deref())?;
    let device = args.device.open()?;
    let engine = engine(&device, &folder, args.ctx)?;
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
    let mut writer = Writer { engine, folder, sampling, max_tokens: args.max_tokens, stop: Arc::default(), last: None };
    let stdin = std::io::stdin();
    let prompt = match &args.prompt {
        Some(prompt) => Some(prompt.clone().into_bytes()),
        None if !stdin.is_terminal() => {
            let mut all = Vec::new();
            stdin.lock().read_to_end(&mut all).map_err(|e| Failure::failed(format!("standard input: {e}")))?;
            // The end of the last line is the shell's, not the prompt's.
            if all.last() == Some(&b'\n') {
                all.pop();
            }
            Some(all)
        }
        None => None,
    };
    match prompt {
        Some(prompt) => once(&mut writer, &prompt, &args),
        None => converse(&mut writer),
    }
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
    let answer = writer.answer(prompt, &mut |piece| {
        text.push_str(piece);
        args.json || show(piece)
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
            "temperature": writer.sampling.temperature,
            "device": super::describe(writer.engine.device()),
        })));
    } else {
        show("\n");
    }
    if args.verbose {
        say(writer.stats()?);
    }
    Ok(())
}

/// Prompts and answers, until the user leaves.
fn converse(writer: &mut Writer) -> Outcome {
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&writer.stop)).map_err(Failure::failed)?;
    say("type a beginning, and the model goes on; /? shows the commands, /bye leaves");
    let mut lines = std::io::stdin().lock().lines();
    loop {
        ask(">>> ");
        writer.stop.store(false, Ordering::Relaxed);
        let Some(Ok(line)) = lines.next() else { break };
        match line.trim() {
            "" => {}
            "/bye" | "/exit" | "/quit" => return Ok(()),
            "/?" | "/help" => say(COMMANDS),
            "/show" => say(writer.settings()),
            "/stats" => say(writer.stats()?),
            command if command.starts_with("/set") => match writer.set(command) {
                Ok(text) | Err(text) => say(text),
            },
            command if command.starts_with('/') => say(format_args!("unknown command `{command}`; /? shows them")),
            first => {
                let Some(prompt) = several_lines(first, &line, &mut lines) else { break };
                match writer.answer(prompt.as_bytes(), &mut show) {
                    Ok(_) => {}
                    // A prompt that can't be served is no reason to leave.
                    Err(failure) if failure.code == 2 => failure.print(false),
                    Err(failure) => return Err(failure),
                }
                show("\n");
            }
        }
    }
    show("\n");
    Ok(())
}

/// The prompt that begins with `line`: up to the closing quotes, if it opens with three.
fn several_lines(
    trimmed: &str,
    line: &str,
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
) -> Option<String> {
    let Some(first) = trimmed.strip_prefix("\"\"\"") else { return Some(line.into()) };
    let mut all = first.to_string();
    while !all.trim_end().ends_with("\"\"\"") {
        ask("... ");
        let Some(Ok(next)) = lines.next() else { return None };
        all.push('\n');
        all.push_str(&next);
    }
    let end = all.trim_end().len() - 3;
    all.truncate(end);
    Some(all.trim_start_matches('\n').into())
}

fn ask(prompt: &str) {
    let mut stderr = std::io::stderr().lock();
    // Without a reader of stderr the conversation still works.
    let _ = write!(stderr, "{prompt}").and_then(|()| stderr.flush());
}

/// Shows a piece of text at once; whether anybody still reads.
fn show(piece: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(piece.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

/// The model folder of `path`, a run's checkpoint or a model folder itself, and the step that it was saved after.
fn open(path: &Path, wanted: Option<&str>) -> Result<(Folder, Option<usize>), Failure> {
    if !path.is_dir() {
        let what = if path.exists() { "is not a folder" } else { "is not there" };
        let help = "name a run's folder (rondo train makes them under runs/) or a folder with config.json, tokenizer.json and model.safetensors";
        return Err(Failure::bad_file(format!("{} {what}\n  help: {help}", path.display())));
    }
    let checkpoints = path.join("checkpoints");
    if !checkpoints.is_dir() {
        return match wanted {
            Some(_) => Err(Failure::usage(format!("{} is no run's folder, it has no checkpoints", path.display()))),
            None => Ok((Folder::open(path).map_err(Failure::bad_file)?, None)),
        };
    }
    let all = checkpoint::list(&checkpoints);
    let (mut newest, mut chosen) = (true, all.clone());
    if let Some(name) = wanted {
        let step = if name == "best" { best(&all) } else { name.trim_start_matches("step-").parse().ok() };
        chosen.retain(|(there, _)| Some(*there) == step);
        newest = false;
    }
    for (step, folder) in &chosen {
        match checkpoint::verify(folder)
            .map_err(Failure::from)
            .and_then(|_| Folder::open(folder).map_err(Failure::bad_file))
        {
            Ok(found) => return Ok((found, Some(*step))),
            Err(failure) if newest => say(format_args!("warning: {}; this checkpoint is skipped", failure.message)),
            Err(failure) => return Err(failure),
        }
    }
    let names: Vec<_> = all.iter().map(|(step, _)| format!("step-{step}")).collect();
    let there = if names.is_empty() { "none".into() } else { names.join(", ") };
    Err(Failure::bad_file(format!(
        "{}: no whole checkpoint{}; there are: {there}\n  help: train on with rondo train --resume {}",
        checkpoints.display(),
        wanted.map(|name| format!(" `{name}`")).unwrap_or_default(),
        path.display()
    )))
}

/// The checkpoint with the lowest validation loss, by the newest whole one's record.
fn best(all: &[(usize, PathBuf)]) -> Option<usize> {
    let manifest = all.iter().find_map(|(_, folder)| checkpoint::verify(folder).ok())?;
    let steps: Vec<usize> = all.iter().map(|(step, _)| *step).collect();
    ::train::evaluate::best(&manifest.evaluations, &steps).map(|evaluation| evaluation.step)
}

/// The model on the device.
fn engine(device: &Device, folder: &Folder, context: usize) -> Result<Engine, Failure> {
    let options = engine::Options { max_context: context, max_sequences: 1 };
    let engine = Engine::new(device, &folder.config, options, |entry| {
        let found = folder.parameter(&entry.name, &entry.ty.shape);
        found.map_err(|what| engine::Error::Weight { name: entry.name.clone(), what })
    });
    engine.map_err(|e| match e {
        engine::Error::Weight { .. } => Failure::bad_file(format!("{}: {e}", folder.path.display())),
        e => e.into(),
    })
}

/// What makes text.
struct Writer {
    engine: Engine,
    folder: Folder,
    sampling: Sampling,
    max_tokens: usize,
    stop: Arc<AtomicBool>,
    last: Option<Answer>,
}

/// How an answer went.
#[derive(Clone, Copy)]
struct Answer {
    prompt: usize,
    tokens: usize,
    finish: Option<Finish>,
    /// Seconds until the first token was there.
    first: f64,
    /// Seconds from the first token to the last.
    rest: f64,
}

impl Answer {
    fn prompt_speed(&self) -> Option<f64> {
        (self.first > 0.0).then(|| self.prompt as f64 / self.first)
    }

    fn speed(&self) -> Option<f64> {
        (self.tokens > 1 && self.rest > 0.0).then(|| (self.tokens - 1) as f64 / self.rest)
    }
}

impl Writer {
    /// Goes on from a prompt; `show` is given whole characters, and answers whether to go on.
    fn answer(&mut self, prompt: &[u8], show: &mut dyn FnMut(&str) -> bool) -> Result<Answer, Failure> {
        let tokens = self.folder.tokenizer.encode(prompt);
        let mut prompt = tokens.map_err(|(_, what)| Failure::usage(format!("the prompt is {what}")))?;
        if prompt.is_empty() {
            // A document begins where another has ended.
            prompt.push(END);
        }
        let count = prompt.len();
        let (start, mut first) = (Instant::now(), None);
        let mut answer = Answer { prompt: count, tokens: 0, finish: None, first: 0.0, rest: 0.0 };
        let request = Request { prompt, sampling: self.sampling, max_tokens: self.max_tokens, stop: vec![END] };
        let mut stream = Stream::default();
        for token in self.engine.generate(&request)? {
            let token = token?;
            first.get_or_insert_with(Instant::now);
            answer.tokens += 1;
            answer.finish = token.finish;
            let text =
                if token.id == END { String::new() } else { stream.push(&self.folder.tokenizer.bytes(token.id)) };
            if (!text.is_empty() && !show(&text)) || self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        show(&stream.finish());
        let first = first.unwrap_or(start);
        answer.first = (first - start).as_secs_f64();
        answer.rest = first.elapsed().as_secs_f64();
        self.last = Some(answer);
        Ok(answer)
    }

    /// What share of this machine's limit so many tokens a second are.
    fn percent_of_limit(&self, speed: f64) -> Result<f64, Failure> {
        let (device, file) = (self.engine.device(), device::limits::default_file());
        let percent = |limits| 100.0 * speed * self.engine.decode_limit_seconds(&limits);
        let kept = percent(device::limits::kept(device, file.as_deref())?);
        if kept <= 100.0 {
            return Ok(kept);
        }
        // More than the limit: it was measured while the machine was busy, or isn't what binds.
        Ok(percent(device::limits::measure(device, file.as_deref())?))
    }

    /// Speeds of the last answer, with their share of what the machine can do.
    fn stats(&self) -> Result<String, Failure> {
        let Some(answer) = self.last else { return Ok("no answer yet".into()) };
        let decode = match answer.speed() {
            Some(speed) => {
                let percent = self.percent_of_limit(speed)?;
                // The limit is one of memory, and a small model lies nearer.
                let why = if percent > 100.0 { " (the weights stay in its cache)" } else { "" };
                format!("{speed:.0} tok/s, {percent:.1}% of this machine's limit{why}")
            }
            None => "-".into(),
        };
        Ok(format!(
            "prompt {} tokens, {:.1} ms to the first token | answer {} tokens, {decode} | context {}/{}",
            answer.prompt,
            1e3 * answer.first,
            answer.tokens,
            answer.prompt + answer.tokens,
            self.engine.max_context()
        ))
    }

    fn settings(&self) -> String {
        let (model, s) = (&self.folder.config, &self.sampling);
        format!(
            "{}: {} layers, {} wide, {} heads, context {}\ntemperature {} · top_k {} · top_p {} · min_p {} · seed {} · max_tokens {}",
            self.folder.path.display(),
            model.num_layers,
            model.hidden_size,
            model.num_heads,
            self.engine.max_context(),
            s.temperature,
            s.top_k,
            s.top_p,
            s.min_p,
            s.seed,
            self.max_tokens
        )
    }

    /// `/set NAME VALUE`: what is set now, or what is wrong.
    fn set(&mut self, command: &str) -> Result<String, String> {
        let usage = || "use /set temperature|top_k|top_p|min_p|seed|max_tokens VALUE".to_string();
        let [_, name, value] = command.split_whitespace().collect::<Vec<_>>()[..] else { return Err(usage()) };
        fn read<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
            value.parse().map_err(|_| format!("`{value}` is no value for {name}"))
        }
        let mut s = self.sampling;
        match name {
            "temperature" => s.temperature = read(name, value)?,
            "top_k" => s.top_k = read(name, value)?,
            "top_p" => s.top_p = read(name, value)?,
            "min_p" => s.min_p = read(name, value)?,
            "seed" => s.seed = read(name, value)?,
            "max_tokens" => self.max_tokens = read::<usize>(name, value)?.max(1),
            _ => return Err(usage()),
        }
        s.problem().map_or(Ok(()), Err)?;
        self.sampling = s;
        Ok(format!("{name} is {value}"))
    }
}
