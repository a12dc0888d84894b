//! Tokenizers between GGUF's keys and tokenizer.json: nothing is written that doesn't give the same ids.
#![forbid(unsafe_code)]

mod bytes;
mod sentence;
#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::family::{ConfigFile, Family};
use crate::text::Vocabulary;
use crate::text::vocab::Kind;
use serde_json::{Map, Value as Json, json};
use std::path::Path;
use tensor::file::Error;
use tensor::file::gguf::{Array, Metadata, Value};
use unicode_normalization_alignments::UnicodeNormalization;

/// Ids of tokens in `config.json`, and in GGUF.
pub(super) const TOKEN_IDS: &[(&str, &str)] = &[
    ("bos_token_id", "tokenizer.ggml.bos_token_id"),
    ("eos_token_id", "tokenizer.ggml.eos_token_id"),
    ("pad_token_id", "tokenizer.ggml.padding_token_id"),
];

/// GGUF's key of a template; that of one with a name goes on with a point and the name, and with an s it lists these.
const TEMPLATE: &str = "tokenizer.chat_template";

/// Bytes of a tokenizer.json at most.
const LARGEST: u64 = 256 << 20;

/// Texts whose ids must be the same in both forms.
const SAMPLES: [&str; 9] = [
    "Hello, world! It's 2024: 3.14159, 1000000 and 7.",
    "two  spaces,\ttabs\nand\r\n\r\nlines   ",
    "I'M don't WE'LL they've CamelCase snake_case",
    "fn main() { println!(\"{}\", x_1 += 2); } // <tag/>",
    "\u{dc}n\u{ef}c\u{f6}d\u{e9} \u{2014} \u{201c}quotes\u{201d} \u{2026} \u{bd} \u{b2} caf\u{e9}",
    "\u{6f22}\u{5b57}\u{304b}\u{306a}\u{3001}\u{d55c}\u{ad6d}\u{c5b4} \u{440}\u{443}\u{441} \u{639}\u{631}\u{628}\u{64a} \u{939}\u{93f}",
    "\u{1f600}\u{1f469}\u{200d}\u{1f467}\0\u{7f}\u{2581}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    " A text that begins with a space",
];

/// The parts of a tokenizer.json that a kind of vocabulary has of its own.
struct Parts {
    normalizer: Json,
    pre_tokenizer: Json,
    decoder: Json,
    model: Map<String, Json>,
    /// Whether added tokens are among the model's.
    holds_added: bool,
}

