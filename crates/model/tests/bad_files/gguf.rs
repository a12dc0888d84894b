//! GG01 to GG36 of the catalogue.

use super::raw::{Raw, text, u32s, u64s, value};
use super::{Case, Outcome};
use tensor::file::gguf::{Array, Value};

const FILE: &str = "model.gguf";
/// Type and value of keys, by number.
const U8: u32 = 0;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

struct Table(Vec<Case>);

impl Table {
    fn refuse(&mut self, id: &'static str, what: impl Into<String>, raw: Raw, said: &[&'static str]) {
        self.bytes(id, what, raw.bytes(), said);
    }

    fn bytes(&mut self, id: &'static str, what: impl Into<String>, bytes: Vec<u8>, said: &[&'static str]) {
        self.0.push(Case::refused(id, what, FILE, bytes, said));
    }

    fn read(&mut self, id: &'static str, what: impl Into<String>, raw: Raw, warning: Option<&'static str>) {
        self.bytes(id, what, raw.bytes(), &[]);
        self.0.last_mut().expect("it was added").outcome = Outcome::Read(warning);
    }

    /// A file with one key more.
    fn pair(&mut self, id: &'static str, what: impl Into<String>, key: &[u8], value: Vec<u8>, said: &[&'static str]) {
        let raw = Raw::good().change(|raw| raw.pairs.push((key.into(), value)));
        self.refuse(id, what, raw, said);
    }
}

pub fn cases() -> Vec<Case> {
    let mut t = Table(Vec::new());
    let (good, text_of) = (Raw::good, |text: &str| value(&Value::String(text.into())));
    t.read("GG00", "the good file itself", good(), None);
    heads(&mut t);
    keys(&mut t);
    tensors(&mut t);
    places(&mut t);
    // What it is a model of.
    let architecture = "general.architecture";
    t.refuse("GG33", "no architecture", good().without(architecture), &["general.architecture", "it is missing"]);
    t.refuse("GG33", "unknown", good().with(architecture, text_of("bloom")), &["\"bloom\" is not supported", "llama"]);
    let long = good().with(architecture, text_of(&"x".repeat(1 << 20)));
    t.refuse("GG33", "1 MiB long", long, &["general.architecture", "is not supported"]);
    let (heads, kv, layers, width) =
        ("llama.attention.head_count", "llama.attention.head_count_kv", "llama.block_count", "llama.embedding_length");
    for (id, key, number, said) in [
        ("GG34", heads, 0, "it is 0"),
        ("GG34", heads, u32::MAX, "it is 4294967295"),
        ("GG34", heads, 5, "can't share evenly"),
        ("GG34", kv, 0, "can't share evenly"),
        ("GG34", kv, 8, "can't share evenly"),
        ("GG34", width, 17, "doesn't divide the width"),
        ("GG34", width, 0, "it is 0"),
        ("GG35", layers, 0, "it is 0"),
        ("GG35", layers, 513, "it is 513"),
        ("GG35", layers, 1 << 31, "it is 2147483648"),
        ("GG35", layers, u32::MAX, "it is 4294967295"),
        ("GG35", layers, 3, "tensor `blk.2."),
    ] {
        t.refuse(id, format!("{key} = {number}"), good().with(key, u32s(&[4, number])), &[said]);
    }
    for list in [vec![2, 2, 2], vec![2], vec![]] {
        let raw = good().with(kv, value(&Value::Array(Array::U32(list.clone()))));
        t.refuse("GG35", format!("a list of {} for 2 layers", list.len()), raw, &[kv, "there are 2 layers"]);
    }
    for (kind, bytes) in [("text", text_of("4")), ("f32", value(&Value::F32(4.0))), ("-1", value(&Value::I32(-1)))] {
        t.refuse("GG34", format!("heads as {kind}"), good().with(heads, bytes), &[heads, "whole number"]);
    }
    parts(&mut t);
    t.0
}

