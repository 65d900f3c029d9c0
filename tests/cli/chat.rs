//! The chat in a pseudo-terminal of its own, which `script` provides; Linux only.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::skipped::skipped;

/// The prompt that rustyline prints while it waits for a line.
const PROMPT: &str = "\u{1b}[K> ";

struct Chat {
    script: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
    /// The number of bytes of the screen that were already examined.
    seen: usize,
    state: tempfile::TempDir,
}

impl Chat {
    /// Starts a chat; `None`, with a message, if `script` is not installed.
    fn start(options: &str) -> Option<Chat> {
        if Command::new("script").arg("--version").output().is_err() {
            skipped("this machine has no `script` (util-linux), which lends the chat a terminal");
            return None;
        }
        let state = tempfile::tempdir().unwrap();
        // `exec`: a shell that stays would receive Ctrl-C too, and dash would return its own exit code instead of the
        // chat's.
        let run = format!("exec '{}' run {options}", env!("CARGO_BIN_EXE_rfgraph"));
        let mut script = Command::new("script")
            .args(["-q", "-e", "-c", &run, "/dev/null"])
            .env("XDG_STATE_HOME", state.path())
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .env_remove("RFGRAPH_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut out, shared) = (script.stdout.take().unwrap(), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(n @ 1..) = out.read(&mut bytes) {
                shared.lock().unwrap().extend_from_slice(&bytes[..n]);
            }
        });
        let keys = script.stdin.take().unwrap();
        Some(Chat { script, keys, screen, seen: 0, state })
    }

    /// Waits until `wanted` is on the screen, and returns the text between the last wait and it.
    fn wait_for(&mut self, wanted: &str) -> String {
        let found = self.wait_at_most(wanted, Duration::from_secs(120));
        found.unwrap_or_else(|fresh| panic!("no {wanted:?} on the screen: {fresh:?}"))
    }

    /// Like [`Chat::wait_for`], but gives up after `patience` with an error that holds the unread screen.
    fn wait_at_most(&mut self, wanted: &str, patience: Duration) -> Result<String, String> {
        let deadline = Instant::now() + patience;
        loop {
            let screen = self.screen.lock().unwrap().clone();
            let fresh = String::from_utf8_lossy(&screen[self.seen..]).into_owned();
            if let Some(at) = fresh.find(wanted) {
                self.seen += at + wanted.len();
                return Ok(fresh[..at].to_string());
            }
            if Instant::now() > deadline {
                return Err(fresh);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Types a line at the prompt.
    fn say(&mut self, line: &str) {
        self.wait_for(PROMPT);
        self.press(&format!("{line}\r"));
    }
}

#[test]
fn a_chat_answers_remembers_and_ends() {
    let Some(mut chat) = Chat::start("-v") else { return };
    chat.say("What is 347 + 285?");
    chat.wait_for("\n632\r\n");
    chat.wait_for("prompt: 21 tokens, 21 computed");
    chat.say("What is 12 + 7?");
    chat.wait_for("\n19\r\n");
    // The first question and its answer are in the cache.
    let new = chat.wait_for(" computed");
    let new: usize = new.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((10..25).contains(&new), "{new} tokens were computed");
    chat.say("/help");
    chat.wait_for("/clear");
    chat.say("/nothing");
    chat.wait_for("there is no command /nothing");
    chat.say("/clear");
    chat.say("What is 347 + 285?");
    chat.wait_for("\n632\r\n");
    // The sequence still holds enough of the first exchange.
    chat.wait_for("prompt: 21 tokens, 1 computed");
    chat.say("/exit");
    assert!(chat.script.wait().unwrap().success());
    let history = std::fs::read_to_string(chat.state.path().join("rfgraph/history")).unwrap();
    assert!(history.contains("What is 12 + 7?"), "{history}");
}

/// The system decides when the key arrives, so it is pressed again until it interrupts an answer; it never ends the
/// program.
#[test]
fn ctrl_c_stops_an_answer_and_twice_at_the_prompt_the_program() {
    let Some(mut chat) = Chat::start("-v --temp 1.5 -t 1") else { return };
    let stopped = (0..200).any(|_| {
        chat.say("Tell me a story.");
        // Past the echo of the line: the answer, or already its prompt.
        chat.wait_for("\n");
        chat.press("\u{3}");
        // At the prompt, Ctrl-C discards what was typed after it, so the line is typed again until it arrives.
        let heard = (0..20).find_map(|_| {
            chat.press("/nothing\r");
            chat.wait_at_most("there is no command /nothing", Duration::from_secs(5)).ok()
        });
        heard.expect("the program listens").contains("the answer was stopped")
    });
    assert!(stopped, "no Ctrl-C stopped an answer");
    // The line may have been typed twice.
    std::thread::sleep(Duration::from_millis(200));
    chat.wait_for(PROMPT);
    chat.press("\u{3}");
    chat.wait_for("Ctrl-C once more");
    chat.wait_for(PROMPT);
    chat.press("\u{3}");
    assert!(chat.script.wait().unwrap().success());
}

#[test]
fn context_shift_continues_a_chat_past_the_end_of_the_context() {
    let Some(mut chat) = Chat::start("-c 64 --context-shift") else { return };
    (0..4).for_each(|_| chat.say("What is 347 + 285?"));
    chat.wait_for("is shortened by");
    chat.say("/exit");
    assert!(chat.script.wait().unwrap().success());
}

#[test]
fn a_message_that_does_not_fit_leaves_the_chat_as_it_was() {
    let Some(mut chat) = Chat::start("-c 64") else { return };
    chat.say(&"one two three four five ".repeat(30));
    chat.wait_for("the context is full");
    chat.say("What is 347 + 285?");
    chat.wait_for("\n632\r\n");
    chat.wait_for(PROMPT);
    // Ctrl-D
    chat.press("\u{4}");
    assert!(chat.script.wait().unwrap().success());
}
