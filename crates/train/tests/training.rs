//! Runs: the same bits from the same seed, resumed or not, fused or not within rounding, and what stops them.

use device::{Choice, Device, Options};
use graph::Tuning;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use train::config::{Config, Overrides};
use train::data::{Data, Staging};
use train::evaluate::Evaluator;
use train::run::{Length, Observer};
use train::samples::{Moment, Sample};
use train::summary::Summary;
use train::trainer::{Measured, Trainer};
use train::{Ending, Error, Run};

/// One pool of threads at a time: tests of one binary run side by side.
static MACHINE: Mutex<()> = Mutex::new(());

struct Place {
    path: PathBuf,
    _machine: MutexGuard<'static, ()>,
}

impl Place {
    fn new(name: &str) -> Place {
        let machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
        let path = std::env::temp_dir().join(format!("rondo-training-{}-{name}", std::process::id()));
        Place { path, _machine: machine }
    }

    fn run(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn cpu(threads: usize) -> Device {
    let threads = threads.min(std::thread::available_parallelism().map_or(1, usize::from));
    Device::open(Choice::Cpu, &Options { threads: Some(threads), ..Options::default() }).unwrap()
}

fn small(set: &[&str]) -> Config {
    let base = Overrides::preset("hlx-full").with("model.num_layers=2").with("steps=12");
    set.iter().fold(base, |o, s| o.with(s)).resolve().unwrap()
}

fn train(device: &Device, config: Config, path: &Path) -> (Summary, Vec<f32>) {
    let mut run = Run::create(device, config, path, Tuning::default()).unwrap();
    finish(&mut run, &mut ())
}

fn finish(run: &mut Run, observer: &mut dyn Observer) -> (Summary, Vec<f32>) {
    match run.train(&AtomicBool::new(false), observer).unwrap() {
        Ending::Finished(summary) => (*summary, run.history().losses.clone()),
        Ending::Interrupted(_) => panic!("nobody stops it"),
    }
}

fn hashes(s: &Summary) -> [&str; 2] {
    [&s.parameters_sha256, &s.losses_sha256]
}

/// Keeps warnings, and may stop the run after a step.
#[derive(Default)]
struct Witness {
    warnings: Vec<String>,
    saved: Vec<PathBuf>,
}

impl Observer for Witness {
    fn warning(&mut self, text: &str) {
        self.warnings.push(text.into());
    }

    fn saved(&mut self, path: &Path) {
        self.saved.push(path.into());
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_at_any_number_of_threads() {
    let place = Place::new("seed");
    let (first, losses) = train(&cpu(1), small(&[]), &place.run("a"));
    let (second, _) = train(&cpu(2), small(&[]), &place.run("b"));
    let (other, _) = train(&cpu(1), small(&["seed=1"]), &place.run("c"));
    assert_eq!(hashes(&first), hashes(&second));
    assert_ne!(first.parameters_sha256, other.parameters_sha256);
    assert!(losses[0] > losses[11], "{losses:?}");
}

#[test]
fn levels_in_reverse_with_dead_bytes_poisoned_give_the_same_bits() {
    let place = Place::new("adversarial");
    let (plain, _) = train(&cpu(1), small(&[]), &place.run("plain"));
    let options = Options { adversarial: true, ..Options::default() };
    let hostile = Device::open(Choice::Cpu, &options).unwrap();
    let (reversed, _) = train(&hostile, small(&[]), &place.run("reversed"));
    assert_eq!(hashes(&plain), hashes(&reversed));
}

#[test]
fn unfused_ops_give_the_same_losses_within_rounding() {
    let place = Place::new("fuse");
    for preset in ["hlx-full", "hlx-simple"] {
        let config = |fuse: &str| Overrides::preset(preset).with("steps=20").with(fuse).resolve().unwrap();
        let (_, fused) = train(&cpu(2), config("fuse=true"), &place.run(&format!("{preset}-fused")));
        let (_, plain) = train(&cpu(2), config("fuse=false"), &place.run(&format!("{preset}-plain")));
        for (step, (a, b)) in fused.iter().zip(&plain).enumerate() {
            assert!((a - b).abs() <= 1e-5 * b.abs(), "{preset}, step {step}: {a} fused, {b} not");
        }
    }
}

#[test]
fn a_resumed_run_is_the_unbroken_run() {
    let place = Place::new("resume");
    let config = || small(&["checkpoint.every=4"]);
    let (whole, _) = train(&cpu(1), config(), &place.run("whole"));
    for threads in [1, 2] {
        let path = place.run(&format!("broken-{threads}"));
        // It stops after six steps, saves there, and is then run on; then again from an earlier checkpoint.
        struct StopAt<'a>(usize, &'a AtomicBool);
        impl Observer for StopAt<'_> {
            fn step(&mut self, step: usize, _: usize, _: &Measured) {
                self.1.store(step >= self.0, Ordering::Relaxed);
            }
        }
        let stop = AtomicBool::new(false);
        let mut run = Run::create(&cpu(threads), config(), &path, Tuning::default()).unwrap();
        let Ending::Interrupted(part) = run.train(&stop, &mut StopAt(6, &stop)).unwrap() else {
            panic!("it was stopped")
        };
        assert_eq!((part.steps, part.status.as_str()), (6, "interrupted"));
        drop(run);
        let resume = |witness: &mut Witness| {
            let mut run = Run::resume(&cpu(threads), &path, &[], witness).unwrap();
            let from = run.step();
            (from, finish(&mut run, &mut ()).0)
        };
        let (from, rest) = resume(&mut Witness::default());
        assert_eq!((from, hashes(&rest)), (6, hashes(&whole)));
        assert_eq!(fs::read_to_string(path.join("metrics.jsonl")).unwrap().lines().count(), 12);

        // Two damaged checkpoints, each in another way, are named and passed over.
        let model = path.join("checkpoints/step-12/model.safetensors");
        let mut bytes = fs::read(&model).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&model, bytes).unwrap();
        fs::remove_file(path.join("checkpoints/step-8/optimizer.safetensors")).unwrap();
        let mut witness = Witness::default();
        let (from, rest) = resume(&mut witness);
        assert_eq!((from, hashes(&rest)), (6, hashes(&whole)));
        assert!(witness.warnings[0].contains("step-12/model.safetensors"), "{:?}", witness.warnings);
        assert!(witness.warnings[1].contains("step-8/optimizer.safetensors"), "{:?}", witness.warnings);
        assert_eq!(fs::read_to_string(path.join("metrics.jsonl")).unwrap().lines().count(), 12);
    }
}

#[test]
fn a_schedule_sets_the_rate_of_every_step_and_a_resumed_run_keeps_it() {
    let place = Place::new("schedule");
    let shapes: [&[&str]; 3] = [
        &["schedule.kind=cosine", "schedule.warmup_steps=3", "schedule.end_share=0.1"],
        &["schedule.kind=linear", "schedule.warmup_steps=2"],
        &["schedule.kind=wsd", "schedule.warmup_steps=2", "schedule.decay_steps=5"],
    ];
    let (constant, _) = train(&cpu(1), small(&[]), &place.run("constant"));
    for (i, set) in shapes.into_iter().enumerate() {
        let config = || small(&[set, &["checkpoint.every=5"]].concat());
        let path = place.run(&format!("schedule-{i}"));
        let (whole, _) = train(&cpu(1), config(), &path);
        assert_ne!(whole.parameters_sha256, constant.parameters_sha256);
        let lines = || fs::read_to_string(path.join("metrics.jsonl")).unwrap();
        let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["lr"].as_f64().unwrap();
        let rates: Vec<f64> = lines().lines().map(value).collect();
        let (lr, schedule) = (config().optimizer.lr, config().schedule);
        let expected: Vec<f64> = (0..12).map(|done| schedule.rate(lr, done, 12)).collect();
        // Whoever reads JSON may round.
        let same = |a: &[f64]| a.len() == 12 && a.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-12 * b);
        assert!(same(&rates), "{set:?}: {rates:?}, expected {expected:?}");

        // From step 5 on again: the same rates and bits. With more steps in all it says that rates are others.
        for step in ["step-10", "step-12"] {
            fs::remove_dir_all(path.join("checkpoints").join(step)).unwrap();
        }
        let mut run = Run::resume(&cpu(1), &path, &[], &mut ()).unwrap();
        assert_eq!(run.step(), 5);
        assert_eq!(hashes(&finish(&mut run, &mut ()).0), hashes(&whole));
        assert!(same(&lines().lines().map(value).collect::<Vec<f64>>()));
        drop(run);
        let mut witness = Witness::default();
        Run::resume(&cpu(1), &path, &["steps=20".into()], &mut witness).unwrap();
        assert!(witness.warnings[0].contains("now has 20 steps, and had 12"), "{:?}", witness.warnings);
    }
}

