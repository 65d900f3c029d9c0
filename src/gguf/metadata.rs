//! The key-value pairs of a file, and typed access to them.

use std::borrow::Cow;

use super::error::Quoted;
use super::index::{Duplicate, NameIndex};
use super::value::{Array, Strings, Value};

/// A file's key-value pairs, in the file's order.
pub struct Metadata {
    entries: Vec<Entry>,
    by_key: NameIndex,
}

/// One pair with its offset in the file.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) offset: u64,
}

impl Entry {
    fn key(&self) -> &str {
        &self.key
    }
}

/// Reason why a metadata value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The key is missing.
    #[error("metadata key {} is missing (wanted: {wanted})", Quoted(key))]
    Missing {
        /// The key.
        key: String,
        /// The requested type.
        wanted: &'static str,
    },
    /// The value has another type.
    #[error("metadata key {} at byte {offset} is of type {found}, wanted {wanted}", Quoted(key))]
    WrongType {
        /// The key.
        key: String,
        /// Offset of the pair in the file.
        offset: u64,
        /// The requested type.
        wanted: &'static str,
        /// The type in the file.
        found: String,
    },
    /// The number does not fit the requested type.
    #[error(
        "metadata key {}{} at byte {offset} is {found}, which does not fit {wanted}",
        Quoted(key),
        index.map_or(String::new(), |index| format!(" [{index}]"))
    )]
    OutOfRange {
        /// The key.
        key: String,
        /// Offset of the pair in the file.
        offset: u64,
        /// Index of the element, for an array.
        index: Option<usize>,
        /// The requested type.
        wanted: &'static str,
        /// The number in the file.
        found: String,
    },
}

/// Reason why a value does not convert to the requested type.
enum Mismatch {
    Type,
    Range { index: Option<usize>, found: String },
}

/// Pairs of getters: for a missing key, `name` returns an error and `opt_name` returns `None`.
macro_rules! getters {
    ($($name:ident, $opt:ident -> $type:ty, $wanted:literal, $convert:expr, $doc:literal;)*) => {$(
        #[doc = $doc]
        ///
        /// An error names the key if it is missing or its value does not fit.
        pub fn $name(&self, key: &str) -> Result<$type, MetadataError> {
            self.$opt(key)?.ok_or_else(|| MetadataError::Missing { key: key.to_owned(), wanted: $wanted })
        }

        #[doc = $doc]
        ///
        /// `None` if the key is missing; an error names the key if its value does not fit.
        pub fn $opt(&self, key: &str) -> Result<Option<$type>, MetadataError> {
            self.convert(key, $wanted, $convert)
        }
    )*};
}

impl Metadata {
    pub(super) fn new(entries: Vec<Entry>) -> Result<Metadata, (Vec<Entry>, Duplicate)> {
        match NameIndex::new(&entries, Entry::key) {
            Ok(by_key) => Ok(Metadata { entries, by_key }),
            Err(duplicate) => Err((entries, duplicate)),
        }
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The pairs in the file's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + DoubleEndedIterator {
        self.entries.iter().map(|entry| (entry.key(), &entry.value))
    }

    getters! {
        u32, opt_u32 -> u32, "u32", integer::<u32>, "An integer of any width whose value fits.";
        u64, opt_u64 -> u64, "u64", integer::<u64>, "An integer of any width whose value fits.";
        i64, opt_i64 -> i64, "i64", integer::<i64>, "An integer of any width whose value fits.";
        f32, opt_f32 -> f32, "f32", float, "A float; an f64 is rounded.";
        bool, opt_bool -> bool, "bool", boolean, "A boolean.";
        str, opt_str -> &str, "string", text, "A string.";
        strings, opt_strings -> &Strings, "array of string", strings, "An array of strings.";
        u32s, opt_u32s -> Cow<'_, [u32]>, "array of u32", u32s, "An array of integers of any width whose values fit.";
        i32s, opt_i32s -> Cow<'_, [i32]>, "array of i32", i32s, "An array of integers of any width whose values fit.";
        f32s, opt_f32s -> Cow<'_, [f32]>, "array of f32", f32s, "An array of floats; f64s are rounded.";
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.by_key.find(&self.entries, Entry::key, key)
    }

    fn convert<'a, T>(
        &'a self,
        key: &str,
        wanted: &'static str,
        convert: impl Fn(&'a Value) -> Result<T, Mismatch>,
    ) -> Result<Option<T>, MetadataError> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        let (key, offset) = (|| entry.key.clone(), entry.offset);
        match convert(&entry.value) {
            Ok(value) => Ok(Some(value)),
            Err(Mismatch::Type) => {
                Err(MetadataError::WrongType { key: key(), offset, wanted, found: entry.value.describe() })
            }
            Err(Mismatch::Range { index, found }) => {
                Err(MetadataError::OutOfRange { key: key(), offset, index, wanted, found })
            }
        }
    }

    /// Offset in the file of the pair with this key.
    pub(super) fn offset(&self, key: &str) -> Option<u64> {
        self.entry(key).map(|entry| entry.offset)
    }
}

fn integer<T: TryFrom<i128>>(value: &Value) -> Result<T, Mismatch> {
    let number = value.integer().ok_or(Mismatch::Type)?;
    T::try_from(number).map_err(|_| Mismatch::Range { index: None, found: number.to_string() })
}

fn float(value: &Value) -> Result<f32, Mismatch> {
    match *value {
        Value::F32(number) => Ok(number),
        Value::F64(number) => narrow(number, None),
        _ => Err(Mismatch::Type),
    }
}

