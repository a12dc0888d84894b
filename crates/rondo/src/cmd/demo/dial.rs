//! One dial, the depth, from which all else about a model and its training follows.

/// Tokens of the byte-pair encoding.
const VOCAB_SIZE: usize = 1024;
/// Share of the text that is kept apart, from the end of each document.
const HELD_OUT: f64 = 0.05;
/// Share of the steps in which the rate falls, in percent.
const DECAY_PERCENT: usize = 60;

/// Seconds between checkpoints: a quarter of the run, within these.
const CHECKPOINTS: [f64; 2] = [8.0, 30.0];
/// The latest checkpoints that are kept.
const KEPT: usize = 2;

/// The settings of a depth, as keys of a configuration, for a run of about `seconds`.
///
/// A model of Llama's type, 32 wide a layer, whose heads are 64 wide where they can be; the rate falls with the width
/// (Yang et al. 2022), a step's tokens grow with it. That one dial is enough is nanochat's idea.
pub fn settings(depth: usize, seconds: f64) -> Vec<String> {
    // A step of warm-up a second: few where there is time for few.
    let warmup_steps = (seconds as usize).clamp(5, 100);
    let hidden = 32 * depth;
    let intermediate = (hidden * 8 / 3).next_multiple_of(64);
    let head_dim = if depth.is_multiple_of(2) { 64 } else { 32 };
    let context = if depth < 8 { 128 } else { 256 };
    let batch = (1024 * depth.div_ceil(4) / context).max(4);
    let lr = 3e-3 * 4.0 / depth as f64;
    [
        ("preset", "demo".into()),
        ("batch_size", batch.to_string()),
        // What the length of the run is set over, once a step's time is known.
        ("steps", "1000".into()),
        ("model.vocab_size", VOCAB_SIZE.to_string()),
        ("model.hidden_size", hidden.to_string()),
        ("model.num_layers", depth.to_string()),
        ("model.num_heads", (hidden / head_dim).to_string()),
        ("model.intermediate_size", intermediate.to_string()),
        ("model.max_context", context.to_string()),
        ("model.mixer", "attention".into()),
        ("model.norm", "rms_norm".into()),
        ("model.norm_eps", "1e-5".into()),
        ("model.positions", "rope".into()),
        ("model.mlp", "swiglu".into()),
        ("model.mlp_bias", "false".into()),
        ("model.tied_embeddings", "false".into()),
        ("data.corpus", "text".into()),
        ("data.tokenizer", "bpe".into()),
        ("data.shuffle", "true".into()),
        ("optimizer.kind", "adamw".into()),
        ("optimizer.lr", lr.to_string()),
        ("optimizer.beta2", "0.95".into()),
        ("optimizer.weight_decay", "0.1".into()),
        ("optimizer.max_norm", "1.0".into()),
        ("schedule.kind", "wsd".into()),
        ("schedule.warmup_steps", warmup_steps.to_string()),
        ("schedule.decay_steps", decay_steps(1000).to_string()),
        ("sample.max_tokens", "48".into()),
        ("eval.fraction", HELD_OUT.to_string()),
        ("checkpoint.seconds", (seconds / 4.0).clamp(CHECKPOINTS[0], CHECKPOINTS[1]).to_string()),
        ("checkpoint.keep", KEPT.to_string()),
    ]
    .into_iter()
    .map(|(key, value): (&str, String)| format!("{key}={value}"))
    .collect()
}

/// The last steps of a run, in which the rate falls to nothing.
pub fn decay_steps(steps: usize) -> usize {
    (steps * DECAY_PERCENT / 100).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::train::config::Overrides;

    #[test]
    fn every_depth_is_a_configuration_and_deeper_is_larger() {
        let mut before = 0;
        for depth in 1..=32 {
            let config = Overrides { set: settings(depth, 45.0), ..Overrides::default() }.resolve().unwrap();
            let model = &config.model;
            assert_eq!(model.num_layers, depth);
            assert!(model.head_dim() == 64 || depth % 2 == 1 && model.head_dim() == 32);
            let size = model.num_layers * model.hidden_size * (4 * model.hidden_size + 3 * model.intermediate_size);
            assert!(size > before, "depth {depth}");
            before = size;
        }
    }
}
