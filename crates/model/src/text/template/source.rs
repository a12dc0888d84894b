//! Where chat templates are: in a GGUF file, in a model's folder, or alone in a file.

use super::super::CodecError;
use super::super::codec::is_file;
use super::{Limits, Template};
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use tensor::file::gguf;

/// Largest JSON file beside a model, in bytes.
const LARGEST_JSON: u64 = 64 << 20;
/// The variables that a model brings, and the key that says which token it is in a GGUF file.
const TOKENS: [(&str, &str); 7] = [
    ("bos_token", "bos"),
    ("eos_token", "eos"),
    ("unk_token", "unknown"),
    ("pad_token", "padding"),
    // As GGUF spells it.
    ("sep_token", "seperator"),
    ("cls_token", "cls"),
    ("mask_token", "mask"),
];
/// What a template without a name is called.
const DEFAULT: &str = "default";
/// The template that Hugging Face takes when there are tools.
const WITH_TOOLS: &str = "tool_use";
const KEY: &str = "tokenizer.chat_template";

/// A model's chat templates, not parsed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    path: PathBuf,
    /// Name, where it is, and the template.
    templates: Vec<(String, String, String)>,
    /// `bos_token` and its like, as far as the model has them.
    pub tokens: Vec<(String, String)>,
}

impl Source {
    /// The templates at `path`: a GGUF file, the folder of a Hugging Face model, a JSON file of it with a field
    /// `chat_template`, or a template itself.
    ///
    /// # Errors
    /// When nothing is there, or what is wrong with it.
    pub fn open(path: &Path) -> Result<Source, CodecError> {
        let source = if path.is_dir() {
            folder(path)?
        } else {
            is_file(path)?;
            let mut magic = [0; 4];
            let io = |source| CodecError::Io { path: path.into(), source };
            let count = File::open(path).map_err(io)?.take(4).read(&mut magic).map_err(io)?;
            let is_gguf = path.extension().is_some_and(|e| e == "gguf") || (count == 4 && magic == *b"GGUF");
            let is_json = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
            match is_gguf {
                true => in_gguf(&gguf::File::open(path)?)?,
                false if is_json => json_alone(path)?,
                false => alone(path)?,
            }
        };
        if source.templates.is_empty() {
            let what = "there is no chat template in it\n  help: give a .jinja file, or the model as its makers have published it";
            return Err(wrong(path, what));
        }
        Ok(source)
    }

    /// The template called `name`; without one the one for tools, if there are any and it is there, else the default.
    ///
    /// # Errors
    /// Which names there are, or what is wrong with the template.
    pub fn template(&self, name: Option<&str>, with_tools: bool) -> Result<Template, CodecError> {
        let find = |name: &str| self.templates.iter().find(|(n, ..)| n == name);
        let chosen = match name {
            Some(name) => find(name),
            None => {
                let for_tools = if with_tools { find(WITH_TOOLS) } else { None };
                for_tools.or_else(|| find(DEFAULT)).or(self.templates.first().filter(|_| self.templates.len() == 1))
            }
        };
        let Some((_, place, source)) = chosen else {
            let names: Vec<&str> = self.templates.iter().map(|(name, ..)| name.as_str()).collect();
            let what = match name {
                Some(name) => format!("there is no chat template called `{name}`"),
                None => "none of its chat templates is the default".into(),
            };
            return Err(wrong(&self.path, format!("{what}\n  help: it has {}", names.join(", "))));
        };
        let template = Template::parse(place, source);
        template.map_err(|e| CodecError::Template(Box::new(e)))
    }
}

fn wrong(path: &Path, what: impl Into<String>) -> CodecError {
    CodecError::Format { path: path.into(), what: what.into() }
}

/// A text file of at most `most` bytes.
fn text(path: &Path, most: u64) -> Result<String, CodecError> {
    let io = |source| CodecError::Io { path: path.into(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        let what = format!("it has more than {most} bytes, which is too much for such a file");
        let help =
            "give a GGUF file, a model's folder, its tokenizer_config.json or a .jinja file of some thousand bytes";
        return Err(wrong(path, format!("{what}\n  help: {help}")));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        wrong(
            path,
            format!("not valid UTF-8 at byte {at}\n  help: give a GGUF file, a model's folder or a .jinja file"),
        )
    })
}

fn template_text(path: &Path) -> Result<String, CodecError> {
    text(path, u64::try_from(Limits::default().template).unwrap_or(u64::MAX))
}

fn alone(path: &Path) -> Result<Source, CodecError> {
    let template = (DEFAULT.to_string(), path.display().to_string(), template_text(path)?);
    Ok(Source { path: path.into(), templates: vec![template], tokens: Vec::new() })
}

