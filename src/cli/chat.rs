//! The chat of `rfgraph run` at a terminal.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use rustyline::DefaultEditor;
use rustyline::error::{ReadlineError, Signal};

use super::answer::{Printer, tell};
use super::device::extras;
use super::error::{CliError, eprintln_quietly};
use super::interrupt::{self, Second};
use super::progress::{Progress, Unit, read_ahead};
use super::run_args::RunArgs;
use crate::engine::{AnswerOptions, Chat};
use crate::model::ModelError;
use crate::text::Message;

/// Meaning of an input line.
#[derive(Debug, PartialEq, Eq)]
enum Line<'l> {
    /// An empty line.
    Empty,
    /// A message to answer.
    Say(&'l str),
    /// Start a new conversation.
    Clear,
    /// List the commands.
    Help,
    /// Exit.
    Exit,
    /// An unknown command.
    Unknown(&'l str),
}

const HELP: &str = "/clear  start a new conversation\n/exit   end (or Ctrl-D, or Ctrl-C twice)\n/help   this list\n\
    //text  say `/text`\nCtrl-C  stop an answer";

impl Line<'_> {
    fn of(line: &str) -> Line<'_> {
        let line = line.trim();
        match line {
            "" => Line::Empty,
            "/clear" => Line::Clear,
            "/help" => Line::Help,
            "/exit" | "/quit" => Line::Exit,
            _ => match line.strip_prefix('/') {
                Some(escaped) if escaped.starts_with('/') => Line::Say(escaped),
                Some(_) => Line::Unknown(line),
                None => Line::Say(line),
            },
        }
    }
}

/// Chats until the user exits.
pub(super) fn chat(args: &RunArgs) -> Result<(), CliError> {
    let model = args.model.open()?;
    let tokenizer = model.tokenizer()?;
    let template = model.chat_template(&tokenizer)?;
    let n_ctx = args.ctx.size(model.architecture().shape().n_ctx_train, &args.model);
    let options = args.session.options(&model, n_ctx)?;
    read_ahead(model.gguf(), options.device);
    let chosen = args.sampling.choose(&model, &tokenizer, &args.model)?;
    let mut conversation = Chat::new(&model, &options, &extras(), args.choice(&chosen, &tokenizer)?)?;
    let mut messages: Vec<Message> = args.system_message().into_iter().collect();
    let opening = messages.len();
    let mut prompt = Prompt::open()?;
    // After the editor, which installs its own signal handler when it is made.
    let pressed = interrupt::listen(Second::Waits);
    let context_shift = args.context_shift(&model, &tokenizer, conversation.n_ctx())?;
    eprintln_quietly(&format!("{}: /help lists the commands, Ctrl-D ends", args.model.label()));
    while let Some(line) = prompt.next_line()? {
        let said = match Line::of(&line) {
            Line::Empty => continue,
            Line::Exit => break,
            Line::Clear => {
                messages.truncate(opening);
                continue;
            }
            Line::Help => {
                eprintln_quietly(HELP);
                continue;
            }
            Line::Unknown(command) => {
                eprintln_quietly(&format!("there is no command {command}; /help lists them"));
                continue;
            }
            Line::Say(said) => said,
        };
        messages.push(Message::new("user", said));
        pressed.store(false, Ordering::Relaxed);
        let tokens = tokenizer.encode_chat(&template.render(&messages, true)?);
        let mut printer = Printer::new(&args.parts, io::stdout().lock());
        let mut progress = Progress::new("prompt", Unit::Tokens, tokens.len());
        let mut on_prompt = |done, total| progress.set_of(done, total);
        let options = AnswerOptions {
            generate: args.limits(),
            interrupt: Some(pressed),
            context_shift,
            on_prompt: Some(&mut on_prompt),
        };
        let answer = conversation.answer(&tokens, options, |delta| printer.put(delta));
        match answer {
            Ok(answer) => {
                printer.finish()?;
                tell(&answer, conversation.n_ctx());
                messages.push(answer.message());
            }
            // The conversation continues without the message that does not fit.
            Err(CliError::Model(error)) if matches!(*error, ModelError::ContextFull { .. }) => {
                let error = CliError::Model(error);
                messages.pop();
                eprintln_quietly(&format!("{error}; or /clear starts a new conversation"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A line editor with history.
struct Prompt {
    editor: DefaultEditor,
    history: Option<PathBuf>,
}

impl Prompt {
    fn open() -> Result<Prompt, CliError> {
        let mut editor = DefaultEditor::new().map_err(terminal)?;
        let history = history_file();
        if let Some(path) = &history
            && path.exists()
            && let Err(error) = editor.load_history(path)
        {
            tracing::warn!("no history: cannot read {}: {error}", path.display());
        }
        Ok(Prompt { editor, history })
    }

    /// The next line; `None` after Ctrl-D or two presses of Ctrl-C.
    fn next_line(&mut self) -> Result<Option<String>, CliError> {
        let mut interrupted = false;
        loop {
            match self.editor.readline("> ") {
                Ok(line) => {
                    self.remember(&line);
                    return Ok(Some(line));
                }
                Err(ReadlineError::Eof) => return Ok(None),
                Err(ReadlineError::Interrupted) if interrupted => return Ok(None),
                Err(ReadlineError::Interrupted) => {
                    interrupted = true;
                    eprintln_quietly("Ctrl-C once more, or Ctrl-D, ends");
                }
                // The terminal was resized.
                Err(ReadlineError::Signal(Signal::Resize)) => {}
                Err(error) => return Err(terminal(error)),
            }
        }
    }

    fn remember(&mut self, line: &str) {
        let saved = self.editor.add_history_entry(line).and_then(|_| match &self.history {
            Some(path) => self.editor.append_history(path),
            None => Ok(()),
        });
        if let Err(error) = saved {
            tracing::debug!("the line is not in the history: {error}");
        }
    }
}

fn terminal(error: ReadlineError) -> CliError {
    CliError::Input(format!("cannot read from the terminal: {error}; -p gives a prompt without one"))
}

/// Path of the history in the user's state directory, which is created if needed.
fn history_file() -> Option<PathBuf> {
    let from =
        |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = from("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state =
        state.or_else(|| from("LOCALAPPDATA")).or_else(|| Some(from("HOME")?.join(".local/state")))?;
    let directory = state.join("rfgraph");
    match fs::create_dir_all(&directory) {
        Ok(()) => Some(directory.join("history")),
        Err(error) => {
            tracing::warn!("no history: cannot make {}: {error}", directory.display());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn lines_are_commands_or_messages() {
        assert_eq!(Line::of("  "), Line::Empty);
        assert_eq!(Line::of(" hello / there "), Line::Say("hello / there"));
        assert_eq!(Line::of("/clear"), Line::Clear);
        assert_eq!(Line::of("/help "), Line::Help);
        assert_eq!([Line::of("/exit"), Line::of("/quit")], [Line::Exit, Line::Exit]);
        assert_eq!(Line::of("/etc/passwd"), Line::Unknown("/etc/passwd"));
        assert_eq!(Line::of("//etc/passwd"), Line::Say("/etc/passwd"));
    }
}