/// A vocabulary in GGUF's keys: its kind, its rules' name where it has some, lists, flags, and what is to be said of it.
struct Keys {
    model: &'static str,
    pre: &'static str,
    lists: Vec<(&'static str, Array)>,
    flags: Vec<(&'static str, bool)>,
    warning: Option<&'static str>,
}

/// What is said where white space beside added tokens would be kept.
const BESIDE: &str = "white space beside some added tokens stays in GGUF, which tokenizer.json takes away";

impl Keys {
    fn write(self, metadata: &mut Metadata) {
        metadata.set("tokenizer.ggml.model", Value::String(self.model.into()));
        metadata.set("tokenizer.ggml.pre", Value::String(self.pre.into()));
        self.lists.into_iter().for_each(|(key, list)| metadata.set(key, Value::Array(list)));
        self.flags.into_iter().for_each(|(key, flag)| metadata.set(key, Value::Bool(flag)));
    }
}

/// GGUF's number of what a token is for.
fn number(kind: Kind) -> i32 {
    match kind {
        Kind::Normal => 1,
        Kind::Unknown => 2,
        Kind::Control => 3,
        Kind::UserDefined => 4,
        Kind::Unused => 5,
        Kind::Byte => 6,
    }
}

/// tokenizer.json and tokenizer_config.json of GGUF's keys; nothing where there is no tokenizer.
///
/// # Errors
/// Why there is no tokenizer.json for it, in words.
pub(super) fn tokenizer_json(metadata: &Metadata) -> Result<Option<(String, String)>, String> {
    let model = metadata.get("tokenizer.ggml.model").and_then(Value::text);
    if model.is_none() {
        return Ok(None);
    }
    let Some(vocabulary) = Vocabulary::from_gguf(metadata).map_err(|e| e.to_string())? else { return Ok(None) };
    let parts = match model {
        Some("gpt2") => bytes::parts(&vocabulary, metadata)?,
        Some("llama") => sentence::parts(&vocabulary, metadata)?,
        other => return Err(format!("tokenizer.json isn't made of the kind `{}`", other.unwrap_or_default())),
    };
    let (mut vocab, mut added) = (Map::new(), Vec::new());
    let unknown = vocabulary.special().unknown;
    // Some files mark places that nothing fills as unknown ones.
    let kind_of = |id, kind| if kind == Kind::Unknown && unknown != Some(id) { Kind::Unused } else { kind };
    let token = |id| vocabulary.token(id).map(|(text, kind)| (id, (text, kind_of(id, kind))));
    let tokens = || (0u32..).map_while(token);
    // Places at the end that nothing fills are no tokens.
    let count = tokens().filter(|(_, (_, kind))| *kind != Kind::Unused).map(|(id, _)| id + 1).max().unwrap_or(0);
    for (id, (token, kind)) in tokens().take(count as usize) {
        let is_added = matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unknown);
        if is_added {
            let [lstrip, rstrip, single_word] = vocabulary.beside(id);
            added.push(json!({
                "id": id, "content": token, "single_word": single_word, "lstrip": lstrip, "rstrip": rstrip,
                "normalized": false, "special": kind != Kind::UserDefined,
            }));
        }
        if !is_added || parts.holds_added {
            vocab.insert(token.into(), json!(id));
        }
    }
    let mut model = parts.model;
    model.insert("vocab".into(), Json::Object(vocab));
    let all = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": parts.normalizer, "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": around(&vocabulary), "decoder": parts.decoder, "model": model,
    });
    let text = format!("{all}\n");
    let back = Vocabulary::from_json(&text).map_err(|e| e.to_string())?;
    agree(&vocabulary, &back, |_| true)?;
    if vocabulary.surround(Vec::new()) != back.surround(Vec::new()) {
        return Err("what goes around a text would be others".into());
    }
    let mut config = Map::from_iter([("tokenizer_class".to_string(), json!("PreTrainedTokenizerFast"))]);
    for (key, gguf_key) in TOKEN_IDS {
        let id = metadata.get(gguf_key).and_then(Value::unsigned).and_then(|id| u32::try_from(id).ok());
        let token = id.and_then(|id| vocabulary.token(id));
        if let (Some((token, _)), Some(name)) = (token, key.strip_suffix("_id")) {
            config.insert(name.into(), json!(token));
        }
    }
    if let Some(template) = chat_template(metadata) {
        config.insert("chat_template".into(), template);
    }
    Ok(Some((text, format!("{:#}\n", Json::Object(config)))))
}

/// What tokenizer.json puts around a text.
fn around(vocabulary: &Vocabulary) -> Json {
    let special = vocabulary.special();
    let token =
        |id: Option<u32>, wanted: bool| id.filter(|_| wanted).and_then(|id| Some((id, vocabulary.token(id)?.0)));
    let (before, after) = (token(special.bos, special.add_bos), token(special.eos, special.add_eos));
    if before.is_none() && after.is_none() {
        return Json::Null;
    }
    let piece = |(_, text): (u32, &str), kind: u32| json!({ "SpecialToken": { "id": text, "type_id": kind } });
    let one = |name: &str, kind: u32| {
        let text = json!({ "Sequence": { "id": name, "type_id": kind } });
        let pieces = [before.map(|b| piece(b, kind)), Some(text), after.map(|a| piece(a, kind))];
        pieces.into_iter().flatten().collect::<Vec<Json>>()
    };
    let named = [before, after].into_iter().flatten();
    let named = named.map(|(id, text)| (text.to_string(), json!({ "id": text, "ids": [id], "tokens": [text] })));
    let two = [one("A", 0), one("B", 1)].concat();
    json!({
        "type": "TemplateProcessing", "single": one("A", 0), "pair": two, "special_tokens": Map::from_iter(named),
    })
}

/// Whether two vocabularies give the same ids: of texts of all sorts, and of each token's own text, as far as they are
/// `wanted`. Of composed ones only: whether a text is composed first, GGUF doesn't say.
fn agree(one: &Vocabulary, other: &Vocabulary, wanted: fn(&str) -> bool) -> Result<(), String> {
    let own = (0u32..).take(one.size()).map(|id| String::from_utf8(one.bytes(id, false)).unwrap_or_default());
    let composed = |text: &String| text.is_ascii() || text.nfc().map(|(c, _)| c).eq(text.chars());
    let texts = SAMPLES.iter().map(|text| text.to_string()).chain(own);
    let mut texts = texts.filter(|text| wanted(text)).filter(composed);
    match texts.find(|text| one.encode(text, false) != other.encode(text, false)) {
        Some(text) => Err(format!("the ids of {text:?} would be others")),
        None => Ok(()),
    }
}

