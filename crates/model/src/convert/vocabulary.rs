//! Byte-level BPE between GGUF's keys and tokenizer.json; other kinds of tokenizer stay where they are.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::family::{ConfigFile, Family};
use serde_json::{Map, Value as Json, json};
use std::path::Path;
use tensor::file::Error;
use tensor::file::gguf::{Array, Metadata, Value};

/// Ids of tokens in `config.json`, and in GGUF.
pub(super) const TOKEN_IDS: &[(&str, &str)] = &[
    ("bos_token_id", "tokenizer.ggml.bos_token_id"),
    ("eos_token_id", "tokenizer.ggml.eos_token_id"),
    ("pad_token_id", "tokenizer.ggml.padding_token_id"),
];

/// How text is cut before pairs are merged: GGUF's name of it, and tokenizer.json's pattern.
const CUTS: &[(&str, &str)] = &[
    (
        "llama-bpe",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    (
        "qwen2",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    ("gpt-2", ""),
];

/// GGUF's numbers of kinds of tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// Bytes of a tokenizer.json at most.
const LARGEST: u64 = 256 << 20;

/// tokenizer.json and tokenizer_config.json of GGUF's keys; nothing where there is no tokenizer.
///
/// # Errors
/// Why there is no tokenizer.json for it, in words.
pub(super) fn tokenizer_json(metadata: &Metadata) -> Result<Option<(String, String)>, String> {
    let get = |name: &str| metadata.get(&format!("tokenizer.ggml.{name}"));
    match get("model").and_then(Value::text) {
        None | Some("no_vocab") => return Ok(None),
        Some("gpt2") => {}
        Some(other) => return Err(format!("tokenizer.json is made for byte-level BPE, and this is `{other}`")),
    }
    let cut = get("pre").and_then(Value::text).unwrap_or("gpt-2");
    let Some((_, pattern)) = CUTS.iter().find(|(name, _)| *name == cut) else {
        return Err(format!("how it cuts text, `{cut}`, has no pattern here"));
    };
    let list =
        |name: &str| get(name).and_then(Value::array).and_then(Array::strings).ok_or(format!("its {name} are missing"));
    let (tokens, merges) = (list("tokens")?, list("merges")?);
    let kinds = match get("token_type").and_then(Value::array) {
        Some(Array::I32(kinds)) if kinds.len() == tokens.len() => kinds.clone(),
        Some(_) => return Err("its token_type is no i32 for each token".into()),
        None => vec![NORMAL; tokens.len()],
    };
    let (mut vocab, mut added) = (Map::new(), Vec::new());
    for (id, (token, kind)) in tokens.iter().zip(&kinds).enumerate() {
        match *kind {
            CONTROL | USER_DEFINED => added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind == CONTROL,
            })),
            UNUSED => {}
            _ => _ = vocab.insert(token.clone(), json!(id)),
        }
    }
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": pattern.is_empty() });
    let before = match *pattern {
        "" => bytes.clone(),
        _ => json!({ "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false }, bytes,
        ]}),
    };
    let all = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": if cut == "qwen2" { json!({ "type": "NFC" }) } else { Json::Null },
        "pre_tokenizer": before, "post_processor": null, "decoder": bytes,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": cut == "llama-bpe",
            "vocab": vocab, "merges": merges },
    });
    let mut config = Map::from_iter([("tokenizer_class".to_string(), json!("PreTrainedTokenizerFast"))]);
    for (key, gguf_key) in TOKEN_IDS {
        let id = metadata.get(gguf_key).and_then(Value::unsigned).and_then(|id| usize::try_from(id).ok());
        if let (Some(token), Some(name)) = (id.and_then(|id| tokens.get(id)), key.strip_suffix("_id")) {
            config.insert(name.into(), json!(token));
        }
    }
    if let Some(template) = metadata.get("tokenizer.chat_template").and_then(Value::text) {
        config.insert("chat_template".into(), json!(template));
    }
    Ok(Some((format!("{all}\n"), format!("{:#}\n", Json::Object(config)))))
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
    let beside = |name: &str| json_of(&folder.join(name));
    let template =
        beside("tokenizer_config.json")?.and_then(|all| all.get("chat_template")?.as_str().map(String::from));
    let separate = std::fs::read_to_string(folder.join("chat_template.jinja")).ok();
    if let Some(template) = separate.or(template) {
        metadata.set("tokenizer.chat_template", Value::String(template));
    }
    match beside("tokenizer.json")? {
        None => warnings.push("there is no tokenizer.json: the file has no tokenizer".into()),
        Some(all) => match byte_level(&all, config.vocab_size) {
            Ok((cut, keys)) => {
                metadata.set("tokenizer.ggml.model", Value::String("gpt2".into()));
                metadata.set("tokenizer.ggml.pre", Value::String(cut.into()));
                keys.into_iter().for_each(|(key, value)| metadata.set(key, Value::Array(value)));
                return Ok(warnings);
            }
            Err(what) => warnings.push(format!("the tokenizer is left out: {what} ({})", family.name)),
        },
    }
    metadata.set("tokenizer.ggml.model", Value::String("no_vocab".into()));
    Ok(warnings)
}

