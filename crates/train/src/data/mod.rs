//! Training data: rows of tokens with their targets, cut into batches, in file order or shuffled.
#![forbid(unsafe_code)]

mod hlx;
mod order;
mod split;
mod text;

use crate::Error;
use crate::config::{Config, Corpus};
use order::Order;
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

/// One replay's data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batch<'a> {
    /// Token ids [batch_size * max_context].
    pub tokens: &'a [u32],
    /// Targets [batch_size * max_context].
    pub targets: &'a [u32],
    /// Targets that count.
    pub valid: usize,
}

/// What a step trains on, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Positions in real rows.
    pub positions: usize,
    /// Targets that count.
    pub valid: usize,
}

/// Room for the rows of one batch, for rows that don't lie in the order of the pass.
#[derive(Clone, Debug, Default)]
pub struct Staging {
    tokens: Vec<u32>,
    targets: Vec<u32>,
}

/// All batches of each epoch; a last one that isn't full is filled with rows that count for nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Batches {
    rows: Rows,
    real_rows: usize,
    batch_size: usize,
    context: usize,
    valid: Vec<u32>,
    order: Option<Order>,
    sha256: String,
}

/// The target that counts for nothing.
pub fn ignore(config: &Config) -> usize {
    match config.data.corpus {
        Corpus::Hlx | Corpus::Jsonl => hlx::PAD as usize,
        Corpus::Text => config.model.vocab_size,
    }
}

/// What a configuration trains on, and what it keeps apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Data {
    /// What is trained on.
    pub training: Batches,
    /// What is kept apart for validation, in file order.
    pub validation: Option<Batches>,
}

impl Data {
    /// Reads what a configuration trains on.
    ///
    /// # Errors
    /// A file that can't be read or used, with the line; tokens that the vocabulary doesn't have.
    pub fn open(config: &Config) -> Result<Data, Error> {
        let (path, context, fraction) = (Path::new(&config.data.path), config.model.max_context, config.eval.fraction);
        let built_in = config.data.path.is_empty();
        let (training, validation) = match config.data.corpus {
            Corpus::Hlx | Corpus::Jsonl => {
                let hlx = config.data.corpus == Corpus::Hlx;
                let texts = if hlx { hlx::built_in() } else { hlx::parse(&read(path)?, path)? };
                let (training, validation) = split::pairs(texts, fraction, config.seed);
                (hlx::rows(&training, context), hlx::rows(&validation, context))
            }
            Corpus::Text => {
                let bytes = if built_in { text::TALE.into() } else { read(path)? };
                let (training, validation) = split::text(&bytes, fraction);
                let rows = |part| text::rows(part, context, config.model.vocab_size);
                (rows(training), rows(validation))
            }
        };
        let name = if built_in { "the built-in data" } else { config.data.path.as_str() };
        let batches = |rows: Rows, purpose: &str| {
            let batches = Batches::checked(rows, config, purpose);
            batches.map_err(|what| Error::Data { path: name.into(), line: None, what })
        };
        let training = batches(training, "train on")?;
        let training = if config.data.shuffle { training.shuffled(config.seed) } else { training };
        let validation = if fraction > 0.0 { Some(batches(validation, "keep apart for validation")?) } else { None };
        Ok(Data { training, validation })
    }

    /// SHA-256 of all tokens and targets.
    pub fn sha256(&self) -> String {
        match &self.validation {
            None => self.training.sha256().into(),
            Some(v) => tensor::hash::sha256(format!("{}{}", self.training.sha256(), v.sha256()).as_bytes()),
        }
    }
}

impl Batches {
    /// Reads what a configuration trains on, as `Data::open` does.
    ///
    /// # Errors
    /// As there.
    pub fn open(config: &Config) -> Result<Batches, Error> {
        Ok(Data::open(config)?.training)
    }

