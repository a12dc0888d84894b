//! Saves that fail, processes that end, power that goes: nothing that was told to be saved is lost, and a run goes on to
//! the same bits.

mod disk_model;

use device::{Choice, Device, Options};
use disk_model::{Disk, Loss};
use graph::Tuning;
use graph::trace::{Entry, PARAMETERS};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tensor::file::disk::{self, Operation};
use train::checkpoint::{self, latest};
use train::config::{Config, Overrides};
use train::run::Observer;
use train::trainer::Measured;
use train::{Ending, Error, Run};

/// The watcher of the disk is the process's.
static DISK: Mutex<()> = Mutex::new(());
const STEPS: usize = 6;

struct Place {
    path: PathBuf,
    _disk: MutexGuard<'static, ()>,
}

impl Place {
    /// In memory where there is such a place: these tests sync thousands of files.
    fn new(name: &str) -> Place {
        let disk = DISK.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let path = base.join(format!("rondo-faults-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Place { path, _disk: disk }
    }

    fn run(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        disk::watch(None);
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn cpu() -> Device {
    Device::open(Choice::Cpu, &Options { threads: Some(1), ..Options::default() }).unwrap()
}

/// A checkpoint after steps 2, 4 and 6, the last and the best of them kept.
fn tiny() -> Config {
    let sizes = ["hidden_size=16", "num_layers=1", "num_heads=2", "intermediate_size=32", "max_context=8"];
    let base = sizes.iter().fold(Overrides::preset("hlx-simple"), |o, size| o.with(&format!("model.{size}")));
    let set = ["checkpoint.every=2", "checkpoint.keep=1", "eval.fraction=0.25", "log.tensorboard=true"];
    let base = set.iter().fold(base, |o, s| o.with(s));
    base.with(&format!("steps={STEPS}")).resolve().unwrap()
}

/// Keeps what is said, and tells `saved` of each durable checkpoint.
#[derive(Default)]
struct Witness {
    warnings: Vec<String>,
    acknowledged: usize,
    saved: Option<Box<dyn FnMut(usize)>>,
    step: Option<Box<dyn FnMut(usize)>>,
}

impl Observer for Witness {
    fn warning(&mut self, text: &str) {
        self.warnings.push(text.into());
    }

    fn saved(&mut self, path: &Path) {
        let name = path.file_name().unwrap().to_str().unwrap();
        self.acknowledged = name.strip_prefix("step-").unwrap().parse().unwrap();
        if let Some(saved) = &mut self.saved {
            saved(self.acknowledged);
        }
    }

    fn step(&mut self, step: usize, _of: usize, _measured: &Measured) {
        if let Some(tell) = &mut self.step {
            tell(step);
        }
    }
}

fn train(path: &Path, witness: &mut Witness) -> Result<[String; 2], Error> {
    finish(Run::create(&cpu(), tiny(), path, Tuning::default())?, witness)
}

fn finish(mut run: Run, witness: &mut Witness) -> Result<[String; 2], Error> {
    match run.train(&AtomicBool::new(false), witness)? {
        Ending::Finished(summary) => Ok([summary.parameters_sha256, summary.losses_sha256]),
        Ending::Interrupted(_) => panic!("nobody stops it"),
    }
}

/// Goes on with what a fault has left: from what was acknowledged at least, to the same bits, and leaves no remnants.
fn recover(path: &Path, acknowledged: usize, whole: &[String; 2], case: &str) {
    let mut witness = Witness::default();
    // Ended before the folder held a run, it is begun anew; else it goes on.
    let run = if path.join("config.toml").exists() {
        Run::resume(&cpu(), path, &[], &mut witness).unwrap_or_else(|e| panic!("{case}: {e}"))
    } else {
        assert_eq!(acknowledged, 0, "{case}: the run is gone");
        Run::create(&cpu(), tiny(), path, Tuning::default()).unwrap_or_else(|e| panic!("{case}: {e}"))
    };
    assert!(run.step() >= acknowledged, "{case}: step {acknowledged} was acknowledged, and is lost");
    assert!(!witness.warnings.iter().any(|w| w.contains("skipped")), "{case}: {:?}", witness.warnings);
    let hashes = finish(run, &mut witness).unwrap_or_else(|e| panic!("{case}: {e}"));
    assert_eq!(&hashes, whole, "{case}");
    let lines = fs::read_to_string(path.join("metrics.jsonl")).unwrap();
    let steps: Vec<u64> = lines.lines().filter(|l| l.contains("\"loss\"")).map(step_of).collect();
    assert_eq!(steps, (1..=STEPS as u64).collect::<Vec<_>>(), "{case}: {lines}");
    assert_eq!(lines.lines().filter(|l| l.contains("validation_loss")).count(), 3, "{case}: {lines}");
    for folder in [path.to_path_buf(), path.join("checkpoints")] {
        for entry in fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(![".tmp", ".gone-", ".old-"].iter().any(|r| name.contains(r)), "{case}: {name} is left");
        }
    }
}

fn step_of(line: &str) -> u64 {
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    line["step"].as_u64().unwrap()
}

/// The hashes of a run that nothing happens to, and the operations that it does.
fn whole(place: &Place) -> ([String; 2], usize) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    disk::watch(Some(Arc::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    })));
    let hashes = train(&place.run("whole"), &mut Witness::default()).unwrap();
    disk::watch(None);
    let count = count.load(Ordering::SeqCst);
    assert!(count > 80, "a run of three saves has more than {count} operations");
    (hashes, count)
}

