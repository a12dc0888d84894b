//! Manners of the command line: pictures, `show`, dry runs, completions, colors, errors as JSON, the manual.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("rondo-manners-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rondo"));
        command.args(line.split_whitespace()).current_dir(&self.0).env_remove("NO_COLOR");
        command
    }

    fn rondo(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn expect(output: &Output, wanted: i32, said: &str) {
    let text = err(output);
    assert!(code(output) == wanted && text.contains(said), "exit {}, `{said}` wanted in stderr:\n{text}", code(output));
}

const SMALL: &str = "train --preset hlx-simple --set model.num_layers=1 --device cpu --threads 1";

#[test]
fn a_run_has_its_pictures_event_files_and_report() {
    let place = Place::new("run");
    let trained = place.rondo(&format!("{SMALL} --epochs 3 --out r --tensorboard"));
    expect(&trained, 0, "plot    r/plots/curves.png");
    expect(&trained, 0, "Look:     rondo show r");
    let progress = err(&trained);
    assert!(progress.contains("tok/s") && progress.contains("% of limit") && progress.contains(" left"), "{progress}");
    assert!(!progress.contains('\u{1b}'), "no terminal, no control characters");
    pictures(&place);
    let events: Vec<_> = fs::read_dir(place.0.join("r/tensorboard")).unwrap().map(|e| e.unwrap().path()).collect();
    let steps = records(&fs::read(&events[0]).unwrap());
    assert_eq!(steps, 1 + 12, "the version and a record a step");

    let shown = place.rondo("show r");
    expect(&shown, 0, "Train on:      rondo train --resume r --epochs N");
    for text in ["hlx-simple · finished", "final ", "sha256 ", "whole by size", "% of limit", "12 · "] {
        assert!(out(&shown).contains(text), "{text} is missing:\n{}", out(&shown));
    }
    let report: Value = serde_json::from_slice(&place.rondo("show r --verify --json").stdout).unwrap();
    assert_eq!((&report["last_step"], &report["checkpoints"][0]["problem"]), (&12.into(), &Value::Null));
    damaged(&place);
    // What goes on adds a file that declares later steps of older files void.
    expect(&place.rondo("train --resume r --epochs 4 --device cpu --threads 1"), 0, "after step 12");
    assert_eq!(fs::read_dir(place.0.join("r/tensorboard")).unwrap().count(), 2);
}

fn pictures(place: &Place) {
    let png = fs::read(place.0.join("r/plots/curves.png")).unwrap();
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    let drawn = place.rondo("plot r r --what loss,val --smooth 2 --log-y --x tokens --out both.svg");
    expect(&drawn, 0, "");
    assert_eq!(out(&drawn), "both.svg\n");
    let svg = fs::read_to_string(place.0.join("both.svg")).unwrap();
    assert!(svg.contains("loss per token") && svg.contains(">tokens<") && !svg.contains("learning rate"), "{svg}");
    expect(&place.rondo("plot r --what loss,elephant"), 2, "elephant");
    expect(&place.rondo("plot r --out picture.gif"), 2, "help: --out picture.gif.png");
    expect(&place.rondo("plot nowhere"), 3, "there is no run in it");
    let pictures: Value = serde_json::from_slice(&place.rondo("plot r --json").stdout).unwrap();
    assert_eq!(pictures["pictures"][1], "r/plots/curves.png");
}

/// A checkpoint with one byte changed is found only by reading it, one that is cut short always.
fn damaged(place: &Place) {
    let file = place.0.join("r/checkpoints/step-12/model.safetensors");
    let whole = fs::read(&file).unwrap();
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, &bytes).unwrap();
    expect(&place.rondo("show r"), 0, "");
    expect(&place.rondo("show r --verify"), 3, "1 of 1 checkpoints are not whole");
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    assert!(out(&place.rondo("show r")).contains("NOT WHOLE: model.safetensors has"));
    fs::write(&file, whole).unwrap();
    // A manifest that isn't what it was is as damaged as a file that it lists, also to one who only looks.
    let file = place.0.join("r/checkpoints/step-12/manifest.json");
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, whole.replace("\"applied\": 12", "\"applied\": 11")).unwrap();
    for line in ["show r", "show r --verify"] {
        assert!(out(&place.rondo(line)).contains("NOT WHOLE: manifest.json: its contents are not what"), "{line}");
    }
    expect(&place.rondo("show r --verify"), 3, "1 of 1 checkpoints are not whole");
    fs::write(&file, whole).unwrap();
}

