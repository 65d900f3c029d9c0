//! Writing GGUF files, version 3, little endian.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, Write};

use super::error::Quoted;
use super::format::{
    ALIGNMENT_KEY, ALIGNMENTS, DEFAULT_ALIGNMENT, MAGIC, MAX_HEADER_BYTES, MAX_KEY_BYTES, MAX_NAME_BYTES,
    WRITTEN_VERSION, align_up, is_alignment,
};
use super::value::{Array, Scalar, Value};
use crate::tensor::{DType, Desc, LayoutError, Shape};

/// Collects metadata and tensors, then writes them as one file, which the reader accepts.
///
/// ```
/// use rfgraph::gguf::{Gguf, GgufWriter};
/// use rfgraph::tensor::DType;
///
/// let mut file = Vec::new();
/// GgufWriter::new()
///     .set("general.architecture", "example")?
///     .tensor("ones", DType::F16, [2, 1], &[0x00, 0x3c, 0x00, 0x3c])?
///     .write(&mut file)?;
///
/// let gguf = Gguf::from_bytes(file)?;
/// let ones = gguf.tensor("ones").ok_or("no such tensor")?;
/// assert_eq!(gguf.data(ones), [0x00, 0x3c, 0x00, 0x3c]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct GgufWriter<'a> {
    pairs: Vec<(String, Value)>,
    tensors: Vec<Tensor<'a>>,
    keys: HashSet<String>,
    names: HashSet<String>,
    alignment: usize,
}

struct Tensor<'a> {
    name: String,
    desc: Desc,
    /// `None` for data supplied by [`GgufWriter::write_with`].
    data: Option<Cow<'a, [u8]>>,
}

/// Reason why a file cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A key or name that is empty or too long.
    #[error("{what} {} takes {length} bytes, must take 1 to {limit}", Quoted(name))]
    NameLength {
        /// `metadata key` or `tensor name`.
        what: &'static str,
        /// The key or name.
        name: String,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A key or name that was added before.
    #[error("{what} {} is there already", Quoted(name))]
    Duplicate {
        /// `metadata key` or `tensor name`.
        what: &'static str,
        /// The key or name.
        name: String,
    },
    /// A `general.alignment` that the reader would refuse.
    #[error(
        "general.alignment is {found}, must be a u32 that is a power of two from {} to {}",
        ALIGNMENTS.start(),
        ALIGNMENTS.end()
    )]
    Alignment {
        /// The given value.
        found: String,
    },
    /// A tensor without elements.
    #[error("tensor {} of shape {shape} has a dimension of size zero", Quoted(name))]
    ZeroDimension {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Shape,
    },
    /// A dtype and a shape that do not form a tensor.
    #[error("tensor {}: {source}", Quoted(name))]
    Layout {
        /// Its name.
        name: String,
        /// The reason.
        source: LayoutError,
    },
    /// The length of the data does not match dtype and shape.
    #[error("tensor {}: {dtype}{shape} takes {wanted} bytes, not {found}", Quoted(name))]
    DataLength {
        /// Its name.
        name: String,
        /// Its element type.
        dtype: DType,
        /// Its shape.
        shape: Shape,
        /// Size of dtype and shape in bytes.
        wanted: usize,
        /// Given bytes.
        found: usize,
    },
    /// More metadata than the reader accepts.
    #[error("metadata and tensor table take {0} bytes, more than the {MAX_HEADER_BYTES} accepted")]
    HeaderTooLarge(usize),
    /// The operating system's error.
    #[error("cannot write the GGUF file: {0}")]
    Io(#[from] io::Error),
}

