//! ST01 to ST16 of the catalogue.

use super::{Case, Outcome};
use serde_json::json;

const FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A file of a header and data; the length is the header's.
pub fn file(header: impl AsRef<[u8]>, data: &[u8]) -> Vec<u8> {
    let header = header.as_ref();
    [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
}

/// Two tensors that are read.
pub fn good() -> Vec<u8> {
    let header = json!({
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "F16", "shape": [4], "data_offsets": [16, 24]},
    });
    file(header.to_string(), &[60; 24])
}

/// A file with one tensor of 16 bytes, described by this text.
fn one(entry: &str) -> Vec<u8> {
    file(format!("{{\"a\":{entry}}}"), &[60; 16])
}

fn entry(dtype: &str, shape: &str, offsets: &str) -> Vec<u8> {
    one(&format!("{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}"))
}

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |id: &'static str, what: &str, bytes: Vec<u8>, said: &[&'static str]| {
        all.push(Case::refused(id, what, FILE, bytes, said));
    };
    for bytes in 0..8 {
        add("ST01", &format!("{bytes} bytes"), vec![0; bytes], &["byte 0: the header's length", "cut short"]);
    }
    for (length, said) in
        [(u64::MAX, "are refused"), (100_000_001, "are refused"), (100_000, "and the file has 24 more")]
    {
        let bytes = [&length.to_le_bytes()[..], &[b'{'; 24]].concat();
        add("ST02", &format!("a header of {length} bytes"), bytes, &["byte 0: the header's length", said]);
    }
    add("ST03", "a header that is no UTF-8", file(b"{\"a\xff\":1}", &[]), &["byte 11: the header: it is not UTF-8"]);
    for text in ["[]", "\"x\"", "", " {}"] {
        add("ST04", &format!("the header `{text}`"), file(text, &[]), &["byte 8: the header", "begin with `{`"]);
    }
    let a = "\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}";
    add("ST05", "a name twice", file(format!("{{{a},{a}}}"), &[60; 16]), &["tensor `a`: its name is there twice"]);
    for depth in [129, 100_000] {
        let deep = format!("{{\"__metadata__\":{}}}", "[".repeat(depth));
        add("ST06", &format!("{depth} lists in each other"), file(deep, &[]), &["the header: "]);
        let whole = format!("{{\"__metadata__\":{{\"a\":{}{}}}}}", "[".repeat(depth), "]".repeat(depth));
        add("ST06", &format!("{depth} whole lists"), file(whole, &[]), &["byte "]);
    }
    for number in ["1e3", "-0", "1.0", "18446744073709551616", "\"4\"", "-1", "null"] {
        add("ST07", number, entry("F32", "[4]", &format!("[0,{number}]")), &["tensor `a`", "byte "]);
        add("ST07", number, entry("F32", &format!("[{number}]"), "[0,16]"), &["tensor `a`", "byte "]);
    }
    add("ST08", "an end before the beginning", entry("F32", "[4]", "[16,0]"), &["tensor `a`: it ends at 0, before"]);
    add("ST08", "an end beyond the data", entry("F32", "[5]", "[0,20]"), &["tensor `a`: its data ends at 20"]);
    let two = |second: &str, data: usize| {
        let second = format!("\"b\":{{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":{second}}}");
        file(format!("{{{a},{second}}}"), &vec![60; data])
    };
    add(
        "ST09",
        "two tensors overlap",
        two("[8,24]", 24),
        &["tensor `b`: its data begins at 8, before tensor `a` ends"],
    );
    add("ST09", "two tensors in one place", two("[0,16]", 16), &["its data begins at 0, before"]);
    add("ST10", "a hole", two("[20,36]", 36), &["tensor `b`", "belongs to nothing"]);
    add("ST10", "a hole at the beginning", entry("F32", "[3]", "[4,16]"), &["tensor `a`", "belongs to nothing"]);
    add("ST11", "bytes at the end", [good(), b"PK\x05\x06".to_vec()].concat(), &["the file's end: 4 bytes"]);
    add("ST12", "a size that isn't the bytes'", entry("F32", "[3]", "[0,16]"), &["takes 12 bytes"]);
    for shape in ["[4294967296,4294967296]", "[4611686018427387905]", "[4294967296,4294967296,0]"] {
        add("ST12", shape, entry("F32", shape, "[0,16]"), &["tensor `a`", "too large"]);
    }
    add("ST13", "an unknown type", entry("F31", "[4]", "[0,16]"), &["element type \"F31\" is unknown"]);
    for dtype in ["F4", "F8_E4M3", "F8_E5M2", "F8_E8M0", "BOOL", "C64"] {
        add("ST13", dtype, entry(dtype, "[16]", "[0,16]"), &["is not supported", "help: get the model in float32"]);
    }
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 5\n";
    add("ST16", "a Git LFS pointer", pointer.to_vec(), &["a Git LFS pointer", "git lfs pull"]);
    add("ST16", "a PyTorch file", b"PK\x03\x04archive/data.pkl".to_vec(), &["a PyTorch file, which may hold code"]);
    let long = format!("{{\"{}\":{{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}}}", "x".repeat(5000));
    add("ST16", "a name of 5,000 bytes", file(long, &[60; 16]), &["more than 4096 are refused"]);
    let mut whole = Case::refused("ST00", "the good file itself", FILE, good(), &[]);
    whole.outcome = Outcome::Read(None);
    all.push(whole);
    all.extend(shards());
    all
}

