//! One training step as one graph: forward, loss, gradients, their norm, and the optimizer in place.

use crate::Error;
use crate::config::{Config, LossScale, OptimizerKind};
use crate::data;
use device::Device;
use graph::trace::{Entry, PARAMETERS};
use graph::{Graph, Plan, PlanError, Spec, Tensor, TraceError, Tracer, Tuning, units};
use ops::adam::{Adam, adam, advance};
use ops::cross_entropy::cross_entropy;
use ops::elementwise::{add, mul};
use ops::fill::fill;
use ops::grad_norm::grad_norm;
use ops::loss_scale::{rescale, unscale};
use tensor::DType::{F32, U32};

/// The region of the gradients, at the parameters' offsets.
pub const GRADIENTS: &str = "gradients";
/// The region of the gradients' running mean, at the parameters' offsets.
pub const FIRST_MOMENT: &str = "first_moment";
/// The region of their running mean square, at the parameters' offsets.
pub const SECOND_MOMENT: &str = "second_moment";
/// The region of what the device counts.
pub const COUNTERS: &str = "counters";
/// What the loss is multiplied by, a counter and an output of steps that have one.
pub const LOSS_SCALE: &str = "loss_scale";
/// The counter of finite steps in a row since the loss scale changed.
pub const GOOD_STEPS: &str = "good_steps";

/// The step's graph, unfused; with gradient accumulation that of one micro-batch.
///
/// Inputs: `tokens`, `targets`, `positions` u32 [batch * context], `cu_seqlens` u32 [batch + 1], `lr` f32 [1].
/// Outputs: `loss`, `grad_norm` f32 [1], and `loss_scale` f32 [1] where there is one; `finite` u32 [1], 1 where the gradient was finite and the step was applied; and
/// `fault` u32 [1], the last number of the gradients' region that isn't finite, `u32::MAX` where all are.
///
/// # Errors
/// A mistake in the model's shapes, with the line that made it.
pub fn trace(config: &Config) -> Result<Graph, TraceError> {
    if config.grad_accumulation > 1 {
        return trace_micro_batch(config);
    }
    Graph::trace(|g| {
        let loss = forward(g, config);
        let (entries, weights): (Vec<_>, Vec<_>) = g.entries(PARAMETERS).into_iter().unzip();
        let applied = g.state(COUNTERS, "applied", U32, [1]);
        let scaling = Scaling::of(g, config);
        let gradients = graph::grad::gradients(&scaling.scaled(&loss), &weights, &ops::GRAD);
        let parts: Vec<_> = gradients.into_iter().zip(&entries).filter_map(|(t, e)| Some((t?, e.offset))).collect();
        let size = g.flat(PARAMETERS).shape().elements();
        let gradients = g.pack(GRADIENTS, &parts, 4 * size as u64);
        update(g, config, &gradients, &applied, &scaling);
        g.output("loss", &loss);
    })
}

/// One micro-batch of an accumulated step: its gradients are added to the region, its part of the loss to the loss.
///
/// The step's inputs but `lr`, and `loss_weight` f32 [1]: the micro-batch's share of the step's valid targets, so that
/// loss and gradient are those of one large batch. `loss` is the micro-batch's own.
fn trace_micro_batch(config: &Config) -> Result<Graph, TraceError> {
    Graph::trace(|g| {
        let loss = forward(g, config);
        let weighted = mul(&loss, &g.input("loss_weight", F32, [1]));
        let (entries, weights): (Vec<_>, Vec<_>) = g.entries(PARAMETERS).into_iter().unzip();
        let sums: Vec<_> = entries.iter().map(|e| gradient_of(g, e)).collect();
        let (_, sum) = accumulated(g);
        let scaled = Scaling::of(g, config).scaled(&weighted);
        graph::grad::each_gradient(&scaled, &weights, &ops::GRAD, |i, gradient| {
            g.assign(&sums[i], &add(&sums[i], &gradient));
        });
        g.assign(&sum, &add(&sum, &weighted));
        g.output("loss", &loss);
    })
}

