//! Reads a tokenizer.json in one pass: tokens and merges straight into short lists, the rest within a budget.
#![forbid(unsafe_code)]

use super::tokens::{Problem, problem, shown};
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::cell::{Cell, RefCell};
use std::fmt;

/// Most tokens of a vocabulary: half as many again as any that is in use with pairs.
pub const MOST_TOKENS: usize = 384 << 10;
/// Most merges.
const MOST_MERGES: usize = 1 << 20;
/// Bytes that may be held of what is neither token nor merge.
const BUDGET: usize = 40 << 20;
/// Bytes that a value takes in a list that grows, beside its text.
const ELEMENT: usize = 150;
/// Bytes that an object takes with its first few entries' places.
const OBJECT: usize = 440;
/// Bytes that an entry takes beside these, and one of many.
const ENTRY: usize = 100;
const ENTRY_OF_MANY: usize = 300;
/// Entries that an object has as a rule.
const FEW: usize = 8;
/// What is read of a file; nothing else in it says anything about its tokens.
const KNOWN: [&str; 9] = [
    "version",
    "truncation",
    "padding",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
];
/// Marks a place in `Texts::own`.
const OWN: u32 = 1 << 31;

/// A tokenizer.json.
#[derive(Debug)]
pub struct File<'t> {
    /// All but `model.vocab` and `model.merges`.
    pub all: Map<String, Value>,
    /// The tokens, if there are any.
    pub vocab: Option<Vocab<'t>>,
    /// Merges, two texts each, if there is a list of them.
    pub merges: Option<Texts<'t>>,
}

/// `model.vocab`.
#[derive(Debug)]
pub struct Vocab<'t> {
    /// The text of each entry.
    pub texts: Texts<'t>,
    /// The id of each, or what Unigram says of how likely it is.
    pub values: Values,
}

/// What stands beside the texts.
#[derive(Debug)]
pub enum Values {
    /// Of an object.
    Ids(Vec<u32>),
    /// Of a list.
    Scores(Vec<f64>),
}

/// Texts of a file, by where they stand in it.
#[derive(Debug)]
pub struct Texts<'t> {
    file: &'t str,
    /// Those that are written in another way than they are.
    own: String,
    places: Vec<(u32, u32)>,
}

impl<'t> Texts<'t> {
    fn new(file: &'t str) -> Texts<'t> {
        Texts { file, own: String::new(), places: Vec::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|(start, len)| {
            let from = if start & OWN == 0 { self.file } else { self.own.as_str() };
            let start = (start & !OWN) as usize;
            from.get(start..start + *len as usize).unwrap_or_default()
        })
    }

    /// All of them as pairs.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().step_by(2).zip(self.iter().skip(1).step_by(2))
    }

    /// A text that stands in the file.
    fn push(&mut self, text: &'t str) {
        // An empty one may stand anywhere.
        let start = text.as_ptr().addr().saturating_sub(self.file.as_ptr().addr());
        self.place(start, text.len(), 0);
    }

    fn push_own(&mut self, text: &str) {
        let start = self.own.len();
        self.own.push_str(text);
        self.place(start, text.len(), OWN);
    }

    fn place(&mut self, start: usize, len: usize, mark: u32) {
        // Files are far shorter than what 31 bits count.
        let start = u32::try_from(start).unwrap_or(u32::MAX) & !OWN;
        self.places.push((start | mark, u32::try_from(len).unwrap_or(0)));
    }
}

/// Reads `text`, all of it.
///
/// # Errors
/// What is wrong with it, as far as its form goes.
pub fn read(text: &str) -> Result<File<'_>, Problem> {
    let bad = |e: serde_json::Error| problem("the file", format!("not valid JSON: {e}"));
    if !text.trim_start().starts_with('{') {
        serde_json::from_str::<IgnoredAny>(text).map_err(bad)?;
        return Err(problem("the file", "it is no JSON object, so it is no tokenizer.json"));
    }
    let state = State {
        text,
        budget: Cell::new(BUDGET),
        problem: RefCell::default(),
        vocab: RefCell::default(),
        merges: RefCell::default(),
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let all = Tree { state: &state, place: Place::File }.deserialize(&mut json);
    let all = all.and_then(|all| json.end().map(|()| all));
    match (all, state.problem.into_inner()) {
        (_, Some(problem)) => Err(problem),
        (Err(e), None) => Err(bad(e)),
        (Ok(Value::Object(all)), None) => {
            Ok(File { all, vocab: state.vocab.into_inner(), merges: state.merges.into_inner() })
        }
        (Ok(_), None) => Err(problem("the file", "it is no JSON object, so it is no tokenizer.json")),
    }
}

