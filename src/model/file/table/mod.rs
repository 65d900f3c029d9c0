//! The table of metadata keys: every key that writers of GGUF files produce, and the effect of each on a model's answer.
//!
//! This folder is data. It knows no file and no architecture. Sources: the constants and the converter of llama.cpp, of
//! 2026 and of the years before (older names are marked), and the keys of its quantizer.

mod architecture;
mod file;

pub use architecture::ARCHITECTURE_KEYS;
pub use file::FILE_KEYS;

use crate::gguf::{Array, Value};

/// One key of the table.
#[derive(Clone, Copy, Debug)]
pub struct KeyRow {
    /// The key; without its prefix `ARCHITECTURE.` in [`ARCHITECTURE_KEYS`]. A final `*` stands for any rest.
    pub key: &'static str,
    /// The meaning.
    pub what: &'static str,
    /// The effect on the answer.
    pub effect: Effect,
    /// The part of rfgraph that obeys the key for every architecture; architectures read further keys themselves.
    pub obeyed_by: Option<&'static str>,
    /// The default for a missing key; empty if there is none.
    pub absent: &'static str,
}

/// The effect of a key on the answer of a model whose architecture does not read it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Effect {
    /// None, whatever the value.
    None,
    /// It describes tensors. Without these tensors it has no effect, and with them the file is refused for the tensors.
    Tensors,
    /// It changes the answer unless its value, or each element of a list, is one of these numbers (`false` is 0, `true` 1).
    Changes(&'static [f64]),
}

impl KeyRow {
    const fn new(key: &'static str, effect: Effect, what: &'static str) -> KeyRow {
        KeyRow { key, what, effect, obeyed_by: None, absent: "" }
    }

    const fn none(key: &'static str, what: &'static str) -> KeyRow {
        KeyRow::new(key, Effect::None, what)
    }

    const fn tensors(key: &'static str, what: &'static str) -> KeyRow {
        KeyRow::new(key, Effect::Tensors, what)
    }

    const fn changes(key: &'static str, neutral: &'static [f64], what: &'static str) -> KeyRow {
        KeyRow::new(key, Effect::Changes(neutral), what)
    }

    const fn absent(self, absent: &'static str) -> KeyRow {
        KeyRow { absent, ..self }
    }

    const fn by(self, part: &'static str) -> KeyRow {
        KeyRow { obeyed_by: Some(part), ..self }
    }

    /// True if the row is about this key.
    pub fn is_about(&self, key: &str) -> bool {
        match self.key.strip_suffix('*') {
            Some(start) => key.starts_with(start),
            None => self.key == key,
        }
    }

    /// True if a file with this value may not be refused for it, although nothing reads the key.
    pub fn is_harmless(&self, value: &Value) -> bool {
        match self.effect {
            Effect::None | Effect::Tensors => true,
            Effect::Changes(neutral) => is_one_of(value, neutral),
        }
    }
}

/// The row of a key of an architecture, without its prefix.
pub(super) fn architecture_row(key: &str) -> Option<&'static KeyRow> {
    ARCHITECTURE_KEYS.iter().find(|row| row.is_about(key))
}

/// The row of a key that belongs to no architecture.
pub(super) fn file_row(key: &str) -> Option<&'static KeyRow> {
    FILE_KEYS.iter().find(|row| row.is_about(key))
}

/// True if a value, or each element of a list, is one of these numbers; `false` is 0 and `true` is 1.
pub(super) fn is_one_of(value: &Value, neutral: &[f64]) -> bool {
    let number = match value {
        Value::F32(x) => f64::from(*x),
        Value::F64(x) => *x,
        Value::Bool(yes) => f64::from(u8::from(*yes)),
        Value::Array(array) => return all_are(array, neutral),
        other => match other.integer() {
            Some(n) => n as f64,
            None => return false,
        },
    };
    neutral.contains(&number)
}

fn all_are(array: &Array, neutral: &[f64]) -> bool {
    (0..array.len()).all(|index| array.get(index).is_some_and(|value| is_one_of(&value, neutral)))
}