/// The end of an accumulated step, after its micro-batches: the optimizer, and zeros for the next step. `None` without
/// accumulation, where the step is one graph.
///
/// Input: `lr`. Outputs: those of the step.
///
/// # Errors
/// A mistake in the model's shapes, with the line that made it.
pub fn trace_update(config: &Config) -> Result<Option<Graph>, TraceError> {
    if config.grad_accumulation == 1 {
        return Ok(None);
    }
    let micro_batch = trace(config)?;
    let graph = Graph::trace(|g| {
        for entry in micro_batch.region(PARAMETERS).into_iter().flat_map(|r| &r.entries) {
            g.parameter(&entry.name, entry.ty.dtype, entry.ty.shape.clone());
            gradient_of(g, entry);
        }
        let gradients = g.flat(GRADIENTS);
        let (applied, sum) = accumulated(g);
        let scaling = Scaling::of(g, config);
        update(g, config, &gradients, &applied, &scaling);
        g.assign(&gradients, &fill(g, gradients.shape().elements(), 0.0));
        g.assign(&sum, &fill(g, 1, 0.0));
        g.output("loss", &sum);
    })?;
    Ok(Some(graph))
}

/// The sum of a parameter's gradients so far, at the parameter's offset.
fn gradient_of(g: &Tracer, parameter: &Entry) -> Tensor {
    g.state(GRADIENTS, &format!("gradient.{}", parameter.name), parameter.ty.dtype, parameter.ty.shape.clone())
}

/// What is counted over micro-batches: applied steps, and the loss so far.
fn accumulated(g: &Tracer) -> (Tensor, Tensor) {
    (g.state(COUNTERS, "applied", U32, [1]), g.state(COUNTERS, "loss", F32, [1]))
}

/// The graph of an evaluation: the step's forward part, with its inputs but `lr`, and `loss`.
///
/// # Errors
/// A mistake in the model's shapes, with the line that made it.
pub fn trace_evaluation(config: &Config) -> Result<Graph, TraceError> {
    Graph::trace(|g| g.output("loss", &forward(g, config)))
}

/// The mean loss of a batch's valid targets.
fn forward(g: &Tracer, config: &Config) -> Tensor {
    let (batch, context) = (config.batch_size, config.model.max_context);
    let ids = |name| g.input(name, U32, [batch * context]);
    let (tokens, targets, positions) = (ids("tokens"), ids("targets"), ids("positions"));
    let cu_seqlens = g.input("cu_seqlens", U32, [batch + 1]);
    let logits = model::transformer::transformer_in(
        g,
        &config.model,
        config.precision.compute_type(),
        &tokens,
        &positions,
        &cu_seqlens,
    );
    cross_entropy(&logits, &targets, data::ignore(config))
}

/// The optimizer over the whole regions, with the gradients packed like the parameters; its outputs but the loss.
fn update(g: &Tracer, config: &Config, gradients: &Tensor, count: &Tensor, scaling: &Scaling) {
    let lr = g.input("lr", F32, [1]);
    let parameters = g.flat(PARAMETERS);
    let size = parameters.shape().elements();
    let first = g.state(FIRST_MOMENT, FIRST_MOMENT, F32, [size]);
    let second = g.state(SECOND_MOMENT, SECOND_MOMENT, F32, [size]);

    let (norm, finite, fault) = grad_norm(gradients);
    let norm = scaling.0.as_ref().map_or(norm.clone(), |(scale, _)| unscale(&norm, scale));
    let applied = advance(count, &finite);
    let (new_parameters, new_first, new_second) =
        adam(&parameters, gradients, &first, &second, &lr, &applied, &norm, &finite, optimizer(config));
    g.assign(&parameters, &new_parameters);
    g.assign(&first, &new_first);
    g.assign(&second, &new_second);
    g.assign(count, &applied);
    scaling.follow(g, config, &finite);
    g.output("grad_norm", &if scaling.0.is_some() { norm.rows(0, 1) } else { norm });
    g.output("finite", &finite);
    g.output("fault", &fault);
}

