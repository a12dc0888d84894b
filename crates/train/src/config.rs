//! A training configuration: a preset, a file over it, and single keys over both; unknown keys are errors.
#![forbid(unsafe_code)]

mod layers;

use crate::keys::{self, KEYS};
use crate::schedule::Schedule;
use layers::{FORMAT, FORMAT_KEY, apply, check_format, error, merge, parse, preset_text, read, text_of};
use model::text::SMALLEST_VOCABULARY;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use tensor::DType;
use toml::{Table, Value};

/// The named workloads.
pub const PRESETS: &[(&str, &str)] = &[
    ("hlx-simple", include_str!("../../../presets/hlx-simple.toml")),
    ("hlx-full", include_str!("../../../presets/hlx-full.toml")),
    ("gpt-small-test", include_str!("../../../presets/gpt-small-test.toml")),
    ("tiny-llama", include_str!("../../../presets/tiny-llama.toml")),
];

/// What a configuration has where it doesn't say.
const DEFAULTS: &str = r#"
seed = 0
grad_accumulation = 1
epochs = 0
steps = 0
fuse = true
preset = "custom"
model.num_kv_heads = 0
model.norm = "layer_norm"
model.positions = "learned"
model.rope_theta = 10000.0
model.rope_scaling_factor = 1.0
model.rope_scaling_low_freq_factor = 1.0
model.rope_scaling_high_freq_factor = 4.0
model.rope_scaling_original_max_position = 8192
model.mlp = "gelu"
model.attention_bias = false
model.mlp_bias = true
model.tied_embeddings = false
data.path = ""
data.tokenizer = "auto"
data.shuffle = false
optimizer.beta1 = 0.9
optimizer.beta2 = 0.999
optimizer.eps = 1e-8
optimizer.weight_decay = 0.0
optimizer.max_norm = 0.0
schedule.kind = "constant"
schedule.warmup_steps = 0
schedule.decay_steps = 0
schedule.end_share = 0.0
precision.weights = "f32"
precision.compute = "f32"
precision.gradients = "f32"
precision.moments = "f32"
precision.master = "none"
eval.fraction = 0.0
eval.every = 0
eval.batches = 0
sample.every = 0
sample.prompts = []
sample.max_tokens = 64
sample.temperature = 0.8
checkpoint.every = 0
checkpoint.seconds = 0.0
checkpoint.keep = 0
log.tensorboard = false
"#;

/// Where training text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Corpus {
    /// The sixteen lines of HLX, built in.
    Hlx,
    /// JSONL files with the fields `input` and `output`, read as HLX reads its own.
    Jsonl,
    /// Text files; without a path the built-in tale.
    Text,
}

/// What makes tokens of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// `ascii` for pairs, `byte` for text.
    Auto,
    /// A character a token, 127 for all above.
    Ascii,
    /// A byte a token.
    Byte,
    /// Byte-pair encoding of `model.vocab_size` tokens, trained on the training data.
    Bpe,
}

/// What is trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// Where it comes from.
    pub corpus: Corpus,
    /// The file, or a folder of files; empty for what is built in.
    pub path: String,
    /// What makes tokens of it.
    pub tokenizer: TokenizerKind,
    /// Whether each pass over the data has its rows in an order of its own, made from the seed.
    pub shuffle: bool,
}

/// Which optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam: weight decay goes into the gradient (Kingma & Ba 2015).
    Adam,
    /// AdamW: weight decay goes around the moments (Loshchilov & Hutter 2019).
    Adamw,
}

/// How parameters change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimizer {
    /// Which optimizer.
    pub kind: OptimizerKind,
    /// Learning rate, the highest of the schedule.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Gradients with a larger norm are scaled down to it; 0 never does.
    pub max_norm: f64,
}