/// The templates of one JSON file of a folder, such as tokenizer_config.json.
fn json_alone(path: &Path) -> Result<Source, CodecError> {
    let mut source = Source { path: path.into(), templates: Vec::new(), tokens: Vec::new() };
    let json = json_of(path)?;
    if json.get("chat_template").is_none_or(Value::is_null) {
        let help = "give the model's tokenizer_config.json, a .jinja file, or the model itself";
        return Err(wrong(path, format!("it has no field `chat_template`\n  help: {help}")));
    }
    from_json(path, &json, &mut source)?;
    Ok(source)
}

fn json_of(path: &Path) -> Result<Value, CodecError> {
    let text = text(path, LARGEST_JSON)?;
    serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|e| wrong(path, format!("not valid JSON: {e}\n  help: get the file again")))
}

fn in_gguf(file: &gguf::File) -> Result<Source, CodecError> {
    let metadata = file.metadata();
    let mut templates = Vec::new();
    for (key, value) in metadata.iter() {
        let Some(name) = key.strip_prefix(KEY) else { continue };
        let name = match name.strip_prefix('.') {
            Some(name) => name,
            None if name.is_empty() => DEFAULT,
            None => continue,
        };
        let Some(template) = value.text() else {
            let help = "convert the original model again";
            return Err(file.key_error(key, "it must be a string: a chat template", help).into());
        };
        templates.push((name.to_string(), format!("{}: {key}", file.path().display()), template.to_string()));
    }
    let names = metadata.get("tokenizer.ggml.tokens").and_then(|value| value.array()).and_then(|array| array.strings());
    let mut tokens = Vec::new();
    for (variable, key) in TOKENS {
        let key = format!("tokenizer.ggml.{key}_token_id");
        let Some(id) = metadata.get(&key) else { continue };
        let token = id.unsigned().and_then(|id| usize::try_from(id).ok()).and_then(|id| names?.get(id));
        let Some(token) = token else {
            let what = format!("it names no token of the vocabulary, which has {}", names.map_or(0, <[String]>::len));
            return Err(file.key_error(&key, what, "convert the original model again").into());
        };
        tokens.push((variable.to_string(), token.clone()));
    }
    Ok(Source { path: file.path().into(), templates, tokens })
}

fn folder(path: &Path) -> Result<Source, CodecError> {
    let mut source = Source { path: path.into(), templates: Vec::new(), tokens: Vec::new() };
    let file = path.join("chat_template.jinja");
    if file.exists() {
        source.templates.push((DEFAULT.into(), file.display().to_string(), template_text(&file)?));
    }
    more(&path.join("additional_chat_templates"), &mut source)?;
    // The first file that says which token it is counts.
    for name in ["tokenizer_config.json", "special_tokens_map.json", "chat_template.json"] {
        let file = path.join(name);
        if !file.exists() {
            continue;
        }
        from_json(&file, &json_of(&file)?, &mut source)?;
    }
    Ok(source)
}

/// The templates in a folder beside the default, called by their files' names.
fn more(folder: &Path, source: &mut Source) -> Result<(), CodecError> {
    if !folder.is_dir() {
        return Ok(());
    }
    let io = |source| CodecError::Io { path: folder.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        files.push(entry.map_err(io)?.path());
    }
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "jinja")) {
        let name = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        source.templates.push((name, file.display().to_string(), template_text(file)?));
    }
    Ok(())
}

fn from_json(file: &Path, json: &Value, source: &mut Source) -> Result<(), CodecError> {
    let mut add = |name: &str, template: &str| {
        // A file of its own goes before a field.
        if source.templates.iter().all(|(n, ..)| n != name) {
            let place = match name {
                DEFAULT => format!("{}: chat_template", file.display()),
                name => format!("{}: chat_template `{name}`", file.display()),
            };
            source.templates.push((name.into(), place, template.into()));
        }
    };
    match json.get("chat_template") {
        None | Some(Value::Null) => {}
        Some(Value::String(template)) => add(DEFAULT, template),
        Some(Value::Array(all)) => {
            for (i, one) in all.iter().enumerate() {
                match (one.get("name").and_then(Value::as_str), one.get("template").and_then(Value::as_str)) {
                    (Some(name), Some(template)) => add(name, template),
                    _ => return Err(wrong(file, format!("`chat_template[{i}]` must have a `name` and a `template`"))),
                }
            }
        }
        Some(_) => return Err(wrong(file, "`chat_template` must be a string, or a list of names and templates")),
    }
    for (variable, _) in TOKENS {
        let token = json.get(variable);
        let token = token.and_then(|t| t.as_str().or_else(|| t.get("content").and_then(Value::as_str)));
        if let Some(token) = token.filter(|_| source.tokens.iter().all(|(name, _)| name != variable)) {
            source.tokens.push((variable.into(), token.into()));
        }
    }
    Ok(())
}
