//! What the terminal can do: colors, a line that is updated in place, its width.

use std::io::IsTerminal;
use std::sync::OnceLock;

/// When colors are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal that isn't `dumb`, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What is known of the terminal behind stderr.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal {
    color: bool,
    live: bool,
    edits: bool,
    columns: Option<usize>,
}

static TERMINAL: OnceLock<Terminal> = OnceLock::new();

impl Terminal {
    /// What the variables NO_COLOR, TERM and COLUMNS, and `--color`, make of stderr.
    pub fn new(color: Color, no_color: bool, term: Option<&str>, columns: Option<&str>) -> Terminal {
        Self::of(std::io::stderr().is_terminal(), color, no_color, term, columns)
    }

    fn of(is_terminal: bool, color: Color, no_color: bool, term: Option<&str>, columns: Option<&str>) -> Terminal {
        let live = is_terminal && term != Some("dumb");
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => live && !no_color,
        };
        Terminal {
            color,
            live,
            edits: live && !no_color,
            columns: columns.and_then(|text| text.parse().ok()).filter(|n| *n > 0),
        }
    }

    /// Says so for the whole process; what was said first holds.
    pub fn install(self) {
        // Nothing else sets it.
        let _ = TERMINAL.set(self);
    }
}

fn terminal() -> Terminal {
    TERMINAL.get().copied().unwrap_or_default()
}

/// Whether a line on stderr can be updated in place.
pub fn live() -> bool {
    terminal().live
}

/// Whether a line that is typed can be edited in place: there is a terminal, and nobody asked for plain text.
pub fn edits() -> bool {
    terminal().edits
}

/// Characters in a row of the terminal, asked for once.
pub fn columns() -> usize {
    static COLUMNS: OnceLock<usize> = OnceLock::new();
    *COLUMNS.get_or_init(|| terminal().columns.or_else(width).unwrap_or(80))
}

/// The width that the system tells; only asked for where there is a terminal.
fn width() -> Option<usize> {
    if !live() {
        return None;
    }
    let stdin = std::process::Stdio::from(std::fs::File::open("/dev/tty").ok()?);
    let out = std::process::Command::new("stty").arg("size").stdin(stdin).output().ok()?;
    String::from_utf8(out.stdout).ok()?.split_whitespace().nth(1)?.parse().ok().filter(|n| *n > 0)
}

/// A message with its first word in color: `error:`, `warning:`, and lines that begin with `help:`.
pub fn painted(text: &str) -> String {
    if !terminal().color {
        return text.to_string();
    }
    paint(text)
}

fn paint(text: &str) -> String {
    let words = [("error:", "\x1b[1;31m"), ("warning:", "\x1b[1;33m"), ("help:", "\x1b[1;36m")];
    let lines = text.split('\n').map(|line| {
        let inner = line.trim_start();
        let found = words.iter().find(|(word, _)| inner.starts_with(word));
        found.map_or(line.to_string(), |(word, code)| {
            let (indent, rest) = (&line[..line.len() - inner.len()], &inner[word.len()..]);
            format!("{indent}{code}{word}\x1b[0m{rest}")
        })
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_are_asked_for() {
        let new = |color, no_color, term| Terminal::of(true, color, no_color, term, Some("20"));
        let plain = new(Color::Auto, false, Some("xterm"));
        assert!(plain.color && plain.live);
        let quiet = new(Color::Auto, true, Some("xterm"));
        assert!(!quiet.color && quiet.live, "NO_COLOR is about colors alone");
        let file = Terminal::of(false, Color::Auto, false, Some("xterm"), None);
        assert!(!file.color && !file.live);
        assert!(new(Color::Always, true, Some("dumb")).color);
        assert!(!new(Color::Never, false, Some("xterm")).color);
        assert!(!new(Color::Auto, true, Some("xterm")).color);
        assert!(!new(Color::Auto, false, Some("dumb")).color && !new(Color::Auto, false, Some("dumb")).live);
        assert!(!new(Color::Always, true, Some("xterm")).edits && !new(Color::Auto, false, Some("dumb")).edits);
        assert_eq!(new(Color::Auto, false, None).columns, Some(20));
    }

    #[test]
    fn only_the_first_words_are_painted() {
        assert_eq!(paint("error: no\n  help: yes"), "\x1b[1;31merror:\x1b[0m no\n  \x1b[1;36mhelp:\x1b[0m yes");
        assert_eq!(paint("an error: no"), "an error: no");
    }
}
