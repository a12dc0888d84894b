//! `rondo manual`: the page docs/cli.md, every verb with its flags, made from what the parser knows.
#![forbid(unsafe_code)]

use super::{Outcome, product};
use clap::{Arg, Command};

/// Print every verb and flag as Markdown, the page docs/cli.md.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Runs the verb.
pub fn run(_: Args, mut command: Command) -> Outcome {
    command.build();
    product(markdown(&command).trim_end());
    Ok(())
}

fn markdown(command: &Command) -> String {
    let mut out = String::from(
        "# The command line\n\nMade by `rondo manual > docs/cli.md`; a test compares.\n\n\
         Messages and progress go to stderr, the product alone to stdout. Exit codes: 0 done, 1 failed, 2 usage, \
         3 bad input file, 4 not enough resources, 129, 130 or 143 interrupted. With `--json` the product is JSON, and a failure's \
         last line on stderr is `{\"error\": …, \"help\": … or null, \"code\": …}`. Colors: `--color auto|always|never`, \
         NO_COLOR, TERM=dumb; a line that is updated in place is shown on a terminal only.\n",
    );
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        section(&mut out, verb, &format!("rondo {}", verb.get_name()));
    }
    out
}

fn section(out: &mut String, verb: &Command, name: &str) {
    let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
    let inner: Vec<_> = verb.get_subcommands().filter(|inner| inner.get_name() != "help").collect();
    out.push_str(&format!("\n## {name}\n\n{}.\n", about.trim_end_matches('.')));
    if inner.is_empty() {
        out.push_str("\n| argument | what it does |\n|---|---|\n");
        let shown = |arg: &&Arg| !arg.is_hide_set() && !["help", "version", "color"].contains(&arg.get_id().as_str());
        verb.get_arguments().filter(shown).for_each(|arg| out.push_str(&row(arg)));
    }
    for verb in inner {
        section(out, verb, &format!("{name} {}", verb.get_name()));
    }
}

fn row(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default().join(" ");
    let takes = arg.get_action().takes_values();
    let name = match (arg.get_long(), takes) {
        (Some(long), true) => format!("--{long} {values}"),
        (Some(long), false) => format!("--{long}"),
        (None, _) if arg.is_required_set() => values,
        (None, _) => format!("[{values}]"),
    };
    let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let possible: Vec<_> = arg.get_possible_values().iter().map(|value| value.get_name().to_string()).collect();
    if takes && !possible.is_empty() {
        help = format!("{}. One of {}.", help.trim_end_matches('.'), possible.join(", "));
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes && !defaults.is_empty() {
        help.push_str(&format!(" [default: {}]", defaults.join(" ")));
    }
    format!("| `{name}` | {} |\n", help.replace('|', "\\|").replace('\n', " "))
}
