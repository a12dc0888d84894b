//! A step recorded on a device, whole or as micro-batches and their update, with the memory that outlives it.

use crate::Error;
use crate::config::Config;
use crate::data::{self, Batch};
use crate::step::{self, COUNTERS, FIRST_MOMENT, GOOD_STEPS, GRADIENTS, LOSS_SCALE, SECOND_MOMENT};
use device::{Buffer, Device, Recording, Ticket};
use graph::trace::{Entry, PARAMETERS};
use graph::{Graph, Limits, Plan, Tuning};
use serde::{Deserialize, Serialize};
use tensor::hash::Hasher;

/// What a step leaves to read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// The mean loss of the valid targets.
    pub loss: f32,
    /// The norm of the whole gradient, before clipping.
    pub grad_norm: f32,
    /// Whether the gradient was finite; otherwise nothing was changed.
    pub finite: bool,
    /// Where it wasn't: the last number of the gradients' region that isn't finite, `u32::MAX` where all are.
    pub fault: u32,
    /// What the loss was multiplied by before the gradient; 1 without a loss scale.
    pub loss_scale: f32,
}

/// The loss scale of the next step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// What the loss is multiplied by.
    pub loss_scale: f32,
    /// Finite steps in a row since it changed.
    pub good_steps: u32,
}

/// What training must not lose: bytes of the regions.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The region of the parameters.
    pub parameters: Vec<u8>,
    /// The first moment, at the same offsets.
    pub first_moment: Vec<u8>,
    /// The second moment, at the same offsets.
    pub second_moment: Vec<u8>,
    /// Steps that changed the parameters.
    pub applied: u32,
    /// The loss scale, where there is one.
    pub scale: Option<Scale>,
}

impl State {
    /// Bytes of the regions.
    pub fn bytes(&self) -> u64 {
        (self.parameters.len() + self.first_moment.len() + self.second_moment.len()) as u64
    }
}

/// One step, recorded, over parameters, gradients and moments.
pub struct Trainer {
    /// The whole step, or what each of its micro-batches runs.
    recording: Recording,
    /// What an accumulated step runs after them.
    update: Option<Recording>,
    micro_batches: usize,
    ignored_target: u32,
    buffers: Vec<(String, Buffer)>,
    entries: Vec<Entry>,
    inputs: Inputs,
    outputs: Outputs,
}

struct Inputs {
    tokens: usize,
    targets: usize,
    /// The share of a micro-batch in the step's loss.
    loss_weight: Option<usize>,
    /// Of the recording that ends the step.
    lr: usize,
}

/// Of the recording that ends the step.
struct Outputs {
    loss: usize,
    grad_norm: usize,
    finite: usize,
    fault: usize,
    loss_scale: Option<usize>,
}

impl Trainer {
    /// Plans and records the step, allocates all memory, and writes initial weights.
    ///
    /// # Errors
    /// When the step can't run on the device, or its memory doesn't hold it.
    pub fn new(device: &Device, config: &Config, tuning: &Tuning) -> Result<Trainer, Error> {
        Self::beside(device, config, tuning, 0)
    }

    /// The same where the host's memory must have room for `host_bytes` more: what saving a checkpoint takes.
    ///
    /// # Errors
    /// As `new`, and when the host's memory doesn't hold that.
    pub fn beside(device: &Device, config: &Config, tuning: &Tuning, host_bytes: u64) -> Result<Trainer, Error> {
        step::may_fit(config, device.spec())?;
        Self::of_graphs(device, config, &step::graphs(config)?, tuning, host_bytes)
    }

