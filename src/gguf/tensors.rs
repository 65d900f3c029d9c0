//! The table of tensors: its rows, and the checks of their data's location.

use super::cursor::Cursor;
use super::error::{Fault, Field, Quoted, Reason};
use super::format::{MAX_NAME_BYTES, unread_type_name};
use crate::tensor::{DType, Desc, MAX_RANK, Shape};

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// Its name: `blk.0.attn_q.weight`.
    pub name: String,
    /// The type of its elements.
    pub dtype: DType,
    /// Its sizes, a row's length first.
    pub shape: Shape,
    /// Offset of its data in its file, in bytes.
    pub offset: usize,
    /// Size of its data in bytes.
    pub bytes: usize,
    /// Index of the split model's part with the data; 0 for a model in one file.
    pub shard: usize,
}

impl TensorInfo {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// A row of the table as stored in the file, before its data is located.
pub(super) struct Row {
    info: TensorInfo,
    /// Offset of the data in the data section.
    relative: u64,
    /// Offset of the row in the file.
    row_at: usize,
    /// Offset in the file of the row's data offset field.
    offset_at: usize,
}

impl Row {
    pub(super) fn name(&self) -> &str {
        &self.info.name
    }

    pub(super) fn row_at(&self) -> usize {
        self.row_at
    }

    /// Reads row number `row` of the table.
    pub(super) fn read(cursor: &mut Cursor<'_>, row: u64) -> Result<Row, Fault> {
        let row_at = cursor.at();
        let name = cursor.name(Field::TensorName(row), MAX_NAME_BYTES)?;
        let shape_at = cursor.at();
        let shape = read_shape(cursor, name)?;
        let type_at = cursor.at();
        let id = cursor.scalar::<u32>(Field::TensorType(name))?;
        let Some(dtype) = DType::from_ggml_id(id) else {
            let reason = Reason::ElementType { id, name: unread_type_name(id) };
            return Err(Field::TensorType(name).fault(type_at, reason));
        };
        let desc = Desc::contiguous(dtype, shape)
            .map_err(|error| Field::Shape(name).fault(shape_at, Reason::Layout(error)))?;
        let offset_at = cursor.at();
        let relative = cursor.scalar::<u64>(Field::TensorOffset(name))?;
        let bytes = desc.data_bytes();
        let info = TensorInfo { name: name.to_owned(), dtype, shape, offset: 0, bytes, shard: 0 };
        Ok(Row { info, relative, row_at, offset_at })
    }
}

fn read_shape(cursor: &mut Cursor<'_>, name: &str) -> Result<Shape, Fault> {
    let shape_at = cursor.at();
    let rank = cursor.scalar::<u32>(Field::Rank(name))?;
    if rank > MAX_RANK as u32 {
        return Err(Field::Rank(name).fault(shape_at, Reason::Rank(rank)));
    }
    let mut sizes = [1; MAX_RANK];
    for (i, size) in (0..rank).zip(&mut sizes) {
        let (at, field) = (cursor.at(), Field::Dimension(name, i));
        let n = cursor.scalar::<u64>(field)?;
        if n == 0 {
            return Err(field.fault(at, Reason::ZeroDimension));
        }
        *size = usize::try_from(n).map_err(|_| field.fault(at, Reason::ShapeTooLarge))?;
    }
    // A rank of zero is a single element, which `Shape` represents with one dimension.
    Shape::new(&sizes[..rank as usize])
        .ok_or_else(|| Field::Shape(name).fault(shape_at, Reason::ShapeTooLarge))
}

/// Locates the rows' data in a file of `file` bytes whose data section starts at `data_start`.
pub(super) fn place(
    rows: Vec<Row>,
    data_start: usize,
    alignment: usize,
    file: usize,
) -> Result<Vec<TensorInfo>, Fault> {
    let mut order = Vec::with_capacity(rows.len());
    for row in &rows {
        order.push((placed(row, data_start, alignment, file)?, row));
    }
    order.sort_unstable_by_key(|&(offset, row)| (offset, row.row_at));
    for pair in order.windows(2) {
        let ((start, before), (next, row)) = (pair[0], pair[1]);
        if next - start < before.info.bytes {
            let reason = Reason::Overlap { other: Quoted(before.name()).to_string() };
            return Err(Field::TensorOffset(row.name()).fault(row.offset_at, reason));
        }
    }
    drop(order);
    // All offsets were checked above.
    Ok(rows
        .into_iter()
        .map(|row| TensorInfo { offset: data_start + row.relative as usize, ..row.info })
        .collect())
}

/// The offset of a row's data in the file.
fn placed(row: &Row, data_start: usize, alignment: usize, file: usize) -> Result<usize, Fault> {
    let (offset, bytes) = (row.relative, row.info.bytes as u64);
    let fault = |reason| Field::TensorOffset(row.name()).fault(row.offset_at, reason);
    if !offset.is_multiple_of(alignment as u64) {
        return Err(fault(Reason::Misaligned { offset, alignment: alignment as u64 }));
    }
    let start = usize::try_from(offset).ok().and_then(|offset| data_start.checked_add(offset));
    start.filter(|start| start.checked_add(row.info.bytes).is_some_and(|end| end <= file)).ok_or_else(|| {
        fault(Reason::OutsideFile { offset, bytes, data_start: data_start as u64, file: file as u64 })
    })
}
