//! Round trips, every truncation, and heads that lie.

use super::*;

/// A file with a value of every kind and tensors of several types.
fn seed() -> (Metadata, Vec<(Planned, Vec<u8>)>) {
    let texts = |values: &[&str]| Array::String(values.iter().map(ToString::to_string).collect());
    let metadata: Metadata = [
        ("general.architecture", Value::String("llama".into())),
        ("a.u8", Value::U8(200)),
        ("a.i8", Value::I8(-3)),
        ("a.u16", Value::U16(60_000)),
        ("a.i16", Value::I16(-30_000)),
        ("a.u32", Value::U32(4_000_000_000)),
        ("a.i32", Value::I32(-5)),
        ("a.f32", Value::F32(0.1)),
        ("a.bool", Value::Bool(true)),
        ("a.u64", Value::U64(1 << 60)),
        ("a.i64", Value::I64(-(1 << 60))),
        ("a.f64", Value::F64(std::f64::consts::PI)),
        ("a.texts", Value::Array(texts(&["", "one", "zwei", "\u{1F600}"]))),
        ("a.floats", Value::Array(Array::F32(vec![1.0, -2.5]))),
        ("a.flags", Value::Array(Array::Bool(vec![true, false, true]))),
        ("a.lists", Value::Array(Array::Array(vec![Array::I32(vec![1, 2]), texts(&["x"])]))),
        ("a.empty", Value::Array(Array::U64(vec![]))),
    ]
    .into_iter()
    .collect();
    let tensor = |name: &str, dtype: DType, shape: &[usize]| {
        let planned = Planned { name: name.into(), dtype, shape: shape.into() };
        let count = dtype.bytes(planned.shape.elements()).expect("whole blocks");
        let bytes = (0..count).map(|i| (i * 31 % 251) as u8).collect();
        (planned, bytes)
    };
    let tensors = vec![
        tensor("token_embd.weight", DType::F32, &[7, 32]),
        tensor("odd", DType::F16, &[3]),
        tensor("blk.0.ffn_up.weight", DType::Q4_K, &[2, 3, 256]),
        tensor("scalar", DType::F32, &[1]),
    ];
    (metadata, tensors)
}

fn file_of(metadata: &Metadata, tensors: &[(Planned, Vec<u8>)]) -> Vec<u8> {
    let tensors: Vec<_> = tensors.iter().map(|(planned, bytes)| (planned.clone(), bytes.as_slice())).collect();
    write(Vec::new(), metadata, &tensors).expect("a vector takes everything")
}

#[test]
fn what_is_written_is_read_back() {
    let (metadata, tensors) = seed();
    let bytes = file_of(&metadata, &tensors);
    let head = parse(&bytes).expect("it is a good file");
    assert_eq!(head.metadata, metadata);
    assert_eq!((head.version, head.trailing_bytes), (3, 0));
    for ((planned, data), info) in tensors.iter().zip(&head.tensors) {
        assert_eq!((&planned.name, planned.dtype, &planned.shape), (&info.name, info.dtype, &info.shape));
        assert_eq!(info.offset % ALIGNMENT, 0);
        assert_eq!(&bytes[info.offset as usize..][..info.bytes as usize], data.as_slice());
    }
    let mut longer = bytes.clone();
    longer.extend_from_slice(b"tail");
    assert_eq!(parse(&longer).expect("a tail is no harm").trailing_bytes, 4);
    let mut second = bytes;
    second[4] = 2;
    assert_eq!(parse(&second).expect("version 2 reads the same").metadata, metadata);
}

#[test]
fn every_truncation_is_an_error() {
    let (metadata, tensors) = seed();
    let bytes = file_of(&metadata, &tensors);
    let head = parse(&bytes).expect("it is a good file");
    let last = head.tensors.last().expect("there are tensors");
    // What follows the last tensor is padding alone.
    for length in 0..(last.offset + last.bytes) as usize {
        let problem = parse(&bytes[..length]).expect_err("a part of a file is no file");
        assert!(problem.offset <= length as u64, "{length}: {problem}");
    }
}

