//! `rfgraph show`: one model in a few lines.

use std::fmt::Write;

use clap::Args;
use serde::Serialize;

use super::error::CliError;
use super::list::{DetailsReport, ModelReport};
use super::names::locate;
use super::output::{print, print_json};
use crate::exec::Bytes;
use crate::gguf::Gguf;
use crate::hub::Store;

/// Show where a model is and what it is
///
/// `rfgraph inspect` shows the whole metadata and the memory that is needed.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// GGUF file, or name of a model on this machine
    #[arg(value_name = "MODEL")]
    model: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    model: ModelReport,
    /// The preset's name, if the model was named by one.
    preset: Option<String>,
}

pub(super) fn run(args: &ShowArgs) -> Result<(), CliError> {
    let located = locate(args.model.as_ref())?;
    // A file that is no model is an error here, and not a row with a problem.
    let gguf = Gguf::open(&located.path)?;
    let entries = Store::from_env()?.list();
    let model = match entries.iter().find(|entry| entry.path() == located.path) {
        Some(entry) => ModelReport::of(entry),
        None => ModelReport {
            name: args.model.clone(),
            source: "a file",
            files: gguf.shard_count(),
            bytes: gguf.total_bytes(),
            modified: None,
            details: DetailsReport::read(&located.path),
            path: located.path,
        },
    };
    let report = Report { model, preset: located.preset.map(|preset| preset.name) };
    if args.json { print_json(&report) } else { print(report.text()) }
}

impl Report {
    fn text(&self) -> String {
        let ModelReport { name, source, path, files, bytes, details, .. } = &self.model;
        let parts = if *files == 1 { String::new() } else { format!(" in {files} files") };
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".into());
        let rows = [
            ("name", name.escape_debug().to_string()),
            ("preset", self.preset.clone().unwrap_or_default().escape_debug().to_string()),
            ("file", path.display().to_string()),
            ("source", (*source).to_owned()),
            ("size", format!("{}{parts}", Bytes(*bytes))),
            ("architecture", known(&details.architecture).escape_debug().to_string()),
            ("format", known(&details.format)),
            ("parameters", details.parameters.map_or_else(|| "?".into(), |n| n.to_string())),
            ("trained context", details.n_ctx_train.map_or_else(|| "?".into(), |n| format!("{n} tokens"))),
            ("chat template", if details.has_chat_template == Some(true) { "yes" } else { "no" }.into()),
        ];
        let mut text = String::new();
        for (what, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{what:16} {value}");
        }
        text
    }
}
