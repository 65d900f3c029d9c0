//! Hyper-parameters from metadata. Every error names the key.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::gguf::{Array, Gguf, Value};
use crate::model::ModelError;
use crate::tensor::Shape;

/// Keys that do not change a model's computation, so that architectures do not read them.
const NOT_COMPUTED: &[&str] = &["pooling_type", "rope.scaling.finetuned"];

/// The `tensor_data_layout` that an architecture's graph expects.
const LAYOUTS: &[(&str, &str)] = &[("llama", "Meta AI original pth"), ("falcon", "jploski")];

/// Reads the metadata of one architecture: `keys.count("block_count", 1..=1000)` reads `llama.block_count`. A key that
/// the architecture did not read is refused at the end, since it may change the model's computation.
#[derive(Debug)]
pub struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Keys<'a> {
    /// The keys of a file whose architecture is called `architecture`.
    pub fn new(gguf: &'a Gguf, architecture: &'a str) -> Keys<'a> {
        Keys { gguf, architecture, asked: RefCell::default() }
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
        self.asked.borrow_mut().insert(name.clone());
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

    /// Refuses a file with keys of this architecture that were not read.
    pub(in crate::model) fn refuse_unread(&self) -> Result<(), ModelError> {
        self.check_layout()?;
        let asked = self.asked.borrow();
        let prefix = self.name("");
        let unread = self.gguf.metadata().iter().map(|(key, _)| key).filter(|key| {
            let own = key.strip_prefix(&prefix);
            own.is_some_and(|own| !NOT_COMPUTED.contains(&own)) && !asked.contains(*key)
        });
        let names: Vec<String> = unread.take(5).map(str::to_string).collect();
        match names.is_empty() {
            true => Ok(()),
            false => Err(ModelError::UnknownKeys { architecture: self.architecture.to_string(), names }),
        }
    }

    /// A count that is required and must be in the range.
    pub fn count(&self, key: &str, range: RangeInclusive<usize>) -> Result<usize, ModelError> {
        let value = self.gguf.metadata().u64(&self.ask(key))?;
        self.in_range(key, value, range)
    }

    /// A count that may be missing.
    pub fn opt_count(&self, key: &str, range: RangeInclusive<usize>) -> Result<Option<usize>, ModelError> {
        let value = self.gguf.metadata().opt_u64(&self.ask(key))?;
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
        match self.gguf.metadata().opt_f32(&self.ask(key))? {
            Some(value) if !(value.is_finite() && value > 0.0) => {
                Err(self.refuse(key, value, "it must be finite and greater than 0"))
            }
            value => Ok(value),
        }
    }

    /// A real number that is required, finite and greater than zero.
    pub fn positive(&self, key: &str) -> Result<f32, ModelError> {
        self.gguf.metadata().f32(&self.ask(key))?;
        Ok(self.opt_positive(key)?.unwrap_or_default())
    }

    /// A real number that may be missing; it must be finite, and may be zero or negative.
    pub fn opt_real(&self, key: &str) -> Result<Option<f32>, ModelError> {
        match self.gguf.metadata().opt_f32(&self.ask(key))? {
            Some(value) if !value.is_finite() => Err(self.refuse(key, value, "it must be finite")),
            value => Ok(value),
        }
    }

    /// A switch that may be missing.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>, ModelError> {
        Ok(self.gguf.metadata().opt_bool(&self.ask(key))?)
    }

    /// The layers of `n` that have some property, if the file says so: a list of switches, or a number `p` for "all but
    /// every `p`-th".
    pub fn opt_layers(&self, key: &str, n: usize) -> Result<Option<Vec<bool>>, ModelError> {
        let name = self.ask(key);
        match self.gguf.metadata().get(&name) {
            None => Ok(None),
            Some(Value::Array(Array::Bool(layers))) if layers.len() == n => Ok(Some(layers.clone())),
            Some(Value::Array(_)) => {
                Err(self.refuse(key, "a list", format!("it must have one switch for each of the {n} layers")))
            }
            Some(_) => {
                let period = self.count(key, 1..=1 << 10)?;
                Ok(Some((1..=n).map(|i| !i.is_multiple_of(period)).collect()))
            }
        }
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
    pub fn refuse(&self, key: &str, value: impl std::fmt::Display, reason: impl Into<String>) -> ModelError {
        ModelError::Value { key: self.name(key), value: value.to_string(), reason: reason.into() }
    }
}
