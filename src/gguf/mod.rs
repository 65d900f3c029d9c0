//! The GGUF file format: a bounds-checked reader over a memory map, and a writer.
//!
//! This folder knows element types (`tensor`) and nothing else: no graph, no model, no operator.
//!
//! A file is a header (magic, version, two counts), key-value pairs, a table of tensors, padding,
//! and the tensors' data. [`Gguf::open`] maps the file, reads the first three into memory of its
//! own and leaves the data where it is, so that opening costs time and memory in proportion to the
//! metadata and not to the file. Source: the GGUF specification in ggml's `docs/gguf.md`.
//!
//! # What is accepted
//! Versions 2 and 3, little endian. A file comes from strangers, so every number in it is checked
//! before it is used: a count against the bytes that remain, a sum against overflow, a tensor
//! against the file's end and against its neighbours. A file that breaks a rule is refused with the
//! byte offset, the field and the reason ([`Fault`]). The rules that the format leaves open are:
//!
//! - `general.alignment` is a power of two from 8 to 65536. With it, and a start that is a multiple
//!   of 8, every tensor starts at an address that suits its elements.
//! - Arrays of arrays are refused; no known key uses them.
//! - Keys take 1 to 65535 bytes, tensor names 1 to 64, neither occurs twice.
//! - Keys, names and string values are UTF-8; a boolean is 0 or 1.
//! - Tensors may lie in any order and with gaps, but not over one another.
//! - Everything before the data takes at most 1 GiB.

mod bytes;
mod check;
mod cursor;
mod error;
mod file;
mod format;
mod index;
mod metadata;
mod parse;
mod split;
mod tensors;
mod value;
mod writer;

pub use bytes::{Aligned, Bytes};
#[doc(hidden)]
pub use check::check_bytes;
pub use error::{Fault, GgufError, Reason};
pub use file::Gguf;
pub use metadata::{Metadata, MetadataError};
pub use split::SplitError;
pub use tensors::TensorInfo;
pub use value::{Array, Strings, Value, ValueType};
pub use writer::{GgufWriter, WriteError};