/// GG01 to GG06, GG17: what stands before the keys.
fn heads(t: &mut Table) {
    let good = Raw::good;
    for bytes in [0, 1, 3, 4] {
        let said = if bytes < 4 { "byte 0: the magic number: it takes 4 bytes" } else { "byte 4: the version" };
        t.bytes("GG01", format!("{bytes} bytes"), b"GGUF"[..bytes].into(), &[said, "cut short"]);
    }
    for (magic, said) in [(*b"FUGG", "not `GGUF`"), (*b"GGML", "older than GGUF"), (*b"GGJT", "older than GGUF")] {
        t.refuse("GG02", "another magic", good().change(|raw| raw.magic = magic), &["byte 0", said]);
    }
    for (version, said) in [(0, "it is 0"), (1, "nobody reads"), (4, "it is 4"), (3 << 24, "big-endian machines")] {
        let id = if version == 3 << 24 { "GG04" } else { "GG03" };
        t.refuse(id, format!("version {version}"), good().change(|raw| raw.version = version), &["byte 4", said]);
    }
    for count in [u64::MAX, 1 << 63, 65_537] {
        let raw = good().change(|raw| raw.num_tensors = Some(count));
        t.refuse("GG05", format!("{count} tensors"), raw, &["byte 8: the number of tensors"]);
    }
    let many = good().change(|raw| {
        raw.num_tensors = Some(65_537);
        raw.data = vec![0; 65_537 * 24];
    });
    t.refuse("GG05", "65,537 tensors that would fit", many, &["more than 65536 are refused"]);
    for count in [u64::MAX, 1 << 63] {
        let raw = good().change(|raw| raw.num_keys = Some(count));
        t.refuse("GG06", format!("{count} keys"), raw, &["byte 16: the number of keys"]);
    }
    let count = good().tensors.len() as u64;
    let raw = good().change(|raw| {
        raw.num_tensors = Some(count + 1);
        raw.data.clear();
    });
    t.refuse("GG17", "a tensor fewer than the head says", raw, &["tensor 20 of 21"]);
}

