//! The engine: recordings for prefill and decode over one set of buffers, and the sequences that they serve.

use crate::kv_cache::{BLOCK, Blocks, blocks_for, slot};
use crate::sequence::Sequence;
use crate::step::{self, LAST_TOKEN, Shape};
use crate::{Error, Request, SequenceId, Token};
use device::{Buffer, Device, Recording, Ticket};
use graph::plan::PlanError;
use graph::trace::{Entry, PARAMETERS};
use graph::{DeviceKind, Limits, Plan, Tuning};
use model::{Config, KV_CACHE, Mixer};
use ops::kv_append::NO_SLOT;
use std::collections::VecDeque;

/// Rows of the prefill steps: a prompt goes through the smallest that holds it, a long one in parts of the largest.
const PREFILL_ROWS: [usize; 4] = [8, 32, 128, 512];
/// Decode steps submitted before the first of them is read, on a device that runs beside the host.
const AHEAD: usize = 4;

/// How large an engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Positions of a sequence at most; 0 for the model's own.
    pub max_context: usize,
    /// Sequences at a time at most.
    pub max_sequences: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { max_context: 0, max_sequences: 1 }
    }
}

/// A step that is planned, and recorded when it is first needed.
struct Step {
    rows: usize,
    plan: Option<Plan>,
    recording: Option<Recording>,
}

/// A decode step whose tokens aren't read yet.
struct Flight {
    step: usize,
    ticket: Ticket,
    who: Vec<Option<SequenceId>>,
}

/// What a step's inputs are filled from, kept so that no step allocates.
#[derive(Default)]
struct Staging {
    positions: Vec<u32>,
    slots: Vec<u32>,
    lens: Vec<u32>,
    starts: Vec<u32>,
    table: Vec<u32>,
    counters: Vec<u32>,
    top_k: Vec<u32>,
    seeds: Vec<u32>,
    temperature: Vec<f32>,
    top_p: Vec<f32>,
    min_p: Vec<f32>,
}

/// Sequences over one model on one device.
pub struct Engine {
    device: Device,
    config: Config,
    context: usize,
    shape: Shape,
    buffers: Vec<(String, Buffer)>,
    prefill: Vec<Step>,
    decode: Vec<Step>,
    blocks: Blocks,
    sequences: Vec<Option<Sequence>>,
    next_id: u64,
    flight: VecDeque<Flight>,
    spare: Vec<Vec<Option<SequenceId>>>,
    staging: Staging,
    tokens: Vec<Token>,
}

impl Engine {
    /// An engine with weights of its own: `weights` answers the little-endian bytes of each parameter.
    ///
    /// # Errors
    /// When the steps can't run on the device, its memory doesn't hold them, or a weight isn't there.
    pub fn new(
        device: &Device,
        config: &Config,
        options: Options,
        mut weights: impl FnMut(&Entry) -> Result<Vec<u8>, Error>,
    ) -> Result<Engine, Error> {
        let (engine, entries) = Self::make(device, config, options, Vec::new())?;
        let parameters = engine.buffer(PARAMETERS);
        for entry in &entries {
            let bytes = weights(entry)?;
            if bytes.len() as u64 != entry.ty.bytes() {
                let what = format!("it has {} bytes; {} needs {}", bytes.len(), entry.ty, entry.ty.bytes());
                return Err(Error::Weight { name: entry.name.clone(), what });
            }
            parameters.write(entry.offset, &bytes)?;
        }
        Ok(engine)
    }

    /// An engine over parameters that somebody else owns, laid out as the training step's region `parameters` of the same
    /// configuration: what they are when a step runs is what it computes with.
    ///
    /// # Errors
    /// When the steps can't run on the device, or its memory doesn't hold them.
    pub fn over(device: &Device, config: &Config, options: Options, parameters: &Buffer) -> Result<Engine, Error> {
        Ok(Self::make(device, config, options, vec![(PARAMETERS.into(), parameters.clone())])?.0)
    }

