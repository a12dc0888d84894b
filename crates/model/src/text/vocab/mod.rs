//! Vocabularies of model files: tokens from text and text from tokens, as the model has learned them.
#![forbid(unsafe_code)]

mod guard;
mod json;
mod library;
mod merge;
mod pieces;
mod read;
pub mod split;
mod steps;
mod tokens;
mod words;

pub use tokens::{Kind, Problem, Special};

use aho_corasick::{AhoCorasick, MatchKind};
use library::{Library, Style};
pub(crate) use pieces::name_of;
use pieces::{Before, Pieces};
pub(crate) use pieces::{Prefix, SPACE};
use split::Splitter;
use std::collections::HashSet;
use std::sync::OnceLock;
use tensor::file::gguf::{Array, Metadata};
use tokens::{Tokens, flag, list, problem, text};
use words::Words;

/// A vocabulary of a model file, and how text becomes its tokens.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    tokens: Tokens,
    special: Special,
    scheme: Scheme,
    around: Around,
    always: Matcher,
    asked: Matcher,
}

/// Tokens that stand in a text as they are, and what is asked of the text around them.
#[derive(Clone, Debug, Default)]
struct Around {
    /// White space after these is passed over.
    after: HashSet<u32>,
    /// White space before these is passed over.
    before: HashSet<u32>,
    /// These are none within a word.
    alone: HashSet<u32>,
}

#[derive(Clone, Debug)]
enum Scheme {
    /// Byte-level pairs: texts of tokens are names of bytes.
    Bytes(Pieces),
    /// SentencePiece: a space is U+2581.
    Sentence(Pieces),
    /// Pairs of characters that stand for themselves.
    Characters(Pieces),
    /// Words that begin with U+2581.
    Words(Box<Words>),
    /// What the tokenizers crate does.
    Library(Box<Library>),
}

/// Finds tokens whose texts stand in a text as they are: the first, and of those the longest.
#[derive(Clone, Debug, Default)]
struct Matcher {
    ids: Vec<u32>,
    /// Made at the first text.
    automaton: OnceLock<Option<AhoCorasick>>,
}

impl Matcher {
    fn new(tokens: &Tokens, kinds: &[Kind]) -> Matcher {
        let taken = tokens.iter().filter(|(_, text, kind)| kinds.contains(kind) && !text.is_empty());
        Matcher { ids: taken.map(|(id, _, _)| id).collect(), automaton: OnceLock::new() }
    }

    /// Calls with what stands between tokens, and with each token.
    fn part<'t>(&self, tokens: &Tokens, alone: &HashSet<u32>, text: &'t str, mut each: impl FnMut(Part<'t>)) {
        let build = || {
            let texts = self.ids.iter().filter_map(|id| tokens.text(*id));
            let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts);
            (!self.ids.is_empty()).then(|| built.ok()).flatten()
        };
        let Some(automaton) = self.automaton.get_or_init(build) else { return each(Part::Text(text)) };
        let mut at = 0;
        for found in automaton.find_iter(text) {
            let Some(id) = self.ids.get(found.pattern().as_usize()) else { continue };
            if alone.contains(id) && within_a_word(text, found.start(), found.end()) {
                continue;
            }
            each(Part::Text(text.get(at..found.start()).unwrap_or_default()));
            each(Part::Token(*id));
            at = found.end();
        }
        each(Part::Text(text.get(at..).unwrap_or_default()));
    }
}

/// Whether a letter, a digit or the like stands right before or after a place.
fn within_a_word(text: &str, start: usize, end: usize) -> bool {
    let before = text.get(..start).and_then(|before| before.chars().next_back());
    let after = text.get(end..).and_then(|after| after.chars().next());
    before.into_iter().chain(after).any(regex_syntax::is_word_character)
}

enum Part<'t> {
    Text(&'t str),
    Token(u32),
}