impl<'a> GgufWriter<'a> {
    /// A file without metadata and tensors.
    pub fn new() -> GgufWriter<'a> {
        GgufWriter {
            pairs: Vec::new(),
            tensors: Vec::new(),
            keys: HashSet::new(),
            names: HashSet::new(),
            alignment: DEFAULT_ALIGNMENT,
        }
    }

    /// Adds a key-value pair. `general.alignment` also sets the alignment of the tensors' data.
    ///
    /// # Errors
    /// The key is empty, longer than 65535 bytes or a duplicate; an alignment is invalid.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Result<&mut Self, WriteError> {
        let value = value.into();
        check_name("metadata key", key, MAX_KEY_BYTES, &self.keys)?;
        if key == ALIGNMENT_KEY {
            let alignment = match value {
                Value::U32(alignment) => Some(alignment as usize),
                _ => None,
            };
            self.alignment = alignment
                .filter(|&alignment| is_alignment(alignment))
                .ok_or_else(|| WriteError::Alignment { found: value.to_string() })?;
        }
        self.keys.insert(key.to_owned());
        self.pairs.push((key.to_owned(), value));
        Ok(self)
    }

    /// Adds a tensor with its data, the blocks of all rows without gaps.
    ///
    /// # Errors
    /// The name is empty, longer than 64 bytes or a duplicate; dtype and shape do not form a tensor, or an empty one;
    /// the data have the wrong length.
    pub fn tensor(
        &mut self,
        name: &str,
        dtype: DType,
        shape: impl Into<Shape>,
        data: impl Into<Cow<'a, [u8]>>,
    ) -> Result<&mut Self, WriteError> {
        let data = data.into();
        let desc = self.declare(name, dtype, shape.into())?;
        check_length(name, &desc, data.len())?;
        self.names.insert(name.to_owned());
        self.tensors.push(Tensor { name: name.to_owned(), desc, data: Some(data) });
        Ok(self)
    }

    /// Adds a tensor whose data [`GgufWriter::write_with`] supplies.
    ///
    /// # Errors
    /// As [`GgufWriter::tensor`], apart from the data.
    pub fn later(
        &mut self,
        name: &str,
        dtype: DType,
        shape: impl Into<Shape>,
    ) -> Result<&mut Self, WriteError> {
        let desc = self.declare(name, dtype, shape.into())?;
        self.names.insert(name.to_owned());
        self.tensors.push(Tensor { name: name.to_owned(), desc, data: None });
        Ok(self)
    }

    /// The description of a tensor, if it can be added.
    fn declare(&self, name: &str, dtype: DType, shape: Shape) -> Result<Desc, WriteError> {
        let own = || name.to_owned();
        check_name("tensor name", name, MAX_NAME_BYTES, &self.names)?;
        if shape.elements() == 0 {
            return Err(WriteError::ZeroDimension { name: own(), shape });
        }
        Desc::contiguous(dtype, shape).map_err(|source| WriteError::Layout { name: own(), source })
    }

    /// Writes the file. Every tensor's data is padded to the alignment, including the last one's.
    ///
    /// # Errors
    /// Writing fails, the metadata exceed the reader's limit, or a tensor was added by [`GgufWriter::later`].
    pub fn write(&self, out: &mut impl Write) -> Result<(), WriteError> {
        self.write_with(out, |_, _| Ok(()))
    }

    /// As [`GgufWriter::write`]; `data` writes the data of each tensor of [`GgufWriter::later`] by its name, so that
    /// they need not all be in memory.
    ///
    /// # Errors
    /// As [`GgufWriter::write`], errors of `data`, and data of the wrong length.
    pub fn write_with<W: Write, E: From<WriteError>>(
        &self,
        out: &mut W,
        mut data: impl FnMut(&str, &mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let header = self.header();
        if header.len() > MAX_HEADER_BYTES {
            return Err(WriteError::HeaderTooLarge(header.len()).into());
        }
        let failed = |error| E::from(WriteError::Io(error));
        out.write_all(&header).map_err(failed)?;
        if !self.tensors.is_empty() {
            self.pad(out, header.len()).map_err(failed)?;
        }
        for Tensor { name, desc, data: bytes } in &self.tensors {
            let mut counted = Counted { out: &mut *out, bytes: 0 };
            match bytes {
                Some(bytes) => counted.write_all(bytes).map_err(failed)?,
                None => data(name, &mut counted)?,
            }
            let found = counted.bytes;
            check_length(name, desc, found)?;
            self.pad(out, found).map_err(failed)?;
        }
        out.flush().map_err(failed)
    }

    /// Pads `bytes` written bytes with zeros to the alignment.
    fn pad(&self, out: &mut impl Write, bytes: usize) -> io::Result<()> {
        let padding = bytes.wrapping_neg() % self.alignment;
        out.write_all(&vec![0; padding])
    }

    fn header(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        WRITTEN_VERSION.put_le(&mut out);
        (self.tensors.len() as u64).put_le(&mut out);
        (self.pairs.len() as u64).put_le(&mut out);
        for (key, value) in &self.pairs {
            put_string(&mut out, key);
            value.value_type().id().put_le(&mut out);
            put_value(&mut out, value);
        }
        let mut offset = 0usize;
        for tensor in &self.tensors {
            put_string(&mut out, &tensor.name);
            let shape = tensor.desc.shape;
            (shape.rank() as u32).put_le(&mut out);
            shape.sizes().iter().for_each(|&n| (n as u64).put_le(&mut out));
            tensor.desc.dtype.ggml_id().put_le(&mut out);
            (offset as u64).put_le(&mut out);
            // Real sizes cannot overflow the sum.
            let end = offset.saturating_add(tensor.desc.data_bytes());
            offset = align_up(end, self.alignment).unwrap_or(usize::MAX);
        }
        out
    }
}