    fn make(
        device: &Device,
        config: &Config,
        options: Options,
        mut buffers: Vec<(String, Buffer)>,
    ) -> Result<(Engine, Vec<Entry>), Error> {
        let context = context(options.max_context, config.max_context)?;
        let count = options.max_sequences.max(1);
        let blocks = blocks_for(context);
        let shape = Shape { slots: count * blocks * BLOCK, blocks };
        let mut entries = Vec::new();
        let mut planned = |rows: usize, decode: bool| -> Result<Step, Error> {
            let graph = if decode { step::decode(config, shape, rows)? } else { step::prefill(config, shape, rows)? };
            if decode {
                entries = graph.region(PARAMETERS).map(|r| r.entries.clone()).unwrap_or_default();
            }
            let plan = step::plan(graph, device.spec(), &Tuning::default()).map_err(|e| memory(e, shape))?;
            Ok(Step { rows, plan: Some(plan), recording: None })
        };
        let decode = decode_rows(count).map(|rows| planned(rows, true)).collect::<Result<Vec<_>, _>>()?;
        // Without attention nothing of a prompt but its last token matters.
        let longest = if config.mixer == Mixer::Value { 0 } else { context - 1 };
        let prefill = prefill_rows(longest).map(|rows| planned(rows, false)).collect::<Result<Vec<_>, _>>()?;
        let plans: Vec<Plan> = decode.iter().chain(&prefill).filter_map(|step| step.plan.clone()).collect();
        graph::plan::fits(&plans).map_err(|e| memory(e, shape))?;
        let lent: Vec<&str> = buffers.iter().map(|(name, _)| name.as_str()).collect();
        device.has_room(&plans, &lent, &[]).map_err(|e| memory(e, shape))?;
        for (name, bytes) in graph::plan::lent_by_name(&plans) {
            if !buffers.iter().any(|(there, _)| there == name) {
                buffers.push((name.into(), device.allocate(name, bytes)?));
            }
        }
        let engine = Engine {
            device: device.clone(),
            config: config.clone(),
            context,
            shape,
            buffers,
            prefill,
            decode,
            blocks: Blocks::new(count * blocks),
            sequences: (0..count).map(|_| None).collect(),
            next_id: 0,
            flight: VecDeque::with_capacity(AHEAD + 1),
            spare: Vec::new(),
            staging: Staging::default(),
            tokens: Vec::with_capacity(count),
        };
        Ok((engine, entries))
    }

    /// The model's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Positions of a sequence at most.
    pub fn max_context(&self) -> usize {
        self.context
    }

    /// Bytes of all buffers.
    pub fn memory_bytes(&self) -> u64 {
        self.buffers.iter().map(|(_, buffer)| buffer.bytes()).sum()
    }

    /// Seconds below which a decode step of one sequence can't come at `limits`.
    pub fn decode_limit_seconds(&self, limits: &Limits) -> f64 {
        let step = self.decode.first();
        let plan = step.and_then(|step| step.plan.as_ref().or(step.recording.as_ref().map(Recording::plan)));
        plan.map_or(0.0, |plan| plan.limit_seconds(limits))
    }

    /// Sequences at work.
    pub fn active(&self) -> usize {
        self.sequences.iter().flatten().count()
    }