/// The nearest f32; infinite only for an infinite number.
fn narrow(number: f64, index: Option<usize>) -> Result<f32, Mismatch> {
    let narrowed = number as f32;
    if narrowed.is_infinite() && number.is_finite() {
        return Err(Mismatch::Range { index, found: number.to_string() });
    }
    Ok(narrowed)
}

fn boolean(value: &Value) -> Result<bool, Mismatch> {
    match *value {
        Value::Bool(value) => Ok(value),
        _ => Err(Mismatch::Type),
    }
}

fn text(value: &Value) -> Result<&str, Mismatch> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Mismatch::Type),
    }
}

fn array(value: &Value) -> Result<&Array, Mismatch> {
    match value {
        Value::Array(array) => Ok(array),
        _ => Err(Mismatch::Type),
    }
}

fn strings(value: &Value) -> Result<&Strings, Mismatch> {
    match array(value)? {
        Array::String(strings) => Ok(strings),
        _ => Err(Mismatch::Type),
    }
}

fn u32s(value: &Value) -> Result<Cow<'_, [u32]>, Mismatch> {
    match array(value)? {
        Array::U32(numbers) => Ok(Cow::Borrowed(numbers)),
        other => integers(other).map(Cow::Owned),
    }
}

fn i32s(value: &Value) -> Result<Cow<'_, [i32]>, Mismatch> {
    match array(value)? {
        Array::I32(numbers) => Ok(Cow::Borrowed(numbers)),
        other => integers(other).map(Cow::Owned),
    }
}

fn integers<T: TryFrom<i128>>(array: &Array) -> Result<Vec<T>, Mismatch> {
    let mut numbers = Vec::new();
    for (index, value) in (0..).map_while(|index| Some((index, array.get(index)?))) {
        let number = value.integer().ok_or(Mismatch::Type)?;
        let out_of_range = |_| Mismatch::Range { index: Some(index), found: number.to_string() };
        numbers.push(T::try_from(number).map_err(out_of_range)?);
    }
    Ok(numbers)
}

fn f32s(value: &Value) -> Result<Cow<'_, [f32]>, Mismatch> {
    match array(value)? {
        Array::F32(numbers) => Ok(Cow::Borrowed(numbers)),
        Array::F64(numbers) => {
            numbers.iter().enumerate().map(|(index, &number)| narrow(number, Some(index))).collect()
        }
        _ => Err(Mismatch::Type),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Metadata {
        let entry = |(key, value): (&str, _)| Entry { key: key.to_owned(), value, offset: 24 };
        Metadata::new(pairs.into_iter().map(entry).collect()).unwrap_or_else(|_| panic!("a key occurs twice"))
    }

    #[test]
    fn integers_convert_when_they_fit() {
        let metadata = metadata([
            ("small", Value::U8(7)),
            ("negative", Value::I32(-1)),
            ("large", Value::U64(u64::MAX)),
            ("list", Value::from(vec![1i64, 2, -3])),
        ]);
        assert_eq!(metadata.u32("small"), Ok(7));
        assert_eq!(metadata.u64("large"), Ok(u64::MAX));
        assert_eq!(metadata.i64("negative"), Ok(-1));
        assert_eq!(*metadata.i32s("list").unwrap(), [1, 2, -3]);
        assert_eq!(
            metadata.u32("negative").unwrap_err().to_string(),
            "metadata key \"negative\" at byte 24 is -1, which does not fit u32"
        );
        assert_eq!(
            metadata.u32s("list").unwrap_err().to_string(),
            "metadata key \"list\" [2] at byte 24 is -3, which does not fit array of u32"
        );
        assert!(metadata.i64("large").is_err());
    }

    #[test]
    fn missing_and_wrong_types_name_the_key() {
        let metadata = metadata([("name", Value::from("x")), ("list", Value::from(vec![1.0f32]))]);
        assert_eq!(metadata.opt_u32("absent"), Ok(None));
        assert_eq!(
            metadata.strings("absent").unwrap_err().to_string(),
            "metadata key \"absent\" is missing (wanted: array of string)"
        );
        assert_eq!(
            metadata.opt_f32("name").unwrap_err().to_string(),
            "metadata key \"name\" at byte 24 is of type string, wanted f32"
        );
        assert_eq!(
            metadata.u32s("list").unwrap_err().to_string(),
            "metadata key \"list\" at byte 24 is of type array of f32, wanted array of u32"
        );
    }

    #[test]
    fn floats_are_rounded_but_not_to_infinity() {
        let metadata = metadata([
            ("theta", Value::F64(1e4)),
            ("huge", Value::F64(1e300)),
            ("list", Value::from(vec![0.5, f64::INFINITY])),
        ]);
        assert_eq!(metadata.f32("theta"), Ok(1e4));
        assert!(matches!(metadata.f32("huge"), Err(MetadataError::OutOfRange { .. })));
        assert_eq!(*metadata.f32s("list").unwrap(), [0.5, f32::INFINITY]);
    }

    #[test]
    fn arrays_of_the_requested_type_are_borrowed() {
        let metadata = metadata([("u", Value::from(vec![1u32])), ("f", Value::from(vec![1f32]))]);
        assert!(matches!(metadata.u32s("u"), Ok(Cow::Borrowed([1]))));
        assert!(matches!(metadata.f32s("f"), Ok(Cow::Borrowed(_))));
    }
}
