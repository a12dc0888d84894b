//! The engine's tokens are those of the graph that is trained: packed rows, without a cache, in f64 and as the device has it.

#[path = "../../device/tests/there/mod.rs"]
mod there;

use device::{Choice, Device, Options};
use engine::{Engine, Request, Sampling};
use graph::trace::Entry;
use graph::{Graph, Tuning, interpret};
use model::{Config, Mixer, Mlp, Norm, Positions, RopeScaling};
use std::collections::BTreeMap;
use tensor::DType::U32;

const VOCABULARY: usize = 61;
const PROMPT: usize = 37;
const TOKENS: usize = 120;

fn llama() -> Config {
    Config {
        vocab_size: VOCABULARY,
        hidden_size: 48,
        num_layers: 3,
        num_heads: 6,
        num_kv_heads: 2,
        intermediate_size: 80,
        max_context: PROMPT + TOKENS,
        mixer: Mixer::Attention,
        norm: Norm::RmsNorm,
        norm_eps: 1e-5,
        positions: Positions::Rope,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling {
            factor: 4.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position: 64,
        },
        mlp: Mlp::Swiglu,
        attention_bias: false,
        mlp_bias: false,
        tied_embeddings: true,
        features: model::Features::default(),
    }
}

fn gpt() -> Config {
    let plain = Config { norm: Norm::LayerNorm, positions: Positions::Learned, mlp: Mlp::Gelu, ..llama() };
    let rope_scaling = RopeScaling::default();
    Config { rope_scaling, num_kv_heads: 0, attention_bias: true, mlp_bias: true, tied_embeddings: false, ..plain }
}

/// Weights far enough apart that the logits are.
fn weight(entry: &Entry) -> Vec<f32> {
    let mut values = model::weights::initial(entry, std::slice::from_ref(entry), 5);
    values.iter_mut().for_each(|v| *v *= 1.5);
    values
}

/// The forward half of a training step over one row of `length` tokens: `logits` [length, vocabulary].
fn forward(config: &Config, length: usize) -> Graph {
    Graph::trace(|g| {
        let input = |name, count: usize| g.input(name, U32, [count]);
        let (tokens, positions, cu_seqlens) =
            (input("tokens", length), input("positions", length), input("cu_seqlens", 2));
        g.output("logits", &model::transformer(g, config, &tokens, &positions, &cu_seqlens));
    })
    .unwrap()
}

/// What the graph reads: a row of tokens.
fn inputs(text: &[u32]) -> [(&'static str, Vec<u32>); 3] {
    let length = text.len() as u32;
    [("tokens", text.to_vec()), ("positions", (0..length).collect()), ("cu_seqlens", vec![0, length])]
}

/// The graph's plain meaning, in f64.
fn exact(config: &Config, text: &[u32]) -> Vec<f64> {
    let graph = forward(config, text.len());
    let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let mut given: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for entry in graph.regions.iter().flat_map(|region| &region.entries) {
        given.insert(entry.name.clone(), wide(&weight(entry)));
    }
    for (name, values) in inputs(text) {
        given.insert(name.into(), values.iter().map(|v| f64::from(*v)).collect());
    }
    interpret::interpret(&graph, &given).outputs.remove("logits").unwrap()
}

/// The same graph after all passes, on a device.
fn trained(device: &Device, config: &Config, text: &[u32]) -> Vec<f32> {
    let graph = graph::pass::prune(graph::pass::fuse(forward(config, text.len()), ops::OPS));
    let regions = graph.regions.clone();
    let plan = graph::plan::plan(&graph, device.spec(), &Tuning::default()).unwrap();
    let mut buffers = Vec::new();
    device.allocate_for(&plan, &mut buffers).unwrap();
    for region in &regions {
        let (_, buffer) = buffers.iter().find(|(name, _)| *name == region.name).unwrap();
        for entry in &region.entries {
            buffer.write(entry.offset, bytemuck::cast_slice(&weight(entry))).unwrap();
        }
    }
    let lent: Vec<_> = buffers.iter().map(|(name, buffer)| (name.as_str(), buffer)).collect();
    let mut recording = device.record(plan, &lent).unwrap();
    for (name, values) in inputs(text) {
        let input = recording.input(name).unwrap();
        recording.write(input, bytemuck::cast_slice(&values)).unwrap();
    }
    let ticket = recording.replay().unwrap();
    let mut logits = vec![0f32; text.len() * config.vocab_size];
    let output = recording.output("logits").unwrap();
    recording.read(output, ticket, bytemuck::cast_slice_mut(&mut logits)).unwrap();
    logits
}

/// The largest logit of each row from the prompt's last on, and how far it is above the second.
fn likeliest(logits: &[f64]) -> Vec<(u32, f64)> {
    let rows = logits.chunks_exact(VOCABULARY).skip(PROMPT - 1).take(TOKENS);
    rows.map(|row| {
        let mut order: Vec<usize> = (0..VOCABULARY).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        (order[0] as u32, row[order[0]] - row[order[1]])
    })
    .collect()
}

#[test]
fn the_engine_makes_the_tokens_of_the_graph_that_is_trained() {
    let options = Options { threads: Some(1), ..Options::default() };
    for choice in [Choice::Cpu, Choice::Vulkan(None), Choice::Cuda(0)] {
        let Some(device) = there::open(choice, &options) else { continue };
        for config in [llama(), gpt()] {
            let weights = |entry: &Entry| Ok(bytemuck::cast_slice(&weight(entry)).to_vec());
            let mut engine = Engine::new(&device, &config, engine::Options::default(), weights).unwrap();
            let mut text: Vec<u32> = (0..PROMPT as u32).map(|i| i * 7 % VOCABULARY as u32).collect();
            let request =
                Request { prompt: text.clone(), sampling: Sampling::GREEDY, max_tokens: TOKENS, stop: Vec::new() };
            let tokens: Vec<u32> = engine.generate(&request).unwrap().map(|token| token.unwrap().id).collect();
            assert_eq!(tokens.len(), TOKENS);
            let kinds = tokens.iter().collect::<std::collections::BTreeSet<_>>().len();
            assert!(kinds > 3, "{kinds} different tokens are no test");
            // What the engine made is read at once: each row says what should come after it.
            text.extend(&tokens[..TOKENS - 1]);
            let exact = exact(&config, &text);
            let (expected, margins): (Vec<u32>, Vec<f64>) = likeliest(&exact).into_iter().unzip();
            let least = margins.iter().copied().fold(f64::INFINITY, f64::min);
            assert!(least > 1e-3, "two logits are only {least} apart: other weights are needed");
            assert_eq!(tokens, expected, "{device}");
            let trained: Vec<f64> = trained(&device, &config, &text).into_iter().map(f64::from).collect();
            assert_eq!(likeliest(&trained).into_iter().map(|(token, _)| token).collect::<Vec<_>>(), tokens, "{device}");
            let worst = trained.iter().zip(&exact).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f64::max);
            assert!(worst < 3e-5, "{device}: the logits are {worst} off");
        }
    }
}