/// Element types of what a step holds. Only `compute` may be other than f32; the rest is refused by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Precision {
    /// Parameters as stored: the optimizer's own, in f32.
    pub weights: String,
    /// Activations and their gradients, and the weights that they are multiplied by: f32, bf16 or f16. Sums are f32.
    pub compute: String,
    /// Gradients as stored.
    pub gradients: String,
    /// The optimizer's moments.
    pub moments: String,
    /// A second, wider copy of the parameters: `none` or its type.
    pub master: String,
    /// What the loss is multiplied by before the gradient.
    pub loss_scale: LossScale,
}

impl Precision {
    /// The element type of activations.
    pub fn compute_type(&self) -> DType {
        self.compute.parse().expect("a resolved configuration has a known type")
    }
}

/// What the loss is multiplied by before the gradient, which is divided by it again: so f16 gradients don't vanish.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LossScale {
    /// As the device finds it out, or nothing.
    Kind(LossScaleKind),
    /// This number.
    Fixed(f64),
}

/// A loss scale that isn't a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossScaleKind {
    /// The loss as it is.
    None,
    /// Begins at 65536; halved when a gradient isn't finite, doubled after 2000 steps in a row whose gradients are.
    Dynamic,
}

impl LossScale {
    /// No loss scale.
    pub const NONE: LossScale = LossScale::Kind(LossScaleKind::None);
    /// A loss scale that the device finds out.
    pub const DYNAMIC: LossScale = LossScale::Kind(LossScaleKind::Dynamic);

    /// The scale of the first step; `None` where the loss is taken as it is.
    pub fn first(self) -> Option<f32> {
        match self {
            LossScale::Kind(LossScaleKind::None) => None,
            LossScale::Kind(LossScaleKind::Dynamic) => Some(65536.0),
            LossScale::Fixed(scale) => Some(scale as f32),
        }
    }
}

/// When the state is saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Steps between checkpoints; 0 saves at the end only.
    pub every: usize,
    /// Seconds between checkpoints, the first after a fifth of them; 0 leaves it to the steps. Nothing is evaluated for
    /// them, so that a run's numbers don't depend on its speed; where saving is slow, they are fewer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seconds: f64,
    /// The latest checkpoints that are kept, beside the one with the lowest validation loss; 0 keeps all.
    pub keep: usize,
}

/// What is left out of files, so that those of runs without it stay the same.
fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

/// What is kept apart from training, and when the loss on it is taken: before each checkpoint and at the end as well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Eval {
    /// Share of the data that is kept apart: the end of each text, or pairs chosen by the seed.
    pub fraction: f64,
    /// Steps between evaluations; 0 leaves it to the checkpoints.
    pub every: usize,
    /// Batches of an evaluation, the first ones; 0 takes all.
    pub batches: usize,
}

/// Text that the model makes on the way, for people to read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Steps between samples; 0 makes none.
    pub every: usize,
    /// What the model goes on from.
    pub prompts: Vec<String>,
    /// Most tokens of a sample.
    pub max_tokens: usize,
    /// How freely tokens are chosen; 0 takes the likeliest.
    pub temperature: f64,
}

/// What is written beside metrics.jsonl.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Log {
    /// Event files for TensorBoard, in the run's folder `tensorboard`.
    pub tensorboard: bool,
}

/// A training run, fully resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The preset that it began from, for names.
    pub preset: String,
    /// Seed of the initial weights and of the order of rows.
    pub seed: u64,
    /// Rows of a micro-batch: of what is computed at a time.
    pub batch_size: usize,
    /// Micro-batches of a step; their gradients are added up before the parameters change.
    pub grad_accumulation: usize,
    /// Passes over the data.
    pub epochs: usize,
    /// Steps in all, whatever `epochs` says; 0 leaves it to `epochs`.
    pub steps: usize,
    /// Whether ops are fused.
    pub fuse: bool,
    /// The model.
    pub model: model::Config,
    /// The data.
    pub data: Data,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The learning rate from step to step.
    pub schedule: Schedule,
    /// Element types.
    pub precision: Precision,
    /// Validation.
    pub eval: Eval,
    /// Text on the way.
    pub sample: Sample,
    /// When the state is saved.
    pub checkpoint: Checkpoint,
    /// What is written beside metrics.jsonl.
    pub log: Log,
}

