//! What makes text: a model on a device, how the next token is chosen, and how the last answer went.

use crate::cmd::Failure;
use device::Device;
use engine::{Engine, Finish, Request, Sampling};
use model::Folder;
use model::text::{END, Stream, Tokenizer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The model on the device.
pub fn engine(device: &Device, folder: &Folder, context: usize) -> Result<Engine, Failure> {
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
pub struct Writer {
    /// The model on its device.
    pub engine: Engine,
    /// The model as it lies there.
    pub folder: Folder,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Tokens of an answer at most.
    pub max_tokens: usize,
    /// Ends the answer after its next token.
    pub stop: Arc<AtomicBool>,
    /// How the last answer went.
    pub last: Option<Answer>,
}

/// How an answer went.
#[derive(Clone, Copy)]
pub struct Answer {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of the answer.
    pub tokens: usize,
    /// Why it ended; none where it was stopped.
    pub finish: Option<Finish>,
    /// Seconds until the first token was there.
    first: f64,
    /// Seconds from the first token to the last.
    rest: f64,
}

impl Answer {
    /// Tokens of the prompt a second.
    pub fn prompt_speed(&self) -> Option<f64> {
        (self.first > 0.0).then(|| self.prompt as f64 / self.first)
    }

    /// Tokens a second after the first.
    pub fn speed(&self) -> Option<f64> {
        (self.tokens > 1 && self.rest > 0.0).then(|| (self.tokens - 1) as f64 / self.rest)
    }
}

impl Writer {
    /// Goes on from a prompt; `show` is given whole characters, and answers whether to go on.
    pub fn answer(&mut self, prompt: &[u8], show: &mut dyn FnMut(&str) -> bool) -> Result<Answer, Failure> {
        let tokenizer = &self.folder.tokenizer;
        if let Some(what) = no_text(tokenizer, prompt) {
            return Err(Failure::usage(what));
        }
        let tokens = tokenizer.encode(prompt);
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
        let rest = stream.finish();
        if !rest.is_empty() {
            show(&rest);
        }
        let first = first.unwrap_or(start);
        answer.first = (first - start).as_secs_f64();
        answer.rest = first.elapsed().as_secs_f64();
        self.last = Some(answer);
        Ok(answer)
    }

    /// What share of this machine's limit so many tokens a second are.
    pub fn percent_of_limit(&self, speed: f64) -> Result<f64, Failure> {
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
    pub fn stats(&self) -> Result<String, Failure> {
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
}

/// What is wrong with a prompt's bytes, where the tokenizer takes text alone.
fn no_text(tokenizer: &Tokenizer, prompt: &[u8]) -> Option<String> {
    let error = std::str::from_utf8(prompt).err().filter(|_| !matches!(tokenizer, Tokenizer::Byte))?;
    let at = error.valid_up_to();
    let line = prompt[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    Some(format!(
        "the prompt is not valid UTF-8: byte {} (0x{:02X}, in line {line}) begins no character\n  help: this model reads text; convert it first, such as with `iconv -f LATIN1 -t UTF-8`",
        at + 1,
        prompt[at]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_named_by_their_place() {
        let what = no_text(&Tokenizer::Ascii, b"one\nca\xe9 two").unwrap();
        assert!(what.contains("byte 7 (0xE9, in line 2)") && what.contains("help:"), "{what}");
        assert!(!what.contains("data.tokenizer"), "{what}");
        assert_eq!(no_text(&Tokenizer::Ascii, "\u{e9}".as_bytes()), None);
        assert_eq!(no_text(&Tokenizer::Byte, b"\xff"), None);
    }
}