/// A folder of its own for a test, removed at its end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("rondo-gguf-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the folder for temporary files can be written");
        Folder(path)
    }

    /// Writes part `number` of `count` (from 1 on) with the tensors named; answers its path.
    fn part(&self, number: u64, count: u64, says: (u16, u16, i32), names: &[&str]) -> std::path::PathBuf {
        let metadata: Metadata = [
            ("general.architecture", Value::String("llama".into())),
            (SPLIT_NUMBER_KEY, Value::U16(says.0)),
            (SPLIT_COUNT_KEY, Value::U16(says.1)),
            (SPLIT_TENSORS_KEY, Value::I32(says.2)),
        ]
        .into_iter()
        .collect();
        let tensor = |name: &&str| {
            (Planned { name: (*name).into(), dtype: DType::F32, shape: [2].into() }, vec![number as u8; 8])
        };
        let tensors: Vec<_> = names.iter().map(tensor).collect();
        let path = self.0.join(part_name("model", number, count));
        std::fs::write(&path, file_of(&metadata, &tensors)).expect("it can be written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_model_in_parts_is_one_model() {
    let folder = Folder::new("parts");
    folder.part(1, 3, (0, 3, 4), &["a", "b"]);
    let second = folder.part(2, 3, (1, 3, 4), &["c"]);
    folder.part(3, 3, (2, 3, 4), &["d"]);
    // Any part opens all.
    let file = File::open(&second).expect("the parts are good");
    assert_eq!(file.tensors().len(), 4);
    assert_eq!(file.tensors().paths().count(), 3);
    assert_eq!(file.tensors().iter().map(|(tensor, _)| tensor.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    assert_eq!(file.tensor("c").expect("it is there").1, [2; 8]);
    assert_eq!(file.tensors().path_of("c"), Some(second.as_path()));
    assert!(file.tensor("e").is_none());
    file.tensors().unchanged().expect("nobody wrote it");
    let refused = |path: &std::path::Path, expected: &str| {
        let error = File::open(path).expect_err("the parts are not of one model").to_string();
        assert!(error.contains(expected) && error.contains("help: "), "{error}");
    };
    // Swapped.
    folder.part(2, 3, (2, 3, 4), &["d"]);
    refused(&second, "model-00002-of-00003.gguf: byte 69: key `split.no`: the file says that it is part 3");
    // Of a model with another number of tensors, of parts, or the same tensors.
    folder.part(2, 3, (1, 3, 9), &["c"]);
    refused(&second, "key `split.tensors.count`: it is 9, and 4 in the first part");
    folder.part(2, 3, (1, 4, 4), &["c"]);
    refused(&folder.0.join(part_name("model", 1, 3)), "key `split.count`: it is 4, and 3 in the first part");
    folder.part(2, 3, (1, 3, 4), &["a"]);
    refused(&second, "tensor `a`: it is in another part too");
    folder.part(2, 3, (1, 3, 4), &["c", "e"]);
    refused(&second, "it is 4; the parts have 5 tensors");
    std::fs::remove_file(&second).expect("it is there");
    refused(&folder.0.join(part_name("model", 1, 3)), "model-00002-of-00003.gguf: part 2 of 3 is missing");
    let renamed = folder.0.join("renamed.gguf");
    std::fs::rename(folder.0.join(part_name("model", 1, 3)), &renamed).expect("it is there");
    refused(&renamed, "its name doesn't say which");
}

#[test]
fn what_is_no_gguf_file_is_named() {
    let folder = Folder::new("others");
    let refused = |bytes: &[u8], expected: &str| {
        let path = folder.0.join("model.gguf");
        std::fs::write(&path, bytes).expect("it can be written");
        let error = File::open(&path).expect_err("it is no GGUF file").to_string();
        assert!(error.contains(expected) && error.contains("model.gguf: byte ") && error.contains("help: "), "{error}");
    };
    refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "a Git LFS pointer");
    refused(b"GGJT\x03\0\0\0", "a format older than GGUF");
    refused(b"FUGG\x03\0\0\0", "it is `FUGG`, not `GGUF`");
    refused(b"PK\x03\x04rest", "a zip archive or a PyTorch file");
    refused(b"GGUF\0\0\0\x03", "big-endian");
    refused(b"GGUF\x04\0\0\0", "it is 4; versions 2 and 3");
    refused(b"", "it is cut short");
    assert!(File::open(&folder.0).expect_err("a folder").to_string().contains("it is a folder"));
    let missing = File::open(&folder.0.join("none.gguf")).expect_err("it isn't there").to_string();
    assert!(missing.contains("none.gguf: No such file"), "{missing}");
}
