//! The HLX corpus: JSONL lines `{"input": X, "output": Y}` read as the text `X -> Y`, a token a character.
#![forbid(unsafe_code)]

use super::Rows;
use crate::Error;
use std::path::Path;

/// X of the sixteen lines `{"input": X, "output": X}`.
const LINES: [&str; 16] = [
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

/// The token of every character above 127.
const OTHER: u32 = 127;
/// The token that fills up rows; as a target it counts for nothing.
pub const PAD: u32 = 0;

#[derive(serde::Deserialize)]
struct Line {
    input: String,
    output: String,
}

/// The corpus's own lines.
pub fn built_in() -> Vec<String> {
    LINES.iter().map(|x| format!("{x} -> {x}")).collect()
}

/// The texts of a JSONL file; empty lines are passed over.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Vec<String>, Error> {
    let mut texts = Vec::new();
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let wrong = |what: String| Error::Data { path: path.into(), line: Some(index + 1), what };
        let line = std::str::from_utf8(line).map_err(|_| wrong("not valid UTF-8".into()))?.trim();
        if line.is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(line).map_err(|e| wrong(format!("{e}; expected {FORM}")))?;
        texts.push(format!("{} -> {}", line.input, line.output));
    }
    Ok(texts)
}

const FORM: &str = r#"{"input": "...", "output": "..."}"#;

/// Each text cut to `context` characters and filled up with 0; the target of each token is the next one.
pub fn rows(texts: &[String], context: usize) -> Rows {
    let mut rows = Rows { tokens: Vec::new(), targets: Vec::new(), ignore: PAD };
    for text in texts {
        let mut line: Vec<u32> = text.chars().take(context).map(token).collect();
        line.resize(context, PAD);
        rows.tokens.extend(&line[..context - 1]);
        rows.tokens.push(PAD);
        rows.targets.extend(&line[1..]);
        rows.targets.push(PAD);
    }
    rows
}

fn token(c: char) -> u32 {
    if c.is_ascii() { c as u32 } else { OTHER }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_sixteen_characters_shifted_by_one() {
        let rows = rows(&["Hello world -> Hello world".into(), "hé".into()], 16);
        let bytes = |s: &str| s.bytes().map(u32::from).collect::<Vec<_>>();
        assert_eq!(rows.tokens[..16], [bytes("Hello world -> "), vec![0]].concat());
        assert_eq!(rows.targets[..16], [bytes("ello world -> H"), vec![0]].concat());
        assert_eq!(rows.tokens[16..19], [104, 127, 0]);
        assert_eq!(rows.targets[16..19], [127, 0, 0]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let path = Path::new("a.jsonl");
        let good = "{\"input\": \"a\", \"output\": \"b\"}\r\n\n{\"input\": \"c\", \"output\": \"d\"}";
        assert_eq!(parse(good.as_bytes(), path).unwrap(), ["a -> b", "c -> d"]);
        let bad = format!("{good}\n{{\"input\": \"e\"}}\n");
        let message = parse(bad.as_bytes(), path).unwrap_err().to_string();
        assert!(message.starts_with("a.jsonl line 4: missing field `output`"), "{message}");
        assert!(parse(b"\xff\n", path).unwrap_err().to_string().contains("line 1: not valid UTF-8"));
    }
}