/// Where a setting was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A named workload.
    Preset(String),
    /// A configuration file.
    File(PathBuf),
    /// A flag of the command line.
    Flag(String),
    /// All of them together.
    Resolved,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Preset(name) => write!(f, "preset {name}"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Flag(flag) => write!(f, "{flag}"),
            Origin::Resolved => write!(f, "configuration"),
        }
    }
}

/// What is wrong with a configuration, where, and what may help.
#[derive(Debug, thiserror::Error)]
#[error("{origin}{}: {what}{}", line.map(|l| format!(" line {l}")).unwrap_or_default(), help.as_ref().map(|h| format!("\n  help: {h}")).unwrap_or_default())]
pub struct ConfigError {
    /// Where it was set.
    pub origin: Origin,
    /// The line of the file, from 1 on.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What may help.
    pub help: Option<String>,
}

/// What goes over the defaults, in this order.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// A named workload.
    pub preset: Option<String>,
    /// A configuration file.
    pub file: Option<PathBuf>,
    /// Single keys: `optimizer.lr=1e-3`.
    pub set: Vec<String>,
}

impl Overrides {
    /// A preset with nothing over it.
    pub fn preset(name: &str) -> Self {
        Overrides { preset: Some(name.into()), ..Self::default() }
    }

    /// The same with one key set.
    #[must_use]
    pub fn with(mut self, setting: &str) -> Self {
        self.set.push(setting.into());
        self
    }

    /// The configuration that results.
    ///
    /// # Errors
    /// An unknown preset or key, a value of the wrong type, a missing key, sizes that make no sense.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        let mut table = parse(DEFAULTS, Origin::Resolved)?;
        if let Some(name) = &self.preset {
            let origin = Origin::Preset(name.clone());
            let layer = parse(preset_text(name)?, origin.clone())?;
            merge(&mut table, &layer, &origin, "", "")?;
        }
        if let Some(path) = &self.file {
            let origin = Origin::File(path.clone());
            let text =
                text_of(read(path).map_err(|what| error(&origin, what, Some(layers::NO_FILE.into())))?, &origin)?;
            let mut layer = parse(&text, origin.clone())?;
            check_format(layer.remove(FORMAT_KEY), &origin)?;
            // A file may begin from a preset; a run's own file names the one that it began from.
            let base = layer.get("preset").and_then(Value::as_str).filter(|_| self.preset.is_none());
            if let Some(text) = base.and_then(|name| preset_text(name).ok()) {
                merge(&mut table, &parse(text, origin.clone())?, &origin, "", "")?;
            }
            merge(&mut table, &layer, &origin, "", &text)?;
        }
        for setting in &self.set {
            apply(&mut table, setting)?;
        }
        finish(table, self.file.as_deref())
    }
}

impl Config {
    /// The configuration as a file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a configuration is plain data")
    }

    /// The configuration as a run's folder keeps it: with the version of its format.
    pub fn to_file(&self) -> String {
        format!("{FORMAT_KEY} = {FORMAT}\n{}", self.to_toml())
    }

    /// What a checkpoint must agree on to be continued: everything but the length of the run and of the part in which
    /// its rate falls, and when it evaluates, samples and saves.
    pub fn identity(&self) -> String {
        tensor::hash::sha256(self.kept().to_toml().as_bytes())
    }

    /// The keys of that which another configuration has otherwise, each with its value here and there.
    pub fn differences(&self, other: &Config) -> Vec<(&'static str, Value, Value)> {
        let table = |config: &Config| config.kept().to_toml().parse::<Table>().expect("it was written just now");
        let (here, there) = (table(self), table(other));
        let differs = |key: &'static str| {
            let (here, there) = (get(&here, key)?, get(&there, key)?);
            (here != there).then(|| (key, here.clone(), there.clone()))
        };
        KEYS.iter().filter_map(|(key, _)| differs(key)).collect()
    }

    /// The configuration with all that a run may change set to nothing.
    fn kept(&self) -> Config {
        let checkpoint = Checkpoint { every: 0, seconds: 0.0, keep: 0 };
        let eval = Eval { every: 0, batches: 0, ..self.eval };
        let schedule = Schedule { decay_steps: 0, ..self.schedule.clone() };
        let sample = Sample { every: 0, prompts: Vec::new(), max_tokens: 0, temperature: 0.0 };
        Config { steps: 0, epochs: 0, schedule, checkpoint, eval, sample, log: Log::default(), ..self.clone() }
    }
}

