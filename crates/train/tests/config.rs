//! Configurations: presets resolve, and every mistake is named with its key.

use std::path::PathBuf;
use train::config::{Config, Overrides, PRESETS};
use train::keys::KEYS;

fn message(overrides: Overrides) -> String {
    overrides.resolve().unwrap_err().to_string()
}

fn set(setting: &str) -> Overrides {
    Overrides::preset("hlx-full").with(setting)
}

#[test]
fn every_preset_resolves_and_survives_its_own_file() {
    for (name, _) in PRESETS {
        let config = Overrides::preset(name).resolve().unwrap();
        assert_eq!(config.preset, *name);
        let file = std::env::temp_dir().join(format!("rondo-config-{}-{name}.toml", std::process::id()));
        std::fs::write(&file, config.to_toml()).unwrap();
        let again = Overrides { file: Some(file.clone()), ..Overrides::default() }.resolve().unwrap();
        std::fs::remove_file(file).unwrap();
        assert_eq!(again, config);
    }
}

#[test]
fn the_list_of_keys_is_the_configuration() {
    // The one key that files leave out where it isn't set.
    let config = Overrides::preset("hlx-full").with("checkpoint.seconds=30").resolve().unwrap();
    let table: toml::Table = config.to_toml().parse().unwrap();
    let mut names = Vec::new();
    for (key, value) in &table {
        match value.as_table() {
            Some(inner) => names.extend(inner.keys().map(|k| format!("{key}.{k}"))),
            None => names.push(key.clone()),
        }
    }
    let mut keys: Vec<_> = KEYS.iter().map(|(k, _)| k.to_string()).collect();
    names.sort();
    keys.sort();
    assert_eq!(names, keys);
}

#[test]
fn keys_are_set_over_the_preset() {
    let config = set("optimizer.lr=1e-3").with("batch_size=8").with("data.path=a.txt").with("model.norm_eps=1");
    let config = config.with("data.corpus=text");
    let config = config.with("model.mixer=value").with("fuse=false").resolve().unwrap();
    assert_eq!((config.optimizer.lr, config.batch_size, config.fuse), (1e-3, 8, false));
    assert_eq!((config.data.path.as_str(), config.model.norm_eps), ("a.txt", 1.0));
    assert_eq!(config.model.mixer, model::Mixer::Value);
}

#[test]
fn mistakes_are_named_with_their_key() {
    let expected = [
        ("optimizer.lrr=1", "unknown key `optimizer.lrr`\n  help: did you mean `optimizer.lr`?"),
        ("lr=1", "unknown key `lr`\n  help: did you mean `optimizer.lr`?"),
        ("elephant=1", "unknown key `elephant`"),
        ("optimizer=1", "`optimizer` is a section"),
        ("batch_size=four", "`batch_size` is the text \"four\"; it must be a whole number from 0 on"),
        ("batch_size=-1", "`batch_size` is the whole number -1"),
        ("batch_size=0", "batch_size is 0"),
        ("grad_accumulation=0", "grad_accumulation is 0; a step has at least one micro-batch"),
        ("optimizer.lr=fast", "it must be a number"),
        ("optimizer.lr=nan", "optimizer.lr is NaN"),
        ("optimizer.lr=1e300", "optimizer.lr is 1e300; it must be a positive number"),
        ("optimizer.eps=1e-300", "optimizer.eps is 1e-300"),
        ("optimizer.weight_decay=1e40", "optimizer.weight_decay is 1e40"),
        ("data.path=a.txt", "data.corpus is hlx, which is built in"),
        ("preset=../../elsewhere", "preset is `../../elsewhere`"),
        ("preset=", "preset is ``"),
        ("optimizer.kind=sgd", "it must be one of \"adam\", \"adamw\""),
        ("optimizer.beta2=1", "optimizer.beta2 is 1"),
        ("model.num_heads=3", "model.hidden_size is 256, which 3 heads"),
        ("model.num_layers=0", "model.num_layers is 0"),
        ("model.vocab_size=1099511627776", "model.vocab_size is 1099511627776"),
        ("precision.compute=f64", "precision.compute is f64; it must be f32, bf16 or f16"),
        ("precision.moments=bf16", "precision.moments is bf16; only f32 is supported"),
        ("precision.loss_scale=0.5", "precision.loss_scale is 0.5; it must be from 1 to 2^24"),
        ("precision.loss_scale=auto", "it must be a number, or one of \"none\", \"dynamic\""),
        ("schedule.kind=cosin", "it must be one of \"constant\", \"cosine\", \"linear\", \"wsd\""),
        ("schedule.warmup_step=3", "did you mean `schedule.warmup_steps`?"),
        ("schedule.end_share=1.5", "schedule.end_share is 1.5; it must be from 0 to 1"),
        ("schedule.kind=wsd", "schedule.kind is wsd, and decay_steps is 0"),
        ("schedule.decay_steps=3", "schedule.decay_steps is 3; only kind wsd"),
        ("eval.fraction=1", "eval.fraction is 1; it must be from 0 to below 1"),
        ("eval.every=5", "eval.every is 5, and eval.fraction keeps nothing apart"),
        ("epochs=0", "nothing would be trained"),
        ("sample.every=5", "sample.every is 5, and sample.prompts names nothing"),
        ("sample.prompts=[1]", "`sample.prompts` is a list; it must be a list of texts"),
        ("sample.prompts=", "a text of sample.prompts is empty"),
        ("sample.temperature=-1", "sample.temperature is -1.0"),
        ("seed", "expected KEY=VALUE"),
    ];
    for (setting, part) in expected {
        let message = message(set(setting));
        assert!(message.contains(part), "{setting}: {message}");
    }
    let preset = message(Overrides::preset("hlx-fll"));
    assert!(preset.contains("preset hlx-fll") && preset.contains("hlx-full"), "{preset}");
}

