//! Source of a command's text: an option, a file, or standard input.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::error::CliError;

/// The text's source.
#[derive(Debug, Args)]
pub(super) struct TextArgs {
    /// Prompt
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Input file; `-` is standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "prompt")]
    file: Option<PathBuf>,
}

impl TextArgs {
    /// The given text; `None` if there is none and standard input is a terminal.
    pub(super) fn read(&self) -> Result<Option<String>, CliError> {
        if let Some(text) = &self.prompt {
            return Ok(Some(text.clone()));
        }
        match &self.file {
            Some(path) => Ok(Some(read_file(path)?)),
            None if io::stdin().is_terminal() => Ok(None),
            None => Ok(Some(read_file(Path::new("-"))?)),
        }
    }

    /// As [`TextArgs::read`], with a single trailing newline stripped.
    pub(super) fn read_without_last_line_end(&self) -> Result<Option<String>, CliError> {
        let text = self.read()?;
        if self.prompt.is_some() {
            return Ok(text);
        }
        Ok(text.map(|text| {
            let line = text.strip_suffix('\n').unwrap_or(&text);
            line.strip_suffix('\r').unwrap_or(line).to_string()
        }))
    }

    /// The given text, or an error that explains how to give one.
    pub(super) fn need(&self) -> Result<String, CliError> {
        let missing = || CliError::Usage("no text: give it with -p TEXT, -f FILE or standard input".into());
        self.read()?.ok_or_else(missing)
    }
}

/// Reads a text file; `-` is standard input.
pub(super) fn read_file(path: &Path) -> Result<String, CliError> {
    let stdin = path == Path::new("-");
    let read = || {
        if !stdin {
            return fs::read(path);
        }
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let name = if stdin { Path::new("standard input") } else { path };
    let bytes = read().map_err(|source| CliError::Path { verb: "read", path: name.into(), source })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        CliError::Input(format!("{} is not UTF-8 text: byte {at} is wrong; convert it first", name.display()))
    })
}

/// Token ids separated by white space. `source` is for error messages.
pub(super) fn parse_ids(text: &str, source: &str) -> Result<Vec<u32>, CliError> {
    let parse = |(i, word): (usize, &str)| {
        let word_is = |_| format!("{source}: word {} is `{}`, not a token id", i + 1, word.escape_debug());
        word.parse::<u32>().map_err(|error| CliError::Input(word_is(error)))
    };
    text.split_whitespace().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_words_and_errors_count_them() {
        assert_eq!(parse_ids(" 1 22\n\t333 ", "x").unwrap(), [1, 22, 333]);
        assert!(parse_ids(" \n", "x").unwrap().is_empty());
        let error = parse_ids("1 2 -3", "ids.txt").unwrap_err().to_string();
        assert_eq!(error, "ids.txt: word 3 is `-3`, not a token id");
        assert!(parse_ids("4294967296", "x").is_err());
    }

    #[test]
    fn invalid_utf8_is_refused_with_its_offset() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"ab\xffcd").unwrap();
        let error = read_file(file.path()).unwrap_err().to_string();
        assert!(
            error.contains("byte 2 is wrong") && error.contains(&*file.path().to_string_lossy()),
            "{error}"
        );
    }
}
