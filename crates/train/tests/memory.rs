//! What a machine's memory doesn't hold is refused before it is traced, in words with what would fit.

use device::Device;
use graph::trace::PARAMETERS;
use graph::{PlanError, Spec, Tuning};
use train::config::{Config, Overrides, PRESETS};
use train::trainer::Trainer;
use train::{Error, Run, step};

fn with(preset: &str, set: &[&str]) -> Config {
    set.iter().fold(Overrides::preset(preset), |o, s| o.with(s)).resolve().unwrap()
}

fn machine(memory_bytes: u64) -> Spec {
    let options = device::Options { threads: Some(1), ..device::Options::default() };
    let cpu = device::Device::open(device::Choice::Cpu, &options).unwrap();
    Spec { memory_bytes, largest_allocation: memory_bytes, name: "a small machine".into(), ..cpu.spec().clone() }
}

fn refused(config: &Config, memory_bytes: u64) -> String {
    step::plans(config, &machine(memory_bytes), &Tuning::default()).unwrap_err().to_string()
}

#[test]
fn parameters_are_counted_without_tracing() {
    let more = [
        "model.tied_embeddings=true",
        "model.attention_bias=true",
        "model.mlp_bias=false",
        "model.mlp=swiglu",
        "model.norm=rms_norm",
        "model.num_kv_heads=2",
        "model.positions=rope",
    ];
    let mut configs: Vec<Config> = PRESETS.iter().map(|(name, _)| with(name, &[])).collect();
    configs.extend(more.map(|set| with("hlx-full", &[set])));
    for config in configs {
        let graph = step::trace(&config).unwrap();
        let traced: usize = graph.region(PARAMETERS).unwrap().entries.iter().map(|e| e.ty.elements()).sum();
        assert_eq!(config.model.num_parameters(), traced as u64, "{:?}", config.model);
    }
}

#[test]
fn a_model_that_is_far_too_large_is_refused_at_once() {
    let deep = with("hlx-full", &["model.num_layers=100000"]);
    let text = refused(&deep, 23_500_000_000);
    assert!(
        text.starts_with("the step needs 1.3 TB (moments 631.0 GB, parameters 315.5 GB, gradients 315.5 GB)"),
        "{text}"
    );
    assert!(text.contains("a small machine has 23.5 GB\n  help: 78.9 G parameters take 16 bytes each"), "{text}");
    assert!(text.contains("at most 1.5 G fit: fewer model.num_layers"), "{text}");
    let huge = with("hlx-full", &["model.hidden_size=2147483648", "model.num_layers=2147483648", "model.num_heads=1"]);
    assert!(refused(&huge, 23_500_000_000).contains("PB"));
    // Memory for the parameters, and far more ops than can be planned.
    let thin = with("hlx-full", &["model.num_layers=100000", "model.hidden_size=4", "model.intermediate_size=1"]);
    let text = refused(&thin, 23_500_000_000);
    assert!(text.contains("the step has more than 40000 ops; a model with fewer layers has less"), "{text}");
}

#[test]
fn a_batch_that_is_too_large_is_told_what_fits_and_that_does() {
    let config = with("hlx-full", &["batch_size=4096"]);
    let memory = 300_000_000;
    let text = refused(&config, memory);
    assert!(text.starts_with("the step needs ") && text.contains("arena"), "{text}");
    let (_, rest) = text.split_once("about batch_size = ").unwrap();
    let rows: usize = rest.split(' ').next().unwrap().parse().unwrap();
    let (_, rest) = rest.split_once("grad_accumulation = ").unwrap();
    let parts: usize = rest.split(' ').next().unwrap().parse().unwrap();
    assert!(rows > 64 && parts == 4096usize.div_ceil(rows), "{text}");
    let set = [format!("batch_size={rows}"), format!("grad_accumulation={parts}")];
    let fits = with("hlx-full", &[&set[0], &set[1]]);
    step::plans(&fits, &machine(memory), &Tuning::default()).unwrap();
    let long = with("gpt-small-test", &["model.max_context=16384", "batch_size=1"]);
    assert!(refused(&long, 60_000_000).contains("not even one row of model.max_context = 16384 fits"));
}

/// A processor that has so much memory free.
fn with_free(free_bytes: u64) -> Device {
    let options = device::Options { threads: Some(1), free_bytes: Some(free_bytes), ..device::Options::default() };
    Device::open(device::Choice::Cpu, &options).unwrap()
}

#[test]
fn a_step_begins_where_it_fits_what_is_free_and_is_refused_below_that() {
    let config = with("gpt-small-test", &["batch_size=2"]);
    let plans = step::plans(&config, with_free(0).spec(), &Tuning::default()).unwrap();
    let need: u64 = graph::plan::parts(&plans).iter().map(|(_, bytes)| bytes).sum();
    let reserve = device::room::reserve(with_free(0).spec().memory_bytes);
    let begin = |free, saving| Trainer::beside(&with_free(free), &config, &Tuning::default(), saving);
    let refused = |free, saving| begin(free, saving).err().expect("it doesn't fit").to_string();
    assert!(begin(need + reserve, 0).is_ok());
    let text = refused(need + reserve - 1, 0);
    assert!(
        text.starts_with("the step needs ") && text.contains("arena ") && text.contains(" free, beside a"),
        "{text}"
    );
    assert!(text.contains("about batch_size = 1 fits; with grad_accumulation = 2"), "{text}");
    // A checkpoint's copies need room as well, in the same memory.
    let saving = step::saving_bytes(&config);
    assert!(begin(need + reserve + saving, saving).is_ok());
    assert!(refused(need + reserve + saving - 1, saving).contains("saving a checkpoint"));
    // Not the batch, but the parameters are too many.
    let text = refused(reserve + saving, saving);
    assert!(
        text.contains("parameters take 36 bytes each with gradients and moments, and while a checkpoint"),
        "{text}"
    );
}

#[test]
fn no_buffer_is_made_that_is_larger_than_what_is_free() {
    let device = with_free(1000);
    assert!(device.allocate("a test", 1000).is_ok());
    let Err(device::Error::Memory { need: 1001, have: 1000, .. }) = device.allocate("a test", 1001) else {
        panic!("it was made")
    };
}

#[test]
fn a_run_that_does_not_fit_leaves_nothing_behind() {
    let folder = std::env::temp_dir().join(format!("rondo-memory-{}", std::process::id()));
    let config = with("gpt-small-test", &["batch_size=2"]);
    let Err(Error::Plan(PlanError::Memory { have: 0, .. })) =
        Run::create(&with_free(1 << 20), config, &folder, Tuning::default())
    else {
        panic!("it began")
    };
    assert!(!folder.exists());
}
