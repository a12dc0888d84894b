//! `rondo quantize` through the real binary: every recipe, what goes through unchanged, and files that are wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tensor::file::gguf::{self, Array, Metadata, Planned, Value};
use tensor::{DType, Shape, quant};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("rondo-quantize-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), bytes).unwrap();
    }

    fn rondo(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rondo"));
        command.arg("quantize").args(line.split_whitespace()).current_dir(&self.0).output().unwrap()
    }

    fn json(&self, line: &str) -> serde_json::Value {
        let output = self.rondo(&format!("{line} --json"));
        assert!(output.status.success(), "{line}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, line: &str, code: i32, said: &[&str]) {
        let output = self.rondo(line);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{line}: {text}");
        assert!(!text.contains("panicked"), "{line}: {text}");
        said.iter().for_each(|said| assert!(text.contains(said), "{line}: no `{said}` in\n{text}"));
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
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

const LAYERS: usize = 8;

/// The weights of a small llama, the width of its feed-forward part being `ffn`, and how often `number` repeats.
fn tensors(ffn: usize, dtype: DType) -> Vec<(Planned, Vec<u8>)> {
    let mut state = 9u64;
    let mut number = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.1
    };
    let mut made = Vec::new();
    let mut add = |name: String, sizes: &[usize], dtype: DType| {
        let shape = Shape::from(sizes);
        let numbers: Vec<f32> = (0..shape.elements()).map(|_| number()).collect();
        let mut bytes = vec![0; dtype.bytes(numbers.len()).unwrap()];
        quant::format(dtype).unwrap().encode(&numbers, None, &mut bytes).unwrap();
        made.push((Planned { name, dtype, shape }, bytes));
    };
    add("token_embd.weight".into(), &[16, 256], dtype);
    add("output_norm.weight".into(), &[256], DType::F32);
    add("output.weight".into(), &[16, 256], dtype);
    for layer in 0..LAYERS {
        let block = |name: &str| format!("blk.{layer}.{name}.weight");
        add(block("attn_norm"), &[256], DType::F32);
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            add(block(name), &[32, 256], dtype);
        }
        add(block("ffn_up"), &[ffn, 256], dtype);
        add(block("ffn_down"), &[64, ffn], dtype);
    }
    made
}

fn metadata() -> Metadata {
    let texts = |values: &[&str]| Value::Array(Array::String(values.iter().map(ToString::to_string).collect()));
    let entries = [
        ("general.architecture", Value::String("llama".into())),
        ("general.file_type", Value::U32(1)),
        ("general.name", Value::String("a small model".into())),
        ("llama.block_count", Value::U32(LAYERS as u32)),
        ("llama.attention.head_count", Value::U32(4)),
        ("llama.attention.head_count_kv", Value::U32(4)),
        ("tokenizer.ggml.tokens", texts(&["a", "b"])),
    ];
    entries.into_iter().collect()
}

fn file(tensors: &[(Planned, Vec<u8>)], metadata: &Metadata) -> Vec<u8> {
    let tensors: Vec<_> = tensors.iter().map(|(planned, bytes)| (planned.clone(), bytes.as_slice())).collect();
    gguf::write(Vec::new(), metadata, &tensors).unwrap()
}

fn types(path: &Path) -> Vec<(String, DType)> {
    let file = gguf::File::open(path).unwrap();
    file.tensors().iter().map(|(tensor, _)| (tensor.name.clone(), tensor.dtype)).collect()
}