    /// Takes a sequence in: its prompt goes through prefill, and its tokens come from [`Engine::step`].
    ///
    /// # Errors
    /// A prompt that is empty, longer than the context, or holds tokens that aren't there; parameters of sampling that make
    /// no sense; as many sequences at work as there may be; a device that fails.
    pub fn add(&mut self, request: &Request) -> Result<SequenceId, Error> {
        self.check(request)?;
        let Some(place) = self.sequences.iter().position(Option::is_none) else {
            let most = self.sequences.len();
            return Err(Error::Request(format!("{most} sequences are at work; there may be no more at a time")));
        };
        let prompt = request.prompt.len();
        let room = self.context - prompt;
        let most = request.max_tokens.min(room);
        let Some(blocks) = self.blocks.take(blocks_for(prompt + most)) else {
            return Err(Error::Request("the cache is full; wait for a sequence to end".into()));
        };
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        let (last, before) = (request.prompt[prompt - 1], &request.prompt[..prompt - 1]);
        if let Err(e) = self.fill_cache(before, &blocks).and_then(|()| self.set_last(place, last)) {
            self.blocks.give_back(blocks);
            return Err(e);
        }
        self.sequences[place] = Some(Sequence {
            id,
            sampling: request.sampling,
            stop: request.stop.clone(),
            prompt,
            most,
            context_is_least: room < request.max_tokens,
            submitted: 0,
            taken: 0,
            blocks,
        });
        Ok(id)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let (prompt, vocab) = (&request.prompt, self.config.vocab_size);
        if prompt.is_empty() {
            return Err(Error::Request("the prompt is empty; it needs a token to go on from".into()));
        }
        if prompt.len() >= self.context {
            let (length, context) = (prompt.len(), self.context);
            return Err(Error::Request(format!(
                "the prompt has {length} tokens, and the context, prompt and answer together, {context}\n  help: {} tokens at most leave room for one more",
                context - 1
            )));
        }
        if let Some(token) = prompt.iter().find(|token| **token as usize >= vocab) {
            return Err(Error::Request(format!(
                "the prompt has the token {token}; the model has tokens 0 to {}",
                vocab - 1
            )));
        }
        if request.max_tokens == 0 {
            return Err(Error::Request("no token is asked for; max_tokens must be at least 1".into()));
        }
        request.sampling.problem().map_or(Ok(()), |what| Err(Error::Request(what)))
    }

    /// A prompt's tokens into the cache, in parts.
    fn fill_cache(&mut self, tokens: &[u32], blocks: &[u32]) -> Result<(), Error> {
        if self.prefill.is_empty() {
            return Ok(());
        }
        let mut table = blocks.to_vec();
        table.resize(self.shape.blocks, 0);
        let mut at = 0;
        while at < tokens.len() {
            let left = tokens.len() - at;
            let index = self.prefill.iter().position(|step| step.rows >= left).unwrap_or(self.prefill.len() - 1);
            let rows = self.prefill[index].rows;
            let part = &tokens[at..at + left.min(rows)];
            let fill = |value: &dyn Fn(usize) -> u32, rest: u32| -> Vec<u32> {
                (0..rows).map(|row| if row < part.len() { value(row) } else { rest }).collect()
            };
            let end = [(at + part.len()) as u32];
            let recording = recorded(&self.device, &self.buffers, &mut self.prefill[index])?;
            write(recording, "tokens", &fill(&|row| part[row], 0))?;
            write(recording, "positions", &fill(&|row| (at + row) as u32, 0))?;
            write(recording, "slot_mapping", &fill(&|row| slot(blocks, at + row), NO_SLOT))?;
            write(recording, "block_table", &table)?;
            write(recording, "context_lens", &end)?;
            write(recording, "cu_seqlens", &[0, part.len() as u32])?;
            recording.replay()?;
            at += part.len();
        }
        Ok(())
    }

    /// The token that the sequence at `place` goes on from.
    fn set_last(&mut self, place: usize, token: u32) -> Result<(), Error> {
        Ok(self.buffer(LAST_TOKEN).write(4 * place as u64, &token.to_le_bytes())?)
    }

    /// Ends a sequence; its tokens that aren't read yet are dropped.
    pub fn remove(&mut self, id: SequenceId) {
        for place in &mut self.sequences {
            if place.as_ref().is_some_and(|sequence| sequence.id == id)
                && let Some(sequence) = place.take()
            {
                // Steps in flight still write to its blocks; whatever uses them next is submitted after those.
                self.blocks.give_back(sequence.blocks);
            }
        }
    }