/// Of a run that another version has written, all is shown that is there, and what is missing is named.
#[test]
fn a_run_of_another_version_is_shown_as_far_as_it_can_be_read() {
    let place = Place::new("older");
    expect(&place.rondo(&format!("{SMALL} --steps 2 --out r --seed 3")), 0, "");
    let file = place.0.join("r/run.json");
    let mut summary: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let all = summary.as_object_mut().unwrap();
    all.remove("percent_of_limit");
    all.remove("wall_seconds");
    fs::write(&file, summary.to_string()).unwrap();
    let shown = place.rondo("show r");
    expect(&shown, 0, "warning: r/run.json: missing field `wall_seconds`");
    for text in ["finished", "seed 3", "-% of limit", "2 · - s", "whole by size", "1 layers"] {
        assert!(out(&shown).contains(text), "{text} is missing:\n{}", out(&shown));
    }
    let config = fs::read_to_string(place.0.join("r/config.toml")).unwrap();
    fs::write(place.0.join("r/config.toml"), config + "\n[unheard]\nof = 1\n").unwrap();
    let shown = place.rondo("show r");
    expect(&shown, 0, "warning: r/config.toml");
    assert!(out(&shown).contains("can't read config.toml") && out(&shown).contains("sha256 "), "{}", out(&shown));
    let report: Value = serde_json::from_slice(&place.rondo("show r --json").stdout).unwrap();
    assert_eq!((report["unread"].as_array().unwrap().len(), &report["config"]), (2, &Value::Null));
    fs::write(&file, "no JSON").unwrap();
    expect(&place.rondo("show r"), 0, "warning: r/run.json: ");
}

#[test]
fn every_verb_takes_json() {
    let place = Place::new("verbs");
    let manual = out(&place.rondo("manual"));
    let mut verbs = 0;
    // A verb with verbs of its own has no arguments.
    for section in manual.split("\n## ").skip(1).filter(|section| section.contains("| argument |")) {
        let name = section.lines().next().unwrap();
        assert!(section.contains("\n| `--json` |"), "{name}");
        verbs += 1;
    }
    assert!(verbs >= 13, "{verbs}");
}

/// The number of records of an event file, each within its bytes.
fn records(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes = &bytes[12 + length + 4..];
        count += 1;
    }
    count
}

#[test]
fn what_is_no_run_is_not_shown() {
    let place = Place::new("none");
    expect(&place.rondo("show nowhere"), 3, "there is no such folder");
    fs::write(place.0.join("model.gguf"), "GGUF").unwrap();
    expect(&place.rondo("show model.gguf"), 3, "model.gguf: byte 4: the version: it takes 4 bytes");
    expect(&place.rondo("show ."), 3, "no config.toml");
}

#[test]
fn a_dry_run_says_all_and_writes_nothing() {
    let place = Place::new("dry");
    let output = place.rondo(&format!("{SMALL} --epochs 5 --dry-run"));
    expect(&output, 0, "Nothing was written");
    expect(&output, 0, "plan    20 steps");
    assert!(out(&output).contains("num_layers = 1") && err(&output).contains("time    "));
    assert_eq!(fs::read_dir(&place.0).unwrap().count(), 0);
    // The command that it ends with is the same one, as a shell takes it.
    let mut command = place.command("train --preset hlx-simple --dry-run --device cpu --threads 1 --seed 3 --out");
    let output_again = command.args(["a run", "--set", "sample.prompts=it's"]).output().unwrap();
    let same = "Train it: rondo train --preset hlx-simple --device cpu --threads 1 --seed 3 --out 'a run' \
                --set 'sample.prompts=it'\\''s'\n";
    expect(&output_again, 0, same);
    // What it prints is a configuration.
    fs::write(place.0.join("c.toml"), out(&output)).unwrap();
    let again = place.rondo("train --config c.toml --dry-run --json --device cpu --threads 1");
    let plan: Value = serde_json::from_slice(&again.stdout).unwrap_or_else(|_| panic!("{}", err(&again)));
    assert_eq!((&plan["steps"], &plan["config"]["model"]["num_layers"]), (&20.into(), &1.into()));
    assert!(plan["bytes"].as_u64() > Some(1_000_000) && plan["limit_seconds"].as_f64() > Some(0.0));
}