/// GGUF's keys of the tokenizer of a model that Rondo trained; `END` ends a text, and nothing begins one.
pub(super) fn of_own(
    folder: &Path,
    kind: &str,
    config: &Config,
    metadata: &mut Metadata,
) -> Result<Vec<String>, Error> {
    let last = if kind == "ascii" { 127 } else { u8::MAX };
    let (cut, keys) = if kind == "bpe" {
        let path = folder.join("tokenizer.json");
        let wrong = |what: String| tensor::file::Problem::new(0, "the file", what).within(&path);
        let all = json_of(&path)?.ok_or_else(|| wrong("it is missing".into()))?;
        byte_level(&all, config.vocab_size).map_err(wrong)?
    } else {
        // A token is a byte, in the letters that byte-level BPE has for bytes.
        let letters = (0..=last).map(crate::text::vocab::name_of).map(String::from);
        let tokens = usize::from(last) + 1;
        let padding = (tokens..config.vocab_size).map(|id| format!("[PAD{id}]"));
        let kinds = (0..config.vocab_size).map(|id| if id < tokens { NORMAL } else { UNUSED });
        let keys = vec![
            ("tokenizer.ggml.tokens", Array::String(letters.chain(padding).take(config.vocab_size).collect())),
            ("tokenizer.ggml.token_type", Array::I32(kinds.collect())),
            ("tokenizer.ggml.merges", Array::String(Vec::new())),
        ];
        ("gpt-2", keys)
    };
    metadata.set("tokenizer.ggml.model", Value::String("gpt2".into()));
    metadata.set("tokenizer.ggml.pre", Value::String(cut.into()));
    keys.into_iter().for_each(|(key, value)| metadata.set(key, Value::Array(value)));
    metadata.set("tokenizer.ggml.eos_token_id", Value::U32(crate::text::END));
    metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
    let warning = "characters above 127 are one token in this model, which GGUF can't say: keep to ASCII text";
    Ok(if kind == "ascii" { vec![warning.into()] } else { Vec::new() })
}

fn json_of(path: &Path) -> Result<Option<Json>, Error> {
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(None) };
    if metadata.len() > LARGEST {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let wrong =
        |e: serde_json::Error| tensor::file::Problem::new(0, "the file", format!("it is no JSON: {e}")).within(path);
    serde_json::from_str(&text).map(Some).map_err(wrong)
}

type Keys = Vec<(&'static str, Array)>;

/// How text is cut, and the lists of tokens, of a byte-level BPE.
fn byte_level(all: &Json, vocab_size: usize) -> Result<(&'static str, Keys), String> {
    let model = all.get("model").ok_or("it has no model")?;
    if model.get("type").and_then(Json::as_str) != Some("BPE")
        || model.get("byte_fallback").and_then(Json::as_bool) == Some(true)
    {
        return Err("it is no byte-level BPE, the one kind that is converted".into());
    }
    let before = all.get("pre_tokenizer").map(Json::to_string).unwrap_or_default();
    let patterns = CUTS.iter().find(|(_, pattern)| !pattern.is_empty() && before.contains(&json!(pattern).to_string()));
    let plain = before.contains("ByteLevel") && !before.contains("Split") && !before.contains("\"use_regex\":false");
    let (cut, _) = patterns.or(CUTS.last().filter(|_| plain)).ok_or("how it cuts text is not known")?;
    let mut tokens: Vec<String> = (0..vocab_size).map(|id| format!("[PAD{id}]")).collect();
    let mut kinds = vec![UNUSED; vocab_size];
    let mut set = |id: Option<u64>, token: &str, kind: i32| -> Result<(), String> {
        let id = id.and_then(|id| usize::try_from(id).ok()).filter(|id| *id < vocab_size);
        let id = id.ok_or_else(|| format!("the id of {token:?} is none of the model's {vocab_size}"))?;
        let places = tokens.get_mut(id).zip(kinds.get_mut(id));
        places.into_iter().for_each(|(old, old_kind)| (*old, *old_kind) = (token.into(), kind));
        Ok(())
    };
    for (token, id) in model.get("vocab").and_then(Json::as_object).ok_or("it has no vocabulary")? {
        set(id.as_u64(), token, NORMAL)?;
    }
    for token in all.get("added_tokens").and_then(Json::as_array).into_iter().flatten() {
        let special = token.get("special").and_then(Json::as_bool) == Some(true);
        let content = token.get("content").and_then(Json::as_str).unwrap_or_default();
        set(token.get("id").and_then(Json::as_u64), content, if special { CONTROL } else { USER_DEFINED })?;
    }
    let merge = |merge: &Json| match merge {
        Json::String(text) => Some(text.clone()),
        pair => Some(format!("{} {}", pair.get(0)?.as_str()?, pair.get(1)?.as_str()?)),
    };
    let merges = model.get("merges").and_then(Json::as_array).ok_or("it has no merges")?;
    let merges: Option<Vec<String>> = merges.iter().map(merge).collect();
    let keys = vec![
        ("tokenizer.ggml.tokens", Array::String(tokens)),
        ("tokenizer.ggml.token_type", Array::I32(kinds)),
        ("tokenizer.ggml.merges", Array::String(merges.ok_or("its merges are no pairs")?)),
    ];
    Ok((cut, keys))
}
