//! A decode step is one submission and allocates nothing: counted. Alone in its file, since the count is the process's.

use device::count::host_allocations;
use device::{Choice, Device, Options};
use engine::{Engine, Request, Sampling};
use model::{Config, Mixer, Mlp, Norm, Positions};

#[global_allocator]
static ALLOCATOR: device::count::CountingAllocator = device::count::CountingAllocator;

#[test]
fn a_decode_step_is_one_submission_and_allocates_nothing() {
    let device = Device::open(Choice::Cpu, &Options { threads: Some(1), ..Options::default() }).unwrap();
    let config = Config {
        vocab_size: 64,
        hidden_size: 32,
        num_layers: 2,
        num_heads: 4,
        num_kv_heads: 2,
        intermediate_size: 48,
        max_context: 128,
        mixer: Mixer::Attention,
        norm: Norm::RmsNorm,
        norm_eps: 1e-5,
        positions: Positions::Rope,
        rope_theta: 10_000.0,
        rope_scaling: Default::default(),
        mlp: Mlp::Swiglu,
        attention_bias: false,
        mlp_bias: false,
        tied_embeddings: false,
        features: Default::default(),
    };
    let weights = |entry: &graph::trace::Entry| {
        let values = model::weights::initial(entry, std::slice::from_ref(entry), 1);
        Ok(bytemuck::cast_slice(&values).to_vec())
    };
    let options = engine::Options { max_context: 0, max_sequences: 2 };
    let mut engine = Engine::new(&device, &config, options, weights).unwrap();
    for prompt in [vec![1, 2, 3], vec![4; 20]] {
        engine.add(&Request { prompt, sampling: Sampling::default(), max_tokens: 100, stop: Vec::new() }).unwrap();
    }
    for _ in 0..5 {
        assert_eq!(engine.step().unwrap().len(), 2);
    }
    let (before, allocations) = (device.counters(), host_allocations());
    for _ in 0..50 {
        assert_eq!(engine.step().unwrap().len(), 2);
    }
    let (after, allocated) = (device.counters(), host_allocations() - allocations);
    assert_eq!(after.submissions - before.submissions, 50);
    assert_eq!(after.device_allocations - before.device_allocations, 0);
    assert_eq!(allocated, 0);
}
