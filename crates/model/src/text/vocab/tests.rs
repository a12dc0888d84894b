//! Vocabularies of model files against the ids of llama.cpp, and small ones that are always here.

use super::*;
use crate::text::Stream;
use std::path::{Path, PathBuf};
use tensor::file::gguf::{self, Value};

const BETWEEN: &str = "\n__ggml_vocab_test__\n";

fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vocab")
}

/// The vocabulary `name` among the shared ones, with its texts and their ids.
fn golden(name: &str) -> Option<(Vocabulary, Vec<(String, Vec<u32>)>)> {
    let file = shared().join(format!("ggml-vocab-{name}.gguf"));
    let Ok(bytes) = std::fs::read(&file) else {
        println!("skipped: {} isn't here", file.display());
        return None;
    };
    let read = |ending: &str| std::fs::read_to_string(format!("{}.{ending}", file.display())).unwrap();
    let (texts, ids) = (read("inp"), read("out"));
    // The last one ends with a separator too.
    let texts: Vec<&str> = texts.strip_suffix(BETWEEN).unwrap_or(&texts).split(BETWEEN).collect();
    let ids: Vec<Vec<u32>> =
        ids.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect()).collect();
    assert!(texts.len() > 30 && texts.len() == ids.len(), "{name}: {} texts, {} lines", texts.len(), ids.len());
    let vocabulary = Vocabulary::from_gguf(&gguf::parse(&bytes).unwrap().metadata).unwrap().unwrap();
    Some((vocabulary, texts.into_iter().map(String::from).zip(ids).collect()))
}

#[test]
fn ids_are_those_of_llama_cpp_and_give_back_the_text() {
    for name in ["gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2"] {
        let Some((vocabulary, cases)) = golden(name) else { continue };
        for (text, ids) in &cases {
            assert_eq!(&vocabulary.encode(text, false), ids, "{name}: {text:?}");
            assert_eq!(String::from_utf8(vocabulary.decode(ids, false)).unwrap(), *text, "{name}: {ids:?}");
            // Token by token, no character is ever shown in parts.
            let (mut decoder, mut stream) = (vocabulary.decoder(false), Stream::default());
            let mut parts: Vec<String> = ids.iter().map(|id| stream.push(&decoder.push(*id))).collect();
            parts.push(stream.finish());
            assert_eq!(parts.concat(), *text);
        }
        println!("{name}: {} texts", cases.len());
    }
}

#[test]
fn control_tokens_come_only_where_they_are_asked_for() {
    let name = "<|im_start|>user\nhi<|im_end|>";
    if let Some((qwen, _)) = golden("qwen2") {
        assert!(qwen.encode(name, false).iter().all(|id| *id < 151_643));
        let ids = qwen.encode(name, true);
        assert_eq!((ids.first(), ids.last()), (Some(&151_644), Some(&151_645)));
        assert_eq!(qwen.decode(&ids, true), name.as_bytes());
        assert_eq!(qwen.decode(&ids, false), b"user\nhi");
    }
    if let Some((phi, _)) = golden("phi-3") {
        assert!(phi.encode("<s></s><|user|>", false).iter().all(|id| *id > 2 && *id < 32_000));
        assert_eq!(phi.encode("<|user|>\n  hi<|end|>", true), [32_010, 7251, 32_007]);
        assert_eq!(phi.surround(vec![5]), [1, 5]);
    }
}

fn texts(values: &[&str]) -> Value {
    Value::Array(Array::String(values.iter().map(ToString::to_string).collect()))
}

/// A byte-level vocabulary: every byte, a few merges, one control and one user-defined token.
pub fn small_bpe() -> Metadata {
    let bytes: Vec<String> = (0..=255).map(|byte| pieces::name_of(byte).to_string()).collect();
    let more = ["he", "ll", "hell", "hello", "\u{120}w", "\u{120}wo", "<|end|>", "  "];
    let all: Vec<&str> = bytes.iter().map(String::as_str).chain(more).collect();
    let kinds = (0..256).map(|_| 1).chain([1, 1, 1, 1, 1, 1, 3, 4]).collect();
    [
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String("gpt-2".into())),
        ("tokenizer.ggml.tokens", texts(&all)),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds))),
        ("tokenizer.ggml.merges", texts(&["h e", "l l", "he ll", "hell o", "\u{120} w", "\u{120}w o"])),
        ("tokenizer.ggml.eos_token_id", Value::U32(262)),
    ]
    .into_iter()
    .collect()
}

/// A SentencePiece vocabulary: unknown, begin, end, every byte, some pieces.
pub fn small_spm() -> Metadata {
    let bytes: Vec<String> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect();
    let pieces = ["\u{2581}", "h", "e", "l", "o", "\u{2581}h", "el", "lo", "\u{2581}hel", "\u{2581}hello", "ell"];
    let all: Vec<&str> =
        ["<unk>", "<s>", "</s>"].into_iter().chain(bytes.iter().map(String::as_str)).chain(pieces).collect();
    let kinds = [2, 3, 3].into_iter().chain((0..256).map(|_| 6)).chain(pieces.iter().map(|_| 1)).collect();
    let scores = (0..259).map(|_| 0.0).chain((0..pieces.len()).map(|i| -(i as f32))).collect();
    [
        ("tokenizer.ggml.model", Value::String("llama".into())),
        ("tokenizer.ggml.tokens", texts(&all)),
        ("tokenizer.ggml.scores", Value::Array(Array::F32(scores))),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds))),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
    ]
    .into_iter()
    .collect()
}

