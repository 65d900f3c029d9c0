//! A position in a file's bytes. All untrusted lengths are read here.

use super::error::{Fault, Field, Reason};
use super::format::MAX_HEADER_BYTES;
use super::value::Scalar;

/// Reads fields one after another, never past the end.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// The offset of the next byte.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn remaining(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// The next `count` elements of `width` bytes each.
    pub(super) fn take(&mut self, field: Field<'_>, count: u64, width: usize) -> Result<&'a [u8], Fault> {
        let needed = count.saturating_mul(width as u64);
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(needed).ok().and_then(|needed| rest.get(..needed));
        let Some(taken) = taken else {
            return Err(field.fault(self.at, Reason::Ends { needed, remaining: self.remaining() }));
        };
        if self.at + taken.len() > MAX_HEADER_BYTES {
            return Err(field.fault(self.at, Reason::HeaderTooLarge { needed }));
        }
        self.at += taken.len();
        Ok(taken)
    }

    /// A number.
    pub(super) fn scalar<T: Scalar>(&mut self, field: Field<'_>) -> Result<T, Fault> {
        Ok(T::from_le(self.take(field, 1, T::BYTES)?))
    }

    /// The number of following elements, each of at least `element` bytes.
    pub(super) fn count(&mut self, field: Field<'_>, element: usize) -> Result<u64, Fault> {
        let at = self.at;
        let (count, element) = (self.scalar::<u64>(field)?, element as u64);
        let remaining = self.remaining();
        match count.checked_mul(element) {
            Some(bytes) if bytes <= remaining => Ok(count),
            _ => Err(field.fault(at, Reason::Count { count, element, remaining })),
        }
    }

    /// A length and the bytes of a text, which may be no UTF-8.
    pub(super) fn text(&mut self, field: Field<'_>) -> Result<&'a [u8], Fault> {
        let length = self.scalar::<u64>(field)?;
        self.take(field, length, 1)
    }

    /// A length and a string.
    fn string(&mut self, field: Field<'_>) -> Result<&'a str, Fault> {
        let length = self.scalar::<u64>(field)?;
        let start = self.at;
        let bytes = self.take(field, length, 1)?;
        std::str::from_utf8(bytes).map_err(|error| field.fault(start + error.valid_up_to(), Reason::NotUtf8))
    }

    /// A string used as a name: not empty, and at most `limit` bytes.
    pub(super) fn name(&mut self, field: Field<'_>, limit: usize) -> Result<&'a str, Fault> {
        let at = self.at;
        let name = self.string(field)?;
        if name.is_empty() {
            return Err(field.fault(at, Reason::Empty));
        }
        if name.len() > limit {
            let (length, limit) = (name.len() as u64, limit as u64);
            return Err(field.fault(at, Reason::TooLong { length, limit }));
        }
        Ok(name)
    }
}