/// What the loss is multiplied by, and the finite steps in a row since it changed; nothing without a loss scale.
struct Scaling(Option<(Tensor, Tensor)>);

impl Scaling {
    fn of(g: &Tracer, config: &Config) -> Scaling {
        let state = |name, dtype| g.state(COUNTERS, name, dtype, [1]);
        Scaling(config.precision.loss_scale.first().map(|_| (state(LOSS_SCALE, F32), state(GOOD_STEPS, U32))))
    }

    fn scaled(&self, loss: &Tensor) -> Tensor {
        self.0.as_ref().map_or(loss.clone(), |(scale, _)| mul(loss, scale))
    }

    /// A dynamic scale follows whether the gradients are finite.
    fn follow(&self, g: &Tracer, config: &Config, finite: &Tensor) {
        let Some((scale, good_steps)) = &self.0 else { return };
        g.output(LOSS_SCALE, scale);
        if config.precision.loss_scale == LossScale::DYNAMIC {
            let (new_scale, new_good_steps) = rescale(scale, good_steps, finite);
            g.assign(scale, &new_scale);
            g.assign(good_steps, &new_good_steps);
        }
    }
}

fn optimizer(config: &Config) -> Adam {
    let o = &config.optimizer;
    Adam {
        beta1: o.beta1,
        beta2: o.beta2,
        eps: o.eps,
        weight_decay: o.weight_decay,
        decoupled: o.kind == OptimizerKind::Adamw,
        max_norm: o.max_norm as f32,
    }
}

/// The step's graph after each pass, by the pass's name: traced, fused if the configuration says so, pruned.
///
/// # Errors
/// When it doesn't trace.
pub fn passes(config: &Config) -> Result<Vec<(&'static str, Graph)>, TraceError> {
    let mut graphs = vec![("trace", trace(config)?)];
    if config.fuse {
        graphs.push(("fuse", graph::pass::fuse(graphs[0].1.clone(), ops::OPS)));
    }
    graphs.push(("prune", graph::pass::prune(graphs[graphs.len() - 1].1.clone())));
    Ok(graphs)
}

/// The graph that is planned: the last pass's; with gradient accumulation that of one micro-batch.
///
/// # Errors
/// When it doesn't trace.
pub fn graph(config: &Config) -> Result<Graph, TraceError> {
    Ok(passed(trace(config)?, config))
}

/// The graphs that are planned: the step's, or a micro-batch's and the update's.
///
/// # Errors
/// When they don't trace.
pub fn graphs(config: &Config) -> Result<Vec<Graph>, TraceError> {
    let update = trace_update(config)?.map(|update| passed(update, config));
    Ok(std::iter::once(graph(config)?).chain(update).collect())
}

/// A graph of this configuration after all passes.
fn passed(graph: Graph, config: &Config) -> Graph {
    let graph = if config.fuse { graph::pass::fuse(graph, ops::OPS) } else { graph };
    graph::pass::prune(graph)
}

/// Whether a machine may hold the parameters with their gradients and moments, before anything is traced.
///
/// # Errors
/// When it obviously doesn't.
pub fn may_fit(config: &Config, spec: &Spec) -> Result<(), PlanError> {
    let bytes = config.model.num_parameters().saturating_mul(4);
    let parts = [(PARAMETERS, bytes), (GRADIENTS, bytes), ("moments", bytes.saturating_mul(2))];
    let parts = parts.map(|(name, bytes)| (name.to_string(), bytes)).to_vec();
    graph::plan::enough(spec, parts).map_err(|e| advised(e, config))
}

/// Bytes of the host's memory that saving a checkpoint takes for a while: parameters and moments, and the larger of its
/// files as it is written.
pub fn saving_bytes(config: &Config) -> u64 {
    config.model.num_parameters().saturating_mul(20)
}

