//! Training data from files: the built-in corpus as a file is the same data, and what can't be used is named.

use std::fs;
use std::path::PathBuf;
use train::config::Overrides;
use train::data::{Batches, Data, Staging};

fn file(name: &str, contents: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("rondo-data-{}-{name}", std::process::id()));
    fs::write(&path, contents).unwrap();
    path
}

fn open(preset: &str, corpus: &str, path: &str) -> Result<Batches, String> {
    let base = Overrides::preset(preset).with(&format!("data.corpus={corpus}"));
    let config = base.with(&format!("data.path={path}")).resolve().map_err(|e| e.to_string())?;
    Batches::open(&config).map_err(|e| e.to_string())
}

#[test]
fn the_corpus_as_a_file_is_the_same_data() {
    let built_in = open("hlx-full", "hlx", "").unwrap();
    assert_eq!((built_in.rows(), built_in.steps_per_epoch()), (16, 4));
    assert_eq!((built_in.positions_per_epoch(), built_in.valid_per_epoch()), (256, 240));
    // The first batch's rows, as text.
    let names = ["Hello world", "Machine learning", "Neural network", "Deep learning"];
    let mut staging = Staging::default();
    let batch = built_in.batch(0, &mut staging);
    for (row, name) in names.iter().enumerate() {
        let text = format!("{name} -> {name}");
        let tokens: Vec<u32> = text.bytes().take(15).map(u32::from).collect();
        assert_eq!(batch.tokens[16 * row..16 * row + 15], tokens);
        assert_eq!(batch.targets[16 * row], u32::from(text.as_bytes()[1]));
    }
    let lines = [
        "Hello world",
        "Machine learning",
        "Neural network",
        "Deep learning",
        "Transformer model",
        "Attention mechanism",
        "Gradient descent",
        "Backpropagation",
        "Activation function",
        "Loss function",
        "Learning rate",
        "Training data",
        "Batch normalization",
        "Convolutional layer",
        "Recurrent network",
        "Language model",
    ];
    let json: String = lines.iter().map(|x| format!("{{\"input\": \"{x}\", \"output\": \"{x}\"}}\r\n")).collect();
    let path = file("hlx.jsonl", format!("\u{feff}{json}\n").as_bytes());
    assert_eq!(open("hlx-full", "jsonl", path.to_str().unwrap()).unwrap(), built_in);
    fs::remove_file(path).unwrap();
}

#[test]
fn any_bytes_are_text() {
    let path = file("bytes.txt", &[200; 130]);
    let batches = open("gpt-small-test", "text", path.to_str().unwrap()).unwrap();
    assert_eq!(
        (batches.rows(), batches.valid_per_epoch(), batches.batch(0, &mut Staging::default()).tokens[0]),
        (3, 129, 200)
    );
    fs::remove_file(path).unwrap();
}

