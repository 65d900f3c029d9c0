//! Models split over several files: the naming of the parts, and their consistency.
//!
//! Part `no` (from 0) of `count` has the keys `split.no`, `split.count` and `split.tensors.count`, and is named
//! `NAME-{no + 1:05}-of-{count:05}.gguf`.

use std::io;
use std::path::{Path, PathBuf};

use super::MetadataError;
use super::error::{GgufError, Quoted};
use super::index::Duplicate;
use super::metadata::Metadata;
use super::shard::Shard;
use super::tensors::TensorInfo;

/// Reason why the parts of a split model are inconsistent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// The opened part is not the first.
    #[error("this is part {no} of {count} of a split model; open part 1{}", first.as_ref().map_or(
        String::new(), |first| format!(", {}", first.display())
    ))]
    NotFirst {
        /// The part's number, from 1.
        no: u64,
        /// The number of parts.
        count: u64,
        /// The path of the first part, if this part's name follows the rule.
        first: Option<PathBuf>,
    },
    /// The name does not follow the rule, so the siblings cannot be found.
    #[error(
        "this is part 1 of {count} of a split model, but its name does not end in \
         -00001-of-{count:05}.gguf, so that the other parts cannot be found; \
         give all parts the names that they were made with"
    )]
    Name {
        /// The number of parts.
        count: u64,
    },
    /// A sibling cannot be opened.
    #[error("part {no} of {count} of this split model, {}, is missing: {source}", part.display())]
    Missing {
        /// The part's number, from 1.
        no: u64,
        /// The number of parts.
        count: u64,
        /// Expected path of the part.
        part: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A sibling belongs to another model, or has another number.
    #[error("{key} is {}, but {wanted} is expected here; this part belongs to another model or place",
        found.map_or("missing".to_owned(), |found| found.to_string()))]
    Disagrees {
        /// The key.
        key: &'static str,
        /// The value in the first part.
        wanted: u64,
        /// The value in this part.
        found: Option<u64>,
    },
    /// The parts hold more or fewer tensors than declared.
    #[error("split.tensors.count is {declared}, but the parts hold {found} tensors")]
    TensorCount {
        /// The count in the first part.
        declared: u64,
        /// The number of tensors found.
        found: u64,
    },
    /// Two parts hold a tensor of the same name.
    #[error("tensor {name} is in {} too", other.display())]
    DuplicateTensor {
        /// The tensor's name, quoted.
        name: String,
        /// The other part.
        other: PathBuf,
    },
    /// A `split.` key is of the wrong type.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl SplitError {
    pub(super) fn at(self, path: &Path) -> GgufError {
        GgufError::Split { path: path.to_owned(), problem: Box::new(self) }
    }
}

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// A file's number and the part count of its split model.
pub(super) struct SplitPart {
    /// Counted from 0.
    no: u64,
    pub(super) count: u64,
    tensors: Option<u64>,
}

/// The metadata's part number and count; `None` if the model is a single file.
pub(super) fn place(metadata: &Metadata) -> Result<Option<SplitPart>, SplitError> {
    let count = metadata.opt_u64(COUNT)?.unwrap_or(1);
    if count <= 1 {
        return Ok(None);
    }
    Ok(Some(SplitPart { no: metadata.u64(NO)?, count, tensors: metadata.opt_u64(TENSORS)? }))
}

/// The paths of the second and all later parts, from the path of the first.
pub(super) fn siblings(
    path: &Path,
    place: &SplitPart,
) -> Result<impl Iterator<Item = PathBuf> + use<>, SplitError> {
    let count = place.count;
    let stem = stem(path, place).map(str::to_owned);
    let path = path.to_owned();
    let part = move |stem: &str, no: u64| path.with_file_name(format!("{stem}{}", ending(no, count)));
    if place.no != 0 {
        let first = stem.map(|stem| part(&stem, 0));
        return Err(SplitError::NotFirst { no: place.no.saturating_add(1), count, first });
    }
    let stem = stem.ok_or(SplitError::Name { count })?;
    Ok((1..count).map(move |no| part(&stem, no)))
}

/// The ending of the name of part `no` (from 0).
fn ending(no: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", no.saturating_add(1))
}

/// The name of a part without its ending, if the ending matches the part's number.
fn stem<'a>(path: &'a Path, place: &SplitPart) -> Option<&'a str> {
    path.file_name()?.to_str()?.strip_suffix(&ending(place.no, place.count))
}

/// Converts the failure to open a sibling into an error that names the first part.
pub(super) fn missing(error: GgufError, no: u64, count: u64, path: &Path, part: &Path) -> GgufError {
    match error {
        GgufError::Open { source, .. } => {
            SplitError::Missing { no: no + 1, count, part: part.to_owned(), source }.at(path)
        }
        other => other,
    }
}

/// Checks that a sibling's metadata match part `no` (from 0) of the first part's model.
pub(super) fn check_sibling(first: &SplitPart, no: u64, metadata: &Metadata) -> Result<(), SplitError> {
    let agrees = |key, wanted, optional| match metadata.opt_u64(key)? {
        Some(found) if found == wanted => Ok(()),
        None if optional => Ok(()),
        found => Err(SplitError::Disagrees { key, wanted, found }),
    };
    agrees(COUNT, first.count, false)?;
    agrees(NO, no, false)?;
    first.tensors.map_or(Ok(()), |tensors| agrees(TENSORS, tensors, true))
}

/// Checks that the parts together hold as many tensors as the first part declares.
pub(super) fn check_total(first: &SplitPart, found: usize) -> Result<(), SplitError> {
    match first.tensors {
        Some(declared) if declared != found as u64 => {
            Err(SplitError::TensorCount { declared, found: found as u64 })
        }
        _ => Ok(()),
    }
}

/// The error for two tensors of the same name.
pub(super) fn duplicate_tensor(tensors: &[TensorInfo], shards: &[Shard], twins: &Duplicate) -> GgufError {
    let (first, second) = (&tensors[twins.first], &tensors[twins.second]);
    let path = |info: &TensorInfo| shards[info.shard].path.clone().unwrap_or_default();
    let name = Quoted(&second.name).to_string();
    SplitError::DuplicateTensor { name, other: path(first) }.at(&path(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_siblings() {
        let place = SplitPart { no: 0, count: 3, tensors: None };
        let names: Vec<PathBuf> = siblings(Path::new("/m/a-00001-of-00003.gguf"), &place).unwrap().collect();
        let expected = ["/m/a-00002-of-00003.gguf", "/m/a-00003-of-00003.gguf"];
        assert_eq!(names, expected.map(PathBuf::from));
    }

    #[test]
    fn name_outside_the_rule_has_no_siblings() {
        let place = SplitPart { no: 0, count: 3, tensors: None };
        for name in ["a.gguf", "a-00001-of-00004.gguf", "a-00002-of-00003.gguf", "a-1-of-3.gguf", "/"] {
            assert!(
                matches!(siblings(Path::new(name), &place), Err(SplitError::Name { count: 3 })),
                "{name}"
            );
        }
    }
}
