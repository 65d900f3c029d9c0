//! Errors of finding, downloading and deleting models.

use std::io;
use std::path::{Path, PathBuf};

/// Reason why a model cannot be found, downloaded or deleted. No message has a token in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A name that is not of the form `USER/REPO[:QUANT]`.
    #[error("`{}` is not a repository name: {reason}; expected USER/REPO or USER/REPO:QUANT", text.escape_debug())]
    Reference {
        /// The name.
        text: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A name that cannot be given to a model.
    #[error("`{}` cannot be the name of a model: {reason}", text.escape_debug())]
    Name {
        /// The name.
        text: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A setting from the environment that cannot be used.
    #[error("{variable} cannot be used: {reason}")]
    Setting {
        /// The environment variable.
        variable: &'static str,
        /// The reason.
        reason: &'static str,
    },
    /// Offline, and the files are not in the cache.
    #[error("{what} is not in {}, and downloads are turned off", cache.display())]
    Offline {
        /// The model.
        what: String,
        /// The cache folder.
        cache: PathBuf,
    },
    /// A status that is a refusal.
    #[error("{url} answered {status}{}{}; {advice}", if said.is_empty() { "" } else { ": " }, said.escape_debug())]
    Status {
        /// The address, without its query.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The server's words; empty if there are none.
        said: String,
        /// A remedy.
        advice: String,
    },
    /// No connection, or one that broke or stalled too often.
    #[error("{url} cannot be read: {problem}; run the same command again to go on where it stopped")]
    Network {
        /// The address, without its query.
        url: String,
        /// The reason.
        problem: String,
    },
    /// An answer that makes no sense.
    #[error("{url} gave an answer that cannot be used: {problem}")]
    Answer {
        /// The address, without its query.
        url: String,
        /// The reason.
        problem: String,
    },
    /// A repository without the wanted file.
    #[error("{repo} has no {}{}", match quant {
        Some(quant) => format!("model `{}`", quant.escape_debug()),
        None => "GGUF model".into(),
    }, if there.is_empty() { String::new() } else { format!("; it has {}", there.join(", ")) })]
    NoVariant {
        /// The repository.
        repo: String,
        /// The wanted quantization or file.
        quant: Option<String>,
        /// The models in the repository.
        there: Vec<String>,
    },
    /// A name that fits several models.
    #[error("`{}` fits several models; give the full name or the path of one:\n  {}", name.escape_debug(), candidates.join("\n  "))]
    Several {
        /// The name.
        name: String,
        /// The candidates, a line each.
        candidates: Vec<String>,
    },
    /// A split model that lacks a part.
    #[error("{repo} has only {found} of the {count} parts of {}", stem.escape_debug())]
    Parts {
        /// The repository.
        repo: String,
        /// The name without the part's number.
        stem: String,
        /// Number of parts found.
        found: usize,
        /// Number of parts by their names.
        count: u32,
    },
    /// Other bytes than the repository lists.
    #[error(
        "{url} has other content than the repository lists (expected {expected}, found {found}); \
             nothing was kept; the proxy or mirror between is the likely cause"
    )]
    Checksum {
        /// The address, without its query.
        url: String,
        /// The listed checksum.
        expected: String,
        /// The checksum of what was downloaded.
        found: String,
    },
    /// Another length than the repository lists.
    #[error("{url} has {found} bytes, and the repository lists {expected}; nothing was kept")]
    Length {
        /// The address, without its query.
        url: String,
        /// The listed length.
        expected: u64,
        /// The announced or received length.
        found: u64,
    },
    /// Too little free disk space.
    #[error("{} MB are needed in {}, and {} MB are free; delete models or set HF_HUB_CACHE to a folder on another disk",
        needed / 1_000_000, folder.display(), free / 1_000_000)]
    Space {
        /// The folder of the download.
        folder: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A file or folder that cannot be read, written or deleted.
    #[error("cannot {verb} {}: {source}", path.display())]
    File {
        /// The verb.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A fault in the presets file.
    #[error("{}:{line}: {problem}", path.display())]
    Preset {
        /// The presets file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The reason.
        problem: String,
    },
    /// The model belongs to another program or to the user.
    #[error("{name} is in {owner}, which rfgraph only reads; delete it {remedy}")]
    NotOurs {
        /// The model.
        name: String,
        /// The source of the model.
        owner: &'static str,
        /// The way to delete it.
        remedy: String,
    },
    /// The caller asked for an end.
    #[error("stopped; run the same command again to go on where it stopped")]
    Stopped,
}

impl HubError {
    /// For `map_err`: the failure to `verb` a file.
    pub(super) fn file(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HubError {
        let path = path.to_owned();
        move |source| HubError::File { verb, path, source }
    }
}
