//! The kinds of values that a schema allows.

use serde_json::Value;

use super::form::{ALL_KINDS, KINDS, Kinds, NUMBER, kind_of};

/// Most references and choices within each other that are followed; deeper ones may be anything.
const DEEPEST: usize = 32;

/// Most schemas that are looked at for one answer; with more of them a value may be anything.
const MOST: usize = 2000;

/// The schema that a reference names, and its path; the schema itself if it has more than a reference.
pub(super) fn resolved(root: &Value, mut path: String) -> (String, &Value) {
    for _ in 0..DEEPEST {
        let Some(schema) = at(root, &path) else { break };
        let reference = schema.as_object().filter(|map| map.keys().all(|key| !restricts_beside(key)));
        match reference.and_then(|map| map.get("$ref")).and_then(Value::as_str) {
            Some(next) if at(root, next).is_some() => path = next.to_owned(),
            _ => break,
        }
    }
    let schema = at(root, &path).unwrap_or(&Value::Bool(true));
    (path, schema)
}

/// True for keywords other than references and annotations.
fn restricts_beside(key: &str) -> bool {
    !matches!(
        key,
        "$ref"
            | "title"
            | "description"
            | "default"
            | "examples"
            | "$comment"
            | "deprecated"
            | "$defs"
            | "definitions"
    )
}

fn at<'s>(root: &'s Value, path: &str) -> Option<&'s Value> {
    root.pointer(path.strip_prefix('#')?)
}

/// The kinds of the values that a schema allows; at least those.
pub(super) fn kinds(root: &Value, schema: &Value) -> Kinds {
    kinds_within(root, schema, 0, &mut 0)
}

fn kinds_within(root: &Value, schema: &Value, depth: usize, seen: &mut usize) -> Kinds {
    *seen += 1;
    let map = match schema {
        Value::Bool(false) => return 0,
        Value::Object(map) if depth < DEEPEST && *seen < MOST => map,
        _ => return ALL_KINDS,
    };
    let mut kinds = ALL_KINDS;
    for (key, value) in map {
        let mut each = |all: Kinds, join: fn(Kinds, Kinds) -> Kinds| {
            let parts = value.as_array().into_iter().flatten();
            parts.map(|part| kinds_within(root, part, depth + 1, seen)).fold(all, join)
        };
        kinds &= match key.as_str() {
            "type" => value
                .as_array()
                .map_or(std::slice::from_ref(value), Vec::as_slice)
                .iter()
                .map(of_type)
                .fold(0, |a, b| a | b),
            "const" => kind_of(value),
            "enum" => value.as_array().into_iter().flatten().map(kind_of).fold(0, |a, b| a | b),
            "anyOf" | "oneOf" => each(0, |a, b| a | b),
            "allOf" => each(ALL_KINDS, |a, b| a & b),
            "$ref" => value
                .as_str()
                .and_then(|path| at(root, path))
                .map_or(ALL_KINDS, |target| kinds_within(root, target, depth + 1, seen)),
            _ => ALL_KINDS,
        };
    }
    kinds
}

fn of_type(name: &Value) -> Kinds {
    match name.as_str() {
        Some("integer") => NUMBER,
        Some(name) => KINDS.iter().position(|kind| *kind == name).map_or(0, super::form::bit),
        None => 0,
    }
}

/// The part of a schema that allows values of these kinds alone. It stands at the returned path.
pub(super) fn restricted(root: &Value, path: &str, keep: Kinds) -> (Value, String) {
    let (_, schema) = resolved(root, path.to_owned());
    let part = only(root, schema, keep, 0, &mut 0);
    let mut root = root.clone();
    if let Value::Object(map) = &mut root {
        let definitions = map.entry("$defs").or_insert_with(|| Value::Object(Default::default()));
        if let Value::Object(definitions) = definitions {
            definitions.insert(PART.into(), part);
        }
    }
    (root, format!("#/$defs/{PART}"))
}

/// The name of the definition of a restricted schema.
const PART: &str = "rfgraph.part";

fn only(root: &Value, schema: &Value, keep: Kinds, depth: usize, seen: &mut usize) -> Value {
    *seen += 1;
    let all = kinds(root, schema);
    if all & !keep == 0 || depth >= DEEPEST || *seen > MOST {
        return schema.clone();
    }
    let Some(map) = schema.as_object() else { return typed(Default::default(), keep) };
    let mut map = map.clone();
    if let Some(reference) = map.get("$ref").and_then(Value::as_str)
        && map.keys().all(|key| !restricts_beside(key))
        && let Some(target) = at(root, reference)
    {
        return only(root, target, keep, depth + 1, seen);
    }
    let fits = |kinds: Kinds| kinds & keep != 0;
    for key in ["anyOf", "oneOf"] {
        if let Some(Value::Array(parts)) = map.get_mut(key) {
            parts.retain(|part| fits(kinds(root, part)));
            parts.iter_mut().for_each(|part| *part = only(root, part, keep, depth + 1, seen));
            if parts.len() == 1 && map.keys().all(|other| other == key || !restricts_beside(other)) {
                return map[key][0].clone();
            }
            if map.keys().all(|other| other == key || !restricts_beside(other)) {
                return map.into();
            }
        }
    }
    if let Some(Value::Array(values)) = map.get_mut("enum") {
        values.retain(|value| fits(kind_of(value)));
        map.shift_remove("type");
        return map.into();
    }
    typed(map, keep & all)
}

/// The schema with the names of these kinds as its type.
fn typed(mut map: serde_json::Map<String, Value>, keep: Kinds) -> Value {
    let whole = map.get("type").is_some_and(|old| {
        let names = old.as_array().map_or(std::slice::from_ref(old), Vec::as_slice);
        names.iter().any(|name| name == "integer") && !names.iter().any(|name| name == "number")
    });
    let names = KINDS.iter().enumerate().filter(|(kind, _)| super::form::bit(*kind) & keep != 0);
    let names: Vec<Value> = names
        .map(|(_, name)| if *name == "number" && whole { "integer".into() } else { (*name).into() })
        .collect();
    map.insert("type".into(), if names.len() == 1 { names[0].clone() } else { names.into() });
    map.into()
}
