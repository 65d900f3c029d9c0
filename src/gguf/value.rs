//! Metadata values: thirteen types including arrays, stored compactly.

use std::fmt;

use super::error::Quoted;

/// The type of a metadata value, or of an array's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "a variant is its type's name")]
#[non_exhaustive]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    /// All types, in the order of their numbers in files. Source: the GGUF specification's
    /// `gguf_metadata_value_type`.
    const ALL: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::String,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    /// The type for a number in a file.
    pub fn from_id(id: u32) -> Option<ValueType> {
        ValueType::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The type's number in files.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// The name as in Rust: `u32`, `string`.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::String => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A number of fixed width, little endian in files.
pub(super) trait Scalar: Copy {
    /// Size in a file in bytes.
    const BYTES: usize;

    /// Decodes exactly [`Self::BYTES`] bytes.
    fn from_le(bytes: &[u8]) -> Self;

    /// Appends the number's bytes.
    fn put_le(self, out: &mut Vec<u8>);
}

/// Implements [`Scalar`] and the conversions to [`Value`].
macro_rules! scalars {
    ($($type:ty, $variant:ident;)*) => {$(
        impl Scalar for $type {
            const BYTES: usize = size_of::<$type>();

            fn from_le(bytes: &[u8]) -> $type {
                let mut array = [0; size_of::<$type>()];
                array.copy_from_slice(bytes);
                <$type>::from_le_bytes(array)
            }

            fn put_le(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }

        impl From<$type> for Value {
            fn from(value: $type) -> Value {
                Value::$variant(value)
            }
        }

        impl From<Vec<$type>> for Value {
            fn from(values: Vec<$type>) -> Value {
                Value::Array(Array::$variant(values))
            }
        }
    )*};
}

scalars! {
    u8, U8;
    i8, I8;
    u16, U16;
    i16, I16;
    u32, U32;
    i32, I32;
    u64, U64;
    i64, I64;
    f32, F32;
    f64, F64;
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "a variant is its type's name")]
#[non_exhaustive]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    /// A string whose bytes are not UTF-8. A getter of strings refuses it.
    NotUtf8(Vec<u8>),
    Array(Array),
}

impl Value {
    /// The value's type.
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F32(_) => ValueType::F32,
            Value::F64(_) => ValueType::F64,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) | Value::NotUtf8(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
        }
    }

    /// A string from a file.
    pub(super) fn of_bytes(bytes: &[u8]) -> Value {
        match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => Value::NotUtf8(bytes.to_vec()),
        }
    }

    /// The value that all elements of a list share; the value itself if it is not a list. `None` for an empty list and for
    /// elements that differ.
    pub fn uniform(&self) -> Option<Value> {
        let Value::Array(array) = self else { return Some(self.clone()) };
        let first = array.get(0)?;
        (1..array.len()).all(|index| array.get(index).as_ref() == Some(&first)).then_some(first)
    }

    /// The type in words, including an array's element type: `array of u32`.
    pub(super) fn describe(&self) -> String {
        match self {
            Value::NotUtf8(_) => "string that is not UTF-8".into(),
            Value::Array(Array::NotUtf8(strings)) => {
                let wrong = strings.iter().position(|text| std::str::from_utf8(text).is_err());
                format!("array of string whose element {} is not UTF-8", wrong.unwrap_or_default())
            }
            Value::Array(array) => format!("array of {}", array.element_type()),
            other => other.value_type().to_string(),
        }
    }

    /// The value, if it is an integer of any width.
    pub fn integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(n) => n.into(),
            Value::I8(n) => n.into(),
            Value::U16(n) => n.into(),
            Value::I16(n) => n.into(),
            Value::U32(n) => n.into(),
            Value::I32(n) => n.into(),
            Value::U64(n) => n.into(),
            Value::I64(n) => n.into(),
            _ => return None,
        })
    }
}

