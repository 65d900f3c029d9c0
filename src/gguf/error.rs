//! Why a file is refused: where, which field, and what is wrong with it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::{MetadataError, SplitError, format};
use crate::tensor::LayoutError;

/// Why a GGUF file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The operating system refuses to open or to map the file.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A directory, a pipe or a device, none of which can be mapped.
    #[error("{} is not a regular file, and only those can be mapped", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// The file breaks a rule of the format.
    #[error("{}: {fault}", path.as_ref().map_or("GGUF in memory".into(), |path| path.display().to_string()))]
    Malformed {
        /// The file; `None` for bytes in memory.
        path: Option<PathBuf>,
        /// What is wrong, and where.
        #[source]
        fault: Box<Fault>,
    },
    /// The parts of a split model do not fit together.
    #[error("{}: {problem}", path.display())]
    Split {
        /// The part where it shows.
        path: PathBuf,
        /// What is wrong.
        #[source]
        problem: Box<SplitError>,
    },
    /// A part of a split model was given as bytes, which have no siblings.
    #[error("GGUF in memory: this is a part of a model split into {count} files; open it from its file")]
    SplitInMemory {
        /// How many parts the model has.
        count: u64,
    },
    /// The bytes in memory start at an odd address, which F32 tensors could not be read from.
    #[error(
        "GGUF in memory: the bytes start at an address that is not a multiple of {}; \
         keep them in `gguf::Aligned`",
        format::BASE_ALIGNMENT
    )]
    Unaligned,
    /// The file became shorter after it was opened.
    #[error(
        "{}: the file had {opened} bytes when it was opened and has {now} now; \
         do not change a model while it is in use",
        path.display()
    )]
    Shrunk {
        /// The file.
        path: PathBuf,
        /// Its length when it was mapped.
        opened: u64,
        /// Its length now.
        now: u64,
    },
}

/// A broken rule of the format, with its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where in the file, in bytes from its start.
    pub offset: u64,
    /// Which field, in words. Names out of the file are quoted, escaped and shortened.
    pub field: String,
    /// What is wrong with it.
    pub reason: Reason,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}: {}", self.offset, self.field, self.reason)
    }
}

impl std::error::Error for Fault {}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The field reaches past the end of the file.
    #[error("needs {needed} bytes, but the file ends after {remaining} more")]
    Ends {
        /// Bytes that the field takes.
        needed: u64,
        /// Bytes that are left in the file.
        remaining: u64,
    },
    /// Header, metadata and tensor table are larger than any real ones.
    #[error(
        "needs {needed} bytes, which makes the metadata larger than the {} accepted",
        format::MAX_HEADER_BYTES
    )]
    HeaderTooLarge {
        /// Bytes that the field takes.
        needed: u64,
    },
    /// The file is of another format.
    #[error("\"{}\" is not \"GGUF\"; this is no GGUF file", found.escape_ascii())]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// The numbers are in the other byte order.
    #[error("the file is big endian; only little endian files are read")]
    BigEndian,
    /// A version that is not read.
    #[error("version {0} is not read, only 2 and 3; convert the model to one of them")]
    Version(u32),
    /// More elements than the rest of the file could hold.
    #[error("{count} elements of at least {element} bytes do not fit in the {remaining} that are left")]
    Count {
        /// How many the file claims.
        count: u64,
        /// The fewest bytes that one takes.
        element: u64,
        /// Bytes that are left in the file.
        remaining: u64,
    },
    /// A name that is longer than the format allows.
    #[error("{length} bytes are more than the {limit} allowed")]
    TooLong {
        /// Its length in bytes.
        length: u64,
        /// The most bytes.
        limit: u64,
    },
    /// A name without a letter.
    #[error("is empty")]
    Empty,
    /// Text that is not UTF-8; the offset is that of the first wrong byte.
    #[error("is not valid UTF-8")]
    NotUtf8,
    /// A type number that the format does not have.
    #[error("{0} is not a value type (0 to 12)")]
    ValueType(u32),
    /// An array whose elements are arrays.
    #[error("arrays of arrays are not supported")]
    NestedArray,
    /// A boolean byte other than 0 and 1.
    #[error("{0} is not a boolean (0 or 1)")]
    Bool(u8),
    /// A key or name that was there before.
    #[error("occurs twice, first at byte {first}")]
    Duplicate {
        /// Where it was first.
        first: u64,
    },
    /// A metadata value that the reader itself needs is of the wrong type or size.
    #[error("{0}")]
    Metadata(Box<MetadataError>),
    /// An alignment outside the rule.
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
    /// More elements than an address can count.
    #[error("the tensor is too large to address")]
    ShapeTooLarge,
    /// Rows that do not fill whole blocks, or more bytes than an address can count.
    #[error("{0}")]
    Layout(LayoutError),
    /// An element type that is not read.
    #[error("type {id} ({}) is not supported", name.unwrap_or("unknown"))]
    ElementType {
        /// The number in the file.
        id: u32,
        /// What ggml calls or called it.
        name: Option<&'static str>,
    },
    /// Data that does not start at a multiple of the alignment.
    #[error("{offset} is not a multiple of the alignment, {alignment}")]
    Misaligned {
        /// The offset in the data section.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// Data that reaches past the end of the file.
    #[error(
        "{bytes} bytes at offset {offset} of the data section, which starts at byte {data_start}, \
         reach past the file's end at byte {file}"
    )]
    OutsideFile {
        /// The offset in the data section.
        offset: u64,
        /// Bytes of the tensor.
        bytes: u64,
        /// Where the data section starts.
        data_start: u64,
        /// The file's length.
        file: u64,
    },
    /// Data that shares bytes with another tensor.
    #[error("the data shares bytes with that of tensor {other}")]
    Overlap {
        /// The other tensor's name, quoted.
        other: String,
    },
}

/// A field of the file. Kept as data, so that a name is only composed for an error.
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

/// Text out of a file as an error shows it: escaped, since it goes to a terminal, and shortened.
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
