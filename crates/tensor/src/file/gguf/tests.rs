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