#[test]
fn a_folder_is_its_files_in_order_with_an_end_between_them() {
    let folder = std::env::temp_dir().join(format!("rondo-data-{}-folder", std::process::id()));
    fs::create_dir_all(folder.join("inner")).unwrap();
    for (name, text) in [("b.txt", "second"), ("a.txt", "first"), (".hidden", "no"), ("inner/c.txt", "third")] {
        fs::write(folder.join(name), text).unwrap();
    }
    let path = folder.to_str().unwrap();
    let batches = open("gpt-small-test", "text", path).unwrap();
    let tokens: Vec<u8> = batches.batch(0, &mut Staging::default()).tokens.iter().map(|t| *t as u8).collect();
    assert!(tokens.starts_with(b"first\0second\0thir\0"), "{tokens:?}");
    assert!(open("gpt-small-test", "jsonl", path).unwrap_err().ends_with("the folder has no *.jsonl files"));

    // Of every file the end is kept apart.
    let base = Overrides::preset("gpt-small-test").with("eval.fraction=0.5").with(&format!("data.path={path}"));
    let data = Data::open(&base.resolve().unwrap()).unwrap();
    let (training, validation) = (data.training, data.validation.unwrap());
    let count = |of: &Batches, text: &[u8]| {
        let batch = of.batch(0, &mut Staging::default()).tokens.iter().map(|t| *t as u8).collect::<Vec<_>>();
        assert!(batch.starts_with(&text[..text.len() - 1]) && of.valid_per_epoch() == text.len() - 1, "{batch:?}");
    };
    count(&training, b"fi\0sec\0th");
    count(&validation, b"rst\0ond\0ird");
    fs::write(folder.join("x.jsonl"), "{\"input\": \"a\", \"output\": \"b\"}\n").unwrap();
    assert_eq!(open("hlx-full", "jsonl", path).unwrap().rows(), 1);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_document_that_names_the_end_is_not_cut() {
    let folder = std::env::temp_dir().join(format!("rondo-data-{}-end", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let text = "const END_NAME: &str = \"<|end|>\"; <|end|>\n".repeat(20);
    (0..3).for_each(|i| fs::write(folder.join(format!("{i}.rs")), &text).unwrap());
    let base = Overrides::preset("gpt-small-test").with("data.tokenizer=bpe").with("model.vocab_size=280");
    let data = Data::open(&base.with(&format!("data.path={}", folder.display())).resolve().unwrap()).unwrap();
    let mut staging = Staging::default();
    let batches =
        (0..data.training.steps_per_epoch()).map(|step| data.training.batch(step, &mut staging).tokens.to_vec());
    let tokens: Vec<u32> = batches.flatten().collect();
    let document = data.tokenizer.encode(text.as_bytes()).unwrap();
    // Between the three documents, and nowhere else before what fills up the last row.
    let end = tokens.iter().position(|token| *token == 0);
    assert_eq!((end, document.contains(&0)), (Some(document.len()), false));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn pairs_in_byte_pair_encoding_learn_where_they_end() {
    let lines: String = (0..40).map(|i| format!("{{\"input\": \"count {i}\", \"output\": \"{i}\"}}\n")).collect();
    let path = file("pairs.jsonl", lines.as_bytes());
    let base = Overrides::preset("gpt-small-test").with("data.corpus=jsonl").with("data.tokenizer=bpe");
    let base = base.with("model.vocab_size=280").with(&format!("data.path={}", path.display()));
    let data = Data::open(&base.resolve().unwrap()).unwrap();
    let mut staging = Staging::default();
    let batch = data.training.batch(0, &mut staging);
    let targets: Vec<u32> = batch.targets[..64].iter().copied().take_while(|t| *t != 280).collect();
    assert_eq!((targets.last(), batch.targets[targets.len()]), (Some(&0), 280));
    let text = data.tokenizer.encode(b"count 0 -> 0").unwrap();
    assert_eq!(batch.tokens[..text.len()], text);
    fs::remove_file(path).unwrap();
}

#[test]
fn what_cannot_be_used_is_named() {
    let refuse = |corpus: &str, path: &PathBuf| open("hlx-full", corpus, path.to_str().unwrap()).unwrap_err();
    let empty = file("empty", b"");
    assert!(refuse("jsonl", &empty).contains("there is nothing in it to train on"));
    assert!(refuse("text", &empty).contains("there is nothing in it to train on"));
    let high = file("high", &[200; 20]);
    assert!(refuse("text", &high).ends_with("it has token 200, and model.vocab_size is 128"));
    let list = file("list", b"[1, 2]\n");
    assert!(refuse("jsonl", &list).contains("line 1: "));
    assert!(refuse("jsonl", &PathBuf::from("/no/such/file")).starts_with("/no/such/file: "));
    assert!(refuse("jsonl", &PathBuf::new()).contains("data.path names no file"));
    for path in [empty, high, list] {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn documents_in_lines_are_the_documents_in_files() {
    let folder = file("documents", b"").with_extension("d");
    fs::create_dir_all(&folder).unwrap();
    let texts = ["one two three four\n", "f\u{fc}nf \"sechs\"\n"];
    for (i, text) in texts.iter().enumerate() {
        fs::write(folder.join(format!("{i}.txt")), text).unwrap();
    }
    let lines: Vec<_> = texts.iter().map(|t| serde_json::json!({ "text": t, "more": 1 }).to_string()).collect();
    let path = file("documents.jsonl", format!("{}\n\n", lines.join("\r\n")).as_bytes());
    let in_files = open("gpt-small-test", "text", folder.to_str().unwrap()).unwrap();
    assert_eq!(open("gpt-small-test", "text", path.to_str().unwrap()).unwrap(), in_files);
    fs::write(&path, "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n").unwrap();
    let said = open("gpt-small-test", "text", path.to_str().unwrap()).unwrap_err();
    assert!(said.contains("documents.jsonl line 2: missing field `text`"), "{said}");
    fs::remove_dir_all(folder).unwrap();
    fs::remove_file(path).unwrap();
}