#[test]
fn mistakes_have_suggestions_and_help() {
    let place = Place::new("mistakes");
    let none = place.rondo("");
    expect(&none, 2, "Usage: rondo");
    assert!(out(&none).is_empty());
    expect(&place.rondo("trian"), 2, "did you mean `train`?");
    expect(&place.rondo("train --presett hlx-full"), 2, "did you mean `--preset`?");
    expect(
        &place.rondo("train"),
        2,
        "help: --preset NAME, one of hlx-simple, hlx-full, gpt-small-test, tiny-llama; or --config",
    );
    expect(&place.rondo("train --learning-rat 3"), 2, "help: did you mean `--set optimizer.lr=VALUE`?\n");
    expect(&place.rondo("plan hlx-full --batch-size 3"), 2, "help: did you mean `--set batch_size=VALUE`?\n");
    expect(&place.rondo("train --learning-rat 3"), 2, "help: `rondo help train` says what it takes");
    expect(&place.rondo("bench train hlx-full --elephant"), 2, "help: `rondo help bench train` says what it takes");
    expect(&place.rondo("--elephant"), 2, "help: `rondo help` says what it takes");
    assert!(!err(&place.rondo("plot --elephant")).contains("as a value"));
    expect(&place.rondo("train --preset hlx-full --steps -3"), 2, "error: ");
    expect(&place.rondo("train --config missing.toml"), 3, "help: name a file of keys");
    expect(&place.rondo("train --preset hlx-full --device vulkan:99"), 4, "is not available");
    expect(&place.rondo("train --preset hlx-full --device cuda:99"), 4, "device `cuda:99` is not available");
    for asked in ["--help", "help train", "--version"] {
        let output = place.rondo(asked);
        assert!(code(&output) == 0 && !output.stdout.is_empty() && output.stderr.is_empty(), "{asked}");
    }
}

#[test]
fn errors_are_json_where_it_is_asked_for() {
    let place = Place::new("json");
    for (line, wanted, error, help) in [
        ("train --preset hlx-ful --json", 2, "there is no such preset", "hlx-full"),
        ("train --preset hlx-full --json --presett", 2, "unexpected argument", "did you mean `--preset`?"),
        ("show nowhere --json", 3, "nowhere: there is no such folder", "runs"),
        ("ops --json --what", 2, "unexpected argument", "rondo help"),
        ("check no_such_op --json", 2, "no_such_op", ""),
        ("plan hlx-full --set batch_size=1000000 --spec cpu --json", 4, "", ""),
    ] {
        let output = place.rondo(line);
        let text = err(&output);
        let last: Value =
            serde_json::from_str(text.lines().last().unwrap()).unwrap_or_else(|_| panic!("{line}\n{text}"));
        assert_eq!((code(&output), &last["code"]), (wanted, &wanted.into()), "{line}");
        assert!(last["error"].as_str().unwrap().contains(error), "{line}: {last}");
        assert!(last["help"].as_str().unwrap_or_default().contains(help), "{line}: {last}");
        assert!(output.stdout.is_empty(), "{line}");
    }
}

