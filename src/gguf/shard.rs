//! One file of a model.

use std::path::{Path, PathBuf};

use super::bytes::Bytes;
use super::error::GgufError;
use super::parse::{self, Header};

/// One file of a model.
pub(super) struct Shard {
    pub(super) bytes: Bytes,
    /// `None` for bytes in memory.
    pub(super) path: Option<PathBuf>,
}

/// Maps a file and reads its header.
pub(super) fn open_shard(path: &Path) -> Result<(Shard, Header), GgufError> {
    let bytes = Bytes::map(path)?;
    let malformed = |fault| GgufError::Malformed { path: Some(path.to_owned()), fault: Box::new(fault) };
    let header = parse::parse(bytes.as_slice()).map_err(malformed)?;
    Ok((Shard { bytes, path: Some(path.to_owned()) }, header))
}
