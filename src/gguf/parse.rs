//! Parses bytes into a header: a pure function of arbitrary bytes.

use super::cursor::Cursor;
use super::error::{Fault, Field, Reason};
use super::format::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_KEY_BYTES, MIN_PAIR_BYTES, MIN_TENSOR_BYTES, READ_VERSIONS,
    align_up, is_alignment,
};
use super::index::{Duplicate, NameIndex};
use super::metadata::{Entry, Metadata};
use super::tensors::{self, Row, TensorInfo};
use super::value::{Array, Scalar, Strings, Value, ValueType};

/// Everything in a file but the tensors' data.
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) metadata: Metadata,
    pub(super) alignment: usize,
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) by_name: NameIndex,
}

/// Parses a file's header. The data of every returned tensor is within `bytes`.
///
/// Memory grows in proportion to the metadata actually present: lists grow as their elements are read, whatever count
/// the file claims.
pub(super) fn parse(bytes: &[u8]) -> Result<Header, Fault> {
    let mut cursor = Cursor::new(bytes);
    let version = read_version(&mut cursor)?;
    let tensor_count = cursor.count(Field::TensorCount, MIN_TENSOR_BYTES)?;
    let pair_count = cursor.count(Field::PairCount, MIN_PAIR_BYTES)?;
    let metadata = read_metadata(&mut cursor, pair_count)?;
    let alignment = read_alignment(&metadata)?;
    let mut rows = Vec::new();
    for row in 0..tensor_count {
        rows.push(Row::read(&mut cursor, row)?);
    }
    let by_name = NameIndex::new(&rows, Row::name).map_err(|Duplicate { first, second }| {
        let reason = Reason::Duplicate { first: rows[first].row_at() as u64 };
        Field::DuplicateTensor(rows[second].name()).fault(rows[second].row_at(), reason)
    })?;
    // The cursor is within 1 GiB, so rounding up cannot overflow.
    let data_start = align_up(cursor.at(), alignment).unwrap_or(usize::MAX);
    let tensors = tensors::place(rows, data_start, alignment, bytes.len())?;
    Ok(Header { version, metadata, alignment, tensors, by_name })
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32, Fault> {
    let mut magic = [0; 4];
    magic.copy_from_slice(cursor.take(Field::Magic, 1, MAGIC.len())?);
    let mut swapped = MAGIC;
    swapped.reverse();
    if magic != MAGIC {
        let reason = if magic == swapped { Reason::BigEndian } else { Reason::Magic { found: magic } };
        return Err(Field::Magic.fault(0, reason));
    }
    let at = cursor.at();
    let version = cursor.scalar::<u32>(Field::Version)?;
    if READ_VERSIONS.contains(&version) {
        return Ok(version);
    }
    // Big endian files keep the magic and swap the bytes of numbers.
    let big_endian = READ_VERSIONS.contains(&version.swap_bytes());
    let reason = if big_endian { Reason::BigEndian } else { Reason::Version(version) };
    Err(Field::Version.fault(at, reason))
}

fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<Metadata, Fault> {
    let mut entries = Vec::new();
    for pair in 0..count {
        let offset = cursor.at() as u64;
        let key = cursor.name(Field::Key(pair), MAX_KEY_BYTES)?;
        let value_type = read_type(cursor, Field::ValueType(key))?;
        let value = read_value(cursor, key, value_type)?;
        entries.push(Entry { key: key.to_owned(), value, offset });
    }
    Metadata::new(entries).map_err(|(entries, Duplicate { first, second })| {
        let (first, second) = (&entries[first], &entries[second]);
        let reason = Reason::Duplicate { first: first.offset };
        Field::DuplicateKey(&second.key).fault(second.offset as usize, reason)
    })
}

fn read_type(cursor: &mut Cursor<'_>, field: Field<'_>) -> Result<ValueType, Fault> {
    let at = cursor.at();
    let id = cursor.scalar::<u32>(field)?;
    ValueType::from_id(id).ok_or_else(|| field.fault(at, Reason::ValueType(id)))
}

fn read_value(cursor: &mut Cursor<'_>, key: &str, value_type: ValueType) -> Result<Value, Fault> {
    let field = Field::Value(key);
    Ok(match value_type {
        ValueType::U8 => Value::U8(cursor.scalar(field)?),
        ValueType::I8 => Value::I8(cursor.scalar(field)?),
        ValueType::U16 => Value::U16(cursor.scalar(field)?),
        ValueType::I16 => Value::I16(cursor.scalar(field)?),
        ValueType::U32 => Value::U32(cursor.scalar(field)?),
        ValueType::I32 => Value::I32(cursor.scalar(field)?),
        ValueType::U64 => Value::U64(cursor.scalar(field)?),
        ValueType::I64 => Value::I64(cursor.scalar(field)?),
        ValueType::F32 => Value::F32(cursor.scalar(field)?),
        ValueType::F64 => Value::F64(cursor.scalar(field)?),
        ValueType::Bool => {
            let at = cursor.at();
            Value::Bool(boolean(cursor.scalar(field)?).map_err(|reason| field.fault(at, reason))?)
        }
        ValueType::String => Value::of_bytes(cursor.text(field)?),
        ValueType::Array => Value::Array(read_array(cursor, key)?),
    })
}

fn boolean(byte: u8) -> Result<bool, Reason> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Reason::Bool(other)),
    }
}