    /// The next token of each sequence at work; none when there is none. A sequence that has its last token is removed.
    ///
    /// # Errors
    /// When the device fails.
    pub fn step(&mut self) -> Result<&[Token], Error> {
        self.tokens.clear();
        let ahead = if self.device.spec().kind == DeviceKind::Cpu { 1 } else { AHEAD };
        while self.tokens.is_empty() {
            while self.flight.len() < ahead && self.sequences.iter().flatten().any(|s| s.submitted < s.most) {
                self.submit()?;
            }
            let Some(flight) = self.flight.pop_front() else { break };
            self.take_in(flight)?;
        }
        Ok(&self.tokens)
    }

    /// Submits a decode step of all sequences that want a token.
    fn submit(&mut self) -> Result<(), Error> {
        let used = self.sequences.iter().rposition(Option::is_some).map_or(1, |last| last + 1);
        let index = self.decode.iter().position(|step| step.rows >= used).unwrap_or(self.decode.len() - 1);
        let rows = self.decode[index].rows;
        let mut who = self.spare.pop().unwrap_or_default();
        who.clear();
        self.staging.clear(rows);
        for sequence in self.sequences.iter_mut().take(rows) {
            match sequence.as_mut().filter(|s| s.submitted < s.most) {
                Some(sequence) => {
                    who.push(Some(sequence.id));
                    self.staging.sequence(sequence, self.shape.blocks);
                    sequence.submitted += 1;
                }
                None => {
                    who.push(None);
                    self.staging.padding(self.shape.blocks);
                }
            }
        }
        let recording = recorded(&self.device, &self.buffers, &mut self.decode[index])?;
        self.staging.write(recording)?;
        let ticket = recording.replay()?;
        self.flight.push_back(Flight { step: index, ticket, who });
        Ok(())
    }

    /// Takes in the tokens of a decode step.
    fn take_in(&mut self, flight: Flight) -> Result<(), Error> {
        let recording = recorded(&self.device, &self.buffers, &mut self.decode[flight.step])?;
        let output = recording.output("token").unwrap_or_else(|| panic!("a decode step gives `token`"));
        self.staging.slots.resize(flight.who.len(), 0);
        recording.read(output, flight.ticket, bytemuck::cast_slice_mut(&mut self.staging.slots))?;
        for (place, id) in flight.who.iter().enumerate() {
            let Some(sequence) = self.sequences[place].as_mut().filter(|s| Some(s.id) == *id) else { continue };
            let token = self.staging.slots[place];
            sequence.taken += 1;
            let finish = sequence.finish(token);
            self.tokens.push(Token { sequence: sequence.id, id: token, finish });
            if finish.is_some()
                && let Some(sequence) = self.sequences[place].take()
            {
                self.blocks.give_back(sequence.blocks);
            }
        }
        self.spare.push(flight.who);
        Ok(())
    }

    /// All tokens of one sequence, as they come. Dropping the answer ends the sequence.
    ///
    /// # Errors
    /// As [`Engine::add`]'s; and when other sequences are at work, whose tokens would be lost.
    pub fn generate(&mut self, request: &Request) -> Result<Generation<'_>, Error> {
        if self.active() > 0 {
            return Err(Error::Request("other sequences are at work; use `add` and `step` for several".into()));
        }
        let id = self.add(request)?;
        Ok(Generation { engine: self, id, done: false })
    }

    fn buffer(&self, name: &str) -> &Buffer {
        let found = self.buffers.iter().find(|(there, _)| there == name);
        &found.unwrap_or_else(|| panic!("the steps have a buffer `{name}`")).1
    }
}

/// The tokens of one sequence, as they come.
pub struct Generation<'a> {
    engine: &'a mut Engine,
    id: SequenceId,
    done: bool,
}

impl Iterator for Generation<'_> {
    type Item = Result<Token, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let token = self.engine.step().map(|tokens| tokens.first().copied());
        self.done = !matches!(token, Ok(Some(Token { finish: None, .. })));
        token.transpose()
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        self.engine.remove(self.id);
    }
}