/// Whether there is room now for the buffers of plans on the device, and for `host_bytes` more on the host.
///
/// # Errors
/// When there isn't, with what would fit.
pub fn has_room(device: &Device, plans: &[Plan], host_bytes: u64, config: &Config) -> Result<(), PlanError> {
    let saving = [("saving a checkpoint", host_bytes)];
    let more = if device.is_host() { &saving[..] } else { &[] };
    device.has_room(plans, &[], more).map_err(|e| advised(e, config))?;
    let have = device::room::host().free;
    if !device.is_host() && host_bytes > have {
        let (need, parts) = (host_bytes, vec![("saving a checkpoint".into(), host_bytes)]);
        let help = "close other programs, or train a model with fewer parameters".into();
        let (device, note) = ("this machine's memory".into(), " free".into());
        return Err(PlanError::Memory { device, need, have, note, parts, help });
    }
    Ok(())
}

/// A refusal for want of memory with what would fit.
pub(crate) fn advised(error: PlanError, config: &Config) -> PlanError {
    let PlanError::Memory { device, need, have, note, parts, .. } = error else { return error };
    // All but the arena and the rings is there whatever the batch.
    let with_rows = |name: &str| ["arena", "inputs", "outputs"].contains(&name);
    let fixed = parts.iter().filter(|(name, _)| !with_rows(name));
    let kept = fixed.fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    let help = if kept >= have { fewer_parameters(config, kept, have) } else { fewer_rows(config, kept, need, have) };
    PlanError::Memory { device, need, have, note, parts, help }
}

fn fewer_parameters(config: &Config, kept: u64, have: u64) -> String {
    let parameters = config.model.num_parameters();
    let each = (kept / parameters.max(1)).max(16);
    let saved = if each > 16 { ", and while a checkpoint is saved" } else { "" };
    format!(
        "{} parameters take {each} bytes each with gradients and moments{saved}; at most {} fit: fewer model.num_layers \
         or a smaller model.hidden_size",
        units::count(parameters),
        units::count(have / each)
    )
}

/// What of `need` isn't kept for the parameters grows with rows and context.
fn fewer_rows(config: &Config, kept: u64, need: u64, have: u64) -> String {
    let share = (have - kept) as f64 / need.saturating_sub(kept).max(1) as f64;
    let context = config.model.max_context;
    // A little less than the share: what is placed by size may lie less well in less memory.
    let rows = (share * config.batch_size as f64 * 0.98) as usize;
    if rows > 0 {
        return format!(
            "about batch_size = {rows} fits; with grad_accumulation = {} a step is as large as before",
            (config.batch_size * config.grad_accumulation).div_ceil(rows)
        );
    }
    match (share * (config.batch_size * context) as f64 * 0.9) as usize / 8 * 8 {
        0 => format!("not even one row of model.max_context = {context} fits; a smaller model may"),
        less => format!(
            "not even one row of model.max_context = {context} fits; about model.max_context = {less} does with \
             batch_size = 1"
        ),
    }
}

/// The step as planned for a machine; with gradient accumulation one micro-batch of it.
///
/// # Errors
/// When it doesn't trace, or can't run on that machine.
pub fn plan(config: &Config, spec: &Spec, tuning: &Tuning) -> Result<Plan, Error> {
    may_fit(config, spec)?;
    plan_of(trace(config)?, config, spec, tuning)
}

/// All that a step replays as planned for a machine: the step, or a micro-batch and the update.
///
/// # Errors
/// When it doesn't trace, or can't run on that machine.
pub fn plans(config: &Config, spec: &Spec, tuning: &Tuning) -> Result<Vec<Plan>, Error> {
    may_fit(config, spec)?;
    let plans =
        graphs(config)?.iter().map(|graph| graph::plan::plan(graph, spec, tuning)).collect::<Result<Vec<_>, _>>();
    let plans = plans.map_err(|e| advised(e, config))?;
    graph::plan::fits(&plans).map_err(|e| advised(e, config))?;
    Ok(plans)
}

/// A graph of this configuration as planned for a machine.
pub(crate) fn plan_of(graph: Graph, config: &Config, spec: &Spec, tuning: &Tuning) -> Result<Plan, Error> {
    Ok(graph::plan::plan(&passed(graph, config), spec, tuning).map_err(|e| advised(e, config))?)
}