impl Vocabulary {
    /// The vocabulary of a GGUF file; `None` for one that says it has none.
    ///
    /// # Errors
    /// The key that is wrong, and how.
    pub fn from_gguf(metadata: &Metadata) -> Result<Option<Vocabulary>, Problem> {
        const MODEL: &str = "tokenizer.ggml.model";
        let model =
            text(metadata, MODEL)?.ok_or_else(|| problem(MODEL, "it is missing: the file has no vocabulary"))?;
        match model {
            "no_vocab" | "none" => Ok(None),
            "gpt2" => byte_level(metadata).map(Some),
            "llama" => sentence(metadata).map(Some),
            "bert" => word_piece(metadata).map(Some),
            _ => {
                let what = format!("it is {model:?}; gpt2, llama, bert and no_vocab are known");
                Err(problem(MODEL, what))
            }
        }
    }

    fn new(tokens: Tokens, special: Special, scheme: Scheme) -> Vocabulary {
        let always = Matcher::new(&tokens, &[Kind::UserDefined]);
        let asked = Matcher::new(&tokens, &[Kind::UserDefined, Kind::Control, Kind::Unknown]);
        Vocabulary { tokens, special, scheme, around: Around::default(), always, asked }
    }

    /// Tokens of `text`, without those that go around it. With `special` the names of control tokens in it become
    /// these; without, a text never becomes one.
    pub fn encode(&self, text: &str, special: bool) -> Vec<u32> {
        let mut out = Vec::with_capacity(text.len() / 3);
        let (mut before, mut swallow, mut held) = (Before::Nothing, false, "");
        let matcher = if special { &self.asked } else { &self.always };
        matcher.part(&self.tokens, &self.around.alone, text, |part| match part {
            Part::Token(id) => {
                let text = std::mem::take(&mut held);
                let text = if self.around.before.contains(&id) { text.trim_end() } else { text };
                if !text.is_empty() {
                    self.plain(text, before, &mut out);
                }
                out.push(id);
                before = Before::Token;
                swallow = self.around.after.contains(&id);
            }
            Part::Text(text) => held = if swallow { text.trim_start() } else { text },
        });
        if !held.is_empty() {
            self.plain(held, before, &mut out);
        }
        out
    }

    /// Characters of `text`, each once, that `encode` leaves out since nothing stands for them.
    pub fn lost(&self, text: &str) -> Vec<char> {
        let (Scheme::Bytes(pieces) | Scheme::Sentence(pieces) | Scheme::Characters(pieces)) = &self.scheme else {
            return Vec::new();
        };
        let spaced = |c: char| if c == ' ' && pieces.escape { SPACE } else { c };
        let all: HashSet<char> = text.chars().collect();
        let mut lost: Vec<char> = all.into_iter().filter(|c| pieces.lacks(spaced(*c))).collect();
        if !lost.is_empty() {
            // A longer token may hold it.
            let back = self.decode(&self.encode(text, false), true);
            let back = String::from_utf8_lossy(&back);
            lost.retain(|c| !back.contains(*c));
        }
        lost.sort_unstable();
        lost
    }

    fn plain(&self, text: &str, before: Before, out: &mut Vec<u32>) {
        match &self.scheme {
            Scheme::Bytes(pieces) | Scheme::Sentence(pieces) | Scheme::Characters(pieces) => {
                pieces.encode(text, before, out);
            }
            Scheme::Words(words) => words.encode(&self.tokens, text, out),
            Scheme::Library(library) => library.encode(text, before, out),
        }
    }

    /// `ids` with the tokens around them that the model expects.
    pub fn surround(&self, ids: Vec<u32>) -> Vec<u32> {
        let before = self.special.bos.filter(|_| self.special.add_bos);
        let words = matches!(self.scheme, Scheme::Words(_));
        let after = self.special.eos.filter(|_| self.special.add_eos).or(self.special.separator.filter(|_| words));
        before.into_iter().chain(ids).chain(after).collect()
    }

    /// The bytes that a token stands for. Control tokens have theirs only with `special`.
    pub fn bytes(&self, id: u32, special: bool) -> Vec<u8> {
        let (Some(text), Some(kind)) = (self.tokens.text(id), self.tokens.kind(id)) else { return Vec::new() };
        match (kind, &self.scheme) {
            (Kind::Control, _) => {
                if special {
                    text.into()
                } else {
                    Vec::new()
                }
            }
            (Kind::Byte, _) => tokens::byte_of(text).into_iter().collect(),
            (Kind::UserDefined, _) => text.into(),
            (_, Scheme::Bytes(_)) => pieces::bytes_named(text),
            (_, Scheme::Characters(_)) => text.into(),
            (_, Scheme::Library(library)) => library.style.bytes(text),
            (Kind::Unknown, Scheme::Sentence(_)) => " \u{2047} ".into(),
            (_, Scheme::Sentence(_) | Scheme::Words(_)) => text.replace(SPACE, " ").into_bytes(),
        }
    }

