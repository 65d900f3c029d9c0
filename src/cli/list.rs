//! `rfgraph list`: the models on this machine.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::Serialize;

use super::error::CliError;
use super::output::{print, print_json};
use crate::exec::Bytes;
use crate::hub::{Details, Entry, Preset, Store};

/// List the models on this machine, by the names that other commands take
///
/// Hugging Face's cache, the folder RFGRAPH_MODELS (~/.cache/rfgraph), llama.cpp's cache and ollama's store are searched, and
/// ~/.config/rfgraph/models.toml is read for presets.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Print one JSON object with `models` and `presets`
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    models: Vec<ModelReport>,
    presets: Vec<PresetReport>,
}

/// A model in lists.
#[derive(Serialize)]
pub(super) struct ModelReport {
    pub(super) name: String,
    pub(super) source: &'static str,
    pub(super) path: PathBuf,
    pub(super) files: usize,
    pub(super) bytes: u64,
    /// Seconds since 1970.
    pub(super) modified: Option<u64>,
    #[serde(flatten)]
    pub(super) details: DetailsReport,
}

/// The facts of a file's header; all absent if it cannot be read.
#[derive(Default, Serialize)]
pub(super) struct DetailsReport {
    pub(super) architecture: Option<String>,
    pub(super) format: Option<String>,
    pub(super) parameters: Option<u64>,
    pub(super) n_ctx_train: Option<u64>,
    pub(super) has_chat_template: Option<bool>,
    /// The reason why the file cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

#[derive(Serialize)]
struct PresetReport {
    name: String,
    alias: Vec<String>,
    file: String,
    n_ctx: Option<usize>,
    /// The file that it is; `null` if there is none.
    path: Option<PathBuf>,
}

pub(super) fn run(args: &ListArgs) -> Result<(), CliError> {
    let store = Store::from_env()?;
    let report = Report {
        models: store.list().iter().map(ModelReport::of).collect(),
        presets: store.presets().iter().map(|preset| PresetReport::of(preset, &store)).collect(),
    };
    if args.json { print_json(&report) } else { print(report.text(SystemTime::now())) }
}

impl DetailsReport {
    pub(super) fn read(path: &Path) -> DetailsReport {
        match Details::read(path) {
            Ok(details) => DetailsReport {
                architecture: Some(details.architecture),
                format: Some(details.format),
                parameters: Some(details.parameters),
                n_ctx_train: details.n_ctx_train,
                has_chat_template: Some(details.has_chat_template),
                problem: None,
            },
            Err(error) => DetailsReport { problem: Some(error.to_string()), ..DetailsReport::default() },
        }
    }
}

impl ModelReport {
    pub(super) fn of(entry: &Entry) -> ModelReport {
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok().map(|time| time.as_secs());
        ModelReport {
            name: entry.name.clone(),
            source: entry.source.name(),
            path: entry.path().to_owned(),
            files: entry.files.len(),
            bytes: entry.bytes,
            modified: entry.modified.and_then(since),
            details: DetailsReport::read(entry.path()),
        }
    }
}

impl PresetReport {
    fn of(preset: &Preset, store: &Store) -> PresetReport {
        PresetReport {
            name: preset.name.clone(),
            alias: preset.aliases.clone(),
            file: preset.file.clone(),
            n_ctx: preset.n_ctx,
            path: store.find(&preset.name).ok().flatten(),
        }
    }
}

impl Report {
    fn text(&self, now: SystemTime) -> String {
        let mut text = String::new();
        if self.models.is_empty() {
            text += "no models; `rfgraph pull USER/REPO` downloads one from Hugging Face\n";
        } else {
            let mut rows =
                vec![["NAME", "SIZE", "ARCHITECTURE", "FORMAT", "MODIFIED", "SOURCE"].map(str::to_owned)];
            rows.extend(self.models.iter().map(|model| model.row(now)));
            write_table(&mut text, &rows);
        }
        // Writing to a String cannot fail.
        for preset in &self.presets {
            let names = [vec![preset.name.clone()], preset.alias.clone()].concat().join(", ");
            let problem = if preset.path.is_some() { "" } else { " (not found)" };
            let line = format!("preset {names}: {}{problem}", preset.file);
            let _ = writeln!(text, "{}", line.escape_debug());
        }
        text
    }
}

impl ModelReport {
    fn row(&self, now: SystemTime) -> [String; 6] {
        let known = |text: &Option<String>| {
            text.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| "?".into())
        };
        let modified = self.modified.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        [
            self.name.escape_debug().to_string(),
            Bytes(self.bytes).to_string(),
            known(&self.details.architecture).escape_debug().to_string(),
            known(&self.details.format),
            modified.map_or_else(|| "?".into(), |time| ago(now.duration_since(time).unwrap_or_default())),
            self.source.into(),
        ]
    }
}

/// A time span in its largest unit.
pub(super) fn ago(span: Duration) -> String {
    let units = [("day", 86_400), ("hour", 3600), ("minute", 60)];
    let count = |(unit, seconds): (&str, u64)| {
        let n = span.as_secs() / seconds;
        (n > 0).then(|| format!("{n} {unit}{} ago", if n == 1 { "" } else { "s" }))
    };
    units.into_iter().find_map(count).unwrap_or_else(|| "just now".into())
}

/// Writes columns, two spaces apart.
fn write_table<const N: usize>(text: &mut String, rows: &[[String; N]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_a_row_for_each_model_and_preset() {
        let model = |name: &str, problem: Option<&str>| ModelReport {
            name: name.into(),
            source: "the models folder",
            path: "/x".into(),
            files: 1,
            bytes: 3 << 30,
            modified: Some(1_000_000),
            details: match problem {
                None => DetailsReport {
                    architecture: Some("llama".into()),
                    format: Some("Q4_K".into()),
                    ..DetailsReport::default()
                },
                Some(problem) => DetailsReport { problem: Some(problem.into()), ..DetailsReport::default() },
            },
        };
        let preset = PresetReport {
            name: "s".into(),
            alias: vec!["t".into()],
            file: "a\u{7}".into(),
            n_ctx: None,
            path: None,
        };
        let report = Report {
            models: vec![model("user/repo:Q4_K_M", None), model("b\u{1b}[31m", Some("broken"))],
            presets: vec![preset],
        };
        insta::assert_snapshot!(report.text(UNIX_EPOCH + Duration::from_secs(1_200_000)), @r"
        NAME              SIZE     ARCHITECTURE  FORMAT  MODIFIED    SOURCE
        user/repo:Q4_K_M  3.0 GiB  llama         Q4_K    2 days ago  the models folder
        b\u{1b}[31m       3.0 GiB  ?             ?       2 days ago  the models folder
        preset s, t: a\u{7} (not found)
        ");
        assert_eq!(ago(Duration::from_secs(3600)), "1 hour ago");
        assert_eq!(ago(Duration::from_secs(7)), "just now");
        let nothing = Report { models: vec![], presets: vec![] }.text(UNIX_EPOCH);
        assert!(nothing.starts_with("no models; `rfgraph pull"), "{nothing}");
    }
}