const NO_SPACE: i32 = 28;
const INPUT_OUTPUT: i32 = 5;

#[test]
fn every_operation_failed_once_loses_nothing() {
    let place = Place::new("errors");
    let (hashes, count) = whole(&place);
    let mut failed = [0, 0];
    for at in 0..count {
        for (kind, error) in [NO_SPACE, INPUT_OUTPUT].into_iter().enumerate() {
            let next = AtomicUsize::new(0);
            disk::watch(Some(Arc::new(move |operation| {
                let this = next.fetch_add(1, Ordering::SeqCst);
                let takes_space =
                    matches!(operation, Operation::CreateFolder(_) | Operation::Create(_) | Operation::Write(..));
                // A disk that is full stays full, and other operations go on; a broken sector is met once.
                let fails = if error == NO_SPACE { this >= at && takes_space } else { this == at };
                if fails { Err(io::Error::from_raw_os_error(error)) } else { Ok(()) }
            })));
            let (path, mut witness) = (place.run("run"), Witness::default());
            let outcome = train(&path, &mut witness);
            disk::watch(None);
            let case = format!("operation {at}, error {error}");
            match outcome {
                // What only removes or syncs an old one fails without harm.
                Ok(ended) => assert_eq!(ended, hashes, "{case}"),
                Err(e) => {
                    failed[kind] += 1;
                    let text = e.to_string();
                    assert!(text.contains(&format!("os error {error}")), "{case}: {text}");
                    if matches!(e, Error::Stopped { .. }) {
                        let said = text.contains("lost: ") || text.contains("nothing is lost");
                        assert!(said && (witness.acknowledged == 0 || text.contains("is whole")), "{case}: {text}");
                    }
                }
            }
            recover(&path, witness.acknowledged, &hashes, &case);
            fs::remove_dir_all(&path).unwrap();
        }
    }
    assert!(failed.iter().all(|f| *f > count / 2), "{failed:?} of {count} operations failed the run");
}

/// The place and the operation that `the_child` ends at.
const CHILD: &str = "RONDO_FAULTS_CHILD";
const ENDED: i32 = 77;

#[test]
#[ignore = "it is a process that another test starts and that ends itself"]
fn the_child() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let (at, path) = task.split_once(' ').unwrap();
    let (at, next) = (at.parse::<usize>().unwrap(), AtomicUsize::new(0));
    disk::watch(Some(Arc::new(move |operation| {
        if next.fetch_add(1, Ordering::SeqCst) == at {
            if let Operation::Write(path, bytes) = operation {
                let mut file = fs::File::options().append(true).open(path).unwrap();
                file.write_all(&bytes[..bytes.len() / 2]).unwrap();
            }
            // Neither buffers nor destructors: as if killed.
            std::process::exit(ENDED);
        }
        Ok(())
    })));
    let saved: Box<dyn FnMut(usize)> = Box::new(|step| println!("\nsaved {step}"));
    train(Path::new(path), &mut Witness { saved: Some(saved), ..Witness::default() }).unwrap();
}

