//! The record of what became of a file's keys.

use std::collections::BTreeSet;

use serde::Serialize;

use super::table::{KeyRow, architecture_row, file_row};
use crate::gguf::{Array, Gguf, Value};
use crate::model::ModelError;

/// The treatment of a file's keys: each key of the file is in one of the first three lists, in the file's order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct KeyReport {
    /// Keys that the architecture, the tokenizer or another part of rfgraph reads and obeys.
    pub obeyed: Vec<String>,
    /// Known keys that have no effect on an answer of this model.
    pub ignored: Vec<String>,
    /// Keys of the architecture that rfgraph does not know. They may change the answer, and have no effect here.
    pub unknown: Vec<String>,
    /// Defaults for missing keys.
    pub assumed: Vec<Assumed>,
    /// Keys that the architecture looked for, with or without success.
    #[serde(skip)]
    pub read: Vec<String>,
}

/// A default for a missing key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assumed {
    /// The key that would say it.
    pub key: String,
    /// The assumed value.
    pub value: String,
    /// The source of the value.
    pub reason: String,
}

/// The keys that an architecture used.
#[derive(Debug, Default)]
pub(super) struct Used {
    /// Keys that were read.
    pub(super) asked: BTreeSet<String>,
    /// Keys that were found to have no effect in this file.
    pub(super) inert: BTreeSet<String>,
    pub(super) assumed: Vec<Assumed>,
}

impl KeyReport {
    /// The report of a file whose architecture used these keys.
    ///
    /// # Errors
    /// A key that would change the answer and that nothing reads, by name.
    pub(super) fn of(gguf: &Gguf, architecture: &str, used: Used) -> Result<KeyReport, ModelError> {
        let mut report = KeyReport::default();
        let prefix = format!("{architecture}.");
        for (key, value) in gguf.metadata().iter() {
            let own = key.strip_prefix(&prefix);
            let row = own.map_or_else(|| file_row(key), architecture_row);
            let list = match row {
                _ if used.inert.contains(key) => &mut report.ignored,
                _ if used.asked.contains(key) => &mut report.obeyed,
                Some(KeyRow { obeyed_by: Some(_), .. }) => &mut report.obeyed,
                Some(row) if row.is_harmless(value) => &mut report.ignored,
                Some(row) => return Err(refusal(key, value, row, architecture)),
                None if own.is_some() => &mut report.unknown,
                None => &mut report.ignored,
            };
            list.push(key.to_string());
        }
        report.assumed = used.assumed;
        report.read = used.asked.into_iter().collect();
        Ok(report)
    }

    /// Logs the unknown keys and unreadable texts as warnings, and the assumed values as information.
    pub(in crate::model) fn log(&self, gguf: &Gguf, architecture: &str) {
        if !self.unknown.is_empty() {
            let names = self.unknown.join(", ");
            tracing::warn!(
                "rfgraph's `{architecture}` does not know these keys of the file and ignores them, so answers may \
                 differ from the model's: {names}"
            );
        }
        let texts = gguf
            .metadata()
            .iter()
            .filter(|(_, value)| matches!(value, Value::NotUtf8(_) | Value::Array(Array::NotUtf8(_))));
        for (key, _) in texts {
            tracing::warn!("the text of {key} is not UTF-8; no answer needs it");
        }
        for Assumed { key, value, reason } in &self.assumed {
            tracing::info!("{key} is not in the file; {value} is assumed: {reason}");
        }
    }
}

fn refusal(key: &str, value: &Value, row: &KeyRow, architecture: &str) -> ModelError {
    let reason = format!(
        "{}; rfgraph's `{architecture}` does not compute this, and the answer would be wrong",
        row.what
    );
    ModelError::Value { key: key.to_string(), value: value.to_string(), reason }
}
