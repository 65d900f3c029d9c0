//! Errors of a file: offset, field, and reason.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::{MetadataError, SplitError, format};
use crate::tensor::LayoutError;

/// Reason why a GGUF file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The operating system fails to open or map the file.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A directory, a pipe or a device, which cannot be mapped.
    #[error("{} is not a regular file, and only those can be mapped", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// The file violates the format.
    #[error("{}: {fault}", path.as_ref().map_or("GGUF in memory".into(), |path| path.display().to_string()))]
    Malformed {
        /// The file; `None` for bytes in memory.
        path: Option<PathBuf>,
        /// The violation and its offset.
        #[source]
        fault: Box<Fault>,
    },
    /// The parts of a split model are inconsistent.
    #[error("{}: {problem}", path.display())]
    Split {
        /// The part in which the problem was found.
        path: PathBuf,
        /// The inconsistency.
        #[source]
        problem: Box<SplitError>,
    },
    /// A part of a split model was given as bytes, so its siblings cannot be found.
    #[error("GGUF in memory: this is a part of a model split into {count} files; open it from its file")]
    SplitInMemory {
        /// The number of parts of the model.
        count: u64,
    },
    /// The bytes in memory are misaligned for reading tensors in place.
    #[error(
        "GGUF in memory: the bytes start at an address that is not a multiple of {}; \
         keep them in `gguf::Aligned`",
        format::BASE_ALIGNMENT
    )]
    Unaligned,
    /// The file was shortened after it was opened.
    #[error(
        "{}: the file had {opened} bytes when it was opened and has {now} now; \
         do not change a model while it is in use",
        path.display()
    )]
    Shrunk {
        /// The file.
        path: PathBuf,
        /// Length when mapped.
        opened: u64,
        /// Current length.
        now: u64,
    },
}

/// A violation of the format, with its offset in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// The field, in words. Names from the file are quoted, escaped and shortened.
    pub field: String,
    /// The fault of the field.
    pub reason: Reason,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}: {}", self.offset, self.field, self.reason)
    }
}

impl std::error::Error for Fault {}

/// The fault of a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The field extends past the end of the file.
    #[error(
        "needs {needed} bytes, but the file ends after {remaining} more; it is incomplete or damaged: download it again"
    )]
    Ends {
        /// Size of the field in bytes.
        needed: u64,
        /// Bytes remaining in the file.
        remaining: u64,
    },
    /// Header, metadata and tensor table exceed the limit, which is larger than any real ones.
    #[error(
        "needs {needed} bytes, which makes the metadata larger than the {} accepted",
        format::MAX_HEADER_BYTES
    )]
    HeaderTooLarge {
        /// Size of the field in bytes.
        needed: u64,
    },
    /// The file has another format.
    #[error("\"{}\" is not \"GGUF\"; this is not a GGUF file", found.escape_ascii())]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// The numbers are big endian.
    #[error("the file is big endian; only little endian files are read")]
    BigEndian,
    /// An unsupported version.
    #[error("version {0} is not read, only 2 and 3; convert the model to one of them")]
    Version(u32),
    /// The count exceeds what the rest of the file can hold.
    #[error("{count} elements of at least {element} bytes do not fit in the {remaining} that are left")]
    Count {
        /// The count in the file.
        count: u64,
        /// The minimum size of an element in bytes.
        element: u64,
        /// Bytes remaining in the file.
        remaining: u64,
    },
    /// A name longer than the format allows.
    #[error("{length} bytes are more than the {limit} allowed")]
    TooLong {
        /// Its length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// An empty name.
    #[error("is empty")]
    Empty,
    /// A string that is not UTF-8; the offset is that of the first invalid byte.
    #[error("is not valid UTF-8")]
    NotUtf8,
    /// An unknown value type.
    #[error("{0} is not a value type (0 to 12)")]
    ValueType(u32),
    /// An array of arrays.
    #[error("arrays of arrays are not supported")]
    NestedArray,
    /// A boolean byte other than 0 and 1.
    #[error("{0} is not a boolean (0 or 1)")]
    Bool(u8),
    /// A key or name that occurred before.
    #[error("occurs twice, first at byte {first}")]
    Duplicate {
        /// Offset of the first occurrence.
        first: u64,
    },
    /// A metadata value that the reader itself uses has the wrong type or size.
    #[error("{0}")]
    Metadata(Box<MetadataError>),
    /// An invalid alignment.
    #[error(
        "{found} is not a power of two from {} to {}",
        format::ALIGNMENTS.start(),
        format::ALIGNMENTS.end()
    )]
    Alignment {
        /// The alignment in the file.
        found: u64,
    },
    /// More than four dimensions.
    #[error("{0} dimensions are more than the 4 a tensor may have")]
    Rank(u32),
    /// A dimension of size zero.
    #[error("must not be zero")]
    ZeroDimension,
    /// The number of elements overflows an address.
    #[error("the tensor is too large to address")]
    ShapeTooLarge,
    /// Rows that are not whole blocks, or a size that overflows an address.
    #[error("{0}")]
    Layout(LayoutError),
    /// An unsupported element type.
    #[error("type {id} ({}) is not supported", name.unwrap_or("unknown"))]
    ElementType {
        /// The number in the file.
        id: u32,
        /// Its present or former name in ggml.
        name: Option<&'static str>,
    },
    /// The data does not start at a multiple of the alignment.
    #[error("{offset} is not a multiple of the alignment, {alignment}")]
    Misaligned {
        /// The offset in the data section.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// The data extends past the end of the file.
    #[error(
        "{bytes} bytes at offset {offset} of the data section, which starts at byte {data_start}, \
         reach past the file's end at byte {file}; the file is incomplete: download it again"
    )]
    OutsideFile {
        /// Offset in the data section.
        offset: u64,
        /// Size of the tensor in bytes.
        bytes: u64,
        /// Start of the data section in the file.
        data_start: u64,
        /// Length of the file.
        file: u64,
    },
    /// The data overlaps that of another tensor.
    #[error("the data shares bytes with that of tensor {other}")]
    Overlap {
        /// The other tensor's name, quoted.
        other: String,
    },
}