#[test]
fn every_recipe_and_type() {
    let place = Place::new("recipes");
    let before = tensors(512, DType::F16);
    place.write("in.gguf", file(&before, &metadata()));
    let cases = [
        ("f32", 0, DType::F32, 0.0),
        ("f16", 1, DType::F16, 0.0),
        ("bf16", 32, DType::Bf16, 0.003),
        ("q4_0", 2, DType::Q4_0, 0.09),
        ("q4_1", 3, DType::Q4_1, 0.07),
        ("q5_0", 8, DType::Q5_0, 0.05),
        ("q5_1", 9, DType::Q5_1, 0.04),
        ("q8_0", 7, DType::Q8_0, 0.006),
        ("q2_k", 10, DType::Q2_K, 0.3),
        ("q3_k", 11, DType::Q3_K, 0.15),
        ("q4_k", 14, DType::Q4_K, 0.07),
        ("Q4_K_S", 14, DType::Q4_K, 0.07),
        ("q4_k_m", 15, DType::Q4_K, 0.07),
        ("q5_k", 16, DType::Q5_K, 0.04),
        ("q5_k_m", 17, DType::Q5_K, 0.04),
        ("q6_k", 18, DType::Q6_K, 0.02),
        ("iq4_nl", 25, DType::Iq4Nl, 0.09),
        ("iq4_xs", 30, DType::Iq4Xs, 0.09),
        ("mxfp4", 38, DType::Mxfp4, 0.15),
    ];
    for (name, number, dtype, most) in cases {
        // What had this name is replaced.
        let told = place.json(&format!("in.gguf out.gguf --to {name} --measure --threads 2"));
        let after = gguf::File::open(&place.0.join("out.gguf")).unwrap();
        let value = |key: &str| after.metadata().get(key).and_then(Value::unsigned);
        assert_eq!(value("general.file_type"), Some(number), "{name}");
        assert_eq!(value("general.quantization_version"), Some(2), "{name}");
        let changed = ["general.file_type", "general.quantization_version"];
        for (key, expected) in metadata().iter().filter(|(key, _)| !changed.contains(key)) {
            assert_eq!(after.metadata().get(key), Some(expected), "{name}");
        }
        let of = |tensor: &str| after.tensors().get(tensor).unwrap().0.dtype;
        assert_eq!((of("blk.3.attn_q.weight"), of("output_norm.weight")), (dtype, DType::F32), "{name}");
        assert_eq!(told["tensors"].as_array().map(Vec::len), Some(before.len()));
        let error = told["error"].as_f64().unwrap();
        assert!(error <= most && error >= most * 0.4, "{name}: {error}");
        for ((planned, bytes), (tensor, found)) in before.iter().zip(after.tensors().iter()) {
            assert_eq!((&planned.name, &planned.shape), (&tensor.name, &tensor.shape), "{name}");
            assert!(planned.dtype != tensor.dtype || bytes == found, "{name}: {}", planned.name);
        }
    }
    assert_eq!(place.names(), ["in.gguf", "out.gguf"], "nothing else is left");
    // What llama.cpp gives these: more bits for the output, and for half of the values and the way down.
    place.json("in.gguf out.gguf --to q4_k_m");
    let all = types(&place.0.join("out.gguf"));
    let six: Vec<_> = all.iter().filter(|(_, dtype)| *dtype == DType::Q6_K).map(|(name, _)| name.as_str()).collect();
    let layers = [0, 3, 6, 7];
    let expected = layers.iter().flat_map(|i| [format!("blk.{i}.attn_v.weight"), format!("blk.{i}.ffn_down.weight")]);
    assert_eq!(six, [vec!["output.weight".to_string()], expected.collect()].concat());
    place.json("in.gguf out.gguf --to q4_0 --pure");
    assert!(types(&place.0.join("out.gguf")).contains(&("output.weight".into(), DType::Q4_0)));
    // Threads change no bit.
    let written = |threads: usize| {
        place.json(&format!("in.gguf out.gguf --to q4_k_m --threads {threads}"));
        fs::read(place.0.join("out.gguf")).unwrap()
    };
    assert!(written(1) == written(3));
}

#[test]
fn blocks_become_numbers_and_only_when_asked_other_blocks() {
    let place = Place::new("back");
    let before = tensors(512, DType::Q4_K);
    place.write("in.gguf", file(&before, &metadata()));
    place.json("in.gguf f32.gguf --to f32");
    let after = gguf::File::open(&place.0.join("f32.gguf")).unwrap();
    for ((planned, bytes), (_, found)) in before.iter().zip(after.tensors().iter()) {
        let mut numbers = vec![0f32; planned.shape.elements()];
        quant::format(planned.dtype).unwrap().decode(bytes, &mut numbers).unwrap();
        assert!(found == numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>(), "{}", planned.name);
    }
    // From the numbers the same blocks come again, or ones as good.
    place.refused("in.gguf out.gguf --to q8_0", 3, &["token_embd.weight", "it is q4_k already", "--requantize"]);
    assert!(!place.0.join("out.gguf").exists());
    place.json("in.gguf out.gguf --to q8_0 --requantize");
    assert!(types(&place.0.join("out.gguf")).contains(&("blk.0.attn_q.weight".into(), DType::Q8_0)));
    // What has its type already is taken as it is.
    place.json("in.gguf out.gguf --to q4_k");
    assert!(
        gguf::File::open(&place.0.join("out.gguf")).unwrap().tensors().iter().zip(&before).all(|(a, b)| a.1 == b.1)
    );
}