impl fmt::Display for Value {
    /// One line: strings quoted, escaped and shortened; for arrays the first elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(n) => n.fmt(f),
            Value::I8(n) => n.fmt(f),
            Value::U16(n) => n.fmt(f),
            Value::I16(n) => n.fmt(f),
            Value::U32(n) => n.fmt(f),
            Value::I32(n) => n.fmt(f),
            Value::U64(n) => n.fmt(f),
            Value::I64(n) => n.fmt(f),
            Value::F32(x) => x.fmt(f),
            Value::F64(x) => x.fmt(f),
            Value::Bool(b) => b.fmt(f),
            Value::String(text) => Quoted(text).fmt(f),
            Value::NotUtf8(text) => Quoted(&String::from_utf8_lossy(text)).fmt(f),
            Value::Array(array) => array.fmt(f),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::String(value)
    }
}

impl From<Array> for Value {
    fn from(array: Array) -> Value {
        Value::Array(array)
    }
}

impl From<Vec<bool>> for Value {
    fn from(values: Vec<bool>) -> Value {
        Value::Array(Array::Bool(values))
    }
}

impl From<Strings> for Value {
    fn from(strings: Strings) -> Value {
        Value::Array(Array::String(strings))
    }
}

/// An array in the metadata; all elements have the same type, which is not an array.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "a variant is its elements' type")]
#[non_exhaustive]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Strings),
    /// Strings of which at least one is not UTF-8. A getter of strings refuses them.
    NotUtf8(Vec<Vec<u8>>),
}

/// Evaluates the expression for the elements of any type.
macro_rules! each_array {
    ($array:expr, $elements:ident => $result:expr) => {
        match $array {
            Array::U8($elements) => $result,
            Array::I8($elements) => $result,
            Array::U16($elements) => $result,
            Array::I16($elements) => $result,
            Array::U32($elements) => $result,
            Array::I32($elements) => $result,
            Array::U64($elements) => $result,
            Array::I64($elements) => $result,
            Array::F32($elements) => $result,
            Array::F64($elements) => $result,
            Array::Bool($elements) => $result,
            Array::String($elements) => $result,
            Array::NotUtf8($elements) => $result,
        }
    };
}

impl Array {
    /// The number of elements.
    pub fn len(&self) -> usize {
        each_array!(self, elements => elements.len())
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements; never `Array`.
    pub fn element_type(&self) -> ValueType {
        match self {
            Array::U8(_) => ValueType::U8,
            Array::I8(_) => ValueType::I8,
            Array::U16(_) => ValueType::U16,
            Array::I16(_) => ValueType::I16,
            Array::U32(_) => ValueType::U32,
            Array::I32(_) => ValueType::I32,
            Array::U64(_) => ValueType::U64,
            Array::I64(_) => ValueType::I64,
            Array::F32(_) => ValueType::F32,
            Array::F64(_) => ValueType::F64,
            Array::Bool(_) => ValueType::Bool,
            Array::String(_) | Array::NotUtf8(_) => ValueType::String,
        }
    }

    /// Element `index` as a value; `None` past the end.
    pub fn get(&self, index: usize) -> Option<Value> {
        match self {
            Array::U8(v) => v.get(index).copied().map(Value::U8),
            Array::I8(v) => v.get(index).copied().map(Value::I8),
            Array::U16(v) => v.get(index).copied().map(Value::U16),
            Array::I16(v) => v.get(index).copied().map(Value::I16),
            Array::U32(v) => v.get(index).copied().map(Value::U32),
            Array::I32(v) => v.get(index).copied().map(Value::I32),
            Array::U64(v) => v.get(index).copied().map(Value::U64),
            Array::I64(v) => v.get(index).copied().map(Value::I64),
            Array::F32(v) => v.get(index).copied().map(Value::F32),
            Array::F64(v) => v.get(index).copied().map(Value::F64),
            Array::Bool(v) => v.get(index).copied().map(Value::Bool),
            Array::String(v) => v.get(index).map(Value::from),
            Array::NotUtf8(v) => v.get(index).map(|text| Value::of_bytes(text)),
        }
    }
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 6;
        write!(f, "[{}; {}]", self.element_type(), self.len())?;
        for value in (0..SHOWN).map_while(|index| self.get(index)) {
            write!(f, " {value}")?;
        }
        if self.len() > SHOWN {
            f.write_str(" …")?;
        }
        Ok(())
    }
}

