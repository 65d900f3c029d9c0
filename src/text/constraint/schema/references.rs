//! References within a schema: JSON pointers and anchors.

use std::collections::HashMap;

use serde_json::Value;

use super::Refusal;
use super::keywords::restricts;
use super::pointer::{at, join};

/// Finds what references refer to.
pub(super) struct References<'s> {
    root: &'s Value,
    /// The paths of anchors; collected when the first one is looked up.
    anchors: Option<HashMap<String, String>>,
    /// Paths of the ends of chains of references, by the paths of their links.
    ends: HashMap<String, String>,
}

impl<'s> References<'s> {
    pub(super) fn new(root: &'s Value) -> References<'s> {
        References { root, anchors: None, ends: HashMap::new() }
    }

    /// The path that a reference names, whether or not something is there.
    fn path(&mut self, reference: &str) -> Result<String, String> {
        let id = self.root.get("$id").or_else(|| self.root.get("id")).and_then(Value::as_str);
        let id = id.map(|id| id.trim_end_matches('#')).filter(|id| !id.is_empty());
        let local = id.and_then(|id| reference.strip_prefix(id)).unwrap_or(reference);
        let fragment = match local {
            "" => "",
            _ => local.strip_prefix('#').ok_or_else(|| format!("`{reference}` is in another document"))?,
        };
        let fragment = percent_decoded(fragment).ok_or_else(|| format!("`{reference}` is malformed"))?;
        if fragment.is_empty() || fragment.starts_with('/') {
            return Ok(format!("#{fragment}"));
        }
        let root = self.root;
        let anchors = self.anchors.get_or_insert_with(|| anchors(root));
        anchors.get(&fragment).cloned().ok_or_else(|| format!("there is no anchor `{fragment}`"))
    }

    /// The path of the schema that a reference ends at: one that is more than a reference itself.
    pub(super) fn end(&mut self, reference: &str, from: &str) -> Result<(String, &'s Value), Refusal> {
        let refused = |reason| Refusal { path: join(from, "$ref"), reason };
        let mut links = Vec::new();
        let mut path = self.path(reference).map_err(refused)?;
        loop {
            if let Some(end) = self.ends.get(&path) {
                path = end.clone();
            }
            let missing = || Refusal { path: join(from, "$ref"), reason: format!("nothing is at `{path}`") };
            let value = at(self.root, &path).ok_or_else(missing)?;
            let Some(next) = only_reference(value) else {
                self.ends.extend(links.into_iter().map(|link| (link, path.clone())));
                return Ok((path, value));
            };
            let next = self.path(next).map_err(refused)?;
            links.push(std::mem::replace(&mut path, next));
            // More links than the schema has references: a circle.
            if links.len() > 100_000 || links.first() == Some(&path) || links.last() == Some(&path) {
                return Err(refused(format!("`{reference}` refers to nothing but itself")));
            }
        }
    }
}

/// The reference of a schema that has no other keyword that restricts a value.
pub(super) fn only_reference(schema: &Value) -> Option<&str> {
    let map = schema.as_object()?;
    let reference = map.get("$ref")?.as_str()?;
    map.keys().all(|key| key == "$ref" || !restricts(key)).then_some(reference)
}

/// The paths of all anchors.
fn anchors(root: &Value) -> HashMap<String, String> {
    let mut anchors = HashMap::new();
    let mut todo = vec![(root, String::from("#"))];
    while let Some((value, path)) = todo.pop() {
        match value {
            Value::Object(map) => {
                let id = |key| map.get(key).and_then(Value::as_str);
                let old = id("$id").or_else(|| id("id")).and_then(|id| id.strip_prefix('#'));
                for name in [id("$anchor"), id("$dynamicAnchor"), old].into_iter().flatten() {
                    anchors.entry(name.to_string()).or_insert_with(|| path.clone());
                }
                todo.extend(map.iter().map(|(key, value)| (value, join(&path, key))));
            }
            Value::Array(items) => {
                todo.extend(items.iter().enumerate().map(|(at, value)| (value, format!("{path}/{at}"))));
            }
            _ => {}
        }
    }
    anchors
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        bytes.push(match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                let digit = |c: u8| (c as char).to_digit(16);
                (digit(*high)? * 16 + digit(*low)?) as u8
            }
            (b'%', _) => return None,
            (other, _) => *other,
        });
    }
    String::from_utf8(bytes).ok()
}
