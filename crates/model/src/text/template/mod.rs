//! Chat templates: Jinja as Hugging Face sets up Python's jinja2, by an evaluator of our own that no template can
//! make crash, hang or eat the memory.
//!
//! A template comes with a model, so it is as little to be trusted as the rest of the file. Parsing and rendering go
//! on a thread with a stack of `STACK` bytes; how deep they go, how many steps they take and how many bytes their
//! values hold is counted before it happens, and each limit is an error with the template's name and line.
#![forbid(unsafe_code)]

mod ast;
mod attributes;
mod call;
mod clock;
#[cfg(test)]
mod costs;
mod digits;
mod error;
mod eval;
mod filters;
mod format;
mod json;
mod lexer;
mod meter;
mod methods;
mod numbers;
mod operate;
mod parser;
mod run;
mod sort;
mod source;
mod strings;
mod tests;
mod text;
mod value;

pub use clock::Now;
pub use error::{At, Error, Kind};
pub use json::long_number;
pub use source::Source;

use error::Result;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Stack of the thread that parses or renders, in bytes; the limits on depth need less than half of it.
pub const STACK: usize = 16 << 20;

/// How much a template may ask for. All but its own size grow with the conversation that it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the template's source.
    pub template: usize,
    /// Steps of a rendering, about 30 ns each: one for a node that is evaluated, an element that is looked at, 6 bytes
    /// gone through by character, 16 searched, 64 copied.
    pub steps: u64,
    /// How long a rendering may take. Steps end one first wherever they take as long as they are reckoned to; this ends
    /// those on machines that are much slower. `None` doesn't look at the clock.
    pub time: Option<Duration>,
    /// Bytes that the values of a rendering hold at any one time.
    pub memory: usize,
    /// Bytes of the rendered text.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { template: 256 << 10, steps: 2_000_000, time: Some(TIME), memory: 16 << 20, output: 4 << 20 }
    }
}

/// A second, less what starting a program and reading its files takes.
const TIME: Duration = Duration::from_millis(800);
/// Steps for each value of the conversation, beside one a byte: a message may be looked at from every other of a long
/// conversation, and long ones are copied some times.
const STEPS_A_VALUE: u64 = 4_000;
/// The most of these: what takes about a third of a second.
const MOST_STEPS_FOR_VALUES: u64 = 12_000_000;
/// Nanoseconds for each byte that the conversation holds: to go over it some times.
const NANOSECONDS_A_BYTE: u64 = 10;
/// Bytes of memory and of output for each that the conversation holds.
const TIMES: usize = 4;

/// A chat template, ready to be rendered.
#[derive(Clone, Debug)]
pub struct Template {
    name: String,
    whole: Arc<ast::Whole>,
    limits: Limits,
}

/// What a template is rendered with.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// `messages`, and optionally `tools`, `documents`, `add_generation_prompt` or any other variable. What isn't
    /// here isn't defined.
    pub conversation: &'a serde_json::Map<String, serde_json::Value>,
    /// Variables that the model brings, such as `bos_token`; the conversation's go before them.
    pub tokens: &'a [(String, String)],
    /// What `strftime_now` tells.
    pub now: Now,
}

/// A rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// The byte ranges of it that came from the conversation, in order. In these nothing is a control token, whatever
    /// it looks like.
    pub content: Vec<Range<usize>>,
    /// The byte ranges that stand in `{% generation %}` blocks: what the model said.
    pub generations: Vec<Range<usize>>,
}

impl Template {
    /// Parses `source`, which errors call `name`.
    ///
    /// # Errors
    /// What is wrong with it, or too large about it, with line and column.
    pub fn parse(name: &str, source: &str) -> std::result::Result<Template, Error> {
        Template::with_limits(name, source, Limits::default())
    }

    /// `parse` with other limits.
    ///
    /// # Errors
    /// As `parse`.
    pub fn with_limits(name: &str, source: &str, limits: Limits) -> std::result::Result<Template, Error> {
        if source.len() > limits.template {
            let (have, most) = (source.len(), limits.template);
            let what = format!(
                "the template has {have} bytes; at most {most} are read, and chat templates have some thousand"
            );
            return Err(named(name, Error::new(Kind::Limit, what)));
        }
        let whole = apart(|| parser::parse(&lexer::tokens(source)?)).map_err(|e| named(name, e))?;
        Ok(Template { name: name.into(), whole: Arc::new(whole), limits })
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// What the template refuses, does wrong or asks too much of, with its line and column.
    pub fn render(&self, input: Input) -> std::result::Result<Rendered, Error> {
        apart(|| render(&self.whole, input, self.limits)).map_err(|e| named(&self.name, e))
    }
}

fn named(name: &str, error: Error) -> Error {
    Error { name: name.into(), ..error }
}

/// Does `work` on a thread with a stack that is large enough for it.
fn apart<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("template".into()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, work);
        let thread =
            thread.map_err(|e| Error::new(Kind::Limit, format!("there is no thread for the template: {e}")))?;
        thread.join().unwrap_or_else(|_| Err(Error::new(Kind::Value, "the template met a fault of this program")))
    })
}

fn render(whole: &ast::Whole, input: Input, limits: Limits) -> Result<Rendered> {
    // The conversation is there already and is what its owner wants rendered: it has no limit.
    meter::begin(u64::MAX, usize::MAX, None);
    let mut variables = value::Dict::default();
    for (name, text) in input.tokens {
        variables.insert(value::Value::str(name)?, value::Value::str(text)?)?;
    }
    let mut count = 0;
    for (name, json) in input.conversation {
        count += values(json);
        variables.insert(value::Value::str(name)?, json::value(json, false)?)?;
    }
    let held = meter::held();
    let room = |limit: usize| limit.saturating_add(held.saturating_mul(TIMES));
    let bytes = u64::try_from(held).unwrap_or(u64::MAX);
    let steps = count.saturating_mul(STEPS_A_VALUE).min(MOST_STEPS_FOR_VALUES).saturating_add(bytes);
    let more = Duration::from_nanos(bytes.saturating_mul(NANOSECONDS_A_BYTE));
    let time = limits.time.map(|time| time.saturating_add(more));
    meter::begin(limits.steps.saturating_add(steps), room(limits.memory), time);
    let mut run = run::Run::new(variables, input.now, room(limits.output))?;
    run.template(whole)?;
    let (text, content) = std::mem::take(&mut run.out).into_parts();
    Ok(Rendered { text, content, generations: std::mem::take(&mut run.generations) })
}

/// How many values there are in `json`; its depth is bounded by whoever has read it.
fn values(json: &serde_json::Value) -> u64 {
    match json {
        serde_json::Value::Array(items) => items.iter().map(values).sum::<u64>() + 1,
        serde_json::Value::Object(entries) => entries.values().map(values).sum::<u64>() + 1,
        _ => 1,
    }
}