impl Staging {
    fn clear(&mut self, rows: usize) {
        let counts = [&mut self.positions, &mut self.slots, &mut self.lens, &mut self.table];
        counts.into_iter().for_each(Vec::clear);
        [&mut self.counters, &mut self.top_k, &mut self.seeds, &mut self.starts].into_iter().for_each(Vec::clear);
        [&mut self.temperature, &mut self.top_p, &mut self.min_p].into_iter().for_each(Vec::clear);
        self.starts.extend(0..=rows as u32);
    }

    fn sequence(&mut self, sequence: &Sequence, blocks: usize) {
        let (position, sampling) = (sequence.position(), &sequence.sampling);
        self.positions.push(position as u32);
        self.slots.push(slot(&sequence.blocks, position));
        self.lens.push(position as u32 + 1);
        self.table.extend(&sequence.blocks);
        self.table.extend(std::iter::repeat_n(0, blocks - sequence.blocks.len()));
        // A draw belongs to its place in the text, however much of the text was the prompt.
        self.counters.push(position as u32);
        self.top_k.push(sampling.top_k);
        self.seeds.extend([sampling.seed as u32, (sampling.seed >> 32) as u32]);
        self.temperature.push(sampling.temperature);
        self.top_p.push(sampling.top_p);
        self.min_p.push(sampling.min_p);
    }

    /// A row that belongs to nobody.
    fn padding(&mut self, blocks: usize) {
        [&mut self.positions, &mut self.lens, &mut self.counters, &mut self.top_k].into_iter().for_each(|v| v.push(0));
        self.slots.push(NO_SLOT);
        self.table.extend(std::iter::repeat_n(0, blocks));
        self.seeds.extend([0, 0]);
        [&mut self.temperature, &mut self.min_p].into_iter().for_each(|v| v.push(0.0));
        self.top_p.push(1.0);
    }

    fn write(&self, recording: &mut Recording) -> Result<(), Error> {
        write(recording, "positions", &self.positions)?;
        write(recording, "slot_mapping", &self.slots)?;
        write(recording, "context_lens", &self.lens)?;
        write(recording, "cu_seqlens", &self.starts)?;
        write(recording, "block_table", &self.table)?;
        write(recording, "counter", &self.counters)?;
        write(recording, "top_k", &self.top_k)?;
        write(recording, "seed", &self.seeds)?;
        write(recording, "temperature", &self.temperature)?;
        write(recording, "top_p", &self.top_p)?;
        write(recording, "min_p", &self.min_p)
    }
}

/// Fills an input, if the step has it.
fn write<T: bytemuck::NoUninit>(recording: &mut Recording, name: &str, values: &[T]) -> Result<(), Error> {
    match recording.input(name) {
        Some(input) => Ok(recording.write(input, bytemuck::cast_slice(values))?),
        None => Ok(()),
    }
}

/// The positions of a sequence: those that are asked for (0 for all), of those that the model has.
fn context(asked: usize, model: usize) -> Result<usize, Error> {
    let context = if asked == 0 { model } else { asked };
    if context > model {
        return Err(Error::Request(format!("a context of {asked} tokens is asked for; the model has {model}")));
    }
    if context < 2 {
        let what = format!("a context of {context} token has no room for a prompt and an answer");
        return Err(Error::Request(format!("{what}\n  help: it must be at least 2; the model has {model}")));
    }
    Ok(context)
}

/// A step's recording, made now if it wasn't needed before.
fn recorded<'a>(device: &Device, buffers: &[(String, Buffer)], step: &'a mut Step) -> Result<&'a mut Recording, Error> {
    if step.recording.is_none() {
        let lent: Vec<_> = buffers.iter().map(|(name, buffer)| (name.as_str(), buffer)).collect();
        let plan = step.plan.take().unwrap_or_else(|| panic!("a step is planned or recorded"));
        step.recording = Some(device.record(plan, &lent)?);
    }
    Ok(step.recording.as_mut().unwrap_or_else(|| panic!("it was recorded just now")))
}

