//! Where `synth`, `convert` and `quantize` write: what they refuse to replace, full disks, signals; through the real binary.
#![cfg(unix)]

#[path = "../../model/tests/bad_files/raw.rs"]
#[allow(dead_code, reason = "the table of bad files uses all of it")]
mod raw;

use raw::Raw;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("rondo-outputs-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("the folder for temporary files can be written");
        fs::write(path.join("model.gguf"), Raw::good().bytes()).expect("it can be written");
        Place(path)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rondo"));
        command.args(line.split_whitespace()).current_dir(&self.0);
        command
    }

    fn good(&self, line: &str) -> String {
        let output = self.command(line).output().expect("it runs");
        assert!(output.status.success(), "{line}: {}", stderr(&output));
        stderr(&output)
    }

    fn refused(&self, line: &str, code: i32, said: &[&str]) {
        expect(line, &self.command(line).output().expect("it runs"), code, said);
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), bytes).expect("it can be written");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).expect("it is there")
    }

    /// Every file below, with its bytes where it is a plain one.
    fn all(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let (mut folders, mut found) = (vec![self.0.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("it is there").flatten() {
                let kind = entry.file_type().expect("it is there");
                let bytes = if kind.is_file() { fs::read(entry.path()).expect("it is there") } else { Vec::new() };
                found.push((entry.path(), bytes));
                folders.extend(kind.is_dir().then(|| entry.path()));
            }
        }
        found.sort();
        found
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn expect(line: &str, output: &Output, code: i32, said: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{line}: {text}");
    assert!(!text.contains("panicked") && !text.contains(".tmp"), "{line}: {text}");
    said.iter().for_each(|said| assert!(text.contains(said), "{line}: no `{said}` in\n{text}"));
}

/// The three verbs, writing a file to OUT; `ll` is the folder of the model.
const VERBS: [&str; 3] =
    ["synth qwen2.5-0.5b OUT --vocab model.gguf", "convert ll OUT", "quantize model.gguf OUT --to q8_0"];

#[cfg(target_os = "linux")]
#[test]
fn nothing_is_replaced_but_a_gguf_file_that_is_not_read() {
    let place = Place::new("replaced");
    place.good("convert model.gguf ll");
    let _socket = UnixListener::bind(place.0.join("socket")).expect("a socket can be made");
    let fifo = Command::new("mkfifo").arg(place.0.join("fifo")).status().expect("it runs");
    assert!(fifo.success());
    place.write("notes.txt", "what somebody wrote");
    fs::create_dir(place.0.join("folder")).expect("it can be made");
    for (name, leads) in
        [("to-socket", "socket"), ("to-model", "model.gguf"), ("to-stdout", "/proc/self/fd/1"), ("loop", "loop")]
    {
        symlink(leads, place.0.join(name)).expect("links can be made");
    }
    fs::hard_link(place.0.join("model.gguf"), place.0.join("also.gguf")).expect("links can be made");
    let before = place.all();
    for verb in VERBS {
        for (out, said) in [
            ("socket", "socket: it is a device, a pipe or a socket, not a file"),
            ("to-socket", "to-socket: it is a device, a pipe or a socket"),
            ("fifo", "fifo: it is a device, a pipe or a socket"),
            ("to-stdout", "to-stdout: it is a device, a pipe or a socket"),
            ("loop", "loop: its links lead to no file"),
            ("notes.txt", "notes.txt: it is there already, and no GGUF file"),
            ("folder", "folder: the output is a folder\n  help: name the file to write, such as folder/model.gguf"),
            (".", "the output is a folder"),
            ("new/", "the output is a folder"),
            ("nowhere/new.gguf", "there is no folder nowhere\n  help: make it first: mkdir -p nowhere"),
            ("notes.txt/new.gguf", "notes.txt/new.gguf: notes.txt is no folder"),
        ] {
            place.refused(&verb.replace("OUT", out), 2, &[said, "help: "]);
        }
        for out in ["model.gguf", "./ll/../model.gguf", "to-model", "also.gguf"] {
            if !verb.starts_with("convert") {
                place.refused(&verb.replace("OUT", out), 2, &[out, "the output is a file that is read"]);
            }
        }
        assert!(place.all() == before, "{verb} has changed something");
    }
    for out in ["ll/model.safetensors", "ll/config.json", "ll/gguf_metadata.json"] {
        place.refused(&format!("convert ll {out}"), 2, &[out, "the output is a file that is read"]);
    }
    place.refused("quantize model.gguf notes.txt --to q8_0 --imatrix notes.txt", 2, &["a file that is read"]);
    assert!(place.all() == before, "something has changed");
    assert!(fs::symlink_metadata(place.0.join("fifo")).is_ok_and(|m| m.file_type().is_fifo()));
    // A GGUF file is replaced, also where a link leads.
    place.write("old.gguf", "GGUF of before");
    symlink("old.gguf", place.0.join("link.gguf")).expect("links can be made");
    place.good("convert ll link.gguf");
    assert!(place.read("old.gguf").len() > 1000);
    assert!(fs::symlink_metadata(place.0.join("link.gguf")).is_ok_and(|m| m.is_symlink()));
}

#[test]
fn a_folder_is_made_where_there_is_none() {
    let place = Place::new("folders");
    fs::create_dir_all(place.0.join("full/inner")).expect("it can be made");
    fs::create_dir(place.0.join("empty")).expect("it can be made");
    symlink("empty", place.0.join("link")).expect("links can be made");
    let before = place.all();
    for (out, said) in [
        ("full", "full: the folder is there already, and isn't empty"),
        (".", ".: the folder is there already, and isn't empty"),
        ("full/inner/..", "isn't empty"),
        ("model.gguf", "model.gguf: it is there already, and no folder"),
        ("link", "link: it is there already, and no folder"),
        ("nowhere/new", "there is no folder nowhere"),
    ] {
        place.refused(&format!("convert model.gguf {out}"), 2, &[said, "help: "]);
    }
    assert!(place.all() == before);
    place.good("convert model.gguf empty");
    place.good("convert model.gguf full/new/");
    assert!(place.0.join("empty/config.json").exists() && place.0.join("full/new/config.json").exists());
}

/// What can't be written is told with the name that the user knows, and leaves nothing.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_exit_code_4() {
    let place = Place::new("full");
    place.good("convert model.gguf ll");
    let before = place.all();
    let limited = |line: &str| {
        let line = format!("ulimit -f 8; exec {} {line}", env!("CARGO_BIN_EXE_rondo"));
        Command::new("sh").args(["-c", &line]).current_dir(&place.0).output().expect("it runs")
    };
    for (line, out) in [
        ("synth qwen2.5-0.5b new.gguf --quant q4_0", "new.gguf"),
        ("convert ll new.gguf", "new.gguf"),
        ("convert model.gguf new", "new"),
        ("quantize model.gguf new.gguf --to f32", "new.gguf"),
    ] {
        let told = format!("error: {out}: File too large");
        expect(line, &limited(line), 4, &[&told, "help: ", "about ", " are needed"]);
        assert!(place.all() == before, "{line} has left something");
    }
}

/// A disk that is smaller than the file is refused before anything is written.
#[cfg(target_os = "linux")]
#[test]
fn room_is_looked_for_first() {
    let place = Place::new("room");
    let folder = place.0.join("small");
    fs::create_dir(&folder).expect("it can be made");
    // A disk of the test's own, where the system lets it have one.
    let line = format!(
        "mount -t tmpfs -o size=4m none small && {} synth qwen2.5-0.5b small/new.gguf; code=$?; ls small | wc -l >&2; exit $code",
        env!("CARGO_BIN_EXE_rondo")
    );
    let own = Command::new("unshare").args(["-m", "true"]).output();
    if !own.is_ok_and(|output| output.status.success()) {
        return println!("skipped: this process may not mount a disk of its own");
    }
    let output =
        Command::new("unshare").args(["-m", "sh", "-c", &line]).current_dir(&place.0).output().expect("it runs");
    if stderr(&output).contains("mount:") {
        return println!("skipped: {}", stderr(&output).trim());
    }
    let said = ["error: small/new.gguf: the disk has 4.2 MB free\n  help: make room: about 39", "are needed", "\n0\n"];
    expect(&line, &output, 4, &said);
}

#[test]
fn a_signal_ends_synth_and_leaves_nothing() {
    let place = Place::new("signal");
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        for json in ["", " --json"] {
            let line = format!("synth qwen2.5-1.5b big.gguf --quant f16{json}");
            let child = place.command(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
            let begun = Instant::now();
            let written = || {
                let entries = fs::read_dir(&place.0).expect("it is there").flatten();
                let temporary = |e: &fs::DirEntry| e.file_name().to_string_lossy().ends_with(".tmp");
                entries.filter(temporary).any(|e| e.metadata().is_ok_and(|m| m.len() > 1 << 20))
            };
            while !written() && begun.elapsed().as_secs() < 60 {
                std::thread::sleep(Duration::from_millis(2));
            }
            let kill = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("it runs");
            assert!(kill.success());
            let output = child.wait_with_output().expect("it ends");
            expect(&line, &output, code, &["big.gguf: interrupted, not written"]);
            if !json.is_empty() {
                let text = stderr(&output);
                let last: Value = serde_json::from_str(text.lines().last().expect("it has said so")).expect("JSON");
                assert_eq!(last["code"], code);
            }
            assert_eq!(fs::read_dir(&place.0).expect("it is there").count(), 1, "nothing is left");
        }
    }
}

/// What `nohup` does is heeded.
#[cfg(target_os = "linux")]
#[test]
fn a_hangup_that_is_ignored_ends_nothing() {
    let place = Place::new("nohup");
    let line = format!("trap '' HUP; exec {} synth qwen2.5-1.5b big.gguf --quant f16", env!("CARGO_BIN_EXE_rondo"));
    let mut command = Command::new("sh");
    let mut child = command.args(["-c", &line]).current_dir(&place.0).stderr(Stdio::null()).spawn().expect("it runs");
    let begun = Instant::now();
    while fs::read_dir(&place.0).expect("it is there").count() < 2 && begun.elapsed().as_secs() < 60 {
        std::thread::sleep(Duration::from_millis(2));
    }
    let kill = |signal: &str| Command::new("kill").args([signal, &child.id().to_string()]).status().expect("it runs");
    kill("-HUP");
    std::thread::sleep(Duration::from_millis(100));
    kill("-TERM");
    assert_eq!(child.wait().expect("it ends").code(), Some(143));
}

#[test]
fn mistakes_have_help() {
    let place = Place::new("help");
    let _socket = UnixListener::bind(place.0.join("socket")).expect("a socket can be made");
    for (line, code, said) in [
        ("synth qwen2.5-0.6b o.gguf", 2, "help: did you mean `qwen2.5-0.5b`? there are"),
        ("synth llama3.2-1b o.gguf", 2, "help: did you mean `llama-3.2-1b`?"),
        ("synth elephant o.gguf", 2, "help: there are qwen2.5-0.5b"),
        ("synth qwen2.5-0.5b o.gguf --quant q4_k", 2, "help: did you mean `q4_k_m`?"),
        ("quantize model.gguf o.gguf --to q4_k_n", 2, "help: did you mean `q4_k_m`?"),
        ("quantize model.gguf o.gguf --to q4km", 2, "help: did you mean `q4_k_m`?"),
        ("quantize model.gguf o.gguf --to q5_k_m --pure", 2, "help: did you mean `q5_k`?"),
        (
            "quantize model.gguf o.gguf --to elephant",
            2,
            "single types: q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k, mxfp4, iq4_nl, iq4_xs",
        ),
        (
            "synth qwen2.5-0.5b o.gguf --vocab nope",
            3,
            "nope: No such file or directory (os error 2)\n  help: name a file",
        ),
        (
            "synth qwen2.5-0.5b o.gguf --vocab model.gguf",
            3,
            "the vocabulary has 0 tokens; the model has 151936\n  help: ",
        ),
        ("quantize nope o.gguf --to q8_0", 3, "help: name a file that is there"),
        ("convert nope o", 3, "help: name a file that is there"),
        ("quantize model.gguf o.gguf --to q8_0 --imatrix nope", 3, "help: name a file that is there"),
        ("quantize model.gguf o.gguf --to q8_0 --imatrix /dev/zero", 3, "it is a device or a pipe, not a file"),
        ("quantize model.gguf o.gguf --to q8_0 --imatrix large", 3, "large: it has 5.00 GB"),
        ("tune hlx-simple --out model.gguf/t.json", 2, "model.gguf is no folder"),
        ("tune hlx-simple --out socket", 2, "--out socket: it is a device, a pipe or a socket"),
    ] {
        if line.contains(" large") {
            fs::File::create(place.0.join("large")).and_then(|f| f.set_len(5_000_000_000)).expect("a file with a hole");
        }
        place.refused(line, code, &[said]);
    }
    assert!(!place.0.join("o.gguf").exists());
}

#[test]
fn a_file_without_tensors_is_told_so() {
    let place = Place::new("none");
    let none = Raw { tensors: Vec::new(), data: Vec::new(), ..Raw::good() };
    place.write("vocabulary.gguf", none.bytes());
    let said = place.good("quantize vocabulary.gguf out.gguf --to q4_k_m");
    assert!(said.contains("warning: vocabulary.gguf: it has no tensors") && !said.contains("bits a weight"), "{said}");
}

/// Somebody cuts the input short while its bytes go to the output as they lie.
#[cfg(target_os = "linux")]
#[test]
fn an_input_that_is_cut_short_is_blamed() {
    let place = Place::new("cut");
    let bytes = 1u64 << 31;
    let mut head = Raw { tensors: Raw::good().tensors, data: Vec::new(), ..Raw::good() };
    head.tensors.truncate(1);
    head.tensors[0].sizes = vec![1 << 14, bytes / 4 / (1 << 14)];
    place.write("in.gguf", head.bytes());
    let input = fs::File::options().write(true).open(place.0.join("in.gguf")).expect("it is there");
    let start = input.metadata().expect("it is there").len();
    input.set_len(start + bytes).expect("a file with a hole");
    let line = "quantize in.gguf out.gguf --to f32";
    let child = place.command(line).stderr(Stdio::piped()).spawn().expect("it runs");
    let temporary = place.0.join(format!("out.gguf.{}.tmp", child.id()));
    let begun = Instant::now();
    while !fs::metadata(&temporary).is_ok_and(|m| m.len() > 1 << 20) && begun.elapsed().as_secs() < 60 {
        std::thread::sleep(Duration::from_millis(1));
    }
    input.set_len(start).expect("it can be cut");
    expect(line, &child.wait_with_output().expect("it ends"), 3, &["error: in.gguf: it has changed while", "help: "]);
    assert_eq!(fs::read_dir(&place.0).expect("it is there").count(), 2, "nothing is left");
}

#[test]
fn fuzz_answers_as_json() {
    let place = Place::new("fuzz");
    let output = place.command("fuzz gguf --minutes 0.001 --json").output().expect("it runs");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
    assert!(told["executions"].as_u64() > Some(10) && told["per_second_and_thread"].as_f64() > Some(1.0), "{told}");
    assert_eq!((&told["target"], &told["findings"]), (&"gguf".into(), &serde_json::json!([])));
}