#[test]
fn a_process_that_ends_at_any_operation_loses_nothing() {
    let place = Place::new("ends");
    let (hashes, count) = whole(&place);
    let path = place.run("run");
    for at in 0..count {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "the_child", "--ignored", "--nocapture"]);
        let output = child.env(CHILD, format!("{at} {}", path.display())).output().unwrap();
        assert_eq!(output.status.code(), Some(ENDED), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let acknowledged = said.lines().filter_map(|l| l.strip_prefix("saved ")?.parse().ok()).max().unwrap_or(0);
        recover(&path, acknowledged, &hashes, &format!("ended at operation {at}"));
        fs::remove_dir_all(&path).unwrap();
    }
}

/// The parameters of `tiny`, and the size of their region.
fn region() -> (Vec<Entry>, usize) {
    let graph = train::step::trace(&tiny()).unwrap();
    let region = graph.region(PARAMETERS).unwrap();
    (region.entries.clone(), region.bytes as usize)
}

/// How many states after a loss of power are drawn for each operation; 90 make about ten thousand.
const STATES: &str = "RONDO_POWER_LOSS_STATES";

#[test]
fn power_that_goes_at_any_operation_loses_nothing_acknowledged() {
    let place = Place::new("power");
    let record = Arc::new(Mutex::new(Disk::new(&place.path)));
    let (recorded, marked) = (Arc::clone(&record), Arc::clone(&record));
    disk::watch(Some(Arc::new(move |operation| {
        recorded.lock().unwrap().add(operation);
        Ok(())
    })));
    let saved: Box<dyn FnMut(usize)> = Box::new(move |step| marked.lock().unwrap().acknowledge(step));
    train(&place.run("run"), &mut Witness { saved: Some(saved), ..Witness::default() }).unwrap();
    disk::watch(None);
    fs::remove_dir_all(place.run("run")).unwrap();

    let (entries, bytes) = region();
    let drawn: u64 = std::env::var(STATES).map_or(6, |n| n.parse().unwrap());
    let record = record.lock().unwrap();
    let mut states = 0;
    for length in 0..=record.len() {
        let losses = [Loss::Everything, Loss::Contents, Loss::Nothing].into_iter();
        for loss in losses.chain((0..drawn).map(Loss::Some)) {
            let acknowledged = record.after(length, loss, &place.run("left"));
            let (run, case) = (place.run("left/run"), format!("after {length} operations, {loss:?}"));
            checkpoint::clean(&run.join("checkpoints"));
            let found = latest(&run.join("checkpoints"), &entries, bytes, |_| {}).unwrap();
            let step = found.map_or(0, |(_, saved)| saved.manifest.step);
            assert!(step >= acknowledged, "{case}: step {acknowledged} was acknowledged, {step} is there");
            if acknowledged > 0 {
                assert!(run.join("config.toml").is_file() && run.join("tokenizer.json").is_file(), "{case}");
                let lines = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
                let steps = lines.lines().filter(|l| l.contains("\"loss\"")).take(acknowledged);
                assert_eq!(steps.map(step_of).max(), Some(acknowledged as u64), "{case}");
            }
            fs::remove_dir_all(place.run("left")).unwrap();
            states += 1;
        }
    }
    println!("{states} states after a loss of power, of {} operations", record.len());
}

/// A run with all its checkpoints, 2, 4 and 6.
fn three(place: &Place) -> (PathBuf, [String; 2]) {
    let path = place.run("run");
    let config = Config { checkpoint: train::config::Checkpoint { every: 2, seconds: 0.0, keep: 0 }, ..tiny() };
    let run = Run::create(&cpu(), config, &path, Tuning::default()).unwrap();
    let hashes = finish(run, &mut Witness::default()).unwrap();
    (path, hashes)
}