/// Many strings in one buffer: a vocabulary of 128 thousand tokens is two allocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    text: String,
    /// The end of each string in the buffer.
    ends: Vec<usize>,
}

impl Strings {
    /// No strings.
    pub fn new() -> Strings {
        Strings::default()
    }

    /// Appends a string.
    pub fn push(&mut self, string: &str) {
        self.text.push_str(string);
        self.ends.push(self.text.len());
    }

    /// Strings concatenated in `text`. `ends` is ascending, and its last value is the length of `text`.
    ///
    /// # Errors
    /// Text and ends, if a string is not UTF-8.
    pub(super) fn from_utf8(
        mut text: Vec<u8>,
        mut ends: Vec<usize>,
    ) -> Result<Strings, (Vec<u8>, Vec<usize>)> {
        text.shrink_to_fit();
        ends.shrink_to_fit();
        match String::from_utf8(text) {
            // The whole text is valid and every cut is at a character boundary, so every string is valid.
            Ok(text) if ends.iter().all(|&end| text.is_char_boundary(end)) => Ok(Strings { text, ends }),
            Ok(text) => Err((text.into_bytes(), ends)),
            Err(error) => Err((error.into_bytes(), ends)),
        }
    }

    /// The number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there are no strings.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String `index`; `None` past the end.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(start..end)
    }

    /// The strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator + Clone {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Strings {
        let mut all = Strings::new();
        strings.into_iter().for_each(|string| all.push(string.as_ref()));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_numbers_round_trip() {
        for id in 0..13 {
            assert_eq!(ValueType::from_id(id).unwrap().id(), id);
        }
        assert_eq!(ValueType::from_id(13), None);
        assert_eq!(ValueType::from_id(9), Some(ValueType::Array));
    }

    #[test]
    fn strings_share_a_buffer() {
        let strings: Strings = ["", "ab", "", "ü"].into_iter().collect();
        assert_eq!(strings.iter().collect::<Vec<_>>(), ["", "ab", "", "ü"]);
        assert_eq!(strings.iter().next_back(), Some("ü"));
        assert_eq!((strings.len(), strings.get(1), strings.get(4)), (4, Some("ab"), None));
    }

    #[test]
    fn each_string_must_be_utf8_even_if_the_whole_text_is() {
        // "ü" cut in two: the whole text is valid, but the second of three strings is not.
        assert!(Strings::from_utf8("aüb".as_bytes().to_vec(), vec![1, 2, 4]).is_err());
        assert!(Strings::from_utf8(b"ab\xff".to_vec(), vec![1, 3]).is_err());
        assert!(Strings::from_utf8("aüb".as_bytes().to_vec(), vec![1, 3, 4]).is_ok());
    }

    #[test]
    fn lists_of_equal_elements_are_uniform() {
        assert_eq!(Value::from(vec![4u32, 4, 4]).uniform(), Some(Value::U32(4)));
        assert_eq!(Value::from(vec![4u32, 4, 5]).uniform(), None);
        assert_eq!(Value::from(Vec::<u32>::new()).uniform(), None);
        assert_eq!(Value::from(7i64).uniform(), Some(Value::I64(7)));
    }

    #[test]
    fn values_display_on_one_line() {
        assert_eq!(Value::from("a\nb\u{1b}").to_string(), r#""a\nb\u{1b}""#);
        assert_eq!(Value::from((0..9u32).collect::<Vec<_>>()).to_string(), "[u32; 9] 0 1 2 3 4 5 …");
        assert_eq!(Value::NotUtf8(b"caf\xe9".to_vec()).to_string(), "\"caf\u{fffd}\"");
        let names: Strings = ["x", "y"].into_iter().collect();
        assert_eq!(Value::from(names).to_string(), r#"[string; 2] "x" "y""#);
    }
}