    /// Batches of rows that can be used, or what is wrong with them.
    fn checked(rows: Rows, config: &Config, purpose: &str) -> Result<Batches, String> {
        let size = config.model.vocab_size;
        match rows.tokens.iter().copied().max() {
            None => return Err(format!("there is nothing in it to {purpose}")),
            Some(token) if token as usize >= size => {
                return Err(format!("it has token {token}, and model.vocab_size is {size}"));
            }
            Some(_) => {}
        }
        let batches = Batches::cut(rows, config.batch_size, config.model.max_context);
        let shuffled = config.data.shuffle && batches.valid[..batches.real_rows].contains(&0);
        let plain = |step: usize| batches.counts(step).valid == 0;
        if shuffled || (0..batches.steps_per_epoch()).any(plain) {
            return Err("some batch has no target that counts".into());
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
        let count = |targets: &[u32]| targets.iter().filter(|t| **t != rows.ignore).count() as u32;
        let valid = rows.targets.chunks_exact(context).map(count).collect();
        Batches { rows, real_rows, batch_size, context, valid, order: None, sha256: hasher.finish() }
    }

    /// The same rows, in an order of its own for each epoch.
    fn shuffled(self, seed: u64) -> Batches {
        Batches { order: Some(Order::new(seed, "shuffle", self.real_rows)), ..self }
    }

    /// Steps of one pass over the data.
    pub fn steps_per_epoch(&self) -> usize {
        self.real_rows.div_ceil(self.batch_size)
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
        self.valid.iter().map(|v| *v as usize).sum()
    }

    /// SHA-256 of all tokens and targets.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Places in the epoch of a step's rows, and the epoch.
    fn places(&self, step: usize) -> (usize, std::ops::Range<usize>) {
        let (epoch, index) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        (epoch, index * self.batch_size..(index + 1) * self.batch_size)
    }

    /// The row at a place of an epoch; places after the real rows have the rows that count for nothing.
    fn row(&self, epoch: usize, place: usize) -> usize {
        match &self.order {
            Some(order) if place < self.real_rows => order.at(epoch, place),
            _ => place,
        }
    }

    /// What step `step` trains on, counted.
    pub fn counts(&self, step: usize) -> Counts {
        let (epoch, places) = self.places(step);
        let real = places.start..places.end.min(self.real_rows);
        let positions = real.len() * self.context;
        Counts { positions, valid: real.map(|place| self.valid[self.row(epoch, place)] as usize).sum() }
    }

    /// The data of step `step`, counted from 0 on over all epochs. Nothing is allocated once `staging` has its size.
    pub fn batch<'a>(&'a self, step: usize, staging: &'a mut Staging) -> Batch<'a> {
        let (epoch, places) = self.places(step);
        let valid = self.counts(step).valid;
        let of = |row: usize| row * self.context..(row + 1) * self.context;
        if self.order.is_none() {
            let range = places.start * self.context..places.end * self.context;
            return Batch { tokens: &self.rows.tokens[range.clone()], targets: &self.rows.targets[range], valid };
        }
        staging.tokens.clear();
        staging.targets.clear();
        for place in places {
            let range = of(self.row(epoch, place));
            staging.tokens.extend_from_slice(&self.rows.tokens[range.clone()]);
            staging.targets.extend_from_slice(&self.rows.targets[range]);
        }
        Batch { tokens: &staging.tokens, targets: &staging.targets, valid }
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
        let (mut first, mut second) = (Staging::default(), Staging::default());
        assert_eq!(batches.batch(3, &mut first), Batch { tokens: &[5, 6, 0, 0], targets: &[6, 9, 9, 9], valid: 1 });
        assert_eq!(batches.counts(3), Counts { positions: 2, valid: 1 });
        assert_eq!(batches.batch(4, &mut first), batches.batch(0, &mut second));
    }

    #[test]
    fn a_shuffled_epoch_has_every_row_once_in_an_order_of_its_own() {
        let (n, context) = (11, 3);
        let tokens: Vec<u32> = (0..n * context).collect();
        let rows =
            Rows { targets: tokens.iter().map(|t| if t % 4 == 0 { 99 } else { *t }).collect(), tokens, ignore: 99 };
        let plain = Batches::cut(rows, 2, context as usize);
        let shuffled = plain.clone().shuffled(5);
        let mut staging = Staging::default();
        let mut epoch = |of: &Batches, epoch: usize| -> Vec<u32> {
            let steps = of.steps_per_epoch();
            let mut firsts = Vec::new();
            for step in epoch * steps..(epoch + 1) * steps {
                let batch = of.batch(step, &mut staging);
                assert_eq!(batch.valid, batch.targets.iter().filter(|t| **t != 99).count());
                let whole = |i: usize| batch.tokens[i..i + 3].iter().copied().eq(batch.tokens[i]..batch.tokens[i] + 3);
                firsts.extend((0..6).step_by(3).filter(|i| whole(*i)).map(|i| batch.tokens[i]));
            }
            firsts
        };
        let in_order: Vec<u32> = (0..n).map(|row| row * context).collect();
        let (first, second) = (epoch(&shuffled, 0), epoch(&shuffled, 1));
        assert_eq!(epoch(&plain, 1), in_order);
        assert!(first != in_order && first != second && first == epoch(&shuffled, 0));
        for mut order in [first, second] {
            order.sort();
            assert_eq!(order, in_order);
        }
        assert_eq!((plain.valid_per_epoch(), plain.sha256()), (shuffled.valid_per_epoch(), shuffled.sha256()));
    }
}