/// GG07 to GG16: keys and values.
fn keys(t: &mut Table) {
    let one = |kind: u32, value: &[u8]| [u32s(&[kind]), value.to_vec()].concat();
    for length in [u64::MAX, 1 << 40] {
        let mut bytes = [b"GGUF".to_vec(), u32s(&[3]), u64s(&[0, 1, length])].concat();
        bytes.extend([0; 32]);
        t.bytes("GG07", format!("a key of {length} bytes"), bytes, &["byte 24: the length of key 0"]);
    }
    t.pair("GG08", "an empty key", b"", u32s(&[4, 1]), &["it is empty"]);
    t.pair("GG09", "a key that is no UTF-8", b"a\xff", u32s(&[4, 1]), &["it is not UTF-8"]);
    t.pair("GG09", "a key with a zero", b"a\0b", u32s(&[4, 1]), &["zero byte"]);
    t.pair("GG09", "a key too long", &vec![b'x'; 70_000], u32s(&[4, 1]), &["longer than 65535"]);
    let path = Raw::good().change(|raw| raw.pairs.push((b"../../etc/passwd".into(), u32s(&[4, 1]))));
    t.read("GG09", "a key that looks like a path", path, None);
    t.pair(
        "GG10",
        "a key twice",
        b"general.architecture",
        u32s(&[4, 1]),
        &["`general.architecture`: it is there twice"],
    );
    for kind in [13, u32::MAX] {
        t.pair("GG11", format!("type {kind}"), b"a", one(kind, &[0; 8]), &["unknown type"]);
    }
    for flag in [2, 255] {
        t.pair("GG12", format!("a flag of {flag}"), b"a", one(BOOL, &[flag]), &["it must be 0 or 1"]);
    }
    let nested = |depth: usize| {
        let mut bytes = u32s(&[ARRAY]);
        (1..depth).for_each(|_| bytes.extend([u32s(&[ARRAY]), u64s(&[1])].concat()));
        [bytes, u32s(&[4]), u64s(&[1]), u32s(&[7])].concat()
    };
    let deep = Raw::good().change(|raw| raw.pairs.push((b"a".into(), nested(3))));
    t.read("GG13", "lists 3 deep", deep, None);
    t.pair("GG13", "lists 100 deep", b"a", nested(100), &["more than 4 deep"]);
    for kind in [U8, STRING] {
        let bytes = [u32s(&[ARRAY, kind]), u64s(&[1 << 62])].concat();
        t.pair(
            "GG14",
            format!("2^62 values of type {kind}"),
            b"a",
            bytes,
            &["the length of key `a`", "it is 4611686018427387904"],
        );
    }
    let texts = [u32s(&[ARRAY, STRING]), u64s(&[1 << 21]), vec![0; 8 << 21]].concat();
    t.pair(
        "GG14",
        "2^21 empty texts, 16 MiB of file",
        b"a",
        texts,
        &["takes more memory than a file of this size may"],
    );
    let texts = [u32s(&[ARRAY, STRING]), u64s(&[1 << 20]), text(b"x").repeat(1 << 20)].concat();
    let many = Raw::good().change(|raw| raw.pairs.push((b"a".into(), texts)));
    t.read("GG14", "2^20 texts of a byte", many, None);
    let bytes = [b"GGUF".to_vec(), u32s(&[3]), u64s(&[0, 1]), text(b"a"), u32s(&[STRING]), u64s(&[1 << 40])].concat();
    let bytes = [bytes, vec![b'x'; 19]].concat();
    assert_eq!(bytes.len(), 64);
    t.bytes(
        "GG15",
        "a text of 2^40 bytes in a file of 64",
        bytes,
        &["byte 37", "the text of key `a`", "it is 1099511627776"],
    );
    for (value, said) in [
        (u32s(&[4, 0]), "it is 0; it must be a power of two"),
        (u32s(&[4, 13]), "it is 13; it must be a power of two"),
        (u32s(&[4, 1 << 31]), "more than 1048576"),
        (value(&Value::I32(32)), "its type is i32"),
        (value(&Value::String("32".into())), "its type is string"),
    ] {
        t.pair("GG16", said, b"general.alignment", value, &["key `general.alignment`", said]);
    }
    let packed = Raw::good().with("general.alignment", u32s(&[4, 1])).change(|raw| raw.alignment = 1);
    t.read("GG16", "an alignment of 1", packed, None);
}