#[test]
fn colors_come_where_they_are_wanted() {
    let place = Place::new("color");
    let line = "show nowhere";
    assert!(!err(&place.rondo(line)).contains('\u{1b}'), "stderr is no terminal");
    assert!(err(&place.rondo(&format!("{line} --color always"))).starts_with("\u{1b}[1;31merror:\u{1b}[0m "));
    assert!(err(&place.rondo(&format!("--color=always {line}"))).contains("\u{1b}[1;36mhelp:"));
    let never = place.command(&format!("{line} --color never")).env("TERM", "xterm").output().unwrap();
    assert!(!err(&never).contains('\u{1b}'));
    expect(&place.rondo(&format!("{line} --color sometimes")), 2, "sometimes");
}

/// On a terminal, which `script` makes: colors but for NO_COLOR, a line that is updated in place but for TERM=dumb.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_has_colors_and_a_live_line() {
    let place = Place::new("terminal");
    let on_terminal = |line: &str, variables: &[(&str, &str)]| {
        let line = format!("{} {line}", env!("CARGO_BIN_EXE_rondo"));
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).current_dir(&place.0).env_remove("NO_COLOR");
        command.env("TERM", "xterm").env("COLUMNS", "120");
        command.envs(variables.iter().copied()).stdin(std::process::Stdio::null()).output()
    };
    let plain = match on_terminal("show nowhere", &[]) {
        Ok(output) => out(&output),
        Err(e) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr().lock(), "not tested: a terminal: script: {e}");
            return;
        }
    };
    assert!(plain.contains("\u{1b}[1;31merror:\u{1b}[0m "), "{plain:?}");
    let quiet = out(&on_terminal("show nowhere", &[("NO_COLOR", "1")]).unwrap());
    assert!(quiet.contains("error: ") && !quiet.contains('\u{1b}'), "{quiet:?}");
    let train = format!("{SMALL} --steps 300 --out");
    let live = out(&on_terminal(&format!("{train} live"), &[("NO_COLOR", "1")]).unwrap());
    assert!(live.contains("\r\u{1b}[2K") && live.contains(" left") && !live.contains("\u{1b}[1;"), "{live:?}");
    let dumb = out(&on_terminal(&format!("{train} dumb"), &[("TERM", "dumb")]).unwrap());
    assert!(!dumb.contains('\u{1b}') && dumb.contains("saved   dumb/checkpoints/step-300"), "{dumb:?}");
}

#[test]
fn every_shell_has_its_completions() {
    let place = Place::new("shells");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = place.rondo(&format!("completions {shell}"));
        let script = out(&output);
        assert!(code(&output) == 0 && script.contains("dry-run") && script.contains("plot"), "{shell}");
        assert!(script.contains("completions"), "{shell}: every verb that help shows");
        assert!(!script.contains("manual"), "{shell} offers a verb that help hides");
        let json: Value = serde_json::from_slice(&place.rondo(&format!("completions {shell} --json")).stdout).unwrap();
        assert_eq!((&json["shell"], &json["script"]), (&shell.into(), &script.as_str().into()));
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = out(&place.rondo(&format!("completions {shell}")));
        assert!(script.contains("hlx-full"), "{shell} knows the presets");
    }
    expect(&place.rondo("completions tcsh"), 2, "tcsh");
}

#[test]
fn the_manual_is_current() {
    let made = out(&Place::new("manual").rondo("manual"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(made == kept, "docs/cli.md is not current: cargo run -- manual > docs/cli.md");
}

#[test]
fn the_doctor_looks_at_everything() {
    let place = Place::new("doctor");
    let output = place.rondo("doctor --json");
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", err(&output)));
    let what: Vec<_> = findings.as_array().unwrap().iter().map(|f| f["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["memory", "disk", "files", "threads", "cpu", "cuda", "vulkan"]);
    for finding in findings.as_array().unwrap() {
        let verdict = finding["verdict"].as_str().unwrap();
        assert!(["ok", "warn", "--"].contains(&verdict), "{finding}");
        assert!(verdict == "ok" || finding["advice"].is_string() || finding["what"] == "files", "{finding}");
    }
    assert!(err(&output).starts_with("rondo "), "the first line comes at once");
}