    /// The same of graphs that were made of the configuration's, `step::graphs`.
    ///
    /// # Errors
    /// As `beside`.
    pub fn of_graphs(
        device: &Device,
        config: &Config,
        graphs: &[Graph],
        tuning: &Tuning,
        host_bytes: u64,
    ) -> Result<Trainer, Error> {
        let entries = graphs[0].region(PARAMETERS).map(|r| r.entries.clone()).unwrap_or_default();
        let plans = graphs.iter().map(|graph| graph::plan::plan(graph, device.spec(), tuning));
        let plans = plans.collect::<Result<Vec<_>, _>>().map_err(|e| step::advised(e, config))?;
        graph::plan::fits(&plans).map_err(|e| step::advised(e, config))?;
        step::has_room(device, &plans, host_bytes, config)?;
        let buffers = device.allocate_all(&plans)?;
        let lent: Vec<_> = buffers.iter().map(|(name, buffer)| (name.as_str(), buffer)).collect();
        let mut recordings = plans.into_iter().map(|plan| device.record(plan, &lent)).collect::<Result<Vec<_>, _>>()?;
        let (first, last) = (&recordings[0], &recordings[recordings.len() - 1]);
        let input = |of: &Recording, name| of.input(name).unwrap_or_else(|| panic!("the step reads `{name}`"));
        let output = |name: &str| last.output(name).unwrap_or_else(|| panic!("the step gives `{name}`"));
        let inputs = Inputs {
            tokens: input(first, "tokens"),
            targets: input(first, "targets"),
            loss_weight: first.input("loss_weight"),
            lr: input(last, "lr"),
        };
        let [loss, grad_norm, finite, fault] = ["loss", "grad_norm", "finite", "fault"].map(output);
        let outputs = Outputs { loss, grad_norm, finite, fault, loss_scale: last.output(LOSS_SCALE) };
        let update = if recordings.len() > 1 { recordings.pop() } else { None };
        let mut trainer = Trainer {
            recording: recordings.swap_remove(0),
            update,
            micro_batches: config.grad_accumulation,
            ignored_target: data::ignore(config) as u32,
            buffers,
            entries,
            inputs,
            outputs,
        };
        write_layout(&mut trainer.recording, config)?;
        trainer.initialize(config.seed)?;
        if let Some(loss_scale) = config.precision.loss_scale.first() {
            trainer.write_scale(&Scale { loss_scale, good_steps: 0 })?;
        }
        Ok(trainer)
    }

    fn initialize(&mut self, seed: u64) -> Result<(), Error> {
        let parameters = self.buffer(PARAMETERS);
        for entry in &self.entries {
            let values = model::weights::initial(entry, &self.entries, seed);
            parameters.write(entry.offset, bytemuck::cast_slice(&values))?;
        }
        Ok(())
    }

    /// Submits one step, without waiting for it: micro-batch by micro-batch, then the update, where it is so recorded.
    pub fn submit(&mut self, batch: &Batch, lr: f32) -> Result<Ticket, Error> {
        let Some(update) = &mut self.update else {
            self.recording.write(self.inputs.tokens, bytemuck::cast_slice(batch.tokens))?;
            self.recording.write(self.inputs.targets, bytemuck::cast_slice(batch.targets))?;
            self.recording.write(self.inputs.lr, bytemuck::bytes_of(&lr))?;
            return Ok(self.recording.replay()?);
        };
        let positions = batch.tokens.len() / self.micro_batches;
        let parts = batch.tokens.chunks_exact(positions).zip(batch.targets.chunks_exact(positions));
        for (tokens, targets) in parts {
            let valid = targets.iter().filter(|t| **t != self.ignored_target).count();
            let weight = (valid as f64 / batch.valid.max(1) as f64) as f32;
            self.recording.write(self.inputs.tokens, bytemuck::cast_slice(tokens))?;
            self.recording.write(self.inputs.targets, bytemuck::cast_slice(targets))?;
            if let Some(input) = self.inputs.loss_weight {
                self.recording.write(input, bytemuck::bytes_of(&weight))?;
            }
            self.recording.replay()?;
        }
        update.write(self.inputs.lr, bytemuck::bytes_of(&lr))?;
        Ok(update.replay()?)
    }

    /// The recording that ends the step, whose tickets are the step's.
    fn last(&mut self) -> &mut Recording {
        self.update.as_mut().unwrap_or(&mut self.recording)
    }

    /// Waits for a step.
    pub fn wait(&mut self, ticket: Ticket) -> Result<(), Error> {
        Ok(self.last().wait(ticket)?)
    }

    /// What a step has measured; waits for it if need be.
    pub fn read(&mut self, ticket: Ticket) -> Result<Measured, Error> {
        let mut words = [0u32; 4];
        let Outputs { loss, grad_norm, finite, fault, loss_scale: scale } = self.outputs;
        let mut loss_scale = 1.0;
        if let Some(scale) = scale {
            self.last().read(scale, ticket, bytemuck::bytes_of_mut(&mut loss_scale))?;
        }
        let outputs = [loss, grad_norm, finite, fault];
        for (word, output) in words.iter_mut().zip(outputs) {
            self.last().read(output, ticket, bytemuck::bytes_of_mut(word))?;
        }
        let [loss, grad_norm, finite, fault] = words;
        let finite = finite != 0;
        let (loss, grad_norm) = (f32::from_bits(loss), f32::from_bits(grad_norm));
        Ok(Measured { loss, grad_norm, finite, fault, loss_scale })
    }

