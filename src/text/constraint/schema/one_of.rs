//! Choices of which exactly one holds.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Refusal;
use super::exclusive::{self, Restriction};
use super::pointer::at;
use super::references::only_reference;
use super::rewrite::Rewriter;

impl Rewriter<'_> {
    /// Choices of which exactly one must hold: any of them, if they exclude each other.
    pub(super) fn one_of(
        &mut self,
        value: &Value,
        path: &str,
        merged: bool,
    ) -> Result<(&'static str, Value), Refusal> {
        let Some(choices) = value.as_array() else { return Ok(("oneOf", self.list(value, path, merged)?)) };
        let (root, choices) = (self.root, choices.as_slice());
        let resolved: Vec<Value> =
            choices.iter().map(|choice| self.resolved(choice, path)).collect::<Result<_, _>>()?;
        // Properties may be references too.
        let follow = |value: &'_ Value| -> Option<String> { only_reference(value).map(String::from) };
        let mut ends: HashMap<String, Value> = HashMap::new();
        let properties = resolved.iter().filter_map(|choice| choice.get("properties")?.as_object());
        for reference in properties.flat_map(Map::values).filter_map(follow) {
            if let Ok((path, _)) = self.references.end(&reference, path) {
                ends.insert(reference, at(root, &path).cloned().unwrap_or(Value::Bool(true)));
            }
        }
        let resolve =
            |value| only_reference(value).and_then(|reference| ends.get(reference)).unwrap_or(value);
        let Some(restrictions) = exclusive::restrictions(&resolved, &resolve) else {
            return Ok(("oneOf", self.list(value, path, true)?));
        };
        if restrictions.is_empty() {
            return Ok(("anyOf", self.list(value, path, merged)?));
        }
        let mut out = Vec::new();
        for (at, choice) in resolved.iter().enumerate() {
            let mut choice = choice.clone();
            if let Some(map) = choice.as_object_mut() {
                restrictions.iter().for_each(|restriction| restrict(map, at, *restriction));
            }
            out.push(self.schema(&choice, &format!("{path}/{at}"), merged)?);
        }
        Ok(("anyOf", out.into()))
    }

    /// A schema, or the one that it refers to.
    pub(super) fn resolved(&mut self, schema: &Value, path: &str) -> Result<Value, Refusal> {
        match only_reference(schema) {
            Some(reference) => Ok(self.references.end(reference, path)?.1.clone()),
            None => Ok(schema.clone()),
        }
    }
}

/// Restricts the choice with this number.
fn restrict(choice: &mut Map<String, Value>, number: usize, restriction: Restriction<'_>) {
    let properties = choice.get("properties").and_then(Value::as_object);
    match restriction {
        Restriction::Require(name) if properties.is_some_and(|map| map.contains_key(name)) => {
            let mut required = choice.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            required.push(name.into());
            choice.insert("required".into(), required.into());
        }
        Restriction::Forbid(at, name) if at == number => {
            let mut properties = properties.cloned().unwrap_or_default();
            properties.insert(name.into(), Value::Bool(false));
            choice.insert("properties".into(), properties.into());
        }
        _ => {}
    }
}