struct Damage {
    folder: PathBuf,
    entries: Vec<Entry>,
    bytes: usize,
}

impl Damage {
    /// The step of the checkpoint that is found, and what was said.
    fn found(&self) -> (Option<usize>, String) {
        let mut said = Vec::new();
        let found = latest(&self.folder, &self.entries, self.bytes, |w| said.push(w.to_string())).unwrap();
        (found.map(|(_, saved)| saved.manifest.step), said.join("\n"))
    }

    fn is_skipped(&self, file: &str, why: &str, case: &str) {
        let (step, said) = self.found();
        assert_eq!(step, Some(4), "{case}: {said}");
        let named = said.contains(&format!("step-6/{file}")) && said.contains(why) && said.contains("is skipped");
        assert!(named && said.ends_with("step-4 is used in its place"), "{case}: {said}");
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_named() {
    let place = Place::new("damage");
    let (path, hashes) = three(&place);
    let (entries, bytes) = region();
    let damage = Damage { folder: path.join("checkpoints"), entries, bytes };
    let newest = damage.folder.join("step-6");
    let mut cases = 0;
    for name in ["model.safetensors", "optimizer.safetensors", "config.json", "tokenizer.json", "manifest.json"] {
        let file = newest.join(name);
        let good = fs::read(&file).unwrap();
        for length in (0..good.len()).step_by(4096).chain([1, good.len() / 2, good.len() - 1]) {
            fs::write(&file, &good[..length]).unwrap();
            damage.is_skipped(name, "", &format!("{name} cut to {length} bytes"));
            cases += 1;
        }
        for place in (0..good.len()).step_by((good.len() / 199).max(1)) {
            let mut bad = good.clone();
            bad[place] ^= 1 << (place % 8);
            fs::write(&file, bad).unwrap();
            damage.is_skipped(name, "", &format!("{name} with a bit of byte {place} flipped"));
            cases += 1;
        }
        fs::remove_file(&file).unwrap();
        damage.is_skipped(name, "No such file", &format!("{name} missing"));
        // That of another step.
        fs::copy(damage.folder.join("step-4").join(name), &file).unwrap();
        match name {
            "config.json" | "tokenizer.json" => assert_eq!(damage.found().0, Some(6), "it is the same at each step"),
            "manifest.json" => damage.is_skipped("", "the manifest", "the manifest of another step"),
            _ => damage.is_skipped(name, "the manifest", "files of two steps"),
        }
        fs::write(&file, &good).unwrap();
        assert_eq!(damage.found(), (Some(6), String::new()));
    }
    println!("{cases} cut or changed files");
    assert!(cases > 900, "{cases} cases");

    // Under another step's name; and then a run goes on from step 4 to the same bits, and replaces the damaged one.
    let other = damage.folder.join("step-7");
    fs::rename(&newest, &other).unwrap();
    let (step, said) = damage.found();
    assert!(step == Some(4) && said.contains("step-7: it holds step 6; this checkpoint is skipped"), "{said}");
    fs::rename(&other, &newest).unwrap();
    fs::write(newest.join("model.safetensors"), "short").unwrap();
    let mut witness = Witness::default();
    let run = Run::resume(&cpu(), &path, &["checkpoint.keep=1".into()], &mut witness).unwrap();
    assert!(run.step() == 4 && witness.warnings[0].contains("step-6/model.safetensors: it has 5 bytes"));
    assert_eq!(finish(run, &mut witness).unwrap(), hashes);
    assert_eq!(damage.found(), (Some(6), String::new()));
    // None of them whole: nothing is made up.
    for (_, folder) in checkpoint::list(&damage.folder) {
        fs::write(folder.join("optimizer.safetensors"), "").unwrap();
    }
    let error = Run::resume(&cpu(), &path, &[], &mut ()).err().unwrap().to_string();
    assert!(error.contains("no checkpoint in it is whole"), "{error}");
}

#[test]
fn older_formats_are_read_and_newer_ones_refused() {
    let place = Place::new("formats");
    let (path, _) = three(&place);
    let (entries, bytes) = region();
    let damage = Damage { folder: path.join("checkpoints"), entries, bytes };
    let file = damage.folder.join("step-6/manifest.json");
    let now = fs::read_to_string(&file).unwrap();
    // Format 1 had no first line with a hash.
    let rest = now.lines().skip(2).collect::<Vec<_>>().join("\n");
    let of = |format: u32| format!("{{\n{}", rest.replacen("\"format\": 2", &format!("\"format\": {format}"), 1));
    fs::write(&file, of(1)).unwrap();
    assert_eq!(damage.found(), (Some(6), String::new()));
    fs::write(&file, of(2)).unwrap();
    damage.is_skipped("manifest.json", "its first line doesn't hold its SHA-256", "no hash");
    for text in [of(9), "{\"format\": 9}".to_string()] {
        fs::write(&file, text).unwrap();
        let error = Run::resume(&cpu(), &path, &[], &mut ()).err().unwrap();
        assert!(matches!(error, Error::Newer { format: 9, .. }), "{error}");
        assert!(error.to_string().contains("step-6/manifest.json: it has format 9, of a newer version"), "{error}");
    }
    fs::write(&file, now).unwrap();
    let config = path.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("format = 1", "format = 7").replace("[model]", "[model]\nunheard_of = 3")).unwrap();
    let error = Run::resume(&cpu(), &path, &[], &mut ()).err().unwrap().to_string();
    assert!(error.contains("config.toml: it has format 7, of a newer version of Rondo"), "{error}");
}

#[test]
fn a_folder_is_one_runs_alone_and_must_stay() {
    let place = Place::new("folder");
    let path = place.run("run");
    let mut first = Run::create(&cpu(), tiny(), &path, Tuning::default()).unwrap();
    for second in [
        Run::create(&cpu(), tiny(), &path, Tuning::default()).err().unwrap(),
        Run::resume(&cpu(), &path, &[], &mut ()).err().unwrap(),
    ] {
        let (text, pid) = (second.to_string(), std::process::id());
        assert!(text.contains(&format!("is in use by process {pid}")) && text.contains("help: "), "{text}");
    }
    // The folder goes while step 3 is done: the save after step 4 must not make a new one.
    let gone = path.clone();
    let step: Box<dyn FnMut(usize)> = Box::new(move |step| {
        if step == 3 {
            fs::remove_dir_all(&gone).unwrap();
        }
    });
    let mut witness = Witness { step: Some(step), ..Witness::default() };
    let error = first.train(&AtomicBool::new(false), &mut witness).unwrap_err().to_string();
    assert!(error.contains("it was removed, renamed or replaced") && error.contains("is gone as well"), "{error}");
    assert!(!path.exists());
    drop(first);

    // A lock that a dead process has left holds nobody up.
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("lock"), "4194304\n").unwrap();
    train(&path, &mut Witness::default()).unwrap();
}

#[test]
fn a_run_that_was_ended_before_its_first_checkpoint_begins_again() {
    let place = Place::new("early");
    let (hashes, _) = whole(&place);
    let path = place.run("run");
    drop(Run::create(&cpu(), tiny(), &path, Tuning::default()).unwrap());
    let mut witness = Witness::default();
    let run = Run::resume(&cpu(), &path, &[], &mut witness).unwrap();
    assert!(run.step() == 0 && witness.warnings[0].contains("has no checkpoint yet"), "{:?}", witness.warnings);
    assert_eq!(finish(run, &mut witness).unwrap(), hashes);
    // Ended after the last checkpoint and before run.json: it is written when the run is gone on with.
    fs::remove_file(path.join("run.json")).unwrap();
    let run = Run::resume(&cpu(), &path, &[], &mut ()).unwrap();
    assert!(!run.is_complete());
    assert_eq!(finish(run, &mut witness).unwrap(), hashes);
    assert!(Run::resume(&cpu(), &path, &[], &mut ()).unwrap().is_complete());
}
