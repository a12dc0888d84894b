//! `rondo completions`: a script that completes verbs, flags and their values in a shell.
#![forbid(unsafe_code)]

use super::{Outcome, say};
use clap_complete::{Generator, Shell};
use std::io::Write;

/// Print a completion script for a shell.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The shell.
    shell: Shell,
}

/// Runs the verb.
pub fn run(args: Args, mut command: clap::Command) -> Outcome {
    let mut script = Vec::new();
    command.set_bin_name("rondo");
    command.build();
    args.shell.generate(&command, &mut script);
    // A reader who has left is no error.
    let _ = std::io::stdout().lock().write_all(&script);
    say(match args.shell {
        Shell::Bash => "Use it: source <(rondo completions bash)",
        Shell::Zsh => "Use it: rondo completions zsh > \"${fpath[1]}/_rondo\"",
        Shell::Fish => "Use it: rondo completions fish > ~/.config/fish/completions/rondo.fish",
        Shell::Elvish => "Use it: eval (rondo completions elvish | slurp)",
        _ => "Use it: rondo completions powershell | Out-String | Invoke-Expression",
    });
    Ok(())
}
