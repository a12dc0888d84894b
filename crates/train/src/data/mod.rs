//! Training data: rows of tokens with their targets, cut into batches, in file order or shuffled.
#![forbid(unsafe_code)]

mod documents;
mod hlx;
mod jsonl;
mod order;
mod source;
mod split;
mod text;

use crate::Error;
use crate::config::{Config, Corpus, TokenizerKind};
use model::text::{END, Tokenizer};
use order::Order;
use source::Document;
use std::path::{Path, PathBuf};

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
    /// Token ids [rows * max_context]; a step has batch_size * grad_accumulation rows.
    pub tokens: &'a [u32],
    /// Targets, as many.
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

impl<'a> Batch<'a> {
    /// Its first micro-batch.
    pub(crate) fn first(self, config: &Config) -> Batch<'a> {
        let positions = config.batch_size * config.model.max_context;
        let (tokens, targets) = (&self.tokens[..positions], &self.targets[..positions]);
        let ignore = u32::try_from(ignore(config)).unwrap_or(u32::MAX);
        Batch { tokens, targets, valid: targets.iter().filter(|t| **t != ignore).count() }
    }
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

/// The target that counts for nothing: the end token in pairs of plain tokens, as HLX has it, else one that isn't in the
/// vocabulary.
pub fn ignore(config: &Config) -> usize {
    match (config.data.corpus, kind(config)) {
        (Corpus::Text, _) | (_, TokenizerKind::Bpe) => config.model.vocab_size,
        _ => END as usize,
    }
}

/// The tokenizer that a configuration means.
fn kind(config: &Config) -> TokenizerKind {
    match (config.data.tokenizer, config.data.corpus) {
        (TokenizerKind::Auto, Corpus::Hlx | Corpus::Jsonl) => TokenizerKind::Ascii,
        (TokenizerKind::Auto, Corpus::Text) => TokenizerKind::Byte,
        (kind, _) => kind,
    }
}

/// What a configuration trains on, and what it keeps apart.
#[derive(Clone, Debug)]
pub struct Data {
    /// What is trained on.
    pub training: Batches,
    /// What is kept apart for validation, in file order.
    pub validation: Option<Batches>,
    /// What made tokens of the text.
    pub tokenizer: Tokenizer,
    /// What of the data isn't learned, in words: ends of long pairs, files that are no text.
    pub notes: Vec<String>,
}

/// Pieces of text, each from its file.
type Texts = Vec<(PathBuf, Vec<u8>)>;

impl Data {
    /// Reads what a configuration trains on. A tokenizer that is trained is trained on the training data alone.
    ///
    /// # Errors
    /// A file that can't be read or used, with the line; tokens that the vocabulary doesn't have.
    pub fn open(config: &Config) -> Result<Data, Error> {
        Self::open_with(config, None)
    }

    /// The same with the tokenizer.json of an earlier run, where there is one and it was trained.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_with(config: &Config, stored: Option<&Path>) -> Result<Data, Error> {
        let mut notes = Vec::new();
        let (training, validation) = texts(config, stored, &mut notes)?;
        let tokenizer = tokenizer(config, &training, stored)?;
        let name = if config.data.path.is_empty() { "the built-in data" } else { config.data.path.as_str() };
        let batches = |texts: &Texts, count: usize, purpose: &str| {
            let batches = Batches::checked(rows(config, &tokenizer, texts)?, config, count, purpose);
            batches.map_err(|what| Error::Data { path: name.into(), line: None, what })
        };
        let apart = config.eval.fraction > 0.0;
        let validation =
            if apart { Some(batches(&validation, config.batch_size, "keep apart for validation")?) } else { None };
        notes.extend(longer(config, &tokenizer, &training));
        let training = batches(&training, config.batch_size * config.grad_accumulation, "train on")?;
        let training = if config.data.shuffle { training.shuffled(config.seed) } else { training };
        Ok(Data { training, validation, tokenizer, notes })
    }

    /// SHA-256 of all tokens and targets.
    pub fn sha256(&self) -> String {
        match &self.validation {
            None => self.training.sha256().into(),
            Some(v) => tensor::hash::sha256(format!("{}{}", self.training.sha256(), v.sha256()).as_bytes()),
        }
    }
}

/// Training and validation texts.
fn texts(config: &Config, stored: Option<&Path>, notes: &mut Vec<String>) -> Result<(Texts, Texts), Error> {
    let (path, fraction) = (Path::new(&config.data.path), config.eval.fraction);
    let pairs = |texts: Vec<String>, path: &Path| -> Texts {
        texts.into_iter().map(|text| (path.to_path_buf(), text.into_bytes())).collect()
    };
    match config.data.corpus {
        Corpus::Hlx => Ok(split::pairs(pairs(hlx::built_in(), path), fraction, config.seed)),
        Corpus::Jsonl => {
            let mut all = Vec::new();
            for document in source::read(path, Some("jsonl"))? {
                all.extend(pairs(hlx::parse(&document.bytes, &document.path)?, &document.path));
            }
            Ok(split::pairs(all, fraction, config.seed))
        }
        Corpus::Text => {
            let built_in = || vec![Document { path: "the built-in text".into(), bytes: text::TALE.into() }];
            let documents = if config.data.path.is_empty() {
                built_in()
            } else {
                let found = documents::read(path, stored, kind(config) == TokenizerKind::Byte)?;
                notes.extend(passed_over(&found.passed_over, found.all.len()));
                found.all
            };
            let (mut training, mut validation) = (Texts::new(), Texts::new());
            for document in documents {
                let (begin, end) = split::text(&document.bytes, fraction);
                let parts = [(&mut training, begin), (&mut validation, end)];
                for (part, bytes) in parts.into_iter().filter(|(_, bytes)| !bytes.is_empty()) {
                    part.push((document.path.clone(), bytes.to_vec()));
                }
            }
            Ok((training, validation))
        }
    }
}