/// GG18 to GG27, GG30: what the head says of tensors.
fn tensors(t: &mut Table) {
    let good = Raw::good;
    let absent = good().change(|raw| drop(raw.tensors.pop()));
    t.refuse("GG18", "a tensor is absent", absent, &["blk.1.ffn_down.weight", "it is missing"]);
    let swapped = good().last(|tensor| tensor.sizes.reverse());
    t.refuse("GG18", "a tensor of another shape", swapped, &["blk.1.ffn_down.weight", "its sizes are"]);
    let extra = good().change(|raw| {
        let mut more = raw.tensors[1].clone();
        (more.name, more.offset) = (b"surprise".into(), raw.data.len() as u64);
        raw.data.extend([0; 64]);
        raw.tensors.push(more);
    });
    t.read("GG18", "a tensor that nobody needs", extra, Some("tensor `surprise` is not one of the model's"));
    for dimensions in [5, 0, u32::MAX] {
        let raw = good().last(|tensor| tensor.dimensions = Some(dimensions));
        t.refuse("GG19", format!("{dimensions} dimensions"), raw, &["dimensions; there must be 1 to 4"]);
    }
    let last = "blk.1.ffn_down.weight";
    for (id, what, dtype, sizes) in [
        ("GG20", "a size of -1", 0, vec![u64::MAX, 16]),
        ("GG22", "in f32", 0, vec![1024, 1024, (1 << 42) + 1, 1]),
        ("GG22", "the first pair wraps", 0, vec![1 << 32, 1 << 32]),
        ("GG22", "the last pair wraps", 0, vec![1, 1, 1 << 32, 1 << 32]),
        ("GG22", "the outer pair wraps", 0, vec![1 << 32, 1, 1, 1 << 32]),
        ("GG22", "sizes that wrap beside one of zero", 0, vec![1 << 32, 1 << 32, 0, 1]),
        ("GG23", "the bytes wrap in i64", 27, vec![1 << 61, 1]),
        ("GG25", "the padded bytes wrap", 24, vec![u64::MAX - 30]),
        ("GG25", "a quarter of everything in f32", 0, vec![u64::MAX / 4, 1]),
    ] {
        let raw = good().last(|tensor| (tensor.dtype, tensor.sizes) = (dtype, sizes));
        t.refuse(id, what, raw, &[last, "too large"]);
    }
    let huge = good().last(|tensor| (tensor.dtype, tensor.sizes) = (24, vec![1024, 1024, (1 << 42) + 1, 1]));
    t.refuse("GG22", "in i8, which doesn't wrap", huge, &[last, "it ends at byte 4611686018428"]);
    let empty = good().last(|tensor| tensor.sizes = vec![0, 16]);
    t.refuse("GG21", "a size of 0", empty, &[last, "its sizes are [16, 0]"]);
    let halves = good().change(|raw| {
        for tensor in raw.tensors.iter_mut().rev().take(2) {
            (tensor.dtype, tensor.sizes) = (24, vec![1 << 62]);
        }
    });
    t.refuse("GG24", "two tensors whose sum wraps", halves, &["ends at byte"]);
    let pair = good().change(|raw| {
        let count = raw.tensors.len();
        raw.tensors[count - 1].offset = u64::MAX - 31;
    });
    t.refuse("GG24", "an offset and bytes whose sum wraps", pair, &[last, "beyond any file"]);
    for (dtype, said) in [
        (41, "Q1_0"),
        (42, "unknown"),
        (u32::MAX, "unknown"),
        (4, "Q4_2"),
        (5, "Q4_3"),
        (31, "removed"),
        (36, "removed"),
    ] {
        let raw = good().last(|tensor| tensor.dtype = dtype);
        t.refuse("GG26", format!("type {dtype}"), raw, &[last, "element type", said]);
    }
    let row = good().last(|tensor| (tensor.dtype, tensor.sizes) = (12, vec![100, 16]));
    t.refuse("GG27", "Q4_K rows of 100", row, &[last, "rows have 100 elements", "blocks of 256 don't fill"]);
    let twice = good().last(|tensor| tensor.name = b"blk.0.ffn_down.weight".into());
    t.refuse("GG30", "a name twice", twice, &["tensor `blk.0.ffn_down.weight`: its name is there twice"]);
    t.refuse("GG30", "an empty name", good().last(|tensor| tensor.name.clear()), &["its name has 0 bytes"]);
    let long = good().last(|tensor| tensor.name = vec![b'x'; 65]);
    t.refuse("GG30", "a name of 65 bytes", long, &["its name has 65 bytes", "1 to "]);
    let bytes = good().last(|tensor| tensor.name = b"\xff\xfe".into());
    t.refuse("GG30", "a name that is no UTF-8", bytes, &["it is not UTF-8"]);
}

