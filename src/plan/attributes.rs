//! An operator's attributes as text.

use std::fmt;

use serde_json::Value;

use super::data::Step;
use crate::ops;

/// The attributes of a step that differ from its operator's defaults: `[eps=1e-5]`; empty if there are none.
pub(super) struct Attributes<'p> {
    attributes: &'p Value,
    defaults: Value,
}

impl<'p> Attributes<'p> {
    pub fn of(step: &'p Step) -> Attributes<'p> {
        let row = ops::TABLE.iter().find(|row| row.name == step.op);
        Attributes { attributes: &step.attributes, defaults: row.map_or(Value::Null, |row| (row.defaults)()) }
    }
}

impl fmt::Display for Attributes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attributes {
            Value::Null => Ok(()),
            Value::Object(fields) => {
                let mut open = "[";
                for (key, value) in fields.iter().filter(|(key, value)| self.defaults.get(key) != Some(value))
                {
                    write!(f, "{open}{key}=")?;
                    open = ", ";
                    match value {
                        Value::String(text) => f.write_str(text)?,
                        other => match other.as_f64().filter(|_| other.is_f64()) {
                            // Attributes are f32: formatted as such, 1e-5 is short.
                            Some(number) => write!(f, "{:?}", number as f32)?,
                            None => write!(f, "{other}")?,
                        },
                    }
                }
                f.write_str(if open == "[" { "" } else { "]" })
            }
            Value::String(text) => write!(f, "[{text}]"),
            other => write!(f, "[{other}]"),
        }
    }
}