#[test]
fn rows_that_no_block_fills_are_told() {
    let place = Place::new("rows");
    place.write("in.gguf", file(&tensors(352, DType::F32), &metadata()));
    let output = place.rondo("in.gguf out.gguf --to q4_k_m --json");
    let text = stderr(&output);
    assert!(
        text.contains("blk.0.ffn_down.weight and 3 more: q8_0 instead of q6_k, whose blocks don't fill rows of 352")
    );
    assert!(text.contains("blk.1.ffn_down.weight and 3 more: q5_0 instead of q4_k"), "{text}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let down = told["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "blk.1.ffn_down.weight").unwrap();
    assert_eq!((&down["to"], &down["instead_of"]), (&"q5_0".into(), &"q4_k".into()));
}

#[test]
fn a_model_in_parts_becomes_one_file() {
    let place = Place::new("parts");
    let all = tensors(256, DType::F16);
    for (index, part) in all.chunks(all.len().div_ceil(2)).enumerate() {
        let mut metadata = if index == 0 { metadata() } else { Metadata::default() };
        metadata.set("split.no", Value::U16(index as u16));
        metadata.set("split.count", Value::U16(2));
        metadata.set("split.tensors.count", Value::I32(all.len() as i32));
        place.write(&format!("m-0000{}-of-00002.gguf", index + 1), file(part, &metadata));
    }
    place.json("m-00001-of-00002.gguf out.gguf --to q6_k");
    let after = gguf::File::open(&place.0.join("out.gguf")).unwrap();
    assert_eq!(after.tensors().len(), all.len());
    assert!(after.metadata().get("split.count").is_none());
    let said = ["the output is a file that is read"];
    place.refused("m-00001-of-00002.gguf m-00002-of-00002.gguf --to q6_k", 2, &said);
}