/// GG28, GG29, GG31: where the data are.
fn places(t: &mut Table) {
    let good = Raw::good;
    let last = "blk.1.ffn_down.weight";
    t.refuse("GG28", "an offset of -1", good().last(|tensor| tensor.offset = u64::MAX), &[last, "offset"]);
    t.refuse(
        "GG28",
        "an offset between",
        good().last(|tensor| tensor.offset += 4),
        &[last, "no multiple of the alignment"],
    );
    t.refuse("GG28", "32 bytes beyond", good().last(|tensor| tensor.offset += 32), &[last, "it ends at byte"]);
    // A tensor whose size is no multiple of the alignment, so that a byte counts.
    let odd = || {
        good().change(|raw| {
            let mut more = raw.tensors[1].clone();
            (more.name, more.sizes, more.dtype, more.offset) = (b"odd".into(), vec![5], 24, raw.data.len() as u64);
            raw.data.extend([7; 5]);
            raw.tensors.push(more);
        })
    };
    t.read("GG31", "an odd end", odd(), Some("tensor `odd`"));
    t.refuse(
        "GG28",
        "one byte beyond",
        odd().last(|tensor| tensor.sizes = vec![6]),
        &["tensor `odd`", "it ends at byte"],
    );
    t.refuse(
        "GG31",
        "the last byte is missing",
        odd().change(|raw| raw.data.truncate(raw.data.len() - 1)),
        &["tensor `odd`", "cut short"],
    );
    t.read("GG31", "a byte more", good().change(|raw| raw.data.push(1)), Some("1 bytes after the last tensor"));
    let overlap = good().last(|tensor| tensor.offset -= 32);
    t.refuse("GG29", "two tensors overlap", overlap, &[last, "inside tensor `blk.1.ffn_up.weight`"]);
    let hole = good().change(|raw| {
        raw.data.extend([0; 1536]);
        raw.tensors.last_mut().expect("there are tensors").offset += 1536;
    });
    t.read("GG29", "a hole between two tensors", hole, None);
}

/// GG36: a model in three parts.
fn parts(t: &mut Table) {
    let name = |number: usize| format!("model-{number:05}-of-00003.gguf");
    let part = |says: u32, count: u32, tensors: &[usize]| {
        let good = Raw::good();
        let all = good.tensors.len() as u32;
        let mut raw = good.clone();
        (raw.tensors, raw.data) = (Vec::new(), Vec::new());
        for index in tensors {
            let mut tensor = good.tensors[*index].clone();
            let bytes = tensor.sizes.iter().product::<u64>() as usize * 4;
            let from = tensor.offset as usize;
            tensor.offset = raw.data.len() as u64;
            raw.data.extend(&good.data[from..from + bytes]);
            raw.data.resize(raw.data.len().next_multiple_of(32), 0);
            raw.tensors.push(tensor);
        }
        let raw = raw.with("split.no", u32s(&[4, says])).with("split.count", u32s(&[4, count]));
        raw.with("split.tensors.count", u32s(&[4, all])).bytes()
    };
    let count = Raw::good().tensors.len();
    let ranges: [Vec<usize>; 3] = [(0..7).collect(), (7..14).collect(), (14..count).collect()];
    let whole: Vec<_> = (0..3).map(|i| (name(i + 1), part(i as u32, 3, &ranges[i]))).collect();
    let mut add = |what: &str, files: Vec<(String, Vec<u8>)>, outcome: Outcome| {
        let (id, links) = ("GG36", Vec::new());
        t.0.push(Case { id, what: what.into(), files, links, open: "model-00001-of-00003.gguf", outcome });
    };
    add("all three parts", whole.clone(), Outcome::Read(None));
    let missing = whole.iter().filter(|(file, _)| *file != name(2)).cloned().collect();
    add("part 2 is missing", missing, Outcome::Refused(vec!["model-00002-of-00003.gguf", "part 2 of 3 is missing"]));
    let mut swapped = whole.clone();
    (swapped[1].0, swapped[2].0) = (name(3), name(2));
    add("two parts are swapped", swapped, Outcome::Refused(vec!["`split.no`: the file says that it is part 3"]));
    let mut other = whole.clone();
    other[1].1 = part(1, 3, &ranges[0]);
    add("a part of another model", other, Outcome::Refused(vec!["it is in another part too"]));
    let mut fewer = whole;
    fewer[1].1 = part(1, 3, &ranges[1][1..]);
    add("a part with fewer tensors", fewer, Outcome::Refused(vec!["split.tensors.count", "the parts have 19 tensors"]));
}
