//! Text on the way: an engine over the very parameters that a run trains.
#![forbid(unsafe_code)]

use ::train::samples::{Moment, Sample};
use engine::{Engine, Options, Request, Sampling};
use model::text::{END, Stream};

/// What makes samples; nothing until the first are asked for.
#[derive(Default)]
pub struct Samples {
    engine: Option<Engine>,
}

impl Samples {
    /// What the model makes of each prompt as it is now.
    ///
    /// # Errors
    /// What is wrong with a prompt, or why the engine can't be made or fails.
    pub fn make(&mut self, now: &Moment) -> Result<Vec<Sample>, String> {
        if self.engine.is_none() {
            let model = &now.config.model;
            let made = Engine::over(now.device, model, Options::default(), now.trainer.parameters());
            self.engine = Some(made.map_err(|e| e.to_string())?);
        }
        let Some(engine) = &mut self.engine else { return Ok(Vec::new()) };
        now.config.sample.prompts.iter().map(|prompt| one(engine, now, prompt)).collect()
    }
}

fn one(engine: &mut Engine, now: &Moment, prompt: &str) -> Result<Sample, String> {
    let wrong = |what: String| format!("prompt {prompt:?}: {what}");
    let tokens = now.tokenizer.encode(prompt.as_bytes()).map_err(|(_, what)| wrong(what))?;
    let request = Request {
        prompt: tokens,
        sampling: Sampling {
            temperature: now.config.sample.temperature as f32,
            seed: now.config.seed,
            ..Sampling::default()
        },
        max_tokens: now.config.sample.max_tokens,
        stop: vec![END],
    };
    let (mut stream, mut text) = (Stream::default(), String::new());
    for token in engine.generate(&request).map_err(|e| wrong(e.to_string()))? {
        let token = token.map_err(|e| e.to_string())?;
        text.push_str(&stream.push(&now.tokenizer.bytes(token.id)));
    }
    text.push_str(&stream.finish());
    Ok(Sample { prompt: prompt.into(), text })
}
