//! Bad input through the real binary: each with one clear error (what, where, why, what to do) and its exit code.
#![cfg(unix)]

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("rondo-bad-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), bytes).unwrap();
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rondo"));
        command.args(line.split_whitespace()).current_dir(&self.0);
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

const TINY: &str = "--preset hlx-simple --device cpu --threads 1 --steps 4 --set model.num_layers=1 \
                    --set model.hidden_size=16 --set model.num_heads=2 --set model.intermediate_size=32";

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// It ends with `code`, and says one error that holds each of `said`; nothing panics.
fn expect(output: &Output, code: i32, said: &[&str], case: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{case}: {text}");
    assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{case}: {text}");
    for said in said {
        assert!(text.contains(said), "{case}: no `{said}` in\n{text}");
    }
    if code != 0 {
        assert_eq!(text.lines().filter(|l| l.starts_with("error: ")).count(), 1, "{case}: {text}");
    }
}

#[test]
fn configurations() {
    let place = Place::new("configurations");
    let cases: &[(&str, &str, i32, &[&str])] = &[
        ("an unknown key", "optimizer.lrr = 1e-3", 3, &["bad.toml", "unknown key `optimizer.lrr`", "optimizer.lr`?"]),
        (
            "a wrong type",
            "batch_size = \"four\"",
            3,
            &["bad.toml", "`batch_size` is the text \"four\"", "whole number"],
        ),
        ("a negative count", "batch_size = -4", 3, &["bad.toml", "`batch_size` is the whole number -4"]),
        ("not TOML", "batch_size = = 4", 3, &["bad.toml", "not valid TOML", "line 1"]),
        ("heads that don't divide", "model.num_heads = 3", 3, &["bad.toml", "num_heads"]),
        ("no steps", "epochs = 0\nsteps = 0", 3, &["bad.toml", "nothing would be trained"]),
        ("a rate that isn't finite", "optimizer.lr = nan", 3, &["bad.toml", "optimizer.lr"]),
        (
            "a newer format",
            "format = 9\nunheard_of = 1",
            3,
            &["bad.toml: it has format 9, of a newer version", "help:"],
        ),
        ("no format", "format = \"new\"", 3, &["bad.toml: `format` is"]),
    ];
    for (case, text, code, said) in cases {
        place.write("bad.toml", text);
        expect(&place.rondo("train --preset hlx-simple --config bad.toml --device cpu"), *code, said, case);
    }
    place.write("bad.toml", b"seed = 1\n# \xff\n");
    let not_text = place.rondo("train --preset hlx-simple --config bad.toml --device cpu");
    let said = ["bad.toml line 2: it is no text: byte 3 of the line is not valid UTF-8", "help: "];
    expect(&not_text, 3, &said, "a configuration that is no text");
    place.write("bad.toml", b"seed = 1\n\0\0\0");
    let zeros = place.rondo("train --config bad.toml --device cpu");
    expect(&zeros, 3, &["bad.toml line 2: it is no text: byte 1 of the line is zero"], "a binary file");
    let lines: &[(&str, &str, i32, &[&str])] = &[
        ("no such file", "train --config nowhere.toml", 3, &["nowhere.toml", "No such file", "help: "]),
        ("a folder", "train --config .", 3, &[".: it is not a file"]),
        ("a device", "train --config /dev/zero", 3, &["/dev/zero: it is not a file"]),
        ("a key on the command line", "train --preset hlx-simple --set lrr=1", 2, &["--set lrr=1", "`optimizer.lr`?"]),
        ("no key", "train --preset hlx-simple --set seed", 2, &["expected KEY=VALUE", "help: "]),
        ("no run", "train --resume nowhere --device cpu", 3, &["nowhere: there is no run in it"]),
        ("an unknown verb", "trian", 2, &["trian", "train"]),
    ];
    for (case, line, code, said) in lines {
        expect(&place.rondo(line), *code, said, case);
    }
    let nothing = place.rondo("");
    assert!(nothing.status.code() == Some(2) && stderr(&nothing).contains("Usage: rondo"), "{}", stderr(&nothing));
}

#[test]
fn data() {
    let place = Place::new("data");
    let good = "{\"input\": \"a\", \"output\": \"b\"}\n".repeat(8);
    let cases: &[(&str, Vec<u8>, &[&str])] = &[
        ("an empty file", Vec::new(), &["rows.jsonl: there is nothing in it to train on", "help: "]),
        ("only blank lines", b"\n \r\n\n".to_vec(), &["rows.jsonl: there is nothing in it"]),
        ("cut JSON", format!("{good}{{\"input\": \"a").into_bytes(), &["rows.jsonl line 9: EOF", "help: each line is"]),
        ("no output", format!("{good}{{\"input\": \"a\"}}").into_bytes(), &["line 9: missing field `output`"]),
        ("a list", format!("{good}[\"a\", \"b\"]\n").into_bytes(), &["line 9: it is not a JSON object", "help: "]),
        ("a number", format!("{good}5\n").into_bytes(), &["line 9: it is not a JSON object"]),
        ("a wrong type", format!("{good}{{\"input\": 3, \"output\": \"b\"}}").into_bytes(), &["line 9: invalid type"]),
        ("no UTF-8", [good.as_bytes(), b"{\"input\": \"\xff\"}"].concat(), &["line 9: not valid UTF-8 at byte 12"]),
        ("deep nesting", format!("{good}{{\"input\": {}", "[".repeat(100_000)).into_bytes(), &["line 9: "]),
        (
            "an enormous line",
            [good.as_bytes(), b"{\"input\": \"", &vec![b'x'; (1 << 24) + 1], b"\", \"output\": \"\"}\n"].concat(),
            &["rows.jsonl line 9: it has 167772", "a line has at most 16777216"],
        ),
    ];
    let line = |path: &str| format!("train {TINY} --set data.corpus=jsonl --set data.path={path} --out out");
    for (case, bytes, said) in cases {
        place.write("rows.jsonl", bytes);
        let begun = Instant::now();
        expect(&place.rondo(&line("rows.jsonl")), 3, said, case);
        assert!(begun.elapsed() < Duration::from_secs(20), "{case}");
        assert!(!place.0.join("out").exists(), "{case}: what can't begin leaves no folder");
    }

    // What is no file, and must not be waited for.
    let fifo = Command::new("mkfifo").arg(place.0.join("pipe.jsonl")).status();
    let special: &[(&str, &[&str])] = &[
        ("nowhere.jsonl", &["nowhere.jsonl: No such file", "help: data.path begins where rondo is started"]),
        ("/dev/zero", &["/dev/zero: it is neither a file nor a folder", "help: "]),
        ("pipe.jsonl", &["pipe.jsonl: it is neither a file nor a folder"]),
        ("loop.jsonl", &["loop.jsonl: ", "symbolic links"]),
    ];
    std::os::unix::fs::symlink("loop.jsonl", place.0.join("loop.jsonl")).unwrap();
    for (path, said) in special {
        if *path == "pipe.jsonl" && !fifo.as_ref().is_ok_and(|s| s.success()) {
            not_tested("a pipe as data", "mkfifo failed");
            continue;
        }
        expect(&place.rondo(&line(path)), 3, said, path);
    }
    fs::create_dir(place.0.join("folder")).unwrap();
    expect(&place.rondo(&line("folder")), 3, &["folder: the folder has no *.jsonl files"], "an empty folder");

    // Text that no target can be made of, and bytes that are no text.
    place.write("one.txt", "x");
    place.write("bytes.txt", b"one\ntw\xffo\n");
    let text = |path: &str, more: &str| {
        place.rondo(&format!("train {TINY} --set data.corpus=text --set data.path={path} --out out {more}"))
    };
    expect(&text("one.txt", ""), 3, &["one.txt: there is nothing in it to train on", "help: "], "one byte");
    place.write("lines.jsonl", "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n");
    let said = ["lines.jsonl line 2: missing field `text` (column 12)\n  help: each line is {\"text\": \"...\"}\n"];
    expect(&text("lines.jsonl", ""), 3, &said, "a line without text");
    let bytes = text("bytes.txt", "--set data.tokenizer=ascii");
    expect(&bytes, 3, &["bytes.txt line 2: not valid UTF-8", "data.tokenizer=\"byte\""], "bytes");
    assert!(!place.0.join("out").exists());
}

#[test]
fn data_that_is_unusual_and_good() {
    let place = Place::new("unusual");
    let train = |path: &str, out: &str| {
        place.rondo(&format!("train {TINY} --set data.corpus=jsonl --set data.path={path} --out {out} --json"))
    };
    let hash = |o: &Output| {
        let all: serde_json::Value = serde_json::from_slice(&o.stdout).unwrap();
        all["parameters_sha256"].as_str().unwrap().to_string()
    };
    // Fewer rows than a batch, no line end; the same with a byte-order mark, CRLF and blank lines.
    place.write("plain.jsonl", "{\"input\": \"a\", \"output\": \"b\"}\n{\"input\": \"c\", \"output\": \"d\"}");
    place.write(
        "marked.jsonl",
        "\u{feff}{\"input\": \"a\", \"output\": \"b\"}\r\n\r\n{\"input\": \"c\", \"output\": \"d\"}\r\n",
    );
    let (plain, marked) = (train("plain.jsonl", "plain"), train("marked.jsonl", "marked"));
    expect(&plain, 0, &[], "fewer rows than a batch");
    expect(&marked, 0, &[], "CRLF and a byte-order mark");
    assert_eq!(hash(&plain), hash(&marked));
    // Longer than the context: it is cut, and said.
    place.write(
        "long.jsonl",
        "{\"input\": \"a line that is long\", \"output\": \"b\"}\n{\"input\": \"c\", \"output\": \"\"}\n",
    );
    let long = "1 pair of 2 is longer than model.max_context (16 tokens): its end is not learned";
    expect(&train("long.jsonl", "long"), 0, &[long], "a long line");
    // A folder of text with pictures in it.
    fs::create_dir(place.0.join("mixed")).unwrap();
    place.write("mixed/a.txt", "a text of some length that can be learned");
    place.write("mixed/b.png", b"\x89PNG\r\n\x1a\n\0\0\0");
    place.write("mixed/c.txt", b"Stra\xdfe");
    let mixed = |more: &str| {
        place.rondo(&format!("train {TINY} --set data.corpus=text --set data.path=mixed --dry-run {more}"))
    };
    let said = ["warning: 2 of 3 files are no text, and are passed over: mixed/b.png and others\n"];
    expect(&mixed("--set data.tokenizer=ascii"), 0, &said, "a folder with pictures");
    let said = ["warning: 1 of 3 files is no text, and is passed over: mixed/b.png\n"];
    expect(&mixed("--set data.tokenizer=byte --set model.vocab_size=257"), 0, &said, "bytes are tokens");
}

#[test]
fn machines_and_memory() {
    let place = Place::new("machines");
    let cases: &[(&str, i32, &[&str])] = &[
        ("tpu", 2, &["tpu", "cpu"]),
        ("cpu:3", 2, &["cpu:3"]),
        ("cuda:x", 2, &["is not a device index"]),
        ("cuda:9", 4, &["is not available: ", "use --device cpu"]),
        ("vulkan:9", 4, &["is not available: ", "use --device cpu"]),
    ];
    for (device, code, said) in cases {
        let line = format!("train --preset hlx-simple --device {device}");
        expect(&place.rondo(&line), *code, said, device);
    }
    let large =
        "train --preset hlx-full --device cpu --set model.hidden_size=65536 --set model.intermediate_size=262144";
    expect(&place.rondo(large), 4, &["GB"], "more memory than there is");
    assert!(!place.0.join("runs").exists(), "what can't begin leaves no folder");
}

#[test]
fn folders_of_runs() {
    let place = Place::new("folders");
    let train = |out: &str| place.rondo(&format!("train {TINY} --out {out} --set checkpoint.every=2"));
    expect(&train("run"), 0, &[], "a run");
    expect(&train("run"), 1, &["run holds a run already", "help: continue it with --resume run"], "a second run");

    // Two runs in one folder.
    let long = format!("train {TINY} --out both --steps 100000000").replace("--steps 4 ", "");
    let mut first = place.command(&long).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !place.0.join("both/metrics.jsonl").exists() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = place.rondo("train --resume both --device cpu --threads 1");
    let said = format!("both is in use by process {}", first.id());
    expect(&second, 1, &[&said, "help: let it finish, or stop it"], "two runs in one folder");
    first.kill().unwrap();
    first.wait().unwrap();
    // The killed one's lock holds nobody up.
    let next = place.rondo("train --resume both --steps 2 --device cpu --threads 1");
    expect(&next, 0, &["both has no checkpoint yet: the run begins again"], "after a kill");

    // A newer version's run folder and checkpoint.
    let resume = || place.rondo("train --resume run --steps 6 --device cpu --threads 1");
    let config = fs::read_to_string(place.0.join("run/config.toml")).unwrap();
    place.write("run/config.toml", config.replace("format = 1", "format = 2\nnew_key = true"));
    expect(&resume(), 3, &["run/config.toml: it has format 2, of a newer version of Rondo", "help: "], "a newer run");
    place.write("run/config.toml", &config);
    let manifest = fs::read(place.0.join("run/checkpoints/step-4/manifest.json")).unwrap();
    place.write("run/checkpoints/step-4/manifest.json", "{\"format\": 99}");
    let said = ["step-4/manifest.json: it has format 99, of a newer version of Rondo", "help: "];
    expect(&resume(), 3, &said, "a newer checkpoint");
    // A damaged one: the one before is used, and it says so.
    place.write("run/checkpoints/step-4/manifest.json", &manifest);
    place.write("run/checkpoints/step-4/model.safetensors", "short");
    let said = ["step-4/model.safetensors: it has 5 bytes", "this checkpoint is skipped", "after step 2"];
    expect(&resume(), 0, &said, "a damaged checkpoint");

    // A name that is no UTF-8 is a name.
    let name = std::ffi::OsStr::from_bytes(b"r\xffn");
    let output = place.command(&format!("train {TINY} --out")).arg(name).output().unwrap();
    expect(&output, 0, &[], "a folder's name that is no UTF-8");
    assert!(place.0.join(name).join("run.json").exists());
    let set = std::ffi::OsStr::from_bytes(b"data.path=r\xff");
    let output = place.command(&format!("train {TINY} --set")).arg(set).output().unwrap();
    expect(&output, 2, &["UTF-8"], "a key's value that is no UTF-8");
}

#[test]
fn disks() {
    let place = Place::new("disks");
    // Who may not write there: nobody, where these tests are root's, who may write anywhere.
    let mut command = place.command(&format!("train {TINY} --out run"));
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    use std::os::unix::fs::PermissionsExt;
    if is_root {
        command.uid(65534);
    } else {
        fs::set_permissions(&place.0, fs::Permissions::from_mode(0o555)).unwrap();
    }
    match command.output() {
        Ok(output) => {
            expect(
                &output,
                1,
                &["run: Permission denied", "help: see who may read and write there"],
                "a read-only folder",
            );
        }
        Err(e) => not_tested("a read-only folder", &format!("another user can't run the binary here: {e}")),
    }
    fs::set_permissions(&place.0, fs::Permissions::from_mode(0o755)).unwrap();

    let full = place.0.join("full");
    fs::create_dir(&full).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&full).output();
    if !mount.as_ref().is_ok_and(|o| o.status.success()) {
        let why = mount.map_or_else(|e| e.to_string(), |o| stderr(&o));
        return not_tested("a disk that is really full", &format!("no tmpfs can be mounted here: {}", why.trim()));
    }
    let output = place
        .rondo(&format!("train {TINY} --steps 400 --out full/run --set checkpoint.every=2").replace("--steps 4 ", ""));
    // A disk with room again: the run goes on from what it said is kept.
    let again = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&full).status().unwrap();
    let rest = place.rondo("train --resume full/run --steps 12 --set checkpoint.keep=1 --device cpu --threads 1");
    let names: Vec<_> = fs::read_dir(full.join("run/checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    let _ = Command::new("umount").arg(&full).status();
    let said = [
        "No space left on device",
        "help: make room there",
        "lost: what came after step",
        "go on: rondo train --resume",
    ];
    expect(&output, 1, &said, "a full disk");
    assert!(again.success());
    expect(&rest, 0, &["resume  full/run after step "], "with room again");
    assert!(!names.iter().any(|n| n.to_string_lossy().contains('.')), "{names:?}");
}

/// Says so past the test's own capture, which shows nothing of a test that passes.
fn not_tested(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr().lock(), "not tested: {what}: {why}");
}