impl Default for GgufWriter<'_> {
    fn default() -> Self {
        GgufWriter::new()
    }
}

fn check_name(
    what: &'static str,
    name: &str,
    limit: usize,
    taken: &HashSet<String>,
) -> Result<(), WriteError> {
    if name.is_empty() || name.len() > limit {
        return Err(WriteError::NameLength { what, name: name.to_owned(), length: name.len(), limit });
    }
    if taken.contains(name) {
        return Err(WriteError::Duplicate { what, name: name.to_owned() });
    }
    Ok(())
}

fn check_length(name: &str, desc: &Desc, found: usize) -> Result<(), WriteError> {
    let wanted = desc.data_bytes();
    if wanted == found {
        return Ok(());
    }
    let (name, dtype, shape) = (name.to_owned(), desc.dtype, desc.shape);
    Err(WriteError::DataLength { name, dtype, shape, wanted, found })
}

/// A writer that counts its bytes.
struct Counted<'w, W> {
    out: &'w mut W,
    bytes: usize,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn put_string(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    (text.len() as u64).put_le(out);
    out.extend_from_slice(text);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(n) => n.put_le(out),
        Value::I8(n) => n.put_le(out),
        Value::U16(n) => n.put_le(out),
        Value::I16(n) => n.put_le(out),
        Value::U32(n) => n.put_le(out),
        Value::I32(n) => n.put_le(out),
        Value::U64(n) => n.put_le(out),
        Value::I64(n) => n.put_le(out),
        Value::F32(x) => x.put_le(out),
        Value::F64(x) => x.put_le(out),
        Value::Bool(b) => out.push(u8::from(*b)),
        Value::String(text) => put_string(out, text),
        Value::NotUtf8(text) => put_string(out, text),
        Value::Array(array) => put_array(out, array),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    array.element_type().id().put_le(out);
    (array.len() as u64).put_le(out);
    match array {
        Array::U8(numbers) => put_scalars(out, numbers),
        Array::I8(numbers) => put_scalars(out, numbers),
        Array::U16(numbers) => put_scalars(out, numbers),
        Array::I16(numbers) => put_scalars(out, numbers),
        Array::U32(numbers) => put_scalars(out, numbers),
        Array::I32(numbers) => put_scalars(out, numbers),
        Array::U64(numbers) => put_scalars(out, numbers),
        Array::I64(numbers) => put_scalars(out, numbers),
        Array::F32(numbers) => put_scalars(out, numbers),
        Array::F64(numbers) => put_scalars(out, numbers),
        Array::Bool(values) => out.extend(values.iter().map(|&value| u8::from(value))),
        Array::String(strings) => strings.iter().for_each(|text| put_string(out, text)),
        Array::NotUtf8(strings) => strings.iter().for_each(|text| put_string(out, text)),
    }
}

fn put_scalars<T: Scalar>(out: &mut Vec<u8>, numbers: &[T]) {
    numbers.iter().for_each(|number| number.put_le(out));
}