struct State<'t> {
    text: &'t str,
    /// Bytes left.
    budget: Cell<usize>,
    problem: RefCell<Option<Problem>>,
    vocab: RefCell<Option<Vocab<'t>>>,
    merges: RefCell<Option<Texts<'t>>>,
}

impl State<'_> {
    /// Ends the reading.
    fn stop<E: Error>(&self, field: impl Into<String>, what: impl Into<String>) -> E {
        *self.problem.borrow_mut() = Some(problem(field, what));
        E::custom("it is wrong")
    }

    fn take<E: Error>(&self, bytes: usize) -> Result<(), E> {
        match self.budget.get().checked_sub(bytes) {
            Some(rest) => {
                self.budget.set(rest);
                Ok(())
            }
            None => {
                let most = BUDGET >> 20;
                Err(self.stop("the file", format!("it holds more than {most} MiB beside its tokens and merges")))
            }
        }
    }
}

/// Where a value stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    File,
    Model,
    Elsewhere,
}

/// Any value, within the budget.
#[derive(Clone, Copy)]
struct Tree<'a, 't> {
    state: &'a State<'t>,
    place: Place,
}

impl<'t> DeserializeSeed<'t> for Tree<'_, 't> {
    type Value = Value;

    fn deserialize<D: Deserializer<'t>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Tree<'_, 't> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.state.take(value.len())?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(value) = list.next_element_seed(Tree { place: Place::Elsewhere, ..self })? {
            self.state.take(ELEMENT)?;
            all.push(value);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'t>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            let place = match (self.place, key.as_str()) {
                (Place::File, "model") => Place::Model,
                (Place::File, known) if !KNOWN.contains(&known) => {
                    object.next_value::<IgnoredAny>()?;
                    continue;
                }
                (Place::Model, "vocab") => {
                    *self.state.vocab.borrow_mut() = object.next_value_seed(Tokens(self.state))?;
                    continue;
                }
                (Place::Model, "merges") => {
                    *self.state.merges.borrow_mut() = object.next_value_seed(Merges(self.state))?;
                    continue;
                }
                _ => Place::Elsewhere,
            };
            let own = if all.is_empty() { OBJECT } else { 0 };
            let entry = if all.len() < FEW { ENTRY } else { ENTRY_OF_MANY };
            self.state.take(own + entry + key.len())?;
            let value = object.next_value_seed(Tree { place, ..self })?;
            all.insert(key, value);
        }
        Ok(Value::Object(all))
    }
}

/// What a visitor wants, and what anything else but texts, lists and objects is to it.
macro_rules! else_nothing {
    ($wanted:literal, $nothing:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str($wanted)
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok($nothing)
        }
    };
}

fn pass_list<'t, A: SeqAccess<'t>>(mut list: A) -> Result<(), A::Error> {
    while list.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

fn pass_object<'t, A: MapAccess<'t>>(mut object: A) -> Result<(), A::Error> {
    while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// `model.vocab`.
struct Tokens<'a, 't>(&'a State<'t>);

impl<'t> DeserializeSeed<'t> for Tokens<'_, 't> {
    type Value = Option<Vocab<'t>>;

    fn deserialize<D: Deserializer<'t>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'t> Tokens<'_, 't> {
    /// Whether there may be one more.
    fn room<E: Error>(&self, count: usize) -> Result<(), E> {
        if count < MOST_TOKENS {
            return Ok(());
        }
        Err(self.0.stop("model.vocab", format!("it has more than {MOST_TOKENS} tokens")))
    }
}

impl<'t> Visitor<'t> for Tokens<'_, 't> {
    type Value = Option<Vocab<'t>>;

    else_nothing!("a list of tokens", None);

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'t>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let (mut texts, mut ids) = (Texts::new(self.0.text), Vec::new());
        while object.next_key_seed(Word(&mut texts))?.is_some() {
            self.room(ids.len())?;
            let budget = self.0.budget.get();
            let id = object.next_value_seed(Tree { state: self.0, place: Place::Elsewhere })?;
            self.0.budget.set(budget);
            let whole = id.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| (*id as usize) < MOST_TOKENS);
            let Some(whole) = whole else {
                let text = texts.iter().last().unwrap_or_default();
                let (most, id) = (MOST_TOKENS - 1, id.to_string().chars().take(40).collect::<String>());
                let what = format!("its id is {id}; it must be a whole number from 0 to {most}");
                return Err(self.0.stop(format!("model.vocab[{}]", shown(text)), what));
            };
            ids.push(whole);
        }
        Ok(Some(Vocab { texts, values: Values::Ids(ids) }))
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let (mut texts, mut scores) = (Texts::new(self.0.text), Vec::new());
        loop {
            let budget = self.0.budget.get();
            let Some(entry) = list.next_element_seed(Tree { state: self.0, place: Place::Elsewhere })? else { break };
            self.0.budget.set(budget);
            self.room(scores.len())?;
            let pair = entry.as_array().map(Vec::as_slice);
            let Some([Value::String(text), Value::Number(score)]) = pair else {
                return Err(self.0.stop(format!("model.vocab[{}]", scores.len()), "it must be a text and a score"));
            };
            let score = score.as_f64().filter(|score| score.abs() <= 1e30 && !text.is_empty());
            let Some(score) = score else {
                let what = "its text is empty, or its score isn't finite";
                return Err(self.0.stop(format!("model.vocab[{}]", scores.len()), what));
            };
            texts.push_own(text);
            scores.push(score);
        }
        Ok(Some(Vocab { texts, values: Values::Scores(scores) }))
    }
}

/// A text, onto others; whether it is one.
struct Word<'a, 't>(&'a mut Texts<'t>);

impl<'t> DeserializeSeed<'t> for Word<'_, 't> {
    type Value = bool;

    fn deserialize<D: Deserializer<'t>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Word<'_, 't> {
    type Value = bool;

    else_nothing!("a text", false);

    fn visit_borrowed_str<E: Error>(self, text: &'t str) -> Result<bool, E> {
        self.0.push(text);
        Ok(true)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        self.0.push_own(text);
        Ok(true)
    }

    fn visit_seq<A: SeqAccess<'t>>(self, list: A) -> Result<bool, A::Error> {
        pass_list(list).map(|()| false)
    }

    fn visit_map<A: MapAccess<'t>>(self, object: A) -> Result<bool, A::Error> {
        pass_object(object).map(|()| false)
    }
}