fn finish(mut table: Table, file: Option<&Path>) -> Result<Config, ConfigError> {
    let origin = file.map_or(Origin::Resolved, |path| Origin::File(path.into()));
    loss_scale_by_type(&mut table);
    for (key, kind) in KEYS {
        let Some(value) = get(&table, key) else {
            let named = get(&table, "preset").and_then(Value::as_str).filter(|name| preset_text(name).is_err());
            let near = named.and_then(|name| keys::nearest_of(name, PRESETS.iter().map(|(known, _)| *known)));
            let help = match near {
                Some(near) => format!("did you mean preset = \"{near}\"? It has all keys"),
                None => "begin from a preset (preset = \"NAME\", or --preset NAME), or set the key".into(),
            };
            return Err(error(&origin, format!("`{key}` is missing"), Some(help)));
        };
        kind.check(key, value).map_err(|what| error(&origin, what, None))?;
    }
    let config: Config = table.try_into().map_err(|e: toml::de::Error| error(&origin, e.message().into(), None))?;
    match problem(&config) {
        Some(what) => Err(error(&origin, what, None)),
        None => Ok(config),
    }
}

/// Where no loss scale is set: dynamic for f16, whose gradients may vanish, else none.
fn loss_scale_by_type(table: &mut Table) {
    if let Some(Value::Table(precision)) = table.get_mut("precision") {
        let f16 = precision.get("compute").and_then(Value::as_str) == Some("f16");
        precision.entry("loss_scale").or_insert(Value::String(if f16 { "dynamic" } else { "none" }.into()));
    }
}

fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        Some((section, name)) => table.get(section)?.get(name),
        None => table.get(key),
    }
}

/// Whether a text can be a file's name anywhere.
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !text.is_empty() && !text.starts_with('.') && text.chars().all(fits)
}