    /// Runs the last submitted step `replays` times, or its last micro-batch where gradients are accumulated, with each
    /// launch timed apart: seconds a launch of each of them. Parameters and moments change as by any step.
    ///
    /// # Errors
    /// When the device can't time launches.
    pub fn time_launches(&mut self, replays: usize) -> Result<Vec<Vec<f64>>, Error> {
        Self::time(&mut self.recording, replays)
    }

    /// The same of an accumulated step's update; `None` where the step is one recording.
    ///
    /// # Errors
    /// When the device can't time launches.
    pub fn time_update(&mut self, replays: usize) -> Result<Option<Vec<Vec<f64>>>, Error> {
        self.update.as_mut().map(|update| Self::time(update, replays)).transpose()
    }

    fn time(recording: &mut Recording, replays: usize) -> Result<Vec<Vec<f64>>, Error> {
        // The first one warms up.
        let times: Option<Vec<_>> = (0..=replays).map(|_| recording.time_launches()).collect();
        let mut times = times.ok_or_else(|| device::Error::Mismatch {
            device: recording.plan().spec.name.clone(),
            what: "it can't time launches".into(),
        })?;
        times.remove(0);
        Ok(times)
    }

    /// What it replays: the step, or a micro-batch where gradients are accumulated.
    pub fn plan(&self) -> &Plan {
        self.recording.plan()
    }

    /// What an accumulated step replays after its micro-batches.
    pub fn update_plan(&self) -> Option<&Plan> {
        self.update.as_ref().map(Recording::plan)
    }

    /// Launches of a step.
    pub fn launches(&self) -> usize {
        self.micro_batches * self.plan().launches.len() + self.update_plan().map_or(0, |p| p.launches.len())
    }

    /// Bytes of the arena, and all bytes that the step occupies.
    pub fn memory_bytes(&self) -> (u64, u64) {
        let own = |plan: &Plan| plan.total_bytes() - plan.lent_buffers().map(|(_, b)| b.bytes).sum::<u64>();
        let arena = self.buffers.iter().filter(|(name, _)| name == "arena").map(|(_, b)| b.bytes()).sum();
        let lent: u64 = self.buffers.iter().map(|(_, b)| b.bytes()).sum();
        (arena, lent + own(self.plan()) + self.update_plan().map_or(0, own))
    }

    /// The arena and the regions, by name, to lend to recordings that replay between steps.
    pub(crate) fn buffers(&self) -> &[(String, Buffer)] {
        &self.buffers
    }

    /// The memory of the parameters, to lend to whoever computes with them between steps.
    pub fn parameters(&self) -> &Buffer {
        self.buffer(PARAMETERS)
    }

    /// The parameters, with their offsets in every region that lies like theirs.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The parameter at number `index` of its region, of f32 numbers.
    pub fn entry_at(&self, index: u32) -> Option<&Entry> {
        let byte = 4 * u64::from(index);
        self.entries.iter().find(|e| (e.offset..e.offset + e.ty.bytes()).contains(&byte))
    }

    /// Numbers in all parameters.
    pub fn num_parameters(&self) -> usize {
        self.entries.iter().map(|e| e.ty.elements()).sum()
    }

    /// Seconds below which the step can't come at `limits`.
    pub fn limit_seconds(&self, limits: &Limits) -> f64 {
        let update = self.update_plan().map_or(0.0, |plan| plan.limit_seconds(limits));
        self.micro_batches as f64 * self.plan().limit_seconds(limits) + update
    }

    /// All bytes of a region, after every step so far.
    pub fn region(&self, name: &str) -> Result<Vec<u8>, Error> {
        let buffer = self.buffer(name);
        let mut bytes = vec![0; buffer.bytes() as usize];
        buffer.read(0, &mut bytes)?;
        Ok(bytes)
    }

    /// The gradients of the last step, at the parameters' offsets; zeros after an accumulated one.
    pub fn gradients(&self) -> Result<Vec<u8>, Error> {
        self.region(GRADIENTS)
    }

    /// What training must not lose.
    pub fn state(&self) -> Result<State, Error> {
        let mut applied = 0u32;
        self.buffer(COUNTERS).read(0, bytemuck::bytes_of_mut(&mut applied))?;
        Ok(State {
            parameters: self.region(PARAMETERS)?,
            first_moment: self.region(FIRST_MOMENT)?,
            second_moment: self.region(SECOND_MOMENT)?,
            applied,
            scale: self.read_scale()?,
        })
    }

