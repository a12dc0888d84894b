//! Runs that are killed at random moments, again and again, while they save at every step: each comes to the same bits as
//! the run that nothing happens to.
#![cfg(unix)]

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tensor::rng::Philox;

/// How often a run is killed; 200 take some minutes.
const KILLS: &str = "RONDO_KILLS";
/// Steps of a run; it begins again in another folder when it is done.
const STEPS: usize = 40;

struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn begin() -> String {
    let sizes = ["hidden_size=16", "num_layers=1", "num_heads=2", "intermediate_size=32"];
    let sizes: String = sizes.iter().map(|s| format!(" --set model.{s}")).collect();
    format!(
        "train --preset hlx-simple{sizes} --set checkpoint.every=1 --set checkpoint.keep=2 --set eval.fraction=0.25 \
         --set eval.batches=1 --steps {STEPS}"
    )
}

fn command(place: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rondo"));
    command.args(line.split_whitespace()).args(["--device", "cpu", "--threads", "1", "--json"]).current_dir(place);
    command
}

fn json(output: &Output) -> Value {
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {err}"))
}

/// The lines of metrics.jsonl without their times.
fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert!(text.ends_with('\n'), "no line is cut");
    let whole = |line: &str| -> Value {
        let mut line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let fields = line.as_object_mut().unwrap();
        fields.retain(|name, _| !["elapsed_sec", "tokens_per_second"].contains(&name.as_str()));
        line
    };
    text.lines().map(whole).collect()
}

/// The latest checkpoint that has its name, which a kill must not have taken.
fn newest(run: &Path) -> usize {
    train::checkpoint::list(&run.join("checkpoints")).first().map_or(0, |(step, _)| *step)
}

#[test]
fn runs_killed_at_random_moments_come_to_the_same_bits() {
    let kills: usize = std::env::var(KILLS).map_or(5, |n| n.parse().unwrap());
    let place = Place(std::env::temp_dir().join(format!("rondo-kills-{}", std::process::id())));
    fs::create_dir_all(&place.0).unwrap();
    let begun = Instant::now();
    let unbroken = json(&command(&place.0, &format!("{} --out whole", begin())).output().unwrap());
    let takes = begun.elapsed();
    let wanted = metrics(&place.0.join("whole"));

    let (rng, begun) = (Philox::new(0, "kills"), Instant::now());
    let (mut killed, mut runs, mut tries) = (0, 0, 0);
    while killed < kills {
        runs += 1;
        let (name, mut least) = (format!("run-{runs}"), 0);
        let run = place.0.join(&name);
        let done = loop {
            let there = run.join("config.toml").exists();
            let line = if there { format!("train --resume {name}") } else { format!("{} --out {name}", begin()) };
            let child = command(&place.0, &line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
            let mut child = child.unwrap();
            if killed < kills {
                tries += 1;
                let share = f64::from(rng.word(tries)) / f64::from(u32::MAX);
                std::thread::sleep(takes.mul_f64(share).min(Duration::from_secs(20)));
                let ended = child.try_wait().unwrap().is_some();
                killed += usize::from(!ended);
                child.kill().unwrap();
            }
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("skipped") && !said.contains("error: "), "kill {killed}: {said}");
            if let Some(after) = said.lines().find_map(|l| l.split_once(" after step ")).map(|(_, step)| step) {
                assert!(after.parse::<usize>().unwrap() >= least, "kill {killed}: step {least} was there: {said}");
            }
            if output.status.success() {
                break output;
            }
            least = newest(&run).max(least);
        };
        let summary: Value = serde_json::from_slice(&fs::read(run.join("run.json")).unwrap()).unwrap();
        for key in ["parameters_sha256", "losses_sha256", "steps"] {
            assert_eq!(summary[key], unbroken[key], "{key} of {name}: {}", String::from_utf8_lossy(&done.stderr));
        }
        assert_eq!(metrics(&run), wanted, "{name}");
        fs::remove_dir_all(&run).unwrap();
    }
    println!("{killed} kills of {runs} runs in {:.0} s; a whole run takes {takes:.1?}", begun.elapsed().as_secs_f64());
}