/// A field of the file. Stored as data, so that its text is only formatted for an error.
#[derive(Clone, Copy)]
pub(super) enum Field<'a> {
    Magic,
    Version,
    TensorCount,
    PairCount,
    Key(u64),
    DuplicateKey(&'a str),
    ValueType(&'a str),
    Value(&'a str),
    ElementType(&'a str),
    Length(&'a str),
    Element(&'a str, u64),
    TensorName(u64),
    DuplicateTensor(&'a str),
    Rank(&'a str),
    Dimension(&'a str, u32),
    TensorType(&'a str),
    Shape(&'a str),
    TensorOffset(&'a str),
}

impl Field<'_> {
    /// The error about this field.
    pub(super) fn fault(self, offset: usize, reason: Reason) -> Fault {
        Fault { offset: offset as u64, field: self.to_string(), reason }
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Field::Magic => write!(f, "magic"),
            Field::Version => write!(f, "version"),
            Field::TensorCount => write!(f, "tensor count"),
            Field::PairCount => write!(f, "metadata count"),
            Field::Key(pair) => write!(f, "key of metadata pair {pair}"),
            Field::DuplicateKey(key) => write!(f, "metadata key {}", Quoted(key)),
            Field::ValueType(key) => write!(f, "value type of {}", Quoted(key)),
            Field::Value(key) => write!(f, "value of {}", Quoted(key)),
            Field::ElementType(key) => write!(f, "array element type of {}", Quoted(key)),
            Field::Length(key) => write!(f, "array length of {}", Quoted(key)),
            Field::Element(key, index) => write!(f, "array element {index} of {}", Quoted(key)),
            Field::TensorName(row) => write!(f, "name of tensor {row}"),
            Field::DuplicateTensor(name) => write!(f, "tensor name {}", Quoted(name)),
            Field::Rank(name) => write!(f, "rank of tensor {}", Quoted(name)),
            Field::Dimension(name, i) => write!(f, "dimension {i} of tensor {}", Quoted(name)),
            Field::TensorType(name) => write!(f, "element type of tensor {}", Quoted(name)),
            Field::Shape(name) => write!(f, "shape of tensor {}", Quoted(name)),
            Field::TensorOffset(name) => write!(f, "data offset of tensor {}", Quoted(name)),
        }
    }
}

/// Text from a file for an error message: escaped, since it is printed to a terminal, and shortened.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl Quoted<'_> {
    /// The most characters shown.
    const LIMIT: usize = 80;
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(Quoted::LIMIT) {
            Some((end, _)) => write!(f, "\"{}…\"", self.0[..end].escape_debug()),
            None => write!(f, "\"{}\"", self.0.escape_debug()),
        }
    }
}