    /// Where the loss scale and its count are among the counters.
    fn scale_places(&self) -> Option<[u64; 2]> {
        let offset = |name: &str| self.plan().entries.iter().find(|e| e.name == name).map(|e| e.place.offset);
        Some([offset(LOSS_SCALE)?, offset(GOOD_STEPS)?])
    }

    fn read_scale(&self) -> Result<Option<Scale>, Error> {
        let Some([scale_at, steps_at]) = self.scale_places() else { return Ok(None) };
        let mut scale = Scale { loss_scale: 1.0, good_steps: 0 };
        self.buffer(COUNTERS).read(scale_at, bytemuck::bytes_of_mut(&mut scale.loss_scale))?;
        self.buffer(COUNTERS).read(steps_at, bytemuck::bytes_of_mut(&mut scale.good_steps))?;
        Ok(Some(scale))
    }

    fn write_scale(&mut self, scale: &Scale) -> Result<(), Error> {
        let Some([scale_at, steps_at]) = self.scale_places() else { return Ok(()) };
        self.buffer(COUNTERS).write(scale_at, bytemuck::bytes_of(&scale.loss_scale))?;
        Ok(self.buffer(COUNTERS).write(steps_at, bytemuck::bytes_of(&scale.good_steps))?)
    }

    /// The first tensor of a state that holds a number that isn't finite.
    pub fn not_finite(&self, state: &State) -> Option<String> {
        let regions =
            [("", &state.parameters), ("first_moment.", &state.first_moment), ("second_moment.", &state.second_moment)];
        let finite = |bytes: &[u8]| bytes.as_chunks().0.iter().all(|b| f32::from_le_bytes(*b).is_finite());
        let broken = |region: &[u8]| self.entries.iter().find(|e| !finite(entry_bytes(e, region)));
        regions.iter().find_map(|(prefix, region)| Some(format!("{prefix}{}", broken(region)?.name)))
    }

    /// Goes on from a state of this very model.
    pub fn restore(&mut self, state: &State) -> Result<(), Error> {
        self.buffer(PARAMETERS).write(0, &state.parameters)?;
        self.buffer(FIRST_MOMENT).write(0, &state.first_moment)?;
        self.buffer(SECOND_MOMENT).write(0, &state.second_moment)?;
        self.buffer(COUNTERS).write(0, bytemuck::bytes_of(&state.applied))?;
        if let Some(scale) = &state.scale {
            self.write_scale(scale)?;
        }
        Ok(())
    }

    /// Size of the parameters' region.
    pub fn region_bytes(&self) -> usize {
        self.plan().buffer(PARAMETERS).map_or(0, |(_, b)| b.bytes as usize)
    }

    fn buffer(&self, name: &str) -> &Buffer {
        let found = self.buffers.iter().find(|(n, _)| n == name);
        &found.unwrap_or_else(|| panic!("the step has a region `{name}`")).1
    }
}

/// Rows of a batch are sequences of their own, all of one length: the inputs that say so.
pub(crate) fn layout(config: &Config) -> [(&'static str, Vec<u32>); 2] {
    let (batch, context) = (config.batch_size as u32, config.model.max_context as u32);
    let positions = (0..batch).flat_map(|_| 0..context).collect();
    let cu_seqlens = (0..=batch).map(|row| row * context).collect();
    [("positions", positions), ("cu_seqlens", cu_seqlens)]
}

/// Written once, kept by every replay.
pub(crate) fn write_layout(recording: &mut Recording, config: &Config) -> Result<(), Error> {
    for (name, values) in layout(config) {
        // A model without attention doesn't read where sequences begin.
        if let Some(input) = recording.input(name) {
            recording.write(input, bytemuck::cast_slice(&values))?;
        }
    }
    Ok(())
}

/// SHA-256 over the parameters in the order of their names: name, sizes as u64, bytes.
pub fn parameters_sha256(entries: &[Entry], region: &[u8]) -> String {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut hasher = Hasher::default();
    for entry in sorted {
        hasher.update(entry.name.as_bytes());
        entry.ty.shape.iter().for_each(|size| hasher.update(&(*size as u64).to_le_bytes()));
        hasher.update(entry_bytes(entry, region));
    }
    hasher.finish()
}

/// The bytes of one parameter in a region that lies like the parameters.
pub fn entry_bytes<'a>(entry: &Entry, region: &'a [u8]) -> &'a [u8] {
    &region[entry.offset as usize..][..entry.ty.bytes() as usize]
}
