//! Hyper-parameters from metadata. Every error names the key.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;

use super::report::{Assumed, KeyReport, Used};
use super::table::is_one_of;
use crate::gguf::{Array, Gguf, Metadata, MetadataError, Value};
use crate::model::ModelError;
use crate::tensor::Shape;

/// The `tensor_data_layout` that an architecture's graph expects.
const LAYOUTS: &[(&str, &str)] = &[("llama", "Meta AI original pth"), ("falcon", "jploski")];

/// Reads the metadata of one architecture: `keys.count("block_count", 1..=1000)` reads `llama.block_count`. A list of
/// equal elements counts as one. Keys that the architecture did not read are judged at the end by the table of keys.
#[derive(Debug)]
pub struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
    used: RefCell<Used>,
}

impl<'a> Keys<'a> {
    /// The keys of a file whose architecture is called `architecture`.
    pub fn new(gguf: &'a Gguf, architecture: &'a str) -> Keys<'a> {
        Keys { gguf, architecture, used: RefCell::default() }
    }

    /// The architecture's name in the file.
    pub fn architecture(&self) -> &'a str {
        self.architecture
    }

    /// The full key.
    pub fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// The full key, which counts as read from now on.
    fn ask(&self, key: &str) -> String {
        let name = self.name(key);
        self.used.borrow_mut().asked.insert(name.clone());
        name
    }

    /// Refuses a file whose tensors have a layout that the graph does not expect.
    fn check_layout(&self) -> Result<(), ModelError> {
        let key = "tensor_data_layout";
        match self.opt_str(key)? {
            Some(layout) if !LAYOUTS.contains(&(self.architecture, layout)) => Err(self.refuse(
                key,
                layout,
                "files of this architecture with this layout are not known here",
            )),
            _ => Ok(()),
        }
    }

    /// Ends the reading: judges the keys that were not read.
    ///
    /// # Errors
    /// A key that would change the answer and that was not read, by name.
    pub(in crate::model) fn finish(self) -> Result<KeyReport, ModelError> {
        self.check_layout()?;
        KeyReport::of(self.gguf, self.architecture, self.used.into_inner())
    }

    /// Says that a key has no effect in this file, whatever its value.
    pub fn inert(&self, key: &str) {
        let name = self.name(key);
        self.used.borrow_mut().inert.insert(name);
    }

    /// Records the default for a missing key; `reason` is the value's source.
    pub fn assume(&self, key: &str, value: impl Display, reason: &str) {
        let assumed = Assumed { key: self.name(key), value: value.to_string(), reason: reason.into() };
        self.used.borrow_mut().assumed.push(assumed);
    }

    /// True if the file has the key. It does not count as read.
    pub fn has(&self, key: &str) -> bool {
        self.gguf.metadata().get(&self.name(key)).is_some()
    }

    /// True if the file has the key with a value other than 0 or false. The key does not count as read.
    pub fn is_set(&self, key: &str) -> bool {
        let value = self.gguf.metadata().get(&self.name(key));
        value.is_some_and(|value| !is_one_of(value, &[0.0]))
    }

    /// Warns if the file has the key with another value than `n`, which counts.
    pub fn warn_unless(&self, key: &str, n: usize, source: &str) {
        let name = self.ask(key);
        let Some(value) = self.gguf.metadata().get(&name) else { return };
        if value.uniform().and_then(|value| value.integer()) != Some(n as i128) {
            tracing::warn!("{name} is {value}, and {source}; {n} counts");
        }
    }

    /// The one value of a key; the getter reads a value that is not a list.
    fn value<T>(
        &self,
        key: &str,
        getter: impl FnOnce(&'a Metadata, &str) -> Result<Option<T>, MetadataError>,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let (name, metadata) = (self.ask(key), self.gguf.metadata());
        let Some(list @ Value::Array(_)) = metadata.get(&name) else { return Ok(getter(metadata, &name)?) };
        match list.uniform().as_ref().and_then(convert) {
            Some(value) => Ok(Some(value)),
            None => {
                let reason = "rfgraph's architecture has one value for all layers, or a list of equal ones";
                Err(self.refuse(key, list, reason))
            }
        }
    }

    /// A count that is required and must be in the range.
    pub fn count(&self, key: &str, range: RangeInclusive<usize>) -> Result<usize, ModelError> {
        match self.opt_count(key, range)? {
            Some(count) => Ok(count),
            None => Err(MetadataError::Missing { key: self.name(key), wanted: "u64" }.into()),
        }
    }

    /// A count that may be missing.
    pub fn opt_count(&self, key: &str, range: RangeInclusive<usize>) -> Result<Option<usize>, ModelError> {
        let convert = |value: &Value| value.integer().and_then(|n| n.try_into().ok());
        let value = self.value(key, Metadata::opt_u64, convert)?;
        value.map(|value| self.in_range(key, value, range)).transpose()
    }

    fn in_range(&self, key: &str, value: u64, range: RangeInclusive<usize>) -> Result<usize, ModelError> {
        match usize::try_from(value) {
            Ok(value) if range.contains(&value) => Ok(value),
            _ => {
                Err(self.refuse(key, value, format!("it must be from {} to {}", range.start(), range.end())))
            }
        }
    }

    /// A real number that may be missing; it must be finite and greater than zero.
    pub fn opt_positive(&self, key: &str) -> Result<Option<f32>, ModelError> {
        match self.opt_real(key)? {
            Some(value) if value <= 0.0 => Err(self.refuse(key, value, "it must be greater than 0")),
            value => Ok(value),
        }
    }

    /// A real number that may be missing, and is missing where it is 0; otherwise it must be finite and greater than
    /// zero.
    pub fn opt_positive_or_zero(&self, key: &str) -> Result<Option<f32>, ModelError> {
        match self.opt_real(key)? {
            Some(0.0) => Ok(None),
            _ => self.opt_positive(key),
        }
    }

    /// A real number that is required, finite and greater than zero.
    pub fn positive(&self, key: &str) -> Result<f32, ModelError> {
        match self.opt_positive(key)? {
            Some(value) => Ok(value),
            None => Err(MetadataError::Missing { key: self.name(key), wanted: "f32" }.into()),
        }
    }

    /// A real number that may be missing; it must be finite, and may be zero or negative.
    pub fn opt_real(&self, key: &str) -> Result<Option<f32>, ModelError> {
        let convert = |value: &Value| match value {
            Value::F32(x) => Some(*x),
            Value::F64(x) => Some(*x as f32),
            _ => None,
        };
        match self.value(key, Metadata::opt_f32, convert)? {
            Some(value) if !value.is_finite() => Err(self.refuse(key, value, "it must be finite")),
            value => Ok(value),
        }
    }

    /// A switch that may be missing.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.value(key, Metadata::opt_bool, |value| match value {
            Value::Bool(yes) => Some(*yes),
            _ => None,
        })
    }

    /// The layers of `n` that have some property, if the file says so: a list of switches, or a number `p` for "all but
    /// every `p`-th".
    pub fn opt_layers(&self, key: &str, n: usize) -> Result<Option<Vec<bool>>, ModelError> {
        let name = self.ask(key);
        match self.gguf.metadata().get(&name) {
            None => Ok(None),
            Some(list @ Value::Array(layers)) => match switches(layers) {
                // Layers for multi-token prediction come last and are not among the `n`.
                Some(layers) if layers.len() == n || Some(layers.len()) == self.n_blocks() => {
                    Ok(Some(layers.into_iter().take(n).collect()))
                }
                _ => {
                    Err(self.refuse(key, list, format!("it must have one switch for each of the {n} layers")))
                }
            },
            Some(_) => {
                let period = self.count(key, 1..=1 << 10)?;
                Ok(Some((1..=n).map(|i| !i.is_multiple_of(period)).collect()))
            }
        }
    }

    /// The number of layers in the file.
    fn n_blocks(&self) -> Option<usize> {
        let blocks = self.gguf.metadata().opt_u64(&self.name("block_count"));
        blocks.ok().flatten().and_then(|n| usize::try_from(n).ok())
    }

    /// A text that may be missing.
    pub fn opt_str(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        Ok(self.gguf.metadata().opt_str(&self.ask(key))?)
    }

    /// The shape of a tensor of the file.
    pub fn tensor_shape(&self, name: &str) -> Option<Shape> {
        self.gguf.tensor(name).map(|info| info.shape)
    }

    /// The number of tokens of the file's vocabulary, if it has one.
    pub fn vocabulary(&self) -> Result<Option<usize>, ModelError> {
        Ok(self.gguf.metadata().opt_strings("tokenizer.ggml.tokens")?.map(|tokens| tokens.len()))
    }

    /// An error about a key's value.
    pub fn refuse(&self, key: &str, value: impl Display, reason: impl Into<String>) -> ModelError {
        ModelError::Value { key: self.name(key), value: value.to_string(), reason: reason.into() }
    }
}

/// A list as switches: of booleans, or of the numbers 0 and 1.
fn switches(list: &Array) -> Option<Vec<bool>> {
    let switch = |index| match list.get(index)? {
        Value::Bool(yes) => Some(yes),
        value => match value.integer()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
    };
    (0..list.len()).map(switch).collect()
}
