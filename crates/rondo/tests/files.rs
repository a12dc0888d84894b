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
