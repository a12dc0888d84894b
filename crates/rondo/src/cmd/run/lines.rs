//! Lines that a user types: edited in place with those before at hand, or as the terminal hands them on.

use crate::cmd::{Failure, terminal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{FlushArg, tcflush};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Behavior, Config, Editor};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Milliseconds between looks at whether Ctrl-C was pressed.
const LOOK: u16 = 100;

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, without its end.
    Text(String),
    /// Bytes that are no text: what is wrong with them.
    NoText(String),
    /// Ctrl-C: the line is dropped.
    Dropped,
    /// Ctrl-D, or the terminal has gone.
    End,
}

/// Where lines come from.
pub enum Lines {
    /// An editor on the terminal; all that it was told to remember.
    Edited(Box<Editor<(), MemHistory>>, Vec<String>),
    /// Lines of standard input as they are; what Ctrl-C sets.
    Plain(BufReader<File>, Arc<AtomicBool>),
}

impl Lines {
    /// An editor where the terminal is fit for one, else plain lines. Ctrl-C is taken to set `interrupted`.
    ///
    /// # Errors
    /// When there is no standard input.
    pub fn open(interrupted: &Arc<AtomicBool>) -> Result<Lines, Failure> {
        // It works on the terminal itself, so that nothing but answers goes to stdout.
        if terminal::edits()
            && File::open("/dev/tty").is_ok()
            && let Ok(editor) = editor(&[])
        {
            return Ok(Lines::Edited(Box::new(editor), Vec::new()));
        }
        let stdin = std::io::stdin().as_fd().try_clone_to_owned();
        let stdin = stdin.map_err(|e| Failure::failed(format!("standard input: {e}")))?;
        Ok(Lines::Plain(BufReader::new(stdin.into()), Arc::clone(interrupted)))
    }

    /// The next line, after `prompt`.
    ///
    /// # Errors
    /// When the terminal fails.
    pub fn next(&mut self, prompt: &str) -> Result<Line, Failure> {
        let failed = |e: &dyn std::fmt::Display| Failure::failed(format!("standard input: {e}"));
        match self {
            Lines::Plain(stdin, interrupted) => {
                show(prompt);
                let line = plain(stdin, interrupted).map_err(|e| failed(&e))?;
                if line == Line::End {
                    show("\n");
                }
                Ok(line)
            }
            Lines::Edited(all, remembered) => match all.readline(prompt) {
                Ok(line) => Ok(Line::Text(line)),
                Err(ReadlineError::Interrupted) => Ok(Line::Dropped),
                Err(ReadlineError::Eof) => Ok(Line::End),
                Err(ReadlineError::Io(e)) if e.kind() == ErrorKind::InvalidData => {
                    // What was typed or pasted after it belongs to the same line: it lies in the editor and the terminal.
                    **all = editor(remembered).map_err(|e| failed(&e))?;
                    // A terminal that keeps it gives it as the next line, which the user sees.
                    let _ = tcflush(std::io::stdin(), FlushArg::TCIFLUSH);
                    Ok(Line::NoText("it is not valid UTF-8; the terminal must send UTF-8".into()))
                }
                Err(e) => Err(failed(&e)),
            },
        }
    }

    /// Keeps a prompt for the up-arrow.
    pub fn remember(&mut self, text: &str) {
        if let Lines::Edited(editor, all) = self {
            all.push(text.into());
            // Without it the line has to be typed again.
            let _ = editor.add_history_entry(text);
        }
    }
}

fn editor(remembered: &[String]) -> rustyline::Result<Editor<(), MemHistory>> {
    let config = Config::builder().behavior(Behavior::PreferTerm).build();
    let history = MemHistory::with_config(&config);
    let mut editor = Editor::with_history(config, history)?;
    for text in remembered {
        editor.add_history_entry(text)?;
    }
    Ok(editor)
}

/// Shows a prompt; without a reader of stderr the conversation still works.
fn show(prompt: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(prompt.as_bytes()).and_then(|()| stderr.flush());
}

/// A line as the terminal hands it on, or that Ctrl-C was pressed, which has emptied the terminal's own.
fn plain(stdin: &mut BufReader<File>, interrupted: &AtomicBool) -> std::io::Result<Line> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        // Reading begins again after a signal: only waiting shows that there was one.
        while stdin.buffer().is_empty() {
            if interrupted.swap(false, Ordering::Relaxed) {
                return Ok(Line::Dropped);
            }
            match poll(&mut [PollFd::new(stdin.get_ref().as_fd(), PollFlags::POLLIN)], PollTimeout::from(LOOK)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => break,
                Err(e) => return Err(e.into()),
            }
        }
        let there = stdin.fill_buf()?;
        if there.is_empty() {
            if line.is_empty() {
                return Ok(Line::End);
            }
            break;
        }
        let count = there.iter().position(|byte| *byte == b'\n').map_or(there.len(), |at| at + 1);
        line.extend_from_slice(&there[..count]);
        stdin.consume(count);
    }
    let end = line.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    line.truncate(end);
    Ok(String::from_utf8(line).map_or_else(|e| Line::NoText(no_text(&e)), Line::Text))
}

fn no_text(error: &std::string::FromUtf8Error) -> String {
    let at = error.utf8_error().valid_up_to();
    let byte = error.as_bytes().get(at).copied().unwrap_or_default();
    format!("it is not valid UTF-8: byte {} (0x{byte:02X}) begins no character", at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom};

    #[test]
    fn plain_lines_end_where_they_end() {
        let path = std::env::temp_dir().join(format!("rondo-lines-{}", std::process::id()));
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file.write_all(b"one\r\n\ncaf\xe9 au\n// two").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let (mut stdin, interrupted) = (BufReader::new(file), AtomicBool::new(false));
        let mut next = || plain(&mut stdin, &interrupted).unwrap();
        let text = |text: &str| Line::Text(text.into());
        assert_eq!((next(), next()), (text("one"), text("")));
        assert!(matches!(next(), Line::NoText(what) if what.contains("byte 4 (0xE9)")));
        assert_eq!((next(), next(), next()), (text("// two"), Line::End, Line::End));
        interrupted.store(true, Ordering::Relaxed);
        assert_eq!(plain(&mut stdin, &interrupted).unwrap(), Line::Dropped);
    }
}
