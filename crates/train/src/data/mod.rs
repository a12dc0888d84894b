//! Training data: rows of tokens with their targets, cut into batches in file order.
#![forbid(unsafe_code)]

mod hlx;
mod text;

use crate::Error;
use crate::config::{Config, Corpus};
use std::path::Path;

/// Files above this size are refused: all rows are held in memory.
const LARGEST_FILE: u64 = 1 << 28;

/// Rows of equal length: what a model reads and what it should say.
#[derive(Clone, Debug, PartialEq)]
struct Rows {
    /// Token ids, row after row.
    tokens: Vec<u32>,
    /// The token that should follow each.
    targets: Vec<u32>,
    /// The target that counts for nothing.
    ignore: u32,
}

/// One step's data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batch<'a> {
    /// Token ids [batch_size * max_context].
    pub tokens: &'a [u32],
    /// Targets [batch_size * max_context].
    pub targets: &'a [u32],
    /// Positions in real rows.
    pub positions: usize,
    /// Targets that count.
    pub valid: usize,
}

/// All batches of an epoch, in order; a last one that isn't full is filled with rows that count for nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Batches {
    rows: Rows,
    real_rows: usize,
    batch_size: usize,
    context: usize,
    valid: Vec<usize>,
    sha256: String,
}

/// The target that counts for nothing.
pub fn ignore(config: &Config) -> usize {
    match config.data.corpus {
        Corpus::Hlx | Corpus::Jsonl => hlx::PAD as usize,
        Corpus::Text => config.model.vocab_size,
    }
}

impl Batches {
    /// Reads what a configuration trains on.
    ///
    /// # Errors
    /// A file that can't be read or used, with the line; tokens that the vocabulary doesn't have.
    pub fn open(config: &Config) -> Result<Batches, Error> {
        let (path, context) = (Path::new(&config.data.path), config.model.max_context);
        let built_in = config.data.path.is_empty();
        let rows = match config.data.corpus {
            Corpus::Hlx => hlx::rows(&hlx::built_in(), context),
            Corpus::Jsonl => hlx::rows(&hlx::parse(&read(path)?, path)?, context),
            Corpus::Text if built_in => text::rows(text::TALE.as_bytes(), context, config.model.vocab_size),
            Corpus::Text => text::rows(&read(path)?, context, config.model.vocab_size),
        };
        let name = if built_in { "the built-in data" } else { config.data.path.as_str() };
        let largest = rows.tokens.iter().copied().max();
        let unusable = |what: String| Error::Data { path: name.into(), line: None, what };
        match largest {
            None => return Err(unusable("there is nothing in it to train on".into())),
            Some(token) if token as usize >= config.model.vocab_size => {
                let size = config.model.vocab_size;
                return Err(unusable(format!("it has token {token}, and model.vocab_size is {size}")));
            }
            Some(_) => {}
        }
        let batches = Batches::cut(rows, config.batch_size, context);
        if batches.valid.contains(&0) {
            return Err(unusable("some batch has no target that counts".into()));
        }
        Ok(batches)
    }

    fn cut(mut rows: Rows, batch_size: usize, context: usize) -> Batches {
        let real_rows = rows.tokens.len() / context;
        let mut hasher = tensor::hash::Hasher::default();
        for part in [&rows.tokens, &rows.targets] {
            part.iter().for_each(|t| hasher.update(&t.to_le_bytes()));
        }
        let full = real_rows.next_multiple_of(batch_size) * context;
        rows.tokens.resize(full, 0);
        rows.targets.resize(full, rows.ignore);
        let count = |targets: &[u32]| targets.iter().filter(|t| **t != rows.ignore).count();
        let valid = rows.targets.chunks_exact(batch_size * context).map(count).collect();
        Batches { rows, real_rows, batch_size, context, valid, sha256: hasher.finish() }
    }

    /// Steps of one pass over the data.
    pub fn steps_per_epoch(&self) -> usize {
        self.valid.len()
    }

    /// Rows there are.
    pub fn rows(&self) -> usize {
        self.real_rows
    }

    /// Positions of one pass over the data.
    pub fn positions_per_epoch(&self) -> usize {
        self.real_rows * self.context
    }

    /// Targets that count, of one pass over the data.
    pub fn valid_per_epoch(&self) -> usize {
        self.valid.iter().sum()
    }

    /// SHA-256 of all tokens and targets.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The data of step `step`, counted from 0 on over all epochs.
    pub fn batch(&self, step: usize) -> Batch<'_> {
        let index = step % self.valid.len();
        let size = self.batch_size * self.context;
        let range = index * size..(index + 1) * size;
        let real = self.batch_size.min(self.real_rows - index * self.batch_size);
        Batch {
            tokens: &self.rows.tokens[range.clone()],
            targets: &self.rows.targets[range],
            positions: real * self.context,
            valid: self.valid[index],
        }
    }
}

/// A file's bytes, without a byte-order mark.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let refuse = |what: String| Error::Data { path: path.into(), line: None, what };
    let data = std::fs::metadata(path).map_err(|e| refuse(e.to_string()))?;
    if !data.is_file() {
        return Err(refuse("it is not a file".into()));
    }
    if data.len() > LARGEST_FILE {
        return Err(refuse(format!("it has {} bytes; at most {LARGEST_FILE} are read", data.len())));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    Ok(bytes.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_batch_is_filled_with_rows_that_count_for_nothing() {
        let rows = Rows { tokens: vec![1, 2, 3, 4, 5, 6], targets: vec![2, 3, 4, 5, 6, 9], ignore: 9 };
        let batches = Batches::cut(rows, 2, 2);
        assert_eq!((batches.steps_per_epoch(), batches.rows(), batches.valid_per_epoch()), (2, 3, 5));
        assert_eq!(batches.batch(3), Batch { tokens: &[5, 6, 0, 0], targets: &[6, 9, 9, 9], positions: 2, valid: 1 });
        assert_eq!(batches.batch(4), batches.batch(0));
    }
}