fn small_bert() -> Metadata {
    let all = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "\u{2581}hello",
        "\u{2581}un",
        "aff",
        "able",
        "\u{2581},",
        "\u{2581}ete",
        "\u{2581}\u{732b}",
    ];
    [("tokenizer.ggml.model", Value::String("bert".into())), ("tokenizer.ggml.tokens", texts(&all))]
        .into_iter()
        .collect()
}

fn open(metadata: &Metadata) -> Vocabulary {
    Vocabulary::from_gguf(metadata).unwrap().unwrap()
}

#[test]
fn small_vocabularies_work_by_hand() {
    let bpe = open(&small_bpe());
    assert_eq!(bpe.encode("hello wo", false), [259, 261]);
    assert_eq!(bpe.encode("hell<|end|>", false)[0], 258);
    assert!(!bpe.encode("hell<|end|>", false).contains(&262));
    assert_eq!(bpe.encode("hell<|end|>", true), [258, 262]);
    // A user-defined token is one whoever writes it.
    assert_eq!(bpe.encode("hello  hello", false), [259, 263, 259]);
    assert_eq!(bpe.special().ends, [262]);
    let spm = open(&small_spm());
    assert_eq!(spm.encode("hello", false), [268]);
    assert_eq!(spm.encode("hello hel", true), [268, 267]);
    assert_eq!(spm.encode("ello", false), [259, 265, 266]);
    assert_eq!(spm.encode("\u{e9}", false), [259, 3 + 0xC3, 3 + 0xA9]);
    assert_eq!(spm.surround(spm.encode("</s>hello", true)), [1, 2, 268]);
    assert!(!spm.encode("</s><unk><0x41>", false).contains(&2));
    assert_eq!(spm.decode(&[1, 268, 267], false), b"hello hel");
    let bert = open(&small_bert());
    assert_eq!(bert.encode("Hello,  UNaffable \u{c9}t\u{e9}\u{732b} huh", false), [4, 8, 5, 6, 7, 9, 10, 1]);
    assert_eq!(bert.surround(vec![4]), [2, 4, 3]);
    assert_eq!(bert.decode(&[4, 8, 5, 6], false), b"hello , unaff");
    let none = [("tokenizer.ggml.model", Value::String("no_vocab".into()))].into_iter().collect();
    assert!(Vocabulary::from_gguf(&none).unwrap().is_none());
}

#[test]
fn text_of_any_kind_comes_back() {
    let (bpe, spm) = (open(&small_bpe()), open(&small_spm()));
    let strange = "\0\u{10ffff}\u{feff} a\u{301}\r\n\t\u{2581}\u{7f}\u{e000}  hello   hello wo ";
    for text in [strange, "", " ", "  ", "\n", "hello"] {
        assert_eq!(bpe.decode(&bpe.encode(text, false), false), text.as_bytes());
        // U+2581 is a space to SentencePiece.
        let spaced = text.replace('\u{2581}', " ");
        assert_eq!(String::from_utf8(spm.decode(&spm.encode(text, false), false)).unwrap(), spaced);
    }
    assert!(bpe.bytes(u32::MAX, true).is_empty() && bpe.decode(&[264, 9999], true).is_empty());
}

#[test]
fn long_texts_take_time_in_proportion() {
    let (bpe, spm) = (open(&small_bpe()), open(&small_spm()));
    for (name, vocabulary) in [("bpe", &bpe), ("spm", &spm)] {
        for text in ["l".repeat(1 << 20), "hello".repeat(200_000), "\u{732b}".repeat(300_000), " ".repeat(1 << 20)] {
            let start = std::time::Instant::now();
            let ids = vocabulary.encode(&text, false);
            println!("{name}: {} bytes of {:?} in {:?}", text.len(), text.chars().next(), start.elapsed());
            assert_eq!(vocabulary.decode(&ids, false), text.as_bytes());
        }
    }
}

