//! Errors of compiling and loading kernels, and the excerpt of the source at an error.

use std::collections::BTreeMap;

use super::super::{HipError, sources};
use crate::device::{Source, Variant};

/// The reason why a kernel could not be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JitError {
    /// A built-in source that does not exist.
    #[error("kernel {variant}: there is no kernels/{name}.hip in this build")]
    NoSource {
        /// The kernel with its constants.
        variant: String,
        /// The requested name.
        name: String,
    },
    /// A target that the compiler does not know. hipRTC would end the process.
    #[error("the installed ROCm compiler does not know the target {arch}; {known}")]
    UnknownTarget {
        /// The target.
        arch: String,
        /// The known targets, and a remedy.
        known: String,
    },
    /// The compiler refused the source.
    #[error("kernel {variant} does not compile for {arch}\noptions: {options}\n{excerpt}{log}")]
    Compile {
        /// The kernel with its constants.
        variant: String,
        /// The target.
        arch: String,
        /// The compiler's options.
        options: String,
        /// The lines of source that the log marks as errors, with their neighbours.
        excerpt: String,
        /// The compiler's log.
        log: String,
    },
    /// A function of the compiler failed for another reason.
    #[error("kernel {variant} for {arch}: {call} gave error {code}{meaning}")]
    Call {
        /// The kernel with its constants.
        variant: String,
        /// The target.
        arch: String,
        /// The function.
        call: &'static str,
        /// Its `hiprtcResult`.
        code: i32,
        /// The meaning of the number, in parentheses; empty if unknown.
        meaning: &'static str,
    },
    /// A name, constant or text with a zero byte, which cannot be passed to a C compiler.
    #[error("kernel {variant}: {what} has a zero byte in it")]
    ZeroByte {
        /// The kernel with its constants.
        variant: String,
        /// The text.
        what: String,
    },
    /// The device refused the code.
    #[error("kernel {variant} cannot be loaded: {error}")]
    Load {
        /// The kernel with its constants.
        variant: String,
        /// The runtime's error.
        #[source]
        error: HipError,
    },
    /// No thread could be started for compiling.
    #[error("cannot start a thread to compile kernels: {0}")]
    Thread(String),
}

/// The meaning of a `hiprtcResult`, in parentheses.
pub(super) fn meaning(code: i32) -> &'static str {
    match code {
        1 => " (out of memory)",
        2 => " (the program could not be created)",
        3 => " (invalid input)",
        4 => " (invalid program)",
        5 => " (invalid option)",
        7 => " (the compiler's built-in part failed, or its library is missing)",
        11 => " (internal error)",
        _ => "",
    }
}

/// A variant for messages: `linear.hip: linear_rows<BLOCK=2, ROWS=4>`.
pub fn describe(variant: &Variant) -> String {
    let constants: Vec<String> =
        variant.defines.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let constants = match constants.is_empty() {
        true => String::new(),
        false => format!("<{}>", constants.join(", ")),
    };
    format!("{}: {}{constants}", file_name(&variant.source), variant.entry)
}

/// The name of the source for the compiler. The compiler creates a file of that name, so a user's name is reduced to
/// harmless characters.
pub(super) fn file_name(source: &Source) -> String {
    match source {
        Source::BuiltIn(name) => format!("{name}.hip"),
        Source::Own { name, .. } => {
            let keep = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
            let name: String = name.chars().map(keep).take(64).collect();
            let name = name.trim_matches('.');
            match name.strip_suffix(".hip").unwrap_or(name) {
                "" => "own.hip".into(),
                stem => format!("{stem}.hip"),
            }
        }
    }
}

/// The most errors that an excerpt shows.
const PLACES: usize = 3;
/// The number of lines before and after each.
const AROUND: usize = 2;

/// The lines that the log marks as errors, with their neighbours and numbers. Empty if it names no lines.
pub(super) fn excerpt(log: &str, file: &str, text: &str) -> String {
    let mut places: BTreeMap<(&str, usize), ()> = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("error")) {
        if places.len() < PLACES
            && let Some(place) = place(line, file)
        {
            places.insert(place, ());
        }
    }
    let mut out = String::new();
    for (name, number) in places.into_keys() {
        let text = match name == file {
            true => text,
            false => sources::headers().find(|header| header.name == name).map_or("", |header| header.text),
        };
        if number == 0 || number > text.lines().count() {
            continue;
        }
        out += &format!("{name}:{number}\n");
        let first = number.saturating_sub(AROUND).max(1);
        for (i, line) in text.lines().enumerate().skip(first - 1).take(number + AROUND + 1 - first) {
            let mark = if i + 1 == number { '>' } else { ' ' };
            out += &format!("{mark} {:5} | {line}\n", i + 1);
        }
    }
    out
}

/// The file and line of a compiler's message: `…/name:12:5: error`, or nvrtc's `name(12): error`. Only our own files
/// count.
fn place<'l>(message: &'l str, file: &'l str) -> Option<(&'l str, usize)> {
    let names = sources::headers().map(|header| header.name).chain([file]);
    for name in names {
        for (at, _) in message.match_indices(name) {
            let before = message.get(..at).and_then(|before| before.chars().next_back());
            let rest = message.get(at + name.len()..).unwrap_or_default();
            let whole = before.is_none_or(|c| c == '/' || c.is_whitespace() || c == '"');
            let (Some(number), true) = (rest.strip_prefix([':', '(']), whole) else { continue };
            let digits = number.bytes().take_while(u8::is_ascii_digit).count();
            if let Some(Ok(number)) = number.get(..digits).map(str::parse) {
                return Some((name, number));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_errors_name_are_shown() {
        let text = "one\ntwo\nthree\nfour\nfive\nsix\n";
        let log = "/tmp/comgr-1/input/own.hip:4:9: error: no\nown.hip:1:1: warning: hm\n";
        let shown =
            "own.hip:4\n      2 | two\n      3 | three\n>     4 | four\n      5 | five\n      6 | six\n";
        assert_eq!(excerpt(log, "own.hip", text), shown);
        assert_eq!(excerpt("own.hip(4): error: no", "own.hip", text), shown);
        assert!(excerpt("own.hip(1): error: no", "own.hip", text).contains(">     1 | one"));
        assert!(excerpt("platform.h:3:1: error: no", "own.hip", text).contains(">     3 | //"));
    }

    #[test]
    fn logs_without_lines_give_no_excerpt() {
        for log in [
            "",
            "error",
            "own.hip: error",
            "own.hip:99: error",
            "own.hip:0: error",
            "other.hip:1: error",
            "own.hip:99999999999999999999999: error",
            "myown.hip:1: error",
            "own.hip(: error",
        ] {
            assert_eq!(excerpt(log, "own.hip", "one\n"), "", "{log}");
        }
    }

    #[test]
    fn names_for_the_compiler_are_harmless() {
        let name = |name: &str| file_name(&Source::Own { name: name.into(), text: "".into() });
        assert_eq!(name("mine"), "mine.hip");
        assert_eq!(name("../../etc/passwd"), "_.._etc_passwd.hip");
        assert_eq!(name("my kernel.hip"), "my_kernel.hip");
        assert_eq!(name(""), "own.hip");
        assert_eq!(name("..."), "own.hip");
    }
}
