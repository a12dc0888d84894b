//! Initial weights, PyTorch's defaults: drawn on the host from (seed, parameter name), so they are the same for every device.

use graph::trace::Entry;
use tensor::Shape;
use tensor::rng::Philox;

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Start {
    /// Normal numbers, mean 0, standard deviation 1.
    Normal,
    /// Uniform numbers in [-bound, bound).
    Uniform(f32),
    /// One number everywhere.
    Constant(f32),
}

/// The initial value of `entry`, one of the model's parameters `all`.
///
/// Embeddings are N(0, 1); the weights and biases of a linear layer U(+-1 / sqrt(its inputs)), so also embeddings that are
/// the head as well; norms 1 and 0.
pub fn initial(entry: &Entry, all: &[Entry], seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; entry.ty.elements()];
    let stream = Philox::new(seed, &entry.name);
    match start(&entry.name, &entry.ty.shape, all) {
        Start::Normal => stream.fill_normal(&mut values, 0.0, 1.0),
        Start::Uniform(bound) => stream.fill_uniform(&mut values, -bound, bound),
        Start::Constant(value) => values.fill(value),
    }
    values
}

fn start(name: &str, shape: &Shape, all: &[Entry]) -> Start {
    let (layer, part) = name.rsplit_once('.').unwrap_or(("", name));
    let is_norm = layer.ends_with("norm");
    let tied = layer == "embed_tokens" && !all.iter().any(|e| e.name == "lm_head.weight");
    match part {
        _ if tied => linear(shape),
        _ if layer.starts_with("embed_") => Start::Normal,
        "bias" if is_norm => Start::Constant(0.0),
        "weight" if is_norm => Start::Constant(1.0),
        "bias" => {
            let weight = format!("{layer}.weight");
            let sibling = all.iter().find(|e| e.name == weight);
            sibling.map_or(Start::Constant(0.0), |e| linear(&e.ty.shape))
        }
        _ => linear(shape),
    }
}

/// A linear weight is [outputs, inputs].
fn linear(weight: &Shape) -> Start {
    Start::Uniform((1.0 / (weight.last() as f64).sqrt()) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::TensorType;

    fn entry(name: &str, shape: &[usize]) -> Entry {
        Entry { name: name.into(), ty: TensorType::f32(shape), offset: 0 }
    }

    #[test]
    fn each_kind_of_parameter_starts_as_in_pytorch() {
        let all = [
            entry("embed_tokens.weight", &[128, 256]),
            entry("layers.0.mlp.down_proj.weight", &[256, 1024]),
            entry("layers.0.mlp.down_proj.bias", &[256]),
            entry("final_norm.weight", &[256]),
            entry("final_norm.bias", &[256]),
            entry("lm_head.weight", &[128, 256]),
        ];
        let values: Vec<_> = all.iter().map(|e| initial(e, &all, 7)).collect();
        let largest = |v: &[f32]| v.iter().fold(0.0f32, |a, x| a.max(x.abs()));
        assert!(largest(&values[0]) > 3.0);
        assert!((0.031..=0.03125).contains(&largest(&values[1])));
        assert!((0.025..=0.03125).contains(&largest(&values[2])));
        assert!(values[3].iter().all(|x| *x == 1.0) && values[4].iter().all(|x| *x == 0.0));
        assert_ne!(initial(&all[0], &all, 7), initial(&all[0], &all, 8));
        assert_eq!(initial(&all[0], &all, 7), values[0]);
        // Without a head of its own the table is one.
        assert!((0.0624..=0.0625).contains(&largest(&initial(&all[0], &all[..5], 7))));
    }
}
