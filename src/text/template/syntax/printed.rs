//! Expressions in the engine's syntax.

use super::PREFIX;

/// The text that may follow an expression in its printed form.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Form {
    /// Anything.
    Atom,
    /// Anything; and it is a call, which `{% call %}` wants.
    Call,
    /// Filters.
    Filtered,
    /// A bracket must close first.
    Loose,
}

/// An expression in the engine's syntax.
pub(super) struct Printed {
    pub(super) text: String,
    pub(super) form: Form,
    /// Height of the engine's tree.
    pub(super) height: usize,
}

impl Printed {
    pub(super) fn atom(text: impl Into<String>, height: usize) -> Printed {
        Printed { text: text.into(), form: Form::Atom, height }
    }

    pub(super) fn call(function: &str, arguments: &[Printed]) -> Printed {
        let texts: Vec<&str> = arguments.iter().map(|argument| argument.text.as_str()).collect();
        Printed::atom(format!("{PREFIX}{function}({})", texts.join(", ")), height_of(arguments))
    }

    pub(super) fn text(text: &str) -> Printed {
        Printed::atom(quoted(text), 1)
    }

    /// The expression in brackets where `form` needs them.
    pub(super) fn bracketed(self, form: Form) -> Printed {
        let fits = match self.form {
            Form::Atom | Form::Call => true,
            Form::Filtered => form == Form::Filtered,
            Form::Loose => false,
        };
        if fits { self } else { Printed::atom(format!("({})", self.text), self.height) }
    }
}

pub(super) fn height_of(parts: &[Printed]) -> usize {
    1 + parts.iter().map(|part| part.height).max().unwrap_or(0)
}

/// A string literal of the engine. Line ends are escaped, so that the lines of the source can be kept apart.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}