/// GGUF's keys of a folder's tokenizer.json and of the templates and ids beside it; answers what is left out.
pub(super) fn of_folder(
    folder: &Path,
    family: &Family,
    config: &Config,
    file: &ConfigFile,
    metadata: &mut Metadata,
) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    for (key, gguf_key) in TOKEN_IDS {
        // Where there are several, the first.
        let id = file.get(key).map(|id| id.get(0).unwrap_or(id)).and_then(Json::as_u64);
        match id.and_then(|id| u32::try_from(id).ok()).filter(|id| (*id as usize) < config.vocab_size) {
            Some(id) => metadata.set(*gguf_key, Value::U32(id)),
            None if file.get(key).is_some() => warnings.push(format!("{key} is no token of the model's, and left out")),
            None => {}
        }
    }
    let beside = json_of(&folder.join("tokenizer_config.json"))?.map(|(_, all)| all).unwrap_or_default();
    let separate = std::fs::read_to_string(folder.join("chat_template.jinja")).ok();
    templates(beside.get("chat_template"), separate, metadata);
    match json_of(&folder.join("tokenizer.json"))? {
        None => warnings.push("there is no tokenizer.json: the file has no tokenizer".into()),
        Some((text, all)) => match of_json(&text, &all, &beside, config.vocab_size, metadata) {
            Ok((with, said)) => {
                *metadata = with;
                warnings.extend(said);
                return Ok(warnings);
            }
            Err(what) => warnings.push(format!("the tokenizer is left out: {what} ({})", family.name)),
        },
    }
    metadata.set("tokenizer.ggml.model", Value::String("no_vocab".into()));
    Ok(warnings)
}

/// Templates of tokenizer_config.json, one or a list of named ones, and the one in a file of its own.
fn templates(beside: Option<&Json>, separate: Option<String>, metadata: &mut Metadata) {
    let named = |template: &Json| {
        let text = |key: &str| template.get(key).and_then(Json::as_str).map(String::from);
        Some((text("name")?, text("template")?))
    };
    let named: Vec<_> = beside.and_then(Json::as_array).into_iter().flatten().filter_map(named).collect();
    let one = beside.and_then(Json::as_str).map(String::from);
    let (mut plain, mut names) = (separate.or(one), Vec::new());
    for (name, template) in named {
        if name == "default" {
            plain = plain.or(Some(template));
        } else {
            metadata.set(format!("{TEMPLATE}.{name}"), Value::String(template));
            names.push(name);
        }
    }
    if !names.is_empty() {
        metadata.set(format!("{TEMPLATE}s"), Value::Array(Array::String(names)));
    }
    if let Some(template) = plain {
        metadata.set(TEMPLATE, Value::String(template));
    }
}

/// The templates of GGUF's keys as tokenizer_config.json has them; nothing where there are none.
fn chat_template(metadata: &Metadata) -> Option<Json> {
    let text = |key: &str| metadata.get(key).and_then(Value::text);
    let plain = text(TEMPLATE).map(|text| ("default", text));
    let names = metadata.get(&format!("{TEMPLATE}s")).and_then(Value::array).and_then(Array::strings);
    let others = names.unwrap_or_default().iter();
    let others = others.filter_map(|name| Some((name.as_str(), text(&format!("{TEMPLATE}.{name}"))?)));
    let all: Vec<_> = plain.into_iter().chain(others).collect();
    match all.as_slice() {
        [] => None,
        [("default", text)] => Some(json!(text)),
        all => Some(all.iter().map(|(name, text)| json!({ "name": name, "template": text })).collect()),
    }
}

