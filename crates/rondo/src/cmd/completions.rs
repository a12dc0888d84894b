//! `rondo completions`: a script that completes verbs, flags and their values in a shell.
#![forbid(unsafe_code)]

use super::{Outcome, product, say};
use ::train::config::PRESETS;
use clap::Command;
use clap::builder::PossibleValuesParser;
use clap_complete::{Generator, Shell};

/// Print a completion script for a shell.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The shell.
    shell: Shell,
    /// Print the script within a JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args, command: Command) -> Outcome {
    let mut script = Vec::new();
    let mut command = offered(&command);
    command.set_bin_name("rondo");
    command.build();
    args.shell.generate(&command, &mut script);
    if args.json {
        let script = String::from_utf8_lossy(&script);
        product(super::json(&serde_json::json!({ "shell": args.shell.to_string(), "script": script })));
    } else {
        super::piece(&String::from_utf8_lossy(&script));
    }
    say(match args.shell {
        Shell::Bash => "Use it: source <(rondo completions bash)",
        Shell::Zsh => "Use it: rondo completions zsh > \"${fpath[1]}/_rondo\"",
        Shell::Fish => "Use it: rondo completions fish > ~/.config/fish/completions/rondo.fish",
        Shell::Elvish => "Use it: eval (rondo completions elvish | slurp)",
        _ => "Use it: rondo completions powershell | Out-String | Invoke-Expression",
    });
    Ok(())
}

/// What is offered of a command: the verbs that its help shows, and the presets wherever one is named. The parser itself
/// takes any name of a preset, so that a wrong one is answered with the nearest.
fn offered(command: &Command) -> Command {
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().map(with_presets);
    let about = command.get_about().cloned().unwrap_or_default();
    let whole = Command::new("rondo").version(env!("CARGO_PKG_VERSION")).about(about);
    whole.args(command.get_arguments()).subcommands(verbs)
}

fn with_presets(command: Command) -> Command {
    let inner: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_string()).collect();
    let command = inner.iter().fold(command, |command, name| command.mut_subcommand(name, with_presets));
    let names = || PossibleValuesParser::new(PRESETS.iter().map(|(name, _)| *name));
    let takes_one = command.get_arguments().any(|arg| arg.get_id() == "preset");
    if takes_one { command.mut_arg("preset", |arg| arg.value_parser(names())) } else { command }
}