/// Rows of the decode steps for up to `count` sequences: powers of two, and `count` itself.
fn decode_rows(count: usize) -> impl Iterator<Item = usize> {
    let powers = (0..).map(|power| 1 << power).take_while(move |rows| *rows < count);
    powers.chain([count])
}

/// Rows of the prefill steps for prompts of up to `longest` tokens.
fn prefill_rows(longest: usize) -> impl Iterator<Item = usize> {
    let below = PREFILL_ROWS.iter().position(|rows| *rows >= longest).map_or(PREFILL_ROWS.len(), |index| index + 1);
    PREFILL_ROWS.into_iter().take(if longest == 0 { 0 } else { below })
}

/// A refusal for want of memory, with the context that would fit.
fn memory(error: PlanError, shape: Shape) -> Error {
    let PlanError::Memory { device, need, have, note, parts, .. } = error else { return error.into() };
    let cache = parts.iter().find(|(name, _)| name == KV_CACHE).map_or(0, |(_, bytes)| *bytes);
    let positions = shape.slots as u64;
    let left = have.saturating_sub(need.saturating_sub(cache));
    let fits = left.checked_div(cache.div_ceil(positions.max(1))).unwrap_or(0);
    let fits = (fits / BLOCK as u64 * BLOCK as u64).min(positions);
    Error::Memory { device, need, have, note, cache, positions, fits }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(have: u64, parts: &[(&str, u64)]) -> Error {
        let need = parts.iter().map(|(_, bytes)| bytes).sum();
        let parts = parts.iter().map(|(name, bytes)| (name.to_string(), *bytes)).collect();
        let (note, help) = (" (so much is free)".into(), String::new());
        let error = PlanError::Memory { device: "small".into(), need, have, note, parts, help };
        memory(error, Shape { slots: 1024, blocks: 32 })
    }

    #[test]
    fn a_refusal_says_which_context_fits() {
        let parts = [("parameters", 4_000_000_000), (KV_CACHE, 2_048_000_000), ("arena", 100_000_000)];
        let error = refusal(5_000_000_000, &parts);
        assert!(matches!(error, Error::Memory { cache: 2_048_000_000, positions: 1024, fits: 448, .. }), "{error:?}");
        let text = error.to_string();
        let said = "small: 6.1 GB are needed (model and steps 4.1 GB, cache of 1024 positions 2.0 GB), 5.0 GB are there (so much is free)";
        assert!(
            text.starts_with(said) && text.ends_with("help: a context of 448 positions in all would fit"),
            "{text}"
        );
        let none = refusal(4_100_000_000, &parts).to_string();
        assert!(none.ends_with("help: no context would fit; a smaller model is needed"), "{none}");
        // A model that keeps nothing of what it read.
        let none = refusal(10, &[("parameters", 20)]);
        assert!(matches!(none, Error::Memory { cache: 0, fits: 0, .. }), "{none:?}");
    }

    #[test]
    fn the_planner_names_the_cache_as_it_is_looked_for() {
        let device = Device::open(device::Choice::Cpu, &device::Options::default()).unwrap();
        let spec = graph::Spec { memory_bytes: 1, ..device.spec().clone() };
        let config = serde_json::json!({
            "vocab_size": 64, "hidden_size": 32, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1,
            "intermediate_size": 64, "max_context": 64, "mixer": "attention", "norm": "rms_norm", "norm_eps": 1e-5,
            "positions": "rope", "rope_theta": 1e4, "mlp": "swiglu", "attention_bias": false, "mlp_bias": false,
            "tied_embeddings": true,
        });
        let config: Config = serde_json::from_value(config).unwrap();
        let shape = Shape { slots: 64, blocks: 2 };
        let refused = step::plan(step::decode(&config, shape, 1).unwrap(), &spec, &Tuning::default()).unwrap_err();
        // Keys and values of 16 f32 in each of 2 layers.
        assert!(matches!(memory(refused, shape), Error::Memory { cache: 16_384, positions: 64, .. }));
    }
}