#[test]
fn what_is_wrong_with_metadata_is_named() {
    let ids = |first: i32| Value::Array(Array::I32(vec![first; 264]));
    let with = |at: usize, text: &str| {
        let mut metadata = small_bpe();
        let Some(Value::Array(Array::String(all))) = metadata.get("tokenizer.ggml.tokens").cloned() else { panic!() };
        let mut all = all;
        all[at] = text.into();
        metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(all)));
        metadata
    };
    let set = |mut metadata: Metadata, key: &str, value: Value| {
        metadata.set(format!("tokenizer.ggml.{key}"), value);
        metadata
    };
    let floats = |n: usize| Value::Array(Array::F32(vec![0.0; n]));
    let (bpe, spm) = (small_bpe, small_spm);
    let cases: Vec<(&str, Metadata, &[&str])> = vec![
        ("no model", [("a", Value::U8(1))].into_iter().collect(), &["tokenizer.ggml.model", "missing"]),
        ("model number", set(bpe(), "model", Value::U32(1)), &["tokenizer.ggml.model", "u32"]),
        ("model t5", set(bpe(), "model", Value::String("t5".into())), &["tokenizer.ggml.model", "t5"]),
        ("rule", set(bpe(), "pre", Value::String("odd".into())), &["tokenizer.ggml.pre", "odd", "help", "llama-bpe"]),
        ("rule number", set(bpe(), "pre", Value::F32(1.0)), &["tokenizer.ggml.pre", "f32"]),
        ("no tokens", set(bpe(), "tokens", texts(&[])), &["tokenizer.ggml.tokens", "empty"]),
        ("tokens text", set(bpe(), "tokens", Value::String("a".into())), &["tokenizer.ggml.tokens", "list"]),
        ("tokens bytes", set(bpe(), "tokens", Value::Array(Array::U8(vec![1]))), &["tokens", "list of u8"]),
        ("TK05 twice", with(257, "he"), &["tokenizer.ggml.tokens", "token 257", "token 256"]),
        ("TK03 one part", set(bpe(), "merges", texts(&["h e", "hell"])), &["merges", "merge 1", "hell"]),
        ("TK03 three parts", set(bpe(), "merges", texts(&["h e l"])), &["merges", "merge 0"]),
        ("TK03 empty", set(bpe(), "merges", texts(&["", " h", "h "])), &["merges", "merge 0"]),
        ("TK04 unknown part", set(bpe(), "merges", texts(&["h xyz"])), &["merges", "merge 0", "xyz"]),
        ("TK04 unknown sum", set(bpe(), "merges", texts(&["h e", "h h"])), &["merges", "merge 1", "\"hh\""]),
        ("merges numbers", set(bpe(), "merges", floats(3)), &["merges", "list of f32"]),
        ("TK06 end", set(bpe(), "eos_token_id", Value::U32(264)), &["eos_token_id", "264", "0 to 263"]),
        ("TK06 begin", set(bpe(), "bos_token_id", Value::U32(u32::MAX)), &["bos_token_id", "4294967295"]),
        ("TK06 padding", set(bpe(), "padding_token_id", Value::I32(-1)), &["padding_token_id", "-1"]),
        ("TK06 unknown", set(spm(), "unknown_token_id", Value::U64(1 << 40)), &["unknown_token_id"]),
        ("TK06 text", set(bpe(), "eos_token_id", Value::String("x".into())), &["eos_token_id", "id"]),
        ("TK07 short", set(spm(), "scores", floats(3)), &["scores", "3 entries", "270 tokens"]),
        ("TK07 long", set(spm(), "scores", floats(300)), &["scores", "300 entries"]),
        ("TK07 bytes", set(spm(), "scores", Value::Array(Array::U8(vec![0; 270]))), &["scores", "list of u8"]),
        ("TK07 no number", set(spm(), "scores", Value::Array(Array::F32(vec![f32::NAN; 270]))), &["scores", "token 0"]),
        ("TK07 kinds short", set(bpe(), "token_type", Value::Array(Array::I32(vec![1]))), &["token_type", "1 entries"]),
        ("TK07 kinds bytes", set(bpe(), "token_type", Value::Array(Array::U8(vec![1; 264]))), &["token_type", "u8"]),
        ("TK07 kind 7", set(bpe(), "token_type", ids(7)), &["token_type", "token 0", "7"]),
        ("TK07 kind -1", set(bpe(), "token_type", ids(-1)), &["token_type", "negative"]),
        ("TK14 all bytes", set(bpe(), "token_type", ids(6)), &["tokens", "token 0", "<0x00>"]),
        ("flag", set(spm(), "add_bos_token", Value::U8(1)), &["add_bos_token", "u8"]),
        ("prefix", set(spm(), "add_space_prefix", Value::U32(1)), &["add_space_prefix", "u32"]),
        ("no end to add", set(small_bert(), "add_eos_token", Value::Bool(true)), &["add_eos_token", "eos_token_id"]),
    ];
    for (case, metadata, said) in cases {
        let text = Vocabulary::from_gguf(&metadata).expect_err(case).to_string();
        for said in said {
            assert!(text.contains(said), "{case}: no {said:?} in {text}");
        }
    }
    for odd in ["<0x-1>", "<0xZZ>", "<0x100>", "<0x>", "<0x+1>", "<0x1>"] {
        let mut metadata = small_spm();
        let Some(Value::Array(Array::String(mut all))) = metadata.get("tokenizer.ggml.tokens").cloned() else {
            panic!()
        };
        all[3 + 65] = odd.into();
        metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(all)));
        let text = Vocabulary::from_gguf(&metadata).expect_err(odd).to_string();
        assert!(text.contains("token 68") && text.contains(odd), "{text}");
    }
}