fn read_array(cursor: &mut Cursor<'_>, key: &str) -> Result<Array, Fault> {
    let type_at = cursor.at();
    Ok(match read_type(cursor, Field::ElementType(key))? {
        ValueType::U8 => Array::U8(read_scalars(cursor, key)?),
        ValueType::I8 => Array::I8(read_scalars(cursor, key)?),
        ValueType::U16 => Array::U16(read_scalars(cursor, key)?),
        ValueType::I16 => Array::I16(read_scalars(cursor, key)?),
        ValueType::U32 => Array::U32(read_scalars(cursor, key)?),
        ValueType::I32 => Array::I32(read_scalars(cursor, key)?),
        ValueType::U64 => Array::U64(read_scalars(cursor, key)?),
        ValueType::I64 => Array::I64(read_scalars(cursor, key)?),
        ValueType::F32 => Array::F32(read_scalars(cursor, key)?),
        ValueType::F64 => Array::F64(read_scalars(cursor, key)?),
        ValueType::Bool => Array::Bool(read_booleans(cursor, key)?),
        ValueType::String => read_strings(cursor, key)?,
        ValueType::Array => return Err(Field::ElementType(key).fault(type_at, Reason::NestedArray)),
    })
}

fn read_scalars<T: Scalar>(cursor: &mut Cursor<'_>, key: &str) -> Result<Vec<T>, Fault> {
    let count = cursor.count(Field::Length(key), T::BYTES)?;
    let bytes = cursor.take(Field::Value(key), count, T::BYTES)?;
    Ok(bytes.chunks_exact(T::BYTES).map(T::from_le).collect())
}

fn read_booleans(cursor: &mut Cursor<'_>, key: &str) -> Result<Vec<bool>, Fault> {
    let count = cursor.count(Field::Length(key), 1)?;
    let start = cursor.at();
    let bytes = cursor.take(Field::Value(key), count, 1)?;
    bytes
        .iter()
        .enumerate()
        .map(|(i, &byte)| {
            boolean(byte).map_err(|reason| Field::Element(key, i as u64).fault(start + i, reason))
        })
        .collect()
}

fn read_strings(cursor: &mut Cursor<'_>, key: &str) -> Result<Array, Fault> {
    let count = cursor.count(Field::Length(key), u64::BYTES)?;
    let (mut text, mut ends) = (Vec::new(), Vec::new());
    for index in 0..count {
        let field = Field::Element(key, index);
        let length = cursor.scalar::<u64>(field)?;
        text.extend_from_slice(cursor.take(field, length, 1)?);
        ends.push(text.len());
    }
    // Checking all of the text at once is several times faster than checking each string.
    Ok(match Strings::from_utf8(text, ends) {
        Ok(strings) => Array::String(strings),
        Err((text, ends)) => {
            let starts = std::iter::once(0).chain(ends.iter().copied());
            Array::NotUtf8(starts.zip(&ends).map(|(start, &end)| text[start..end].to_vec()).collect())
        }
    })
}

fn read_alignment(metadata: &Metadata) -> Result<usize, Fault> {
    let at = metadata.offset(ALIGNMENT_KEY).unwrap_or(0) as usize;
    let fault = |reason| Field::Value(ALIGNMENT_KEY).fault(at, reason);
    match metadata.opt_u64(ALIGNMENT_KEY) {
        Ok(None) => Ok(DEFAULT_ALIGNMENT),
        Ok(Some(alignment)) => usize::try_from(alignment)
            .ok()
            .filter(|&alignment| is_alignment(alignment))
            .ok_or_else(|| fault(Reason::Alignment { found: alignment })),
        Err(error) => Err(fault(Reason::Metadata(Box::new(error)))),
    }
}