/// What makes no sense in a configuration whose keys all have the right types.
fn problem(config: &Config) -> Option<String> {
    if let Some(what) = config.model.problem() {
        return Some(format!("model.{what}"));
    }
    let o = &config.optimizer;
    let p = &config.precision;
    let stored = [("weights", &p.weights), ("gradients", &p.gradients), ("moments", &p.moments)];
    if let Some((name, ty)) = stored.iter().find(|(_, ty)| *ty != "f32") {
        return Some(format!(
            "precision.{name} is {ty}; only f32 is supported, and precision.compute may be bf16 or f16"
        ));
    }
    if !["f32", "bf16", "f16"].contains(&p.compute.as_str()) {
        return Some(format!("precision.compute is {}; it must be f32, bf16 or f16", p.compute));
    }
    if p.master != "none" {
        return Some(format!("precision.master is {}; with f32 weights there is none", p.master));
    }
    if let LossScale::Fixed(scale) = p.loss_scale
        && !(1.0..=f64::from(ops::loss_scale::MOST)).contains(&scale)
    {
        return Some(format!("precision.loss_scale is {scale:?}; it must be from 1 to 2^24"));
    }
    if let Some(what) = config.schedule.problem() {
        return Some(format!("schedule.{what}"));
    }
    let fraction = |x: f64| (0.0..1.0).contains(&x);
    let wrong = |name: &str, value: f64, what: &str| Some(format!("optimizer.{name} is {value:?}; it must be {what}"));
    // Kernels compute with f32, where 1e300 is infinite and 1e-300 is zero.
    let positive = |x: f64| (x as f32).is_finite() && x as f32 > 0.0;
    let from_zero = |x: f64| (x as f32).is_finite() && x >= 0.0;
    match config {
        _ if !positive(o.lr) => wrong("lr", o.lr, "a positive number"),
        _ if !fraction(o.beta1) => wrong("beta1", o.beta1, "from 0 to below 1"),
        _ if !fraction(o.beta2) => wrong("beta2", o.beta2, "from 0 to below 1"),
        _ if !positive(o.eps) => wrong("eps", o.eps, "a positive number"),
        _ if !from_zero(o.weight_decay) => wrong("weight_decay", o.weight_decay, "a number from 0 on"),
        _ if !from_zero(o.max_norm) => wrong("max_norm", o.max_norm, "a number from 0 on"),
        c if c.batch_size == 0 => Some("batch_size is 0; a step needs at least one row".into()),
        c if c.batch_size > 1 << 20 => Some(format!("batch_size is {}; it must be at most {}", c.batch_size, 1 << 20)),
        c if c.grad_accumulation == 0 => Some("grad_accumulation is 0; a step has at least one micro-batch".into()),
        c if c.grad_accumulation > 1 << 16 => {
            Some(format!("grad_accumulation is {}; it must be at most {}", c.grad_accumulation, 1 << 16))
        }
        c if c.epochs == 0 && c.steps == 0 => Some("epochs and steps are both 0: nothing would be trained".into()),
        c if !fraction(c.eval.fraction) => {
            Some(format!("eval.fraction is {}; it must be from 0 to below 1", c.eval.fraction))
        }
        c if c.eval.fraction == 0.0 && c.eval.every > 0 => {
            Some(format!("eval.every is {}, and eval.fraction keeps nothing apart to evaluate on", c.eval.every))
        }
        c if c.sample.every > 0 && c.sample.prompts.is_empty() => {
            Some(format!("sample.every is {}, and sample.prompts names nothing to go on from", c.sample.every))
        }
        c if c.sample.prompts.iter().any(String::is_empty) => {
            Some("a text of sample.prompts is empty: the model needs something to go on from".into())
        }
        c if !from_zero(c.checkpoint.seconds) => {
            Some(format!("checkpoint.seconds is {:?}; it must be a number from 0 on", c.checkpoint.seconds))
        }
        c if c.sample.every > 0 && c.sample.max_tokens == 0 => Some("sample.max_tokens is 0".into()),
        c if !from_zero(c.sample.temperature) => {
            Some(format!("sample.temperature is {:?}; it must be a number from 0 on", c.sample.temperature))
        }
        c if c.data.tokenizer == TokenizerKind::Bpe && c.model.vocab_size < SMALLEST_VOCABULARY => Some(format!(
            "model.vocab_size is {}; data.tokenizer bpe needs at least {SMALLEST_VOCABULARY}: every byte and an end",
            c.model.vocab_size
        )),
        c if c.data.corpus == Corpus::Jsonl && c.data.path.is_empty() => {
            Some("data.corpus is jsonl, and data.path names no file".into())
        }
        c if c.data.corpus == Corpus::Hlx && !c.data.path.is_empty() => {
            let path = &c.data.path;
            Some(format!("data.path is {path}, and data.corpus is hlx, which is built in; files are jsonl or text"))
        }
        c if !is_name(&c.preset) => {
            let rule = "it names run folders, and must be of letters, digits, `-`, `_` and `.`, not `.` first";
            Some(format!("preset is `{}`; {rule}", c.preset))
        }
        _ => None,
    }
}