    /// The bytes of `ids`: those that `encode` had, where no white space was passed over and no word was unknown.
    pub fn decode(&self, ids: &[u32], special: bool) -> Vec<u8> {
        let mut decoder = self.decoder(special);
        ids.iter().flat_map(|id| decoder.push(*id)).collect()
    }

    /// What turns tokens to bytes one by one.
    pub fn decoder(&self, special: bool) -> Decoder<'_> {
        Decoder { vocabulary: self, special, before: Before::Nothing }
    }

    /// How many tokens.
    pub fn size(&self) -> usize {
        self.tokens.len()
    }

    /// The ids with a meaning.
    pub fn special(&self) -> &Special {
        &self.special
    }

    /// The id of a token by its text, as the file has it.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.tokens.ids.get(text).copied()
    }

    /// The text of a token as the file has it, and what it is for.
    pub fn token(&self, id: u32) -> Option<(&str, Kind)> {
        Some((self.tokens.text(id)?, self.tokens.kind(id)?))
    }

    /// Where a SentencePiece vocabulary puts a space before a text; `None` for vocabularies of other kinds.
    pub(crate) fn prefix(&self) -> Option<Prefix> {
        if let Scheme::Sentence(pieces) = &self.scheme { Some(pieces.prefix) } else { None }
    }

    /// Whether white space before and after this token is passed over, and whether it is none within a word.
    pub(crate) fn beside(&self, id: u32) -> [bool; 3] {
        [&self.around.before, &self.around.after, &self.around.alone].map(|ids| ids.contains(&id))
    }

    /// Whether a space that comes first was put there.
    fn drops_space(&self, before: Before, after: &[u8]) -> bool {
        match &self.scheme {
            // What begins with a space has got no other.
            Scheme::Sentence(pieces) if pieces.prefix == Prefix::Always => before != Before::Text,
            Scheme::Sentence(pieces) => pieces.prefixes(before, "") && after.first() != Some(&b' '),
            Scheme::Words(_) => before != Before::Text,
            Scheme::Library(library) => before == Before::Nothing && library.style != Style::Bytes,
            Scheme::Bytes(_) | Scheme::Characters(_) => false,
        }
    }
}

/// Tokens to bytes, one by one: the space that `encode` put before a text is taken away again.
#[derive(Clone, Debug)]
pub struct Decoder<'v> {
    vocabulary: &'v Vocabulary,
    special: bool,
    before: Before,
}

impl Decoder<'_> {
    /// The bytes of the next token.
    pub fn push(&mut self, id: u32) -> Vec<u8> {
        let mut bytes = self.vocabulary.bytes(id, self.special);
        let kind = self.vocabulary.tokens.kind(id);
        let space = kind == Some(Kind::Normal) && bytes.first() == Some(&b' ');
        if space && self.vocabulary.drops_space(self.before, bytes.get(1..).unwrap_or_default()) {
            bytes.remove(0);
        }
        self.before = match kind {
            Some(Kind::Control | Kind::UserDefined) => Before::Token,
            _ => Before::Text,
        };
        bytes
    }
}

/// What SentencePiece tokens of a GGUF file are merged of, as `pieces::scored_pairs`.
pub(crate) fn scored_pairs(metadata: &Metadata) -> Result<Vec<[u32; 3]>, Problem> {
    pieces::scored_pairs(&Tokens::read(metadata)?)
}