/// ST14, ST15: an index and its shards.
fn shards() -> Vec<Case> {
    let mut all = Vec::new();
    let index = |shard: &str| json!({"weight_map": {"a": shard, "b": shard}}).to_string().into_bytes();
    let mut add = |id, what: &str, index: Vec<u8>, shard: Option<Vec<u8>>, said: &[&'static str]| {
        let mut files = vec![(INDEX.to_string(), index)];
        files.extend(shard.map(|bytes| ("x.safetensors".to_string(), bytes)));
        let outcome = if said.is_empty() { Outcome::Read(None) } else { Outcome::Refused(said.into()) };
        all.push(Case { id, what: what.into(), files, links: Vec::new(), open: "", outcome });
    };
    add("ST00", "a good index", index("x.safetensors"), Some(good()), &[]);
    for name in ["../../etc/passwd", "/etc/passwd", "..", "", "a/b", "a\\b", "C:x", "a\0b"] {
        let said = ["byte 0: the index", "a shard is a file beside the index"];
        add("ST14", &format!("the shard {name:?}"), index(name), Some(good()), &said);
    }
    add("ST14", "a shard that is missing", index("x.safetensors"), None, &["x.safetensors", "is missing"]);
    let other = json!({"weight_map": {"a": "x.safetensors"}}).to_string().into_bytes();
    add("ST15", "a tensor that the index doesn't name", other, Some(good()), &["tensor `b`", "doesn't name it"]);
    let more = json!({"weight_map": {"a": "x.safetensors", "b": "x.safetensors", "c": "x.safetensors"}});
    let more = more.to_string().into_bytes();
    add("ST15", "a tensor that isn't in the shard", more, Some(good()), &["tensor `c` is not in x.safetensors"]);
    for (what, text) in [("no map", "{}"), ("a list", "[]"), ("a number", "{\"weight_map\":{\"a\":5}}"), ("cut", "{")] {
        add("ST15", what, text.into(), Some(good()), &["the index: "]);
    }
    if let Some(missing) = all.iter().find(|case| case.what == "a shard that is missing").cloned() {
        let (what, outcome) = ("a link out of the folder".into(), Outcome::Refused(vec!["a link that leads out"]));
        all.push(Case { what, outcome, links: vec![("x.safetensors", "/etc/passwd")], ..missing });
    }
    all
}