#[test]
fn shuffled_rows_are_the_same_after_a_resume() {
    let place = Place::new("shuffle");
    // Six steps an epoch: it stops within the second.
    let config = |shuffle: &str| small(&["batch_size=3", "checkpoint.every=8", &format!("data.shuffle={shuffle}")]);
    let (whole, _) = train(&cpu(1), config("true"), &place.run("a"));
    let (plain, _) = train(&cpu(1), config("false"), &place.run("b"));
    assert_ne!(whole.losses_sha256, plain.losses_sha256);
    fs::remove_dir_all(place.run("a").join("checkpoints/step-12")).unwrap();
    let mut run = Run::resume(&cpu(1), &place.run("a"), &[], &mut ()).unwrap();
    assert_eq!(run.step(), 8);
    assert_eq!(hashes(&finish(&mut run, &mut ()).0), hashes(&whole));
}

fn text(set: &[&str]) -> Config {
    let base = Overrides::preset("gpt-small-test").with("steps=12").with("eval.fraction=0.2");
    set.iter().fold(base, |o, s| o.with(s)).resolve().unwrap()
}

#[test]
fn evaluations_change_nothing_and_are_the_same_after_a_resume() {
    let place = Place::new("evaluate");
    let path = place.run("a");
    let config = || text(&["eval.every=3", "checkpoint.every=4", "checkpoint.keep=2"]);
    let (summary, _) = train(&cpu(1), config(), &path);
    let (without, _) = train(&cpu(1), text(&[]), &place.run("b"));
    assert_eq!(hashes(&summary), hashes(&without));

    let first = fs::read_to_string(path.join("metrics.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    for key in ["loss", "grad_norm", "lr", "applied", "skipped", "tokens_per_second", "elapsed_sec"] {
        assert!(first[key].is_number(), "{key}: {first}");
    }
    let of = |key: &str| -> Vec<(u64, f64)> {
        let lines = fs::read_to_string(path.join("metrics.jsonl")).unwrap();
        let all = lines.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        all.filter_map(|l| Some((l["step"].as_u64()?, l[key].as_f64()?))).collect()
    };
    let validation = of("validation_loss");
    assert_eq!(validation.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [3, 4, 6, 8, 9, 12]);
    assert!(validation[0].1 > validation[5].1 && of("loss").len() == 12, "{validation:?}");
    let last = f64::from(summary.validation_loss.unwrap());
    assert!((last - validation[5].1).abs() < 1e-6 && summary.best_validation_loss == summary.validation_loss);
    assert_eq!(summary.best_checkpoint.as_deref(), Some("checkpoints/step-12"));
    let checkpoints = || {
        let names = fs::read_dir(path.join("checkpoints")).unwrap();
        let mut names: Vec<_> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(checkpoints(), ["step-12", "step-8"]);

    fs::remove_dir_all(path.join("checkpoints/step-12")).unwrap();
    let mut run = Run::resume(&cpu(2), &path, &[], &mut ()).unwrap();
    assert_eq!((run.step(), run.evaluations().len()), (8, 4));
    let (rest, _) = finish(&mut run, &mut ());
    assert_eq!((hashes(&rest), rest.validation_loss), (hashes(&summary), summary.validation_loss));
    assert_eq!((of("validation_loss"), checkpoints()), (validation, vec!["step-12".into(), "step-8".into()]));
}

#[test]
fn samples_are_asked_for_and_kept_and_change_nothing() {
    struct Poet(Vec<usize>);
    impl Observer for Poet {
        fn sample(&mut self, now: &Moment) -> Result<Vec<Sample>, String> {
            assert_eq!(now.trainer.state().unwrap().applied as usize, now.step);
            self.0.push(now.step);
            if now.step == 8 {
                return Err("nothing comes to mind".into());
            }
            let text = |prompt: &String| Sample { prompt: prompt.clone(), text: format!(" {}", now.step) };
            Ok(now.config.sample.prompts.iter().map(text).collect())
        }
    }
    let place = Place::new("samples");
    let path = place.run("a");
    let config = || small(&["sample.every=4", "sample.prompts=[\"a\", \"b\"]", "checkpoint.every=6", "steps=10"]);
    let (without, _) = train(&cpu(1), small(&["steps=10"]), &place.run("b"));
    let mut run = Run::create(&cpu(1), config(), &path, Tuning::default()).unwrap();
    let mut poet = Poet(Vec::new());
    let (with, _) = finish(&mut run, &mut poet);
    assert_eq!((poet.0, hashes(&with)), (vec![4, 8, 10], hashes(&without)));
    let text = |steps: &[usize]| -> String {
        let both = |s: &usize| format!("--- step {s}, \"a\"\na {s}\n\n--- step {s}, \"b\"\nb {s}\n\n");
        steps.iter().map(both).collect()
    };
    let file = || fs::read_to_string(path.join("samples.txt")).unwrap();
    assert_eq!(file(), text(&[4, 10]));
    drop(run);
    fs::remove_dir_all(path.join("checkpoints/step-10")).unwrap();
    let mut run = Run::resume(&cpu(1), &path, &["sample.every=5".into()], &mut ()).unwrap();
    assert_eq!((run.step(), file()), (6, text(&[4])));
    finish(&mut run, &mut Poet(Vec::new()));
    assert_eq!(file(), text(&[4, 10]));
}

#[test]
fn an_evaluation_is_the_loss_that_the_step_has_of_the_same_rows() {
    let place = Place::new("same-rows");
    let device = cpu(2);
    for preset in ["hlx-full", "hlx-simple"] {
        let config = Overrides::preset(preset).with("eval.fraction=0.5").with("eval.batches=1").resolve().unwrap();
        let data = Data::open(&config).unwrap();
        assert_eq!((data.training.rows(), data.validation.unwrap().rows()), (8, 8));
        let mut trainer = Trainer::new(&device, &config, &Tuning::default()).unwrap();
        let rows = data.training.clone();
        let mut evaluator = Evaluator::new(&device, &config, &Tuning::default(), &trainer, rows).unwrap();
        for _ in 0..3 {
            let loss = evaluator.evaluate(0).unwrap().loss.unwrap();
            let ticket = trainer.submit(&data.training.batch(0, &mut Staging::default()), 1e-2).unwrap();
            let theirs = trainer.read(ticket).unwrap().loss;
            assert!((loss - theirs).abs() <= 1e-6 * theirs, "{preset}: {loss}, in the step {theirs}");
        }
    }
    drop(place);
}

#[test]
fn a_checkpoint_is_a_model_folder_and_the_run_keeps_its_tokenizer() {
    let place = Place::new("bpe");
    let path = place.run("a");
    let config = text(&["data.tokenizer=bpe", "model.vocab_size=320", "checkpoint.every=6", "data.shuffle=true"]);
    let (whole, losses) = train(&cpu(2), config.clone(), &path);
    assert!(losses[0] > 5.0 && whole.validation_loss.unwrap() < losses[0], "{losses:?}");
    let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&read("checkpoints/step-12/config.json")).unwrap();
    assert_eq!((&json["vocab_size"], &json["tokenizer"]), (&320.into(), &"bpe".into()));
    assert_eq!(read("checkpoints/step-12/tokenizer.json"), read("tokenizer.json"));

    // The tokenizer is the run's, not trained again; a damaged one is found by the checkpoint's hashes.
    fs::write(path.join("checkpoints/step-12/tokenizer.json"), "{}").unwrap();
    let mut witness = Witness::default();
    let mut run = Run::resume(&cpu(1), &path, &[], &mut witness).unwrap();
    assert!(witness.warnings[0].contains("step-12/tokenizer.json"), "{:?}", witness.warnings);
    assert_eq!(run.step(), 6);
    assert_eq!(hashes(&finish(&mut run, &mut ()).0), hashes(&whole));
    drop(run);
    fs::write(path.join("tokenizer.json"), "{").unwrap();
    let error = Run::resume(&cpu(1), &path, &[], &mut ()).err().unwrap().to_string();
    assert!(error.contains("tokenizer.json: "), "{error}");
}

#[test]
fn a_run_folder_is_held_by_one_process_and_holds_one_run() {
    let place = Place::new("folder");
    let path = place.run("a");
    let run = Run::create(&cpu(1), small(&["steps=1"]), &path, Tuning::default()).unwrap();
    let second = Run::resume(&cpu(1), &path, &[], &mut ()).err().unwrap().to_string();
    assert!(second.contains(&format!("is in use by process {}", std::process::id())), "{second}");
    drop(run);
    let again = Run::create(&cpu(1), small(&["steps=1"]), &path, Tuning::default()).err().unwrap().to_string();
    assert!(again.contains("holds a run already") && again.contains("--resume"), "{again}");
    let empty = Run::resume(&cpu(1), &path, &[], &mut ()).unwrap();
    assert_eq!(empty.step(), 0, "a run without a checkpoint begins again");
}

#[test]
fn a_checkpoint_of_other_settings_is_refused() {
    let place = Place::new("other");
    let path = place.run("a");
    train(&cpu(1), small(&["steps=1"]), &path);
    let refuse = |set: &str| Run::resume(&cpu(1), &path, &[set.into()], &mut ()).err().map(|e| e.to_string());
    assert!(
        refuse("optimizer.lr=1").unwrap().contains("optimizer.lr is 0.0003 and can't become 1.0: a run that goes on")
    );
    assert!(refuse("model.hidden_size=128").unwrap().contains("model.hidden_size is "));
    // Also where config.toml was changed itself.
    let file = path.join("config.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, config.replace("seed = 0", "seed = 7")).unwrap();
    assert!(
        refuse("checkpoint.keep=3").unwrap().contains("than config.toml now says\n  help: restore config.toml, or ")
    );
    fs::write(&file, config).unwrap();
    assert_eq!(refuse("steps=2"), None);
}

#[test]
fn three_gradients_that_are_not_finite_stop_the_run_and_change_nothing() {
    let place = Place::new("finite");
    let path = place.run("a");
    let config = small(&["checkpoint.every=2"]);
    let mut run = Run::create(&cpu(1), config, &path, Tuning::default()).unwrap();
    let mut witness = Witness::default();
    // A weight that isn't a number makes every gradient from here on one that isn't.
    let mut state = run.trainer().state().unwrap();
    state.parameters[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    run.trainer_mut().restore(&state).unwrap();
    let error = run.train(&AtomicBool::new(false), &mut witness).unwrap_err();
    assert!(matches!(error, Error::NotFinite { step: 3, in_a_row: 3, .. }), "{error}");
    assert_eq!(witness.warnings.iter().filter(|w| w.contains("update skipped")).count(), 3);
    let unsaved = "step 2: embed_tokens.weight is not finite: no checkpoint is written";
    assert!(witness.warnings.iter().any(|w| w == unsaved), "{:?}", witness.warnings);
    assert!(witness.warnings[0].starts_with("step 1: loss and gradient are not finite ("), "{:?}", witness.warnings);
    let after = run.trainer().state().unwrap();
    assert_eq!(after, state);
    assert!(witness.saved.is_empty(), "a state that isn't finite is never saved");
    let metrics = fs::read_to_string(path.join("metrics.jsonl")).unwrap();
    assert!(metrics.lines().count() == 3 && metrics.contains("\"grad_norm\":null"), "{metrics}");
}

#[test]
fn a_small_gpt_learns_plain_text() {
    let place = Place::new("text");
    let config = Overrides::preset("gpt-small-test").resolve().unwrap();
    let (summary, losses) = train(&cpu(2), config, &place.run("a"));
    assert!(losses[0] > 5.0 && summary.final_loss.unwrap() < 2.5, "{} to {:?}", losses[0], summary.final_loss);
}

#[test]
fn a_run_whose_length_is_set_on_the_way_is_the_run_of_that_length() {
    let place = Place::new("length");
    let wsd = ["schedule.kind=wsd", "schedule.warmup_steps=2", "schedule.decay_steps=10", "steps=40"];
    let mut run = Run::create(&cpu(1), small(&wsd), &place.run("set"), Tuning::default()).unwrap();
    let go = AtomicBool::new(false);
    run.advance(5, &go, &mut ()).unwrap();
    assert_eq!(run.step(), 5);
    let length = |decay_steps| Length { steps: 12, decay_steps, eval_every: 0, sample_every: 0 };
    let refused = run.set_length(length(10)).unwrap_err().to_string();
    assert!(refused.contains("with 12 steps, step 4 would have had another rate"), "{refused}");
    run.set_length(length(7)).unwrap();
    let (set, losses) = finish(&mut run, &mut ());
    let config = Overrides { file: Some(place.run("set").join("config.toml")), ..Overrides::default() };
    let (whole, expected) = train(&cpu(2), config.resolve().unwrap(), &place.run("whole"));
    assert_eq!((hashes(&set), losses), (hashes(&whole), expected));
    assert_eq!(set.config.schedule.decay_steps, 7);
}

#[test]
fn checkpoints_by_time_change_no_number_and_hold_before_the_length_is_set() {
    let place = Place::new("by-time");
    let wsd = ["schedule.kind=wsd", "schedule.warmup_steps=2", "schedule.decay_steps=10", "steps=40"];
    let keys = [&wsd[..], &["eval.fraction=0.25", "eval.every=4"]].concat();
    // Each step takes longer: there is a checkpoint as often as saving allows.
    let often = small(&[&keys[..], &["checkpoint.seconds=1e-6", "checkpoint.keep=2"]].concat());
    let mut run = Run::create(&cpu(1), often, &place.run("often"), Tuning::default()).unwrap();
    run.advance(3, &AtomicBool::new(false), &mut ()).unwrap();
    assert!(run.evaluations().is_empty());
    run.set_length(Length { steps: 12, decay_steps: 7, eval_every: 4, sample_every: 0 }).unwrap();
    // As if it had been killed.
    drop(run);
    let mut witness = Witness::default();
    let mut run = Run::resume(&cpu(2), &place.run("often"), &[], &mut witness).unwrap();
    assert!((1..=3).contains(&run.step()) && witness.warnings.is_empty(), "{}: {:?}", run.step(), witness.warnings);
    let (resumed, losses) = finish(&mut run, &mut witness);
    assert!(witness.saved.contains(&place.run("often").join("checkpoints/step-12")), "{:?}", witness.saved);

    let once = small(&[&keys[..], &["schedule.decay_steps=7", "steps=12"]].concat());
    let (whole, expected) = train(&cpu(2), once, &place.run("whole"));
    assert_eq!((hashes(&resumed), losses), (hashes(&whole), expected));
    let evaluations = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(place.run(name).join("metrics.jsonl")).unwrap();
        let lines = text.lines().filter(|l| l.contains("validation_loss"));
        lines.map(|l| l.split(",\"elapsed_sec").next().unwrap().into()).collect()
    };
    assert_eq!((evaluations("often"), evaluations("often").len()), (evaluations("whole"), 3));
    let kept: Vec<usize> =
        train::checkpoint::list(&place.run("often").join("checkpoints")).into_iter().map(|c| c.0).collect();
    assert!(kept[0] == 12 && (2..=3).contains(&kept.len()), "{kept:?}");
}

#[test]
fn a_run_shorter_than_its_data_states_its_last_losses_and_its_speed() {
    let place = Place::new("part");
    let config = Overrides::preset("gpt-small-test")
        .with("batch_size=1")
        .with("model.max_context=16")
        .with("steps=50")
        .resolve()
        .unwrap();
    let mut run = Run::create(&cpu(2), config, &place.run("a"), Tuning::default()).unwrap();
    let (summary, losses) = finish(&mut run, &mut ());
    assert!(run.batches().steps_per_epoch() > 50);
    let mean = losses[45..].iter().map(|l| f64::from(*l)).sum::<f64>() / 5.0;
    assert!((summary.final_loss.unwrap() - mean).abs() < 1e-6, "{:?} {mean}", summary.final_loss);
    assert!(summary.best_loss.unwrap() <= mean + 1e-6);
    let positions = run.batches().counts(0).positions as f64;
    let expected = 1e3 * positions / summary.step_ms_median.unwrap();
    assert!((summary.tokens_per_second.unwrap() / expected - 1.0).abs() < 1e-9);
    assert!(summary.valid_tokens_per_second.is_some() && summary.epoch_ms_median.is_none());
}
