//! Conversations, as a user at a terminal has them.

use super::{CPU, done, expect, rondo, runs, text};
use nix::pty::{Winsize, openpty};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PROMPT: &str = ">>> ";
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// The verb on a terminal of its own; its stdout is a file, so that what it holds is the product alone.
struct Terminal {
    child: Child,
    keys: File,
    shown: Arc<Mutex<Vec<u8>>>,
    seen: usize,
    product: PathBuf,
}

impl Terminal {
    /// None where the machine has no program that gives a process a terminal.
    fn open(name: &str, term: &str, args: &[&str]) -> Option<Terminal> {
        if Command::new("setsid").arg("--version").output().is_err() {
            println!("not tried: there is no setsid");
            return None;
        }
        let size = Winsize { ws_row: 40, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let product = runs().join(format!("{name}.out"));
        let tool = rondo(runs(), &[]);
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(tool.get_program()).arg("run").args(args).args(CPU).current_dir(runs());
        command.env("TERM", term).env_remove("NO_COLOR").stdout(File::create(&product).unwrap());
        command.stdin(pty.slave.try_clone().unwrap()).stderr(pty.slave);
        let child = command.spawn().unwrap();
        drop(command);
        let keys = File::from(pty.master);
        let (mut screen, shown) = (keys.try_clone().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let all = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            // It fails once the other end is closed.
            while let Ok(count @ 1..) = screen.read(&mut part) {
                all.lock().unwrap().extend_from_slice(&part[..count]);
            }
        });
        Some(Terminal { child, keys, shown, seen: 0, product })
    }

    fn keys(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
    }

    /// Waits until `what` is shown after all that was waited for before; what stands between.
    fn wait(&mut self, what: &str) -> String {
        let begin = Instant::now();
        loop {
            let shown = String::from_utf8_lossy(&self.shown.lock().unwrap()[self.seen..]).into_owned();
            if let Some(at) = shown.find(what) {
                self.seen += at + what.len();
                return shown[..at].into();
            }
            assert!(begin.elapsed() < LONGEST_WAIT, "`{what}` isn't shown:\n{shown}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Presses keys at the prompt, and waits for `said` and the next prompt.
    fn ask(&mut self, keys: &[u8], said: &str) -> String {
        self.keys(keys);
        let text = self.wait(said);
        self.wait(PROMPT);
        text
    }

    /// Leaves; what went to stdout.
    fn leave(mut self, keys: &[u8]) -> String {
        self.keys(keys);
        assert!(self.child.wait().unwrap().success());
        text(&fs::read(&self.product).unwrap())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A test that failed leaves nobody waiting.
        let _ = self.child.kill();
    }
}

fn greedy(prompt: &str) -> String {
    let output = done(runs(), &[&["run", "learned", prompt, "--greedy"][..], &CPU].concat());
    expect(&output, 0, "");
    text(&output.stdout)
}

#[test]
fn a_conversation_on_a_terminal() {
    let Some(mut user) = Terminal::open("edited", "xterm", &["learned", "--greedy", "--verbose"]) else { return };
    user.wait(PROMPT);
    user.ask(b"Deep\r", "prompt 4 tokens");
    user.ask(b"/stats\r", "prompt 4 tokens");
    user.ask(b"// Deep\r", "prompt 7 tokens");
    user.ask(b"/hlep\r", "did you mean `/help`?");
    user.ask(b"/set seed 3\r", "seed is 3");
    // What follows the bytes that are no text is dropped with them.
    user.ask(b"caf\xe9 au lait\r", "the line is dropped: it is not valid UTF-8");
    user.ask(b"half a line\x03", "/bye or Ctrl-D leaves");
    // A line is mended, and one from before comes back.
    user.ask(b"Dxep\x1b[D\x1b[D\x7fe\r", "prompt 4 tokens");
    user.ask(b"\x1b[A\x1b[A\r", "prompt 7 tokens");
    user.keys(b"\"\"\"De\r");
    user.wait("... ");
    user.ask(b"\x03", "the prompt is dropped; /bye or Ctrl-D leaves");
    user.keys(b"\"\"\"\r");
    user.wait("... ");
    user.ask(b"Deep\"\"\"\r", "prompt 4 tokens");
    let (deep, slashes) = (greedy("Deep"), greedy("// Deep"));
    assert_eq!(user.leave(b"/bye\r"), [&deep[..], &slashes, &deep, &slashes, &deep].concat());
}

#[test]
fn a_conversation_on_a_plain_terminal() {
    let Some(mut user) = Terminal::open("plain", "dumb", &["learned", "--greedy"]) else { return };
    user.wait(PROMPT);
    user.ask(b"Deep\n", "");
    user.ask(b"/stats\n", "prompt 4 tokens");
    user.ask(b"caf\xe9 au lait\n", "byte 4 (0xE9) begins no character");
    user.ask(b"half a line\x03", "/bye or Ctrl-D leaves");
    user.keys(b"\"\"\"De\n");
    user.wait("... ");
    user.ask(b"\x03", "the prompt is dropped; /bye or Ctrl-D leaves");
    let shown = user.shown.lock().unwrap().clone();
    assert!(!shown.contains(&0x1b), "a plain terminal has no control sequences");
    assert_eq!(user.leave(b"\x04"), greedy("Deep"));
}

#[test]
fn ctrl_c_ends_the_answer_and_not_the_conversation() {
    let make = ["train", "--preset", "tiny-llama", "--set", "model.max_context=8192", "--set", "batch_size=1"];
    expect(&done(runs(), &[&make[..], &["--out", "long", "--init-only"], &CPU].concat()), 0, "");
    let Some(mut user) = Terminal::open("long", "xterm", &["long", "--max-tokens", "8000"]) else { return };
    user.wait(PROMPT);
    user.keys(b"Once\r");
    let begin = Instant::now();
    while fs::metadata(&user.product).unwrap().len() < 10 {
        assert!(begin.elapsed() < LONGEST_WAIT, "there is no answer");
        std::thread::sleep(Duration::from_millis(5));
    }
    user.keys(b"\x03");
    user.wait(PROMPT);
    user.keys(b"/stats\r");
    user.wait("answer ");
    let tokens: usize = user.wait(" tokens").parse().unwrap();
    assert!((1..8000).contains(&tokens), "{tokens} tokens are no answer that was stopped");
    assert!(!String::from_utf8_lossy(&user.shown.lock().unwrap()).contains("leaves\r\n>>> /stats"));
    user.wait(PROMPT);
    user.leave(b"/bye\r");
}

#[test]
fn json_without_a_prompt_is_refused_on_a_terminal() {
    let Some(mut user) = Terminal::open("json", "xterm", &["learned", "--json"]) else { return };
    user.wait("--json needs a prompt");
    user.wait("rondo run learned");
    assert_eq!(user.child.wait().unwrap().code(), Some(2));
    assert_eq!(fs::read(Path::new(&user.product)).unwrap(), b"");
}
