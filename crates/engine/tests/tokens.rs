//! Decoding with the cache gives the tokens of full recomputation, alone or beside others, on every device that is there.

#[path = "../../device/tests/there/mod.rs"]
mod there;

use device::{Choice, Device, Options};
use engine::{Engine, Error, Finish, Request, Sampling, SequenceId};
use model::{Config, Mixer, Mlp, Norm, Positions};
use std::collections::BTreeMap;

fn llama() -> Config {
    Config {
        vocab_size: 97,
        hidden_size: 48,
        num_layers: 2,
        num_heads: 6,
        num_kv_heads: 2,
        intermediate_size: 80,
        max_context: 640,
        mixer: Mixer::Attention,
        norm: Norm::RmsNorm,
        norm_eps: 1e-5,
        positions: Positions::Rope,
        rope_theta: 10_000.0,
        rope_scaling: Default::default(),
        mlp: Mlp::Swiglu,
        attention_bias: false,
        mlp_bias: false,
        tied_embeddings: true,
        features: Default::default(),
    }
}

fn gpt() -> Config {
    let plain = Config { norm: Norm::LayerNorm, positions: Positions::Learned, mlp: Mlp::Gelu, ..llama() };
    Config { num_kv_heads: 0, attention_bias: true, mlp_bias: true, tied_embeddings: false, ..plain }
}

/// Weights as training starts from, far enough apart that no two logits are nearly the same.
fn open(device: &Device, config: &Config, max_sequences: usize) -> Engine {
    let options = engine::Options { max_context: 0, max_sequences };
    let weights = |entry: &graph::trace::Entry| {
        let mut values = model::weights::initial(entry, std::slice::from_ref(entry), 3);
        values.iter_mut().for_each(|v| *v *= 3.0);
        Ok(bytemuck::cast_slice(&values).to_vec())
    };
    Engine::new(device, config, options, weights).unwrap()
}

fn request(prompt: &[u32], sampling: Sampling, max_tokens: usize) -> Request {
    Request { prompt: prompt.to_vec(), sampling, max_tokens, stop: Vec::new() }
}

fn generate(engine: &mut Engine, request: &Request) -> Vec<u32> {
    engine.generate(request).unwrap().map(|token| token.unwrap().id).collect()
}

fn devices() -> Vec<Device> {
    let options = Options { threads: Some(1), ..Options::default() };
    let all = [Choice::Cpu, Choice::Vulkan(None), Choice::Cuda(0)].into_iter();
    all.filter_map(|choice| there::open(choice, &options)).collect()
}

#[test]
fn the_cache_gives_the_tokens_of_full_recomputation() {
    let hot = Sampling { temperature: 1.3, top_k: 40, top_p: 0.9, min_p: 0.01, seed: 11 };
    for device in devices() {
        let cpu = device.spec().kind == graph::DeviceKind::Cpu;
        for (config, sampling) in [(llama(), Sampling::GREEDY), (gpt(), Sampling::GREEDY), (llama(), hot)] {
            let steps = if cpu || (config == llama() && sampling == Sampling::GREEDY) { 500 } else { 60 };
            let mut engine = open(&device, &config, 1);
            let mut text: Vec<u32> = (0..45).map(|i| i * 7 % 97).collect();
            let tokens = generate(&mut engine, &request(&text, sampling, steps));
            assert_eq!(tokens.len(), steps);
            for (index, token) in tokens.iter().enumerate() {
                let again = generate(&mut engine, &request(&text, sampling, 1));
                assert_eq!(again, [*token], "{device}, token {index}");
                text.push(*token);
            }
            assert_eq!(generate(&mut engine, &request(&text[..45], sampling, steps)), tokens, "{device}");
            let kinds = tokens.iter().collect::<std::collections::BTreeSet<_>>().len();
            assert!(kinds > 3, "{kinds} different tokens are no test");
        }
    }
}

#[test]
fn a_sequence_has_the_same_tokens_beside_others() {
    for device in devices() {
        let config = llama();
        let requests: Vec<Request> = (0..5u32)
            .map(|i| {
                let prompt: Vec<u32> = (0..1 + 17 * i).map(|j| (j * 5 + i) % 97).collect();
                let sampling =
                    Sampling { temperature: 0.3 * i as f32, seed: u64::from(i) << 33, ..Sampling::default() };
                request(&prompt, sampling, 20 + i as usize)
            })
            .collect();
        let mut alone = open(&device, &config, 1);
        let expected: Vec<_> = requests.iter().map(|request| generate(&mut alone, request)).collect();
        let mut together = open(&device, &config, 3);
        let mut tokens: BTreeMap<SequenceId, Vec<u32>> = BTreeMap::new();
        let (mut waiting, mut order) = (requests.iter(), Vec::new());
        loop {
            while together.active() < 3
                && let Some(next) = waiting.next()
            {
                order.push(together.add(next).unwrap());
            }
            let made = together.step().unwrap();
            if made.is_empty() {
                break;
            }
            made.iter().for_each(|token| tokens.entry(token.sequence).or_default().push(token.id));
        }
        let found: Vec<_> = order.iter().map(|id| tokens[id].clone()).collect();
        assert_eq!(found, expected, "{device}");
    }
}