#[test]
fn a_file_names_itself_in_its_mistakes() {
    let file = std::env::temp_dir().join(format!("rondo-bad-config-{}.toml", std::process::id()));
    let of = |text: &str, preset: Option<&str>| {
        std::fs::write(&file, text).unwrap();
        message(Overrides { preset: preset.map(Into::into), file: Some(file.clone()), set: Vec::new() })
    };
    let name = file.display().to_string();
    let unknown = of("[optimizer]\nlearning_rate = 1\n", Some("hlx-full"));
    assert!(unknown.starts_with(&name) && unknown.contains("unknown key `optimizer.learning_rate`"), "{unknown}");
    assert!(unknown.contains(" line 2: unknown key"), "{unknown}");
    for (text, line) in [
        (
            "batch_size = 4\n[optimizer]\n  # a remark\n lr = \"fast\"\n",
            " line 4: `optimizer.lr` is the text \"fast\"; it must be a number",
        ),
        ("optimizer.lr = true\n", " line 1: `optimizer.lr` is the flag true"),
        (
            "\n\nmodel = { hiden_size = 4 }\n",
            " line 3: unknown key `model.hiden_size`\n  help: did you mean `model.hidden_size`?",
        ),
        ("[modle]\nhidden_size = 4\n", " line 1: unknown key `modle`"),
        ("[[model]]\nhidden_size = 4\n", " line 1: `model` is a section"),
    ] {
        let message = of(text, Some("hlx-full"));
        assert!(message.starts_with(&format!("{name}{line}")), "{message}");
    }
    let missing = of("batch_size = 4\nepochs = 1\n", None);
    assert!(missing.contains("`model.vocab_size` is missing"), "{missing}");
    let syntax = of("batch_size = = 4\n", Some("hlx-full"));
    assert!(syntax.contains("not valid TOML") && syntax.contains("line 1"), "{syntax}");
    std::fs::remove_file(&file).unwrap();
    let absent = message(Overrides { file: Some(PathBuf::from("no-such-file.toml")), ..Overrides::default() });
    assert!(absent.starts_with("no-such-file.toml: "), "{absent}");
}

#[test]
fn a_file_may_begin_from_a_preset() {
    let file = std::env::temp_dir().join(format!("rondo-preset-config-{}.toml", std::process::id()));
    let of = |text: &str, preset: Option<&str>| {
        std::fs::write(&file, text).unwrap();
        Overrides { preset: preset.map(Into::into), file: Some(file.clone()), set: Vec::new() }.resolve()
    };
    assert_eq!(of("preset = \"tiny-llama\"\n", None).unwrap(), Overrides::preset("tiny-llama").resolve().unwrap());
    let changed = of("preset = \"tiny-llama\"\n[optimizer]\nlr = 0.5\n", None).unwrap();
    assert_eq!(changed, Overrides::preset("tiny-llama").with("optimizer.lr=0.5").resolve().unwrap());
    // The command line's preset comes first; the file's name then names the run.
    let named = of("preset = \"hlx-full\"\n", Some("hlx-simple")).unwrap();
    assert_eq!((named.model.mixer, named.preset.as_str()), (model::Mixer::Value, "hlx-full"));
    let near = of("preset = \"tiny-lama\"\n", None).unwrap_err().to_string();
    assert!(near.contains("did you mean preset = \"tiny-llama\"?"), "{near}");
    let mine = of("preset = \"mine\"\n", None).unwrap_err().to_string();
    assert!(mine.contains("is missing") && mine.contains("begin from a preset"), "{mine}");
    std::fs::remove_file(&file).unwrap();
    let near = message(Overrides::preset("hlx-ful"));
    assert!(near.contains("did you mean hlx-full?"), "{near}");
}

#[test]
fn what_a_continued_run_may_change_is_not_its_identity() {
    let config: Config = set("seed=1").resolve().unwrap();
    let longer =
        set("seed=1").with("epochs=200").with("checkpoint.every=7").with("checkpoint.keep=2").resolve().unwrap();
    let faster = set("seed=1").with("optimizer.lr=1e-3").resolve().unwrap();
    assert_eq!(config.identity(), longer.identity());
    let by_time = set("seed=1").with("checkpoint.seconds=30").resolve().unwrap();
    assert!(by_time.identity() == config.identity() && by_time.to_toml().contains("seconds = 30.0"));
    assert!(!config.to_toml().contains("seconds"), "files of runs without it stay the same");
    let falls = |steps| set("schedule.kind=wsd").with(steps).resolve().unwrap().identity();
    assert_eq!(falls("schedule.decay_steps=3"), falls("schedule.decay_steps=4"));
    let never = set("checkpoint.seconds=-1").resolve().unwrap_err().to_string();
    assert!(never.contains("checkpoint.seconds is -1.0; it must be a number from 0 on"), "{never}");
    assert_ne!(config.identity(), faster.identity());
}
