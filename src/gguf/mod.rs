//! The GGUF file format: a bounds-checked reader over a memory map, and a writer.
//!
//! This folder knows element types (`tensor`) and nothing else: no graph, no model, no operator.
//!
//! A file is a header (magic, version, two counts), key-value pairs, a table of tensors, padding, and the tensors'
//! data. [`Gguf::open`] maps the file, copies the first three and leaves the data in the map, so that opening costs
//! time and memory in proportion to the metadata, independent of the file's size. Source: the GGUF specification in
//! ggml's `docs/gguf.md`.
//!
//! # Accepted files
//! Versions 2 and 3, little endian. Files are untrusted, so every number is checked before it is used: a count against
//! the remaining bytes, a sum against overflow, a tensor against the file's end and its neighbours. An invalid file is
//! refused with the byte offset, the field and the reason ([`Fault`]). The rules that the format leaves open are:
//!
//! - `general.alignment` is a power of two from 8 to 65536. Together with a base address that is a multiple of 8, this
//!   aligns every tensor for its element type.
//! - Arrays of arrays are refused; no known key uses them.
//! - Keys have 1 to 65535 bytes, tensor names 1 to 64; neither may occur twice.
//! - Keys and names are UTF-8; a boolean is 0 or 1. A string value that is not UTF-8 is kept as bytes
//!   ([`Value::NotUtf8`]), and only a getter that needs it as text refuses it.
//! - Tensors may be in any order and have gaps, but must not overlap.
//! - Everything before the data is at most 1 GiB.

mod bytes;
mod check;
mod cursor;
mod error;
mod file;
mod format;
mod index;
mod metadata;
mod parse;
mod shard;
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