fn byte_level(metadata: &Metadata) -> Result<Vocabulary, Problem> {
    const PRE: &str = "tokenizer.ggml.pre";
    const MERGES: &str = "tokenizer.ggml.merges";
    let pre = text(metadata, PRE)?.unwrap_or("default");
    let splitter = Splitter::named(pre).ok_or_else(|| {
        let known: Vec<_> = split::names().collect();
        problem(PRE, format!("{pre:?} is unknown\n  help: these rules are known: {}", known.join(", ")))
    })?;
    let llama3 =
        ["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"];
    let tekken = ["tekken", "mistral-nemo"];
    let begins = llama3.contains(&pre) || tekken.contains(&pre) || pre == "chameleon";
    let glm = ["glm4", "glm5"];
    let whole = llama3.contains(&pre) || tekken.contains(&pre) || glm.contains(&pre) || pre == "minicpm5";
    let mut tokens = Tokens::read(metadata)?;
    let mut special = tokens.special(metadata, begins)?;
    if glm.contains(&pre) || pre == "chatglm-bpe" {
        // Their files name a token that no text begins with.
        special.bos = None;
    }
    let merges =
        list(metadata, MERGES)?.ok_or_else(|| problem(MERGES, "it is missing, and there is no text without it"))?;
    let Array::String(merges) = merges else {
        return Err(problem(MERGES, format!("it is a list of {}; it must be one of texts", merges.kind().name())));
    };
    let pairs = pairs(merges, MERGES)?;
    let pieces = Pieces::byte_level(&tokens, pairs.into_iter(), splitter, whole, MERGES)?;
    Ok(Vocabulary::new(tokens, special, Scheme::Bytes(pieces)))
}

/// Merges as two texts each.
fn pairs<'m>(merges: &'m [String], field: &str) -> Result<Vec<(&'m str, &'m str)>, Problem> {
    let pair = |(rank, merge): (usize, &'m String)| {
        let pair = merge.split_once(' ').filter(|(left, right)| !left.is_empty() && !right.is_empty());
        pair.filter(|(_, right)| !right.contains(' ')).ok_or_else(|| {
            let what = format!("merge {rank} is {}; it must be two tokens with a space between", tokens::shown(merge));
            problem(field, what)
        })
    };
    merges.iter().enumerate().map(pair).collect()
}

fn sentence(metadata: &Metadata) -> Result<Vocabulary, Problem> {
    const SCORES: &str = "tokenizer.ggml.scores";
    let mut tokens = Tokens::read(metadata)?;
    if tokens.scores.is_empty() {
        return Err(problem(SCORES, "it is missing, and nothing else says which pieces are merged first"));
    }
    let mut special = tokens.special(metadata, true)?;
    special.unknown = special.unknown.or_else(|| tokens.iter().find(|t| t.2 == Kind::Unknown).map(|t| t.0));
    let mut pieces = Pieces::scored(&tokens, special.unknown)?;
    pieces.escape = true;
    if flag(metadata, "tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
        pieces.prefix = Prefix::Always;
    }
    let mut vocabulary = Vocabulary::new(tokens, special, Scheme::Sentence(pieces));
    let name = text(metadata, "general.name")?.unwrap_or_default().to_lowercase();
    if name.contains("phi-3") || name.contains("phi3") {
        let plain = ["<unk>", "<s>", "<|endoftext|>"];
        let controls =
            vocabulary.tokens.iter().filter(|(_, text, kind)| *kind == Kind::Control && !plain.contains(text));
        vocabulary.around.after = controls.map(|(id, _, _)| id).collect();
    }
    Ok(vocabulary)
}

fn word_piece(metadata: &Metadata) -> Result<Vocabulary, Problem> {
    const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
    let mut tokens = Tokens::read(metadata)?;
    let mut special = tokens.special(metadata, true)?;
    special.unknown = special.unknown.or_else(|| tokens.ids.get("[UNK]").copied());
    special.bos = special.bos.or_else(|| tokens.ids.get("[CLS]").copied());
    special.separator = special.separator.or_else(|| tokens.ids.get("[SEP]").copied());
    let unknown = special.unknown.ok_or_else(|| problem(UNKNOWN, "it is missing, and there is no token `[UNK]`"))?;
    let lowercase = flag(metadata, "tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
    let strip = flag(metadata, "tokenizer.ggml.normalizer.strip_accents")?.unwrap_or(lowercase);
    let words = Words::new(&tokens, unknown, lowercase, strip);
    Ok(Vocabulary::new(tokens, special, Scheme::Words(Box::new(words))))
}

#[cfg(test)]
mod tests;
