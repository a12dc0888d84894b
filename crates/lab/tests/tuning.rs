//! Tuning tables: they change the lowerings that a plan takes, and not what is computed; tables that can't be meant are
//! refused; a run that goes on keeps its own.

#[path = "../../device/tests/there/mod.rs"]
mod there;

use device::{Choice, Device, Options};
use graph::{Spec, Tuning};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use train::{Config, Ending, Overrides, Run, step};

/// Largest relative difference of a step's loss.
const LOSS: f32 = 1e-4;

fn small() -> Config {
    let set = ["model.num_layers=1", "model.hidden_size=64", "model.intermediate_size=256", "steps=4"];
    set.iter().fold(Overrides::preset("hlx-simple"), |o, s| o.with(s)).resolve().unwrap()
}

/// The table that takes the last lowering that each card offers, and how many of them aren't its default.
fn last_offered(config: &Config, spec: &Spec) -> (Tuning, usize) {
    let graph = step::graph(config).unwrap();
    let offered: Vec<_> = graph.nodes.iter().map(|node| Tuning::offered(&graph, node, spec)).collect();
    let others = offered.iter().filter(|(_, all)| all.len() > 1).count();
    (Tuning(offered.into_iter().map(|(key, all)| (key, all[all.len() - 1].to_string())).collect()), others)
}

fn gpus() -> Vec<Device> {
    let open = |choice| there::open(choice, &Options::default());
    [Choice::Vulkan(None), Choice::Cuda(0)].into_iter().filter_map(open).collect()
}

#[test]
fn a_table_changes_what_is_planned_and_nothing_else() {
    let config = small();
    let cpu = Device::open(Choice::Cpu, &Options { threads: Some(1), ..Options::default() }).unwrap();
    let features = vec!["cublaslt".into()];
    let spec = Spec { kind: graph::DeviceKind::Cuda, architecture: "sm_90".into(), features, ..cpu.spec().clone() };
    let (table, others) = last_offered(&config, &spec);
    assert!(others > 5, "products have a choice on CUDA: {table:?}");
    let [default, tuned] = [&Tuning::default(), &table].map(|t| step::plan(&config, &spec, t).unwrap());
    assert_eq!(default.nodes.len(), tuned.nodes.len());
    let differ = default.nodes.iter().zip(&tuned.nodes).filter(|(a, b)| a.variant != b.variant).count();
    assert_eq!(differ, others);
    assert_eq!(default.entries, tuned.entries);
}

#[test]
fn lowerings_that_are_not_offered_are_refused() {
    let config = small();
    let cpu = Device::open(Choice::Cpu, &Options { threads: Some(1), ..Options::default() }).unwrap();
    let graph = step::graph(&config).unwrap();
    let (mut table, _) = last_offered(&config, cpu.spec());
    let entries = table.0.len();
    table.0.insert("matmul of some other step".into(), "whatever".into());
    assert_eq!(table.check(&graph, cpu.spec()), Ok(entries));
    let key = table.0.keys().next().unwrap().clone();
    table.0.insert(key.clone(), "tile9".into());
    let what = table.check(&graph, cpu.spec()).unwrap_err();
    assert!(what.contains(&key) && what.contains("no lowering `tile9`") && what.contains("only default"), "{what}");
}

#[test]
fn a_tuned_run_has_the_same_losses_and_goes_on_with_its_table() {
    let config = small();
    let place = Place(std::env::temp_dir().join(format!("rondo-tuning-{}", std::process::id())));
    for device in gpus() {
        let (table, others) = last_offered(&config, device.spec());
        assert!(others > 0, "{device}: products have a choice");
        let kind = device.spec().kind.to_string();
        let run = |name: &str, tuning: &Tuning| {
            let path = place.0.join(format!("{kind}-{name}"));
            finish(Run::create(&device, config.clone(), &path, tuning.clone()).unwrap(), &path)
        };
        let (_, default) = run("default", &Tuning::default());
        let (summary, tuned) = run("tuned", &table);
        assert_eq!(summary.tuning, table);
        for (step, (a, b)) in tuned.iter().zip(&default).enumerate() {
            assert!((a - b).abs() <= LOSS * b, "{device}, step {step}: {a}, with the defaults {b}");
        }

        let path = place.0.join(format!("{kind}-tuned"));
        let longer = Run::resume(&device, &path, &["steps=6".into()], &mut ()).unwrap();
        let variants = |plan: &graph::Plan| plan.nodes.iter().map(|n| n.variant).collect::<Vec<_>>();
        let wanted = step::plan(&config, device.spec(), &table).unwrap();
        assert_eq!(variants(longer.trainer().plan()), variants(&wanted));
        assert_eq!(finish(longer, &path).0.tuning, table);
    }
}

#[test]
fn tuning_times_every_lowering_and_takes_the_fastest() {
    for device in gpus() {
        let report = lab::bench::tune::tune(&device, &device.spec().limits, &small()).unwrap();
        assert_eq!(report.tuning.0.len(), report.choices.len());
        assert!(!report.choices.is_empty() && report.default_ms > 0.0 && report.tuned_ms > 0.0);
        for choice in &report.choices {
            let chosen = choice.offered.iter().find(|t| t.variant == choice.chosen).unwrap();
            assert!(choice.offered.len() > 1 && choice.uses > 0, "{choice:?}");
            assert!(choice.offered.iter().all(|t| t.microseconds.is_finite() && t.microseconds > 0.0), "{choice:?}");
            assert!(chosen.microseconds <= choice.offered[0].microseconds, "{choice:?}");
            assert_eq!(report.tuning.0[&choice.call], choice.chosen);
        }
        let graph = step::graph(&small()).unwrap();
        assert_eq!(report.tuning.check(&graph, device.spec()), Ok(report.choices.len()));
    }
}

fn finish(mut run: Run, path: &Path) -> (train::summary::Summary, Vec<f32>) {
    let ending = run.train(&AtomicBool::new(false), &mut ()).unwrap();
    assert!(path.join("run.json").exists());
    match ending {
        Ending::Finished(summary) => (*summary, run.history().losses.clone()),
        Ending::Interrupted(_) => panic!("nobody stops it"),
    }
}

/// A folder that goes when the test ends.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
