//! A conversation: prompts and answers on a terminal, and the commands between them.

use super::lines::{Line, Lines};
use super::writer::Writer;
use crate::cmd::{Failure, Outcome, piece, say};
use ::train::keys;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The commands of a conversation.
const COMMANDS: &str = "/set temperature|top_k|top_p|min_p|seed|max_tokens VALUE   change how text is made
/show    the model and the settings      /stats   speeds of the last answer
/?       this text                       /bye     leave (so does Ctrl-D)
\"\"\"      begins and ends a prompt of several lines, or one that is no command; Ctrl-C stops an answer";
/// The commands that are words.
const WORDS: [&str; 8] = ["help", "set", "show", "stats", "clear", "bye", "exit", "quit"];
const QUOTES: &str = "\"\"\"";
const LEAVE: &str = "/bye or Ctrl-D leaves";

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    Nothing,
    Help,
    Show,
    Stats,
    Clear,
    Leave,
    Set(&'a str, &'a str),
    /// A command that isn't one: what to do.
    Mistake(String),
    /// Text to go on from.
    Text,
}

/// Prompts and answers, until the user leaves.
pub fn converse(writer: &mut Writer, verbose: bool) -> Outcome {
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&writer.stop)).map_err(Failure::failed)?;
    let mut lines = Lines::open(&writer.stop)?;
    say("type a beginning, and the model goes on; /? shows the commands, /bye leaves");
    loop {
        match lines.next(">>> ")? {
            Line::End => return Ok(()),
            Line::Dropped => say(LEAVE),
            Line::NoText(what) => say(format_args!("the line is dropped: {what}")),
            Line::Text(line) => match asked(&line) {
                Asked::Nothing => {}
                Asked::Leave => return Ok(()),
                Asked::Help => say(COMMANDS),
                Asked::Show => say(writer.settings()),
                Asked::Stats => say(writer.stats()?),
                Asked::Clear => say("there is nothing to clear: no prompt knows of those before it"),
                Asked::Set(name, value) => match writer.set(name, value) {
                    Ok(text) | Err(text) => say(text),
                },
                Asked::Mistake(what) => say(what),
                Asked::Text => match several_lines(line, &mut lines)? {
                    Line::End => return Ok(()),
                    Line::Dropped => say(format_args!("the prompt is dropped; {LEAVE}")),
                    Line::NoText(what) => say(format_args!("the prompt is dropped: {what}")),
                    Line::Text(prompt) if !answer(writer, &prompt, verbose)? => return Ok(()),
                    Line::Text(_) => {}
                },
            },
        }
    }
}

/// One answer; whether anybody still reads.
fn answer(writer: &mut Writer, prompt: &str, verbose: bool) -> Result<bool, Failure> {
    writer.stop.store(false, Ordering::Relaxed);
    let answered = match writer.answer(prompt.as_bytes(), &mut piece) {
        Ok(_) => true,
        // A prompt that can't be served is no reason to leave.
        Err(failure) if failure.code == 2 => {
            failure.print(false);
            return Ok(true);
        }
        Err(failure) => return Err(failure),
    };
    // Ctrl-C was for the answer.
    writer.stop.store(false, Ordering::Relaxed);
    let read = piece("\n");
    if verbose && answered {
        say(writer.stats()?);
    }
    Ok(read)
}

/// What a line asks for: a command is a known word after `/` that begins the line, and the words that it takes.
fn asked(line: &str) -> Asked<'_> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some(first) = words.first() else { return Asked::Nothing };
    if !line.starts_with('/') || line.contains('\n') {
        return Asked::Text;
    }
    let command = match *first {
        "/?" | "/help" => Asked::Help,
        "/show" => Asked::Show,
        "/stats" => Asked::Stats,
        "/clear" => Asked::Clear,
        "/bye" | "/exit" | "/quit" => Asked::Leave,
        "/set" => {
            let [_, name, value] = words[..] else { return Asked::Mistake(usage()) };
            return Asked::Set(name, value);
        }
        other => return unknown(other, words.len()),
    };
    if words.len() > 1 {
        return Asked::Mistake(format!("{first} takes no words; a prompt that begins with it goes between {QUOTES}"));
    }
    command
}