/// llama.cpp's old form, every matrix having `columns`.
fn imatrix(columns: usize) -> Vec<u8> {
    let names: Vec<_> = (0..LAYERS).map(|layer| format!("blk.{layer}.attn_q.weight")).collect();
    let mut bytes = (names.len() as i32).to_le_bytes().to_vec();
    for name in names {
        bytes.extend((name.len() as i32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(2i32.to_le_bytes());
        bytes.extend((columns as i32).to_le_bytes());
        (0..columns).for_each(|i| bytes.extend((1.0 + (i * 7 % 13) as f32).to_le_bytes()));
    }
    bytes
}

#[test]
fn importance_matrices() {
    let place = Place::new("imatrix");
    place.write("in.gguf", file(&tensors(256, DType::F16), &metadata()));
    place.write("good.dat", imatrix(256));
    place.write("wrong.dat", imatrix(128));
    place.write("short.dat", &imatrix(256)[..1000]);
    place.write("empty.dat", b"");
    place.json("in.gguf plain.gguf --to q4_k_s");
    place.json("in.gguf out.gguf --to q4_k_s --imatrix good.dat");
    let [plain, out] = ["plain.gguf", "out.gguf"].map(|name| gguf::File::open(&place.0.join(name)).unwrap());
    let differ = |name: &str| plain.tensors().get(name).unwrap().1 != out.tensors().get(name).unwrap().1;
    assert!(differ("blk.2.attn_q.weight") && !differ("blk.2.attn_k.weight"));
    let text = |key: &str| out.metadata().get(key).and_then(Value::text).map(String::from);
    assert_eq!(text("quantize.imatrix.file").as_deref(), Some("good.dat"));
    let entries = out.metadata().get("quantize.imatrix.entries_count").and_then(Value::unsigned);
    assert_eq!(entries, Some(LAYERS as u64));
    let wrong = ["blk.0.attn_q.weight", "byte ", "128 columns", "256"];
    place.refused("in.gguf no.gguf --to q4_k_s --imatrix wrong.dat", 3, &wrong);
    place.refused("in.gguf no.gguf --to q4_k_s --imatrix short.dat", 3, &["short.dat: byte 35", "llama-imatrix"]);
    place.refused("in.gguf no.gguf --to q4_k_s --imatrix empty.dat", 3, &["empty.dat: byte 0"]);
    place.refused("in.gguf no.gguf --to q4_k_s --imatrix none.dat", 3, &["none.dat: No such file"]);
    place.refused("in.gguf good.dat --to q4_k_s --imatrix good.dat", 2, &["the output is a file that is read"]);
    assert!(!place.names().iter().any(|name| name.contains("no.gguf")), "{:?}", place.names());
}

#[test]
fn what_is_wrong_is_said_and_leaves_nothing() {
    let place = Place::new("wrong");
    let whole = file(&tensors(256, DType::F16), &metadata());
    place.write("in.gguf", &whole);
    place.write("cut.gguf", &whole[..whole.len() - 5000]);
    place.write("none.gguf", b"not a model");
    fs::create_dir(place.0.join("folder")).unwrap();
    let mut nan = whole.clone();
    let at = {
        let file = gguf::File::open(&place.0.join("in.gguf")).unwrap();
        usize::try_from(file.tensors().get("blk.1.ffn_up.weight").unwrap().0.offset).unwrap() + 2 * 300
    };
    nan[at..at + 2].copy_from_slice(&0x7E00u16.to_le_bytes());
    place.write("nan.gguf", nan);
    let names = place.names();
    let number = format!("blk.1.ffn_up.weight`: element 300 is NaN, which no block format holds; it lies at byte {at}");
    for (line, code, said) in [
        ("in.gguf out.gguf --to q4_k_xl", 2, vec!["there is no such recipe", "q4_k_m"]),
        ("in.gguf out.gguf --to iq2_xs", 2, vec!["iq2_xs", "it can be read, not written"]),
        ("in.gguf out.gguf --to q4_k_m --pure", 2, vec!["--pure takes an element type"]),
        ("in.gguf out.gguf", 2, vec!["--to <TYPE>"]),
        ("in.gguf out.gguf --to q8_0 --threads 0", 2, vec!["--threads must be at least 1"]),
        ("in.gguf in.gguf --to q8_0", 2, vec!["in.gguf: the output is a file that is read"]),
        ("in.gguf ./folder/../in.gguf --to q8_0", 2, vec!["the output is a file that is read"]),
        ("in.gguf folder --to q8_0", 2, vec!["the output is a folder"]),
        ("in.gguf nowhere/out.gguf --to q8_0", 2, vec!["nowhere/out.gguf: there is no folder nowhere", "help: "]),
        ("gone.gguf out.gguf --to q8_0", 3, vec!["gone.gguf: No such file", "help: "]),
        ("none.gguf out.gguf --to q8_0", 3, vec!["none.gguf: byte 0"]),
        ("cut.gguf out.gguf --to q8_0", 3, vec!["cut.gguf: byte", "blk.7.", "help:"]),
        ("nan.gguf out.gguf --to q4_k_m", 3, vec!["nan.gguf: byte", number.as_str(), "help: the model is damaged"]),
    ] {
        place.refused(line, code, &said);
        assert_eq!(place.names(), names, "{line}");
    }
    assert!(fs::read(place.0.join("in.gguf")).unwrap() == whole);
    // A NaN is a number like others in plain types.
    place.json("nan.gguf out.gguf --to bf16");
}

/// A write that fails leaves what was there.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_old_file() {
    let place = Place::new("full");
    place.write("in.gguf", file(&tensors(256, DType::F16), &metadata()));
    place.write("out.gguf", b"GGUF, the old one");
    let line =
        format!("trap '' XFSZ; ulimit -f 64; exec {} quantize in.gguf out.gguf --to q8_0", env!("CARGO_BIN_EXE_rondo"));
    let output = Command::new("sh").args(["-c", &line]).current_dir(&place.0).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("error: out.gguf: File too large"), "{}", stderr(&output));
    assert_eq!(fs::read(place.0.join("out.gguf")).unwrap(), b"GGUF, the old one");
    assert_eq!(place.names(), ["in.gguf", "out.gguf"]);
}