/// `metadata` with the keys of a tokenizer.json, and what is to be said of it.
fn of_json(
    text: &str,
    all: &Json,
    beside: &Json,
    vocab_size: usize,
    metadata: &Metadata,
) -> Result<(Metadata, Vec<String>), String> {
    let vocabulary = Vocabulary::from_json(text).map_err(|e| e.to_string())?;
    let keys = match vocabulary.prefix() {
        Some(prefix) => sentence::keys(&vocabulary, all, prefix, vocab_size)?,
        None => bytes::keys(&vocabulary, all, vocab_size)?,
    };
    let (spaced, mut with) = (keys.warning.is_some(), metadata.clone());
    let mut warnings: Vec<String> = keys.warning.map(String::from).into_iter().collect();
    keys.write(&mut with);
    let special = vocabulary.special();
    for (name, id, adds) in [("bos", special.bos, special.add_bos), ("eos", special.eos, special.add_eos)] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        // What goes around a text holds before config.json.
        if let Some(id) = id {
            with.set(key.as_str(), Value::U32(id));
        }
        // What the library's class is told holds before what the file says.
        let told = beside.get(format!("add_{name}_token")).and_then(Json::as_bool);
        let adds = told.unwrap_or(adds) && with.get(&key).is_some();
        with.set(format!("tokenizer.ggml.add_{name}_token"), Value::Bool(adds));
    }
    let back = Vocabulary::from_gguf(&with).map_err(|e| e.to_string())?.ok_or("it would have no tokens")?;
    agree(&vocabulary, &back, if spaced { |text| !text.starts_with(' ') } else { |_| true })?;
    if (0u32..).take(vocabulary.size()).any(|id| vocabulary.beside(id) != back.beside(id)) {
        warnings.push(BESIDE.into());
    }
    Ok((with, warnings))
}

/// Tokens and kinds of a vocabulary, with places up to the model's number of tokens.
fn tokens(vocabulary: &Vocabulary, vocab_size: usize) -> Result<(Vec<String>, Vec<i32>), String> {
    if vocabulary.size() > vocab_size {
        return Err(format!("it has {} tokens, and the model {vocab_size}", vocabulary.size()));
    }
    let unknown = vocabulary.special().unknown;
    let all = (0u32..).take(vocab_size).map(|id| match vocabulary.token(id) {
        Some((text, kind)) => (text.into(), number(if unknown == Some(id) { Kind::Unknown } else { kind })),
        None => (format!("[PAD{id}]"), number(Kind::Unused)),
    });
    Ok(all.unzip())
}

/// GGUF's keys of the tokenizer of a model that Rondo trained; `END` ends a text, and nothing begins one.
pub(super) fn of_own(
    folder: &Path,
    kind: &str,
    config: &Config,
    metadata: &mut Metadata,
) -> Result<Vec<String>, Error> {
    let last = if kind == "ascii" { 127 } else { u8::MAX };
    let keys = if kind == "bpe" {
        let path = folder.join("tokenizer.json");
        let wrong = |what: String| tensor::file::Problem::new(0, "the file", what).within(&path);
        let (text, all) = json_of(&path)?.ok_or_else(|| wrong("it is missing".into()))?;
        let vocabulary = Vocabulary::from_json(&text).map_err(|e| wrong(e.to_string()))?;
        bytes::keys(&vocabulary, &all, config.vocab_size).map_err(wrong)?
    } else {
        // A token is a byte, in the letters that byte-level BPE has for bytes.
        let letters = (0..=last).map(crate::text::vocab::name_of).map(String::from);
        let tokens = usize::from(last) + 1;
        let padding = (tokens..config.vocab_size).map(|id| format!("[PAD{id}]"));
        let kinds = (0..config.vocab_size).map(|id| number(if id < tokens { Kind::Normal } else { Kind::Unused }));
        bytes::of_lists("gpt-2", letters.chain(padding).take(config.vocab_size).collect(), kinds.collect(), Vec::new())
    };
    keys.write(metadata);
    metadata.set("tokenizer.ggml.eos_token_id", Value::U32(crate::text::END));
    metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
    let warning = "characters above 127 are one token in this model, which GGUF can't say: keep to ASCII text";
    Ok(if kind == "ascii" { vec![warning.into()] } else { Vec::new() })
}

/// A file's text and what it says; nothing where there is none, or it is too large.
fn json_of(path: &Path) -> Result<Option<(String, Json)>, Error> {
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(None) };
    if metadata.len() > LARGEST {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let wrong =
        |e: serde_json::Error| tensor::file::Problem::new(0, "the file", format!("it is no JSON: {e}")).within(path);
    let all = serde_json::from_str(&text).map_err(wrong)?;
    Ok(Some((text, all)))
}