/// A word after `/` that is no command: a mistake if it stands alone and one is near, else text.
fn unknown<'a>(word: &str, words: usize) -> Asked<'a> {
    let name = word[1..].to_lowercase();
    if words > 1 || name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic()) {
        return Asked::Text;
    }
    match keys::nearest_of(&name, WORDS.into_iter()) {
        Some(near) => {
            let text = format!("{QUOTES}{word}{QUOTES} is taken as text");
            Asked::Mistake(format!("unknown command `{word}`; did you mean `/{near}`? /? shows all; {text}"))
        }
        None => Asked::Text,
    }
}

fn usage() -> String {
    "use /set temperature|top_k|top_p|min_p|seed|max_tokens VALUE".into()
}

/// The prompt that begins with `line`: up to the closing quotes, if it opens with three.
fn several_lines(line: String, lines: &mut Lines) -> Result<Line, Failure> {
    let Some(first) = line.trim_start().strip_prefix(QUOTES) else {
        lines.remember(&line);
        return Ok(Line::Text(line));
    };
    let mut all = first.to_string();
    while !all.trim_end().ends_with(QUOTES) {
        match lines.next("... ")? {
            Line::Text(next) => {
                all.push('\n');
                all.push_str(&next);
            }
            other => return Ok(other),
        }
    }
    lines.remember(&format!("{QUOTES}{all}"));
    all.truncate(all.trim_end().len() - QUOTES.len());
    Ok(Line::Text(all.strip_prefix('\n').unwrap_or(&all).into()))
}

impl Writer {
    fn settings(&self) -> String {
        let (model, s) = (&self.folder.config, &self.sampling);
        format!(
            "{}: {} layers, {} wide, {} heads, context {}\ntemperature {} · top_k {} · top_p {} · min_p {} · seed {} · max_tokens {}",
            self.folder.path.display(),
            model.num_layers,
            model.hidden_size,
            model.num_heads,
            self.engine.max_context(),
            s.temperature,
            s.top_k,
            s.top_p,
            s.min_p,
            s.seed,
            self.max_tokens
        )
    }

    /// `/set NAME VALUE`: what is set now, or what is wrong.
    fn set(&mut self, name: &str, value: &str) -> Result<String, String> {
        fn read<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
            value.parse().map_err(|_| format!("`{value}` is no value for {name}"))
        }
        let mut s = self.sampling;
        match name {
            "temperature" => s.temperature = read(name, value)?,
            "top_k" => s.top_k = read(name, value)?,
            "top_p" => s.top_p = read(name, value)?,
            "min_p" => s.min_p = read(name, value)?,
            "seed" => s.seed = read(name, value)?,
            "max_tokens" => self.max_tokens = read::<usize>(name, value)?.max(1),
            _ => return Err(usage()),
        }
        s.problem().map_or(Ok(()), Err)?;
        self.sampling = s;
        Ok(format!("{name} is {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_words_are_commands() {
        assert_eq!((asked("  "), asked("/bye "), asked("/quit")), (Asked::Nothing, Asked::Leave, Asked::Leave));
        assert_eq!((asked("/?"), asked("/help"), asked("/show")), (Asked::Help, Asked::Help, Asked::Show));
        assert_eq!((asked("/stats"), asked("/clear")), (Asked::Stats, Asked::Clear));
        assert_eq!(asked("/set  seed 3"), Asked::Set("seed", "3"));
        for text in [
            "/// The",
            "//",
            "// a comment",
            "/",
            "/ bye",
            "/settle seed 3",
            "/usr/bin/env",
            "/*",
            "/byeline of the day",
            "/showers",
            " /bye",
            "bye",
            "/42",
            "/bye\nand more",
            "\"\"\"/bye",
        ] {
            assert_eq!(asked(text), Asked::Text, "{text}");
        }
    }

    #[test]
    fn what_is_nearly_a_command_has_a_suggestion() {
        let mistake = |line| match asked(line) {
            Asked::Mistake(what) => what,
            other => panic!("`{line}` is {other:?}"),
        };
        for (line, near) in [("/hlep", "/help"), ("/BYE", "/bye"), ("/stat", "/stats"), ("/exti", "/exit")] {
            let said = mistake(line);
            assert!(said.contains(&format!("did you mean `{near}`")) && said.contains("is taken as text"), "{said}");
        }
        assert!(mistake("/set").starts_with("use /set") && mistake("/set the table for two").starts_with("use /set"));
        assert!(mistake("/show me the way").contains("takes no words"));
    }
}