/// What a full disk does, where nobody may mount one: from some size on no file takes more bytes. (That each operation may
/// fail with no space left is `every_operation_failed_once_loses_nothing` of the crate train.)
#[test]
fn files_that_may_not_grow() {
    let place = Place::new("limited");
    let train = format!("train {TINY} --steps 3000 --out run --set checkpoint.every=50").replace("--steps 4 ", "");
    let under = |blocks: usize, line: &str| {
        // Blocks are of 512 bytes.
        let line = format!("ulimit -f {blocks}; exec {} {line}", env!("CARGO_BIN_EXE_rondo"));
        Command::new("sh").args(["-c", &line]).current_dir(&place.0).output().unwrap()
    };
    let output = under(128, &train);
    let said = ["File too large", "help: let files grow larger", "go on: rondo train --resume run"];
    expect(&output, 1, &said, "files that may not grow");
    let rest = place.rondo("train --resume run --steps 1000 --set checkpoint.keep=1 --device cpu --threads 1");
    expect(&rest, 0, &["resume  run after step "], "files that may grow again");
    let names: Vec<_> =
        fs::read_dir(place.0.join("run/checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!names.iter().any(|n| n.to_string_lossy().contains('.')), "{names:?}");
}

#[test]
fn a_reader_that_left_is_no_error() {
    let place = Place::new("reader");
    for line in ["ops", "--help", "plan hlx-simple --spec cpu --json"] {
        let mut child = place.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let quiet = output.status.success() && !stderr(&output).contains("error") && !stderr(&output).contains("panic");
        assert!(quiet, "{line}: {:?} {}", output.status, stderr(&output));
    }
}
