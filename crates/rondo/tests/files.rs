//! `show` of model files, and `convert` there and back, through the real binary.

#[path = "../../model/tests/bad_files/raw.rs"]
#[allow(dead_code, reason = "the table of bad files uses all of it")]
mod raw;

use raw::Raw;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("rondo-files-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the folder for temporary files can be written");
        std::fs::write(path.join("model.gguf"), Raw::good().bytes()).expect("it can be written");
        Place(path)
    }

    fn rondo(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rondo"));
        command.args(line.split_whitespace()).current_dir(&self.0).output().expect("it runs")
    }

    fn good(&self, line: &str) -> String {
        let output = self.rondo(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("it is text")
    }

    fn refused(&self, line: &str, code: i32, said: &[&str]) {
        let output = self.rondo(line);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {text}");
        assert!(said.iter().all(|said| text.contains(said)), "{line}: no {said:?} in\n{text}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_file_is_shown_with_the_memory_that_it_needs() {
    let place = Place::new("show");
    let all: Value = serde_json::from_str(&place.good("show model.gguf --verify --context 48 --json")).expect("JSON");
    assert_eq!(all["metadata"]["general.architecture"], "llama");
    assert_eq!(all["formats"]["f32"]["tensors"], 20);
    assert_eq!((&all["model"]["family"], &all["verified"]), (&"llama".into(), &true.into()));
    // 2 layers, 2 heads of 4, keys and values in 16 bits.
    assert_eq!((&all["memory"][0]["context"], &all["memory"][0]["kv_cache_bytes"]), (&48.into(), &(48 * 64).into()));
    let tensor = &all["tensors"][19];
    assert_eq!((&tensor["name"], &tensor["shape"]), (&"blk.1.ffn_down.weight".into(), &serde_json::json!([16, 24])));
    let text = place.good("show model.gguf");
    for said in
        ["GGUF version 3", "llama", "context      64", "blk.0.attn_q.weight", "key         general.architecture"]
    {
        assert!(text.contains(said), "no {said} in\n{text}");
    }
    // A number that is none, in the second tensor from the end, 40 bytes in.
    let mut broken = Raw::good();
    let at = broken.tensors[18].offset as usize + 40;
    broken.data[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(place.0.join("nan.gguf"), broken.bytes()).expect("it can be written");
    let offset = broken.bytes().len() - broken.data.len() + at;
    place.refused(
        "show nan.gguf --verify",
        3,
        &["nan.gguf", &format!("byte {offset}"), "`blk.1.ffn_up.weight`", "NaN"],
    );
    place.good("show nan.gguf");
    place.refused("show model.gguf --context 0", 2, &["--context"]);
}

#[test]
fn a_file_is_converted_there_and_back() {
    let place = Place::new("convert");
    place.good("convert model.gguf folder");
    let shown: Value = serde_json::from_str(&place.good("show folder --json")).expect("JSON");
    assert_eq!((&shown["format"], &shown["model"]["family"]), (&"safetensors".into(), &"llama".into()));
    let made: Value = serde_json::from_str(&place.good("convert folder back.gguf --json")).expect("JSON");
    assert_eq!((&made["tensors"], &made["warnings"]), (&20.into(), &serde_json::json!([])));
    let (first, back) = (place.good("show model.gguf --json"), place.good("show back.gguf --json"));
    let (first, back): (Value, Value) =
        (serde_json::from_str(&first).expect("JSON"), serde_json::from_str(&back).expect("JSON"));
    assert_eq!(first["metadata"], back["metadata"]);
    let bytes = |name: &str| std::fs::read(place.0.join(name)).expect("it is there");
    let data = |all: &[u8]| all[all.len() - Raw::good().data.len()..].to_vec();
    assert!(data(&bytes("model.gguf")) == data(&bytes("back.gguf")), "the tensors differ");

    place.good("convert folder half.gguf --to bf16");
    let half: Value = serde_json::from_str(&place.good("show half.gguf --verify --json")).expect("JSON");
    assert_eq!((&half["formats"]["bf16"]["tensors"], &half["formats"]["f32"]["tensors"]), (&15.into(), &5.into()));
    place.refused("convert model.gguf folder", 2, &["folder: the folder is there already"]);
    place.refused("convert model.gguf other --to q4_0", 2, &["rondo quantize"]);
    place.refused("convert nowhere.gguf other", 3, &["nowhere.gguf"]);
}

#[test]
fn what_synth_does_not_know_is_named() {
    let place = Place::new("synth");
    place.refused("synth qwen9 out.gguf", 2, &["qwen9: there is no such preset", "qwen2.5-0.5b"]);
    place.refused("synth qwen2.5-0.5b out.gguf --quant q9", 2, &["q9: there is no such recipe", "q4_k_m"]);
    place.refused("synth qwen2.5-0.5b out.gguf --vocab model.gguf", 3, &["model.gguf: the vocabulary has 0 tokens"]);
    assert!(!place.0.join("out.gguf").exists());
}

#[test]
fn what_is_verified_is_what_was_decoded() {
    let place = Place::new("verified");
    let write = |name: &str, number: f64| {
        let (wide, whole) = (number.to_le_bytes(), 7u64.to_le_bytes());
        let tensors =
            [("wide", tensor::DType::F64, &[1usize][..], &wide[..]), ("whole", tensor::DType::I64, &[1], &whole[..])];
        let bytes = tensor::file::safetensors::bytes(&place.0, tensors, Default::default()).expect("it can be written");
        std::fs::write(place.0.join(name), bytes).expect("it can be written");
    };
    write("good.safetensors", 1.5);
    let text = place.good("show good.safetensors --verify");
    for said in ["1 tensor decodes to finite numbers", "1 tensor of whole numbers has nothing to decode"] {
        assert!(text.contains(said), "no {said} in\n{text}");
    }
    write("nan.safetensors", f64::NAN);
    place.refused("show nan.safetensors --verify", 3, &["nan.safetensors", "`wide`", "element 0 is NaN"]);
    // By what they are, not by what they are called.
    write("model.bin", 1.5);
    assert!(place.good("show model.bin").contains("safetensors"));
    std::fs::copy(place.0.join("model.gguf"), place.0.join("gguf.safetensors")).expect("it can be written");
    assert!(place.good("show gguf.safetensors").contains("GGUF version 3"));
    place.good("convert gguf.safetensors folder");
    place.refused("convert model.bin other", 3, &["model.bin: it is a safetensors file"]);
    place.refused("show folder/config.json", 3, &["config.json is a model's configuration", "name its folder"]);
    std::fs::write(place.0.join("empty.index.json"), "{\"weight_map\": {}}").expect("it can be written");
    place.refused("show empty.index.json", 3, &["empty.index.json: byte 0", "weight_map is empty"]);
    for line in ["show .", "convert . other", "tokenize . text"] {
        place.refused(line, 3, &["there is model.gguf in it"]);
    }
    let shown = place.rondo("show model.gguf --context 4096");
    let text = String::from_utf8_lossy(&shown.stderr);
    assert!(
        shown.status.success() && text.contains("warning: --context 4096: the model has positions for 64"),
        "{text}"
    );
}

#[test]
fn what_no_family_is_known_of_is_decoded_too() {
    let place = Place::new("foreign");
    let text = |text: &str| raw::value(&tensor::file::gguf::Value::String(text.into()));
    let foreign = || Raw::good().with("general.architecture", text("bloom"));
    let nan = |mut raw: Raw| {
        for at in [3, 18].map(|i| raw.tensors[i].offset as usize + 40) {
            raw.data[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        raw
    };
    for (name, raw, good, said) in [
        ("architecture", foreign(), true, "key `general.architecture`: the architecture \"bloom\" is not supported"),
        ("none", Raw::good().without("general.architecture"), true, "key `general.architecture`: it is missing"),
        ("imatrix", foreign().with("general.type", text("imatrix")), true, "general.type is \"imatrix\""),
        ("adapter", Raw::good().with("general.type", text("adapter")), true, "general.type is \"adapter\""),
        ("keys", Raw::good().without("llama.block_count"), false, "llama.block_count"),
    ] {
        let line = format!("show {name}.gguf --verify");
        std::fs::write(place.0.join(format!("{name}.gguf")), raw.bytes()).expect("it can be written");
        let shown = place.rondo(&line);
        let (code, told) = (shown.status.code(), String::from_utf8_lossy(&shown.stderr).into_owned());
        assert!(code == Some(if good { 0 } else { 3 }) && told.contains(said), "{line}: {code:?}: {told}");
        let printed = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(printed.contains("all 20 tensors decode to finite numbers"), "{line}: {printed}");
        std::fs::write(place.0.join(format!("{name}.gguf")), nan(raw).bytes()).expect("it can be written");
        let first = "`blk.0.ffn_norm.weight`: element 10 is NaN";
        let all = ["warning: ", said, "error: ", first, "`blk.1.ffn_up.weight`: element 10 is NaN"];
        place.refused(&line, 3, &all);
        let all: Value = serde_json::from_slice(&place.rondo(&format!("{line} --json")).stdout).expect("JSON");
        assert_eq!((&all["verified"], all["tensors"].as_array().map(Vec::len)), (&false.into(), Some(20)));
    }
    place.good("convert model.gguf folder");
    let config = std::fs::read_to_string(place.0.join("folder/config.json")).expect("it is there");
    std::fs::write(place.0.join("folder/config.json"), config.replace("LlamaForCausalLM", "BloomForCausalLM"))
        .expect("it can be written");
    let shown = place.rondo("show folder --verify");
    let told = String::from_utf8_lossy(&shown.stderr);
    assert!(shown.status.success() && told.contains("the class \"BloomForCausalLM\" is not supported"), "{told}");
}

#[test]
fn numbers_that_a_type_does_not_hold_are_refused() {
    let place = Place::new("narrow");
    let mut large = Raw::good();
    let at = large.tensors[18].offset as usize + 40;
    large.data[at..at + 4].copy_from_slice(&65_520f32.to_le_bytes());
    std::fs::write(place.0.join("large.gguf"), large.bytes()).expect("it can be written");
    let said = ["`blk.1.ffn_up.weight`", "element 10 is 65520, which f16 doesn't hold", "help: bf16 holds it"];
    place.refused("convert large.gguf folder --to f16", 3, &said);
    place.refused("quantize large.gguf out.gguf --to f16", 3, &said);
    assert!(!place.0.join("folder").exists() && !place.0.join("out.gguf").exists());
    place.good("convert large.gguf folder --to bf16");
    place.good("quantize large.gguf out.gguf --to bf16");
    place.refused(
        "convert folder back.gguf --to f16",
        3,
        &["model.layers.1.mlp.up_proj.weight", "which f16 doesn't hold"],
    );
}

#[test]
fn what_a_file_says_does_not_steer_the_terminal() {
    let place = Place::new("steer");
    let evil = "a\u{1b}]0;owned\u{7}\u{9b}2J\nerror: all is lost";
    let named = Raw::good().last(|tensor| tensor.name = evil.as_bytes().to_vec());
    let value = raw::value(&tensor::file::gguf::Value::String(evil.into()));
    for (name, raw) in [
        ("tensor.gguf", named),
        ("key.gguf", Raw::good().change(|raw| raw.pairs.push((evil.into(), value.clone())))),
        ("architecture.gguf", Raw::good().with("general.architecture", value.clone())),
        ("number.gguf", Raw::good().with("llama.block_count", value.clone())),
    ] {
        std::fs::write(place.0.join(name), raw.bytes()).expect("it can be written");
        for line in [format!("show {name}"), format!("show {name} --json"), format!("convert {name} {name}.folder")] {
            let output = place.rondo(&line);
            for (stream, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
                let text = String::from_utf8_lossy(bytes);
                let steers = |c: char| c == '\u{1b}' || c == '\u{7}' || (c == '\u{9b}' && !line.contains("--json"));
                assert!(!text.contains(steers), "{line}: {stream}: {text:?}");
                assert!(!text.lines().any(|line| line.starts_with("error: all")), "{line}: {stream}: {text}");
            }
        }
    }
}

#[test]
fn metadata_is_json() {
    let place = Place::new("metadata");
    let list = |count: u32| {
        raw::value(&tensor::file::gguf::Value::Array(tensor::file::gguf::Array::U32((0..count).collect())))
    };
    let raw = Raw::good().change(|raw| {
        raw.pairs.push((b"short".into(), list(16)));
        raw.pairs.push((b"long".into(), list(17)));
    });
    std::fs::write(place.0.join("lists.gguf"), raw.bytes()).expect("it can be written");
    let all: Value = serde_json::from_str(&place.good("show lists.gguf --json")).expect("JSON");
    let first = serde_json::json!([0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(all["metadata"]["short"].as_array().map(Vec::len), Some(16));
    assert_eq!(all["metadata"]["long"], serde_json::json!({"count": 17, "type": "u32", "first": first}));
    let text = place.good("show lists.gguf");
    assert!(text.contains("long = [0, 1, 2, 3, 4, 5, 6, 7, and 9 more]"), "{text}");
    assert!(text.contains("general.architecture = \"llama\""), "{text}");
}

/// A tensor of nvfp4 may have a scale in another one, which alone says what its numbers are.
#[test]
fn scales_of_whole_tensors_are_not_lost() {
    use tensor::file::gguf;
    let place = Place::new("scales");
    let plan = |name: &str, dtype: tensor::DType, shape: &[usize]| gguf::Planned {
        name: name.into(),
        dtype,
        shape: shape.into(),
    };
    // Scales of 1, and numbers 1/2 and 6.
    let blocks = [[0x38; 4].as_slice(), &[0x71; 32]].concat().repeat(2);
    let tensors = [
        (plan("a.weight", tensor::DType::Nvfp4, &[2, 64]), blocks.as_slice()),
        (plan("a.scale", tensor::DType::F32, &[1]), &[0, 0, 0, 64][..]),
    ];
    let bytes = gguf::write(Vec::new(), &gguf::Metadata::default(), &tensors).expect("it can be written");
    std::fs::write(place.0.join("a.gguf"), bytes).expect("it can be written");
    assert!(place.good("show a.gguf --verify").contains("format      nvfp4        1 tensor"));
    place.refused("convert a.gguf folder", 3, &["tensor `a.weight`: it is nvfp4 with a scale of its own, `a.scale`"]);
    place.refused("quantize a.gguf b.gguf --to nvfp4", 2, &["it can be read, not written"]);
    let said: Value = serde_json::from_str(&place.good("quantize a.gguf b.gguf --to f32 --json")).expect("JSON");
    assert_eq!((&said["types"], &said["error"]), (&serde_json::json!({"f32": 2}), &Value::Null));
    let made = std::fs::read(place.0.join("b.gguf")).expect("it is there");
    let row: Vec<u8> = [0.5f32, 6.0].iter().flat_map(|x| x.to_le_bytes().repeat(8)).collect();
    assert!(made.windows(row.len()).any(|window| window == row), "8 of 0.5, then 8 of 6");
}

/// What is no UTF-8 in a name is no mistake, nor in JSON.
#[cfg(target_os = "linux")]
#[test]
fn names_are_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new("names");
    let odd = |name: &[u8]| std::ffi::OsStr::from_bytes(name).to_os_string();
    let (input, output, folder) = (odd(b"a \xff.gguf"), odd(b"b \xff.gguf"), odd(b"c\n\xff"));
    std::fs::rename(place.0.join("model.gguf"), place.0.join(&input)).expect("it can be written");
    let text = |words: &[&std::ffi::OsStr]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rondo"));
        let output = command.args(words).current_dir(&place.0).output().expect("it runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("JSON is text")
    };
    let json = "--json".as_ref();
    for words in [
        &["show".as_ref(), input.as_os_str(), json][..],
        &["convert".as_ref(), &input, &folder, json],
        &["convert".as_ref(), &folder, &output, json],
        &["quantize".as_ref(), &input, &output, "--to".as_ref(), "q8_0".as_ref(), json],
        &["show".as_ref(), &folder, json],
    ] {
        let all: Value = serde_json::from_str(&text(words)).expect("JSON");
        assert!(all["path"].as_str().is_none_or(|path| path.contains('\u{fffd}')), "{words:?}: {all}");
    }
    assert!(text(&["show".as_ref(), &folder]).starts_with("file        c\\n\u{fffd} · safetensors"));
}

/// Ctrl-C ends the reading of a large file, and the exit code says so.
#[cfg(unix)]
#[test]
fn verifying_is_interrupted() {
    use std::io::{Seek, Write};
    let place = Place::new("interrupted");
    let numbers = 3u64 << 29;
    let header = format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":[{numbers}],\"data_offsets\":[0,{}]}}}}", 4 * numbers);
    let mut file = std::fs::File::create(place.0.join("large.safetensors")).expect("it can be written");
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("it can be written");
    file.write_all(header.as_bytes()).expect("it can be written");
    // Nothing of it is on the disk.
    let end = file.stream_position().expect("it is a file") + 4 * numbers;
    file.set_len(end).expect("holes take no room");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rondo"));
    command.args(["show", "large.safetensors", "--verify"]).current_dir(&place.0);
    let child = command.stdout(std::process::Stdio::null()).spawn().expect("it runs");
    std::thread::sleep(std::time::Duration::from_millis(250));
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("it runs");
    assert!(sent.success(), "it was done before");
    assert_eq!(child.wait_with_output().expect("it ends").status.code(), Some(130));
}