#[test]
fn threads_change_nothing() {
    let open_with = |threads| Device::open(Choice::Cpu, &Options { threads: Some(threads), ..Options::default() });
    let tokens = |threads| {
        let mut engine = open(&open_with(threads).unwrap(), &llama(), 1);
        generate(&mut engine, &request(&[1, 2, 3], Sampling::default(), 100))
    };
    assert_eq!(tokens(1), tokens(2));
}

#[test]
fn sequences_end_for_a_reason() {
    let device = Device::open(Choice::Cpu, &Options { threads: Some(1), ..Options::default() }).unwrap();
    let mut engine = open(&device, &llama(), 1);
    let ends = |engine: &mut Engine, request: &Request| {
        let all: Vec<_> = engine.generate(request).unwrap().map(Result::unwrap).collect();
        (all.len(), all.last().and_then(|token| token.finish))
    };
    let greedy = |prompt: usize, most| request(&vec![5; prompt], Sampling::GREEDY, most);
    assert_eq!(ends(&mut engine, &greedy(3, 7)), (7, Some(Finish::Length)));
    assert_eq!(ends(&mut engine, &greedy(637, 100)), (3, Some(Finish::Context)));
    assert_eq!(ends(&mut engine, &greedy(639, 100)), (1, Some(Finish::Context)));
    let tokens = generate(&mut engine, &greedy(3, 30));
    let stop = tokens[10];
    let first = tokens.iter().position(|token| *token == stop).unwrap();
    let stopped = Request { stop: vec![stop], ..greedy(3, 30) };
    assert_eq!(ends(&mut engine, &stopped), (first + 1, Some(Finish::Stop)));
    // One that is dropped half-way leaves room for the next.
    for _ in 0..3 {
        assert!(engine.generate(&greedy(600, 40)).unwrap().next().unwrap().is_ok());
    }
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let device = Device::open(Choice::Cpu, &Options { threads: Some(1), ..Options::default() }).unwrap();
    let mut engine = open(&device, &llama(), 1);
    let mut refused = |request: &Request, what: &str| match engine.add(request) {
        Err(Error::Request(text)) => assert!(text.contains(what), "{text}"),
        Err(e) => panic!("{e}"),
        Ok(_) => panic!("it is taken: {what}"),
    };
    let good = request(&[1], Sampling::GREEDY, 1);
    refused(&Request { prompt: vec![], ..good.clone() }, "the prompt is empty");
    refused(&Request { prompt: vec![1; 640], ..good.clone() }, "the prompt has 640 tokens, and the context");
    refused(&Request { prompt: vec![1, 97], ..good.clone() }, "token 97; the model has tokens 0 to 96");
    refused(&Request { max_tokens: 0, ..good.clone() }, "max_tokens must be at least 1");
    let sampling = |sampling| Request { sampling, ..good.clone() };
    refused(&sampling(Sampling { temperature: -1.0, ..Sampling::GREEDY }), "temperature is -1");
    refused(&sampling(Sampling { temperature: f32::NAN, ..Sampling::GREEDY }), "temperature is NaN");
    refused(&sampling(Sampling { top_p: 0.0, ..Sampling::GREEDY }), "top_p is 0");
    refused(&sampling(Sampling { min_p: 2.0, ..Sampling::GREEDY }), "min_p is 2");
    let options = engine::Options { max_context: 641, max_sequences: 1 };
    let none = |entry: &graph::trace::Entry| Ok(vec![0; entry.ty.bytes() as usize]);
    assert!(matches!(Engine::new(&device, &llama(), options, none), Err(Error::Request(_))));
    let short = |_: &graph::trace::Entry| Ok(vec![0; 3]);
    let wrong = Engine::new(&device, &llama(), engine::Options::default(), short);
    assert!(matches!(wrong, Err(Error::Weight { name, .. }) if name == "embed_tokens.weight"));
}

#[test]
fn an_engine_begins_where_it_fits_what_is_free_and_is_refused_below_that() {
    let with_free = |free_bytes| {
        let options = Options { threads: Some(1), free_bytes: Some(free_bytes), ..Options::default() };
        Device::open(Choice::Cpu, &options).unwrap()
    };
    let begin = |free| {
        let weights = |entry: &graph::trace::Entry| Ok(vec![0; entry.ty.bytes() as usize]);
        Engine::new(&with_free(free), &llama(), engine::Options::default(), weights)
    };
    let device = with_free(0);
    let reserve = device::room::reserve(device.spec().memory_bytes);
    let whole = begin(1 << 40).unwrap().memory_bytes();
    let refused = |free| match begin(free) {
        Err(error @ Error::Memory { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was made"),
    };
    let text = refused(reserve + whole - 1);
    assert!(text.contains(" are there free, beside a reserve of ") && text.contains("help: a context of "), "{text}");
    // Beside the buffers there are the inputs and outputs of each recording.
    assert!(begin(reserve + whole + (1 << 20)).is_ok());
    let text = refused(reserve);
    assert!(text.contains("a smaller model is needed"), "{text}");
}
