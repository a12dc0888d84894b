//! The HLX corpus: JSONL lines `{"input": X, "output": Y}` read as the text `X -> Y`, a row each.
#![forbid(unsafe_code)]

use super::{Rows, jsonl};
use crate::Error;
use model::text::END;
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
    let lines: Vec<Line> = jsonl::objects(bytes, path, FORM)?;
    Ok(lines.iter().map(|line| format!("{} -> {}", line.input, line.output)).collect())
}

const FORM: &str = r#"{"input": "...", "output": "..."}"#;

/// Each text's tokens cut to `context` and filled up with the end token; the target of each token is the next one, and
/// `ignore` where there is none.
pub fn rows(texts: &[Vec<u32>], context: usize, ignore: u32) -> Rows {
    let mut rows = Rows { tokens: Vec::new(), targets: Vec::new(), ignore };
    for text in texts {
        let mut line = text[..text.len().min(context)].to_vec();
        let targets = line.iter().skip(1).copied().chain(std::iter::repeat(ignore)).take(context);
        rows.targets.extend(targets);
        line.resize(context, END);
        rows.tokens.extend(&line[..context - 1]);
        rows.tokens.push(END);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::text::Tokenizer;

    #[test]
    fn a_row_is_sixteen_characters_shifted_by_one() {
        let tokens = |s: &str| Tokenizer::Ascii.encode(s.as_bytes()).unwrap();
        let rows = rows(&[tokens("Hello world -> Hello world"), tokens("hé")], 16, END);
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
        assert!(parse(b"\xff\n", path).unwrap_err().to_string().contains("line 1: not valid UTF-8 at byte 1"));
        assert!(parse(b"[\"a\", \"b\"]\n", path).unwrap_err().to_string().contains("it is not a JSON object"));
    }
}