/// A note on files of a folder that are no text.
fn passed_over(files: &[PathBuf], others: usize) -> Option<String> {
    let (first, count) = (files.first()?, files.len());
    let are = if count == 1 { "is no text, and is passed over" } else { "are no text, and are passed over" };
    Some(
        format!("{count} of {} files {are}: {}", count + others, first.display())
            + if count == 1 { "" } else { " and others" },
    )
}

/// A note on pairs with more tokens than a row.
fn longer(config: &Config, tokenizer: &Tokenizer, texts: &Texts) -> Option<String> {
    if config.data.corpus != Corpus::Jsonl {
        return None;
    }
    let context = config.model.max_context;
    let is_longer = |bytes: &[u8]| tokenizer.encode(bytes).is_ok_and(|t| t.len() > context);
    let (count, all) = (texts.iter().filter(|(_, bytes)| is_longer(bytes)).count(), texts.len());
    let limit = format!("longer than model.max_context ({context} tokens)");
    match count {
        0 => None,
        1 => Some(format!("1 pair of {all} is {limit}: its end is not learned")),
        _ => Some(format!("{count} pairs of {all} are {limit}: their ends are not learned")),
    }
}

fn few(purpose: &str) -> &'static str {
    if purpose.contains("validation") {
        "\n  help: a larger eval.fraction, or more text"
    } else {
        "\n  help: a text of two tokens at least, or one pair"
    }
}

fn tokenizer(config: &Config, texts: &Texts, stored: Option<&Path>) -> Result<Tokenizer, Error> {
    match kind(config) {
        TokenizerKind::Ascii => return Ok(Tokenizer::Ascii),
        TokenizerKind::Byte | TokenizerKind::Auto => return Ok(Tokenizer::Byte),
        TokenizerKind::Bpe => {}
    }
    let wrong = |path: &Path, line, what| Error::Data { path: path.into(), line, what };
    if let Some(path) = stored.filter(|p| p.exists()) {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        return Tokenizer::from_json(&text).map_err(|what| wrong(path, None, what));
    }
    let mut all = Vec::new();
    for (path, bytes) in texts {
        all.push(model::text::utf8(bytes).map_err(|(line, what)| wrong(path, line, what))?);
    }
    let trained = Tokenizer::train(all.into_iter(), config.model.vocab_size);
    trained.map_err(|what| wrong(Path::new(&config.data.path), None, what))
}

/// The rows of texts: a row each for pairs, else one stream in which an end stands between documents.
fn rows(config: &Config, tokenizer: &Tokenizer, texts: &Texts) -> Result<Rows, Error> {
    let mut encoded = Vec::new();
    for (path, bytes) in texts {
        let tokens = tokenizer.encode(bytes);
        encoded.push(tokens.map_err(|(line, what)| Error::Data { path: path.clone(), line, what })?);
    }
    let ignore = u32::try_from(ignore(config)).unwrap_or(u32::MAX);
    let context = config.model.max_context;
    if config.data.corpus == Corpus::Text {
        return Ok(text::rows(&encoded.join(&END), context, ignore));
    }
    if ignore != END {
        // Only where the end isn't what counts for nothing can it be learned.
        encoded.iter_mut().for_each(|line| line.push(END));
    }
    Ok(hlx::rows(&encoded, context, ignore))
}

impl Batches {
    /// Reads what a configuration trains on, as `Data::open` does.
    ///
    /// # Errors
    /// As there.
    pub fn open(config: &Config) -> Result<Batches, Error> {
        Ok(Data::open(config)?.training)
    }

    /// Batches of `count` rows that can be used, or what is wrong with them.
    fn checked(rows: Rows, config: &Config, count: usize, purpose: &str) -> Result<Batches, String> {
        let size = config.model.vocab_size;
        match rows.tokens.iter().copied().max() {
            None => return Err(format!("there is nothing in it to {purpose}{}", few(purpose))),
            Some(token) if token as usize >= size => {
                return Err(format!("it has token {token}, and model.vocab_size is {size}"));
            }
            Some(_) => {}
        }
        let batches = Batches::cut(rows, count, config.model.max_context);
        let shuffled = config.data.shuffle && batches.valid[..batches.real_rows].contains(&0);
        let plain = |step: usize| batches.counts(step).valid == 0;
        if shuffled || (0..batches.steps_per_epoch()).any(plain) {
            let help = "\n  help: more text, or a larger model.max_context";
            return Err(format!("some batch has no target that counts: nothing would be learned from it{help}"));
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

    /// The tokens of a row, each with the target that should follow it, where that counts. Rows count in file order.
    pub fn pairs(&self, row: usize) -> impl Iterator<Item = (u32, u32)> {
        let range = row * self.context..(row + 1) * self.context;
        let pairs = self.rows.tokens[range.clone()].iter().copied().zip(self.rows.targets[range].iter().copied());
        pairs.filter(|(_, target)| *target != self.rows.ignore)
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
