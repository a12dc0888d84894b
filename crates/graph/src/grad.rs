//! Gradients by reverse accumulation, traced into the same graph, before any fusion.

use crate::op::Backward;
use crate::trace::{Source, Tensor, Tracer, ValueId};
use std::collections::BTreeMap;

/// The ops that gradients need and that this crate doesn't name.
#[derive(Clone, Copy)]
pub struct GradOps {
    /// The sum of two values of one type.
    pub add: fn(&Tensor, &Tensor) -> Tensor,
    /// Ones of a value's type.
    pub ones: fn(&Tensor) -> Tensor,
}

/// The gradients of `loss` (one element) by each of `of`; `None` where it doesn't depend on it.
///
/// A mistake is noted, as in all tracing, when an op on the way has no gradient.
#[track_caller]
pub fn gradients(loss: &Tensor, of: &[Tensor], emit: &GradOps) -> Vec<Option<Tensor>> {
    let mut all = vec![None; of.len()];
    each_gradient(loss, of, emit, |i, gradient| all[i] = Some(gradient));
    all
}

/// Hands over each of these gradients, with its index in `of`, as soon as it is traced: what `take` traces of it then
/// stands right after it, so that it needn't live until the last one is there.
#[track_caller]
pub fn each_gradient(loss: &Tensor, of: &[Tensor], emit: &GradOps, mut take: impl FnMut(usize, Tensor)) {
    let tracer = loss.tracer().clone();
    if tracer.failed() {
        return of.iter().enumerate().for_each(|(i, t)| take(i, t.clone()));
    }
    if loss.shape().elements() != 1 {
        tracer.mistake("gradients", format!("the loss has type {}; expected one element", loss.ty()));
        return;
    }
    let wanted: Vec<ValueId> = of.iter().map(Tensor::id).collect();
    let mut by_value: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
    wanted.iter().enumerate().for_each(|(i, &id)| by_value.entry(id).or_default().push(i));
    let active = depends_on(&tracer, &wanted);
    let mut grads = BTreeMap::from([(loss.id(), (emit.ones)(loss))]);
    for id in (0..=loss.id()).rev() {
        let source = tracer.graph(|g| g.values[id].source.clone());
        match source {
            // A node's first output comes last when counting down: by then all its outputs' gradients are there.
            Source::Node { node, output: 0 } => backward(&tracer, node, &active, &mut grads, emit),
            Source::View { of, .. } if active[of] && grads.contains_key(&id) => {
                let base = tracer.tensor(of);
                if base.shape().elements() != grads[&id].shape().elements() {
                    tracer.mistake("gradients", format!("a part of {} has no gradient; use the whole", base.ty()));
                    return;
                }
                let grad = grads[&id].reshape(base.shape().clone());
                accumulate(&mut grads, of, grad, emit);
            }
            _ => {}
        }
        // What comes before it in the graph can't read it: all its parts are there.
        for &i in by_value.get(&id).into_iter().flatten() {
            if let Some(gradient) = grads.get(&id) {
                take(i, gradient.clone());
            }
        }
    }
}

fn backward(tracer: &Tracer, node: usize, active: &[bool], grads: &mut BTreeMap<ValueId, Tensor>, emit: &GradOps) {
    let (op, params, inputs, outputs) = tracer.graph(|g| {
        let n = &g.nodes[node];
        (n.op, n.params.clone(), n.inputs.clone(), n.outputs.clone())
    });
    let output_grads: Vec<_> = outputs.iter().map(|id| grads.get(id).cloned()).collect();
    let wanted: Vec<_> = inputs.iter().map(|&id| active[id]).collect();
    if tracer.failed() || output_grads.iter().all(Option::is_none) || !wanted.contains(&true) {
        return;
    }
    let Some(gradient) = op.gradient else {
        tracer.mistake(op.name, "the op has no gradient, and the loss depends on a parameter through it".into());
        return;
    };
    let tensors = |ids: &[ValueId]| ids.iter().map(|&id| tracer.tensor(id)).collect::<Vec<_>>();
    let (input_tensors, output_tensors) = (tensors(&inputs), tensors(&outputs));
    let call = Backward {
        params: &params,
        inputs: &input_tensors,
        outputs: &output_tensors,
        grads: &output_grads,
        wanted: &wanted,
    };
    for ((id, grad), wanted) in inputs.into_iter().zip(gradient(&call)).zip(&wanted) {
        if let (Some(grad), true) = (grad, wanted) {
            accumulate(grads, id, grad, emit);
        }
    }
}

fn accumulate(grads: &mut BTreeMap<ValueId, Tensor>, id: ValueId, grad: Tensor, emit: &GradOps) {
    let sum = match grads.remove(&id) {
        Some(before) => (emit.add)(&before, &grad),
        None => grad,
    };
    grads.insert(id, sum);
}

/// Which values depend on one of `of`.
fn depends_on(tracer: &Tracer, of: &[ValueId]) -> Vec<bool> {
    tracer.graph(|g| {
        let mut active = vec![false; g.values.len()];
        for &id in of {
            active[id] = true;
        }
        for id in 0..g.values.len() {
            active[id] |= match &g.values[id].source {
                Source::Node { node, .. } => g.nodes[*node].inputs.iter().any(|&i| active[i]),
                Source::View { of, .. } => active[*of],
                _ => false,
            };
        }
        active
    })
}