/// `model.merges`.
struct Merges<'a, 't>(&'a State<'t>);

impl<'t> DeserializeSeed<'t> for Merges<'_, 't> {
    type Value = Option<Texts<'t>>;

    fn deserialize<D: Deserializer<'t>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Merges<'_, 't> {
    type Value = Option<Texts<'t>>;

    else_nothing!("a list of tokens", None);

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'t>>(self, object: A) -> Result<Self::Value, A::Error> {
        pass_object(object).map(|()| None)
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut texts = Texts::new(self.0.text);
        let mut rank = 0usize;
        while let Some(is_pair) = list.next_element_seed(Merge(&mut texts))? {
            if !is_pair || texts.places.iter().rev().take(2).any(|(_, len)| *len == 0) {
                return Err(self.0.stop(format!("model.merges[{rank}]"), "it must be two tokens"));
            }
            rank += 1;
            if rank > MOST_MERGES {
                return Err(self.0.stop("model.merges", format!("it has more than {MOST_MERGES} merges")));
            }
        }
        Ok(Some(texts))
    }
}

/// One merge, in either of its forms, onto others; whether it is one.
struct Merge<'a, 't>(&'a mut Texts<'t>);

impl<'t> DeserializeSeed<'t> for Merge<'_, 't> {
    type Value = bool;

    fn deserialize<D: Deserializer<'t>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_any(self)
    }
}

/// The two texts of a merge with a space between.
fn halves(merge: &str) -> Option<(&str, &str)> {
    merge.split_once(' ').filter(|(_, right)| !right.contains(' '))
}

impl<'t> Visitor<'t> for Merge<'_, 't> {
    type Value = bool;

    else_nothing!("two tokens", false);

    fn visit_borrowed_str<E: Error>(self, merge: &'t str) -> Result<bool, E> {
        let Some((left, right)) = halves(merge) else { return Ok(false) };
        self.0.push(left);
        self.0.push(right);
        Ok(true)
    }

    fn visit_str<E: Error>(self, merge: &str) -> Result<bool, E> {
        let Some((left, right)) = halves(merge) else { return Ok(false) };
        self.0.push_own(left);
        self.0.push_own(right);
        Ok(true)
    }

    fn visit_map<A: MapAccess<'t>>(self, object: A) -> Result<bool, A::Error> {
        pass_object(object).map(|()| false)
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut list: A) -> Result<bool, A::Error> {
        let (mut count, mut texts) = (0, 0);
        while count < 2 {
            let Some(is_text) = list.next_element_seed(Word(self.0))? else { return Ok(false) };
            count += 1;
            texts += usize::from(is_text);
        }
        let ends = list.next_element::<IgnoredAny>()?.is_none();
        if !ends {
            pass_list(list)?;
        }
        Ok(ends && texts == 2)
    }
}
