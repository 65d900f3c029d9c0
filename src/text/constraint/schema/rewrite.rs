//! Makes an equivalent schema that the library keeps.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::keywords::{
    APPLICATORS, BOUNDS, FORMATS, PLAIN, REFUSED, bounds, is_idle, refusal, restricts, shown, size, types,
};
use super::lexemes::{Lexeme, MARKER};
use super::number::{Bounds, Unit};
use super::placeholders::{any_of, holds_rounded};
use super::pointer::{at, join};
use super::references::References;
use super::{MOST_SUBSCHEMAS, Refusal, pattern};

/// White space allowed between two tokens of a JSON answer: with unlimited white space, models may never stop.
const JSON_SPACE: &str = r"\x20|\x0A[\x20\x09]{0,20}";

/// Most pairs of properties of one object: the library compares each property with all others, 3000 in a second.
const MOST_PAIRS: usize = 3000 * 3000;

/// A pair of patterns of properties costs as much as so many pairs of properties: 200 of `^p1[a-z]*$` took 0.6 s, and 300 2.5 s.
const PAIRS_OF_PATTERN: usize = 225;

/// Most lists and objects in listed values (`const`, `enum`). 20,000 objects in 270 KB took 107 MiB.
const MOST_NESTED: usize = 5000;

/// Most bytes of regular expressions of placeholders, which compile in a second.
const MOST_BYTES: usize = 300_000;

/// Most remainders of `multipleOf` in a schema. The library makes a state for each: 99,991 took 71 MiB and some seconds.
const MOST_REMAINDERS: f64 = 20_000.0;

/// Most placeholders.
const MOST_LEXEMES: usize = 2000;

/// A schema for the library, and the regular expressions that its placeholders stand for.
pub(super) struct Rewritten {
    pub(super) schema: Value,
    pub(super) lexemes: Vec<Lexeme>,
}

/// Rewrites the part of a schema at a path. `n_before` placeholders are in use elsewhere in the grammar.
pub(super) fn rewrite(root: &Value, path: &str, n_before: usize) -> Result<Rewritten, Refusal> {
    let refused = |reason: &str| Refusal { path: path.into(), reason: reason.into() };
    let mut rewriter = Rewriter {
        root,
        references: References::new(root),
        names: HashMap::new(),
        todo: Vec::new(),
        lexemes: Vec::new(),
        n_before,
        lexeme_of: HashMap::new(),
        n_schemas: 0,
        n_multiples: 0,
        remainders: 0.0,
        merged_remainders: 1.0,
        merged_bounds: Default::default(),
        n_pairs: 0,
        n_bytes: 0,
        n_nested: 0,
    };
    if root.to_string().contains(MARKER) {
        return Err(refused("the schema has private characters that are used to compile it"));
    }
    let start = at(root, path).ok_or_else(|| refused("nothing is there"))?;
    let mut schema = match rewriter.schema(start, path, false)? {
        Value::Object(map) => map,
        Value::Bool(true) => Map::new(),
        _ => return Err(refused("the schema allows no value")),
    };
    let mut definitions = Map::new();
    while let Some((name, path, merged)) = rewriter.todo.pop() {
        let Some(value) = at(root, &path) else { continue };
        definitions.insert(name, rewriter.schema(value, &path, merged)?);
    }
    if rewriter.n_bytes > MOST_BYTES || rewriter.lexemes.len() > MOST_LEXEMES {
        return Err(refused("its patterns and numbers beyond 2^53 are too many"));
    }
    for (number, lexeme) in rewriter.lexemes.iter().enumerate() {
        definitions.insert(format!("l{number}"), json!({"const": lexeme.placeholder}));
    }
    if !definitions.is_empty() {
        schema.insert("$defs".into(), definitions.into());
    }
    for key in ["$schema", "x-guidance"] {
        if let Some(value) = root.get(key) {
            schema.insert(key.into(), value.clone());
        }
    }
    schema.entry("x-guidance").or_insert_with(|| json!({ "whitespace_pattern": JSON_SPACE }));
    Ok(Rewritten { schema: schema.into(), lexemes: rewriter.lexemes })
}

/// The paths of the schemas within the schema at a path, with what it refers to.
pub(super) fn parts(root: &Value, path: &str) -> Vec<String> {
    let Some(map) = at(root, path).and_then(Value::as_object) else { return Vec::new() };
    // `false` is no error within a schema.
    let mut parts = Vec::new();
    for (key, value) in map {
        let path = join(path, key);
        match (key.as_str(), value) {
            ("allOf" | "anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(items)) => {
                parts.extend((0..items.len()).map(|at| format!("{path}/{at}")));
            }
            ("properties" | "patternProperties", Value::Object(map)) => {
                parts
                    .extend(map.iter().filter(|(_, part)| part.is_object()).map(|(key, _)| join(&path, key)));
            }
            ("items" | "additionalItems" | "additionalProperties", Value::Object(_)) => parts.push(path),
            ("$ref", Value::String(reference)) => {
                parts.extend(References::new(root).end(reference, &path).map(|(path, _)| path));
            }
            _ => {}
        }
    }
    parts
}

/// The schemas that are rewritten.
pub(super) struct Rewriter<'s> {
    pub(super) root: &'s Value,
    pub(super) references: References<'s>,
    /// Definitions by path, and by whether they are merged with other schemas.
    pub(super) names: HashMap<(String, bool), String>,
    /// Definitions to write: name, path, merged.
    pub(super) todo: Vec<(String, String, bool)>,
    pub(super) lexemes: Vec<Lexeme>,
    /// Placeholders that are in use elsewhere in the grammar.
    pub(super) n_before: usize,
    pub(super) lexeme_of: HashMap<String, usize>,
    pub(super) n_schemas: usize,
    pub(super) n_multiples: usize,
    /// Remainders of all `multipleOf` outside of merged schemas, and of those in merged schemas by each other.
    pub(super) remainders: f64,
    pub(super) merged_remainders: f64,
    /// In merged schemas: excluded whole bounds that the library may let through, and the units in which ranges end.
    merged_bounds: (HashSet<Unit>, HashSet<Unit>),
    /// Pairs of properties of the same object, and bytes of regular expressions: the costs of compiling.
    pub(super) n_pairs: usize,
    pub(super) n_bytes: usize,
    /// Lists and objects in listed values.
    n_nested: usize,
}

impl Rewriter<'_> {
    /// Rewrites a schema. One that is `merged` with another one, by `allOf` or by keywords beside a reference, has no
    /// placeholders: the library could not intersect them.
    pub(super) fn schema(&mut self, value: &Value, path: &str, merged: bool) -> Result<Value, Refusal> {
        self.n_schemas += 1;
        let refused = |reason: String| Refusal { path: path.into(), reason };
        if self.n_bytes > MOST_BYTES {
            return Err(refused("its patterns and numbers beyond 2^53 are too many".into()));
        }
        if self.n_schemas > MOST_SUBSCHEMAS {
            return Err(refused(format!("the schema has more than {MOST_SUBSCHEMAS} parts")));
        }
        match value {
            Value::Bool(_) => Ok(value.clone()),
            Value::Object(map) => self.object(map, path, merged),
            other => Err(refused(format!("a schema is an object or a Boolean, not {}", shown(other)))),
        }
    }

    fn object(&mut self, map: &Map<String, Value>, path: &str, merged: bool) -> Result<Value, Refusal> {
        if map.get("not").is_some_and(|not| *not == json!({}) || *not == Value::Bool(true)) {
            return Ok(Value::Bool(false));
        }
        if let (Some(not), Some("integer")) = (map.get("not"), map.get("type").and_then(Value::as_str))
            && let (Some(excluded), Some(1)) =
                (not.get("const").and_then(Value::as_i64), not.as_object().map(Map::len))
        {
            let parts = [false, true].into_iter().filter_map(|above| beside(map, excluded, above));
            let parts = parts.map(|part| self.schema(&part, path, merged)).collect::<Result<_, _>>()?;
            return Ok(any_of(parts));
        }
        check_sizes(map, path)?;
        for key in ["const", "enum"] {
            self.n_nested += map.get(key).map_or(0, n_nested);
            if self.n_nested > MOST_NESTED {
                return Err(refusal(path, key, "has too many lists and objects"));
            }
        }
        for (key, value) in map.iter().filter(|(key, _)| REFUSED.contains(&key.as_str())) {
            if !is_idle(key, value, map) {
                return Err(refusal(path, key, "this keyword is not supported"));
            }
        }
        let applied: Vec<&str> = APPLICATORS.into_iter().filter(|key| map.contains_key(*key)).collect();
        let plain = || map.keys().filter(|key| PLAIN.contains(&key.as_str()) || *key == "format");
        if let ["const" | "enum"] = applied[..]
            && plain().all(|key| key == "type" || key == "format")
        {
            return self.values(map, applied[0], path, merged);
        }
        if let (["allOf"], 0, Some([only])) =
            (&applied[..], plain().count(), map.get("allOf").and_then(Value::as_array).map(Vec::as_slice))
        {
            return self.schema(only, &format!("{path}/allOf/0"), merged);
        }
        if applied.is_empty()
            && !merged
            && let Some(split) = self.split(map, path)?
        {
            return Ok(split);
        }
        let alone = applied.len() == 1 && plain().count() == 0;
        let merged = merged || !(applied.is_empty() || alone) || map.contains_key("allOf");
        let mut out = Map::new();
        self.keywords(map, &[], path, merged, &mut out)?;
        Ok(out.into())
    }

    /// Rewrites the keywords of a schema but those in `done`. `propertyNames` is the last: it replaces others.
    pub(super) fn keywords(
        &mut self,
        map: &Map<String, Value>,
        done: &[&str],
        path: &str,
        merged: bool,
        out: &mut Map<String, Value>,
    ) -> Result<(), Refusal> {
        let last = |key: &str| key == "propertyNames";
        let in_order =
            map.iter().filter(|(key, _)| !last(key)).chain(map.iter().filter(|(key, _)| last(key)));
        for (key, value) in in_order.filter(|(key, _)| !done.contains(&key.as_str())) {
            self.keyword(key, value, map, path, merged, out)?;
        }
        Ok(())
    }

    /// Rewrites one keyword of a schema into `out`.
    fn keyword(
        &mut self,
        key: &str,
        value: &Value,
        map: &Map<String, Value>,
        path: &str,
        merged: bool,
        out: &mut Map<String, Value>,
    ) -> Result<(), Refusal> {
        let here = join(path, key);
        let rewritten = match key {
            "$ref" => {
                let Some(reference) = value.as_str() else {
                    return Err(refusal(path, key, "must be a string"));
                };
                self.reference(reference, path, merged)?
            }
            "oneOf" => {
                let (key, choices) = self.one_of(value, &here, merged)?;
                // Beside an `anyOf` of the schema's own it stays apart.
                match key == "anyOf" && map.contains_key("anyOf") {
                    true => return Err(refusal(path, "oneOf", "is not supported beside `anyOf`")),
                    false => {
                        out.insert(key.into(), choices);
                        return Ok(());
                    }
                }
            }
            "allOf" | "anyOf" | "prefixItems" => self.list(value, &here, merged)?,
            "items" if value.is_array() => self.list(value, &here, merged)?,
            "items" | "additionalItems" | "additionalProperties" => self.schema(value, &here, merged)?,
            "properties" | "patternProperties" => self.members(value, &here, merged)?,
            "propertyNames" => return self.property_names(value, map, path, merged, out),
            "unevaluatedProperties" | "unevaluatedItems" => {
                let instead = if key == "unevaluatedItems" { "items" } else { "additionalProperties" };
                if map.contains_key(instead) || *value == Value::Bool(true) {
                    return Ok(());
                }
                if APPLICATORS.iter().any(|key| map.contains_key(*key)) || merged {
                    return Err(refusal(path, key, "is not supported beside other schemas"));
                }
                out.insert(instead.into(), self.schema(value, &here, merged)?);
                return Ok(());
            }
            "const" | "enum" => {
                let list = if key == "enum" { value.as_array().map(Vec::as_slice) } else { None };
                if list.unwrap_or(std::slice::from_ref(value)).iter().any(holds_rounded) {
                    return Err(refusal(
                        path,
                        key,
                        "numbers beyond 2^53 are not supported beside other keywords",
                    ));
                }
                value.clone()
            }
            "type" => {
                types(map, path)?;
                value.clone()
            }
            "pattern" => {
                let text = value.as_str().ok_or_else(|| refusal(path, key, "must be a string"))?;
                self.kept_pattern(text, path, key)?;
                value.clone()
            }
            "format" if value.as_str().is_some_and(|format| FORMATS.contains(&format)) => value.clone(),
            "required" => value.clone(),
            "multipleOf" => self.multiple(value, path, merged)?,
            _ if key.starts_with("min") || key.starts_with("max") || BOUNDS.contains(&key) => {
                return self.limit(key, value, map, path, merged, out);
            }
            _ => return Ok(()),
        };
        out.insert(key.into(), rewritten);
        Ok(())
    }

    /// Refuses a pattern that the library would not keep.
    fn kept_pattern(&self, text: &str, path: &str, key: &str) -> Result<(), Refusal> {
        match (pattern::is_kept(text), pattern::string(text, 0, None)) {
            (true, Ok(_)) => Ok(()),
            (_, Err(reason)) => Err(refusal(path, key, &format!("the pattern `{text}` {reason}"))),
            (false, _) => {
                let reason = "has a class that is supported only in the `pattern` of a string that is not merged with \
                              other schemas";
                Err(refusal(path, key, &format!("the pattern `{text}` {reason}")))
            }
        }
    }

    /// A keyword with a number that limits a size or a value.
    fn limit(
        &mut self,
        key: &str,
        value: &Value,
        map: &Map<String, Value>,
        path: &str,
        merged: bool,
        out: &mut Map<String, Value>,
    ) -> Result<(), Refusal> {
        if !BOUNDS.contains(&key) {
            if PLAIN.contains(&key) {
                out.insert(key.into(), size(value, path, key)?.into());
            }
            return Ok(());
        }
        let bounds = bounds(map, path)?;
        self.leaks(&bounds, path, merged)?;
        if bounds.are_exact() {
            out.insert(key.into(), value.clone());
            return Ok(());
        }
        // The part of the range that the library keeps: smaller, but of the range.
        let near =
            bounds.near().ok_or_else(|| refusal(path, key, "numbers beyond 2^53 are not supported here"))?;
        BOUNDS.iter().for_each(|key| _ = out.shift_remove(*key));
        out.extend(near);
        Ok(())
    }

    /// Refuses an excluded whole bound that the library would let through. The end of the range may be in another schema that
    /// is `merged` with this one, so all of those count.
    fn leaks(&mut self, bounds: &Bounds, path: &str, merged: bool) -> Result<(), Refusal> {
        let mut all = std::mem::take(&mut self.merged_bounds);
        let (leaks, ends) = if merged { &mut all } else { &mut Default::default() };
        leaks.extend(bounds.leaks());
        ends.extend(bounds.ends());
        let leaking = leaks.intersection(ends).next().copied();
        self.merged_bounds = all;
        let Some((_, is_above)) = leaking else { return Ok(()) };
        let key = if is_above { "exclusiveMinimum" } else { "exclusiveMaximum" };
        Err(refusal(path, key, "is not supported here beside another bound that is less than 1 away"))
    }

    /// A step that the library's 32-bit arithmetic keeps.
    fn multiple(&mut self, value: &Value, path: &str, merged: bool) -> Result<Value, Refusal> {
        let refused = |reason: &str| refusal(path, "multipleOf", reason);
        let step =
            value.as_f64().filter(|step| *step > 0.0).ok_or_else(|| refused("must be a positive number"))?;
        let decimals = (0..9).find(|decimals| (step * 10f64.powi(*decimals)).fract() == 0.0);
        let (most, most_decimals) = if merged { (600.0, 2) } else { (MOST_REMAINDERS, 8) };
        let remainders = match decimals.map(|decimals| (decimals, step * 10f64.powi(decimals))) {
            Some((decimals, whole)) if decimals <= most_decimals && whole <= most => whole,
            _ => return Err(refused("has too many digits")),
        };
        match merged {
            true => self.merged_remainders *= remainders,
            false => self.remainders += remainders,
        }
        if self.remainders.max(self.merged_remainders) > MOST_REMAINDERS {
            let reason = format!("{MOST_REMAINDERS} is the most, for all of a schema");
            return Err(refused(&format!("has too many remainders: {reason}")));
        }
        self.n_multiples += usize::from(merged);
        if self.n_multiples > 2 {
            return Err(refused("more than two of them in merged schemas are not supported"));
        }
        Ok(value.clone())
    }

    pub(super) fn list(&mut self, value: &Value, path: &str, merged: bool) -> Result<Value, Refusal> {
        let Some(items) = value.as_array() else {
            return Err(Refusal {
                path: path.into(),
                reason: format!("must be a list, not {}", shown(value)),
            });
        };
        let items =
            items.iter().enumerate().map(|(at, item)| self.schema(item, &format!("{path}/{at}"), merged));
        Ok(Value::Array(items.collect::<Result<_, _>>()?))
    }

    fn members(&mut self, value: &Value, path: &str, merged: bool) -> Result<Value, Refusal> {
        let Some(members) = value.as_object() else {
            return Err(Refusal {
                path: path.into(),
                reason: format!("must be an object, not {}", shown(value)),
            });
        };
        let patterns = path.ends_with("/patternProperties");
        let n = members.len();
        self.n_pairs += if patterns { n * n * PAIRS_OF_PATTERN } else { n * n };
        if self.n_pairs > MOST_PAIRS {
            return Err(Refusal { path: path.into(), reason: format!("{n} properties are too many") });
        }
        let mut out = Map::new();
        for (name, value) in members {
            if patterns {
                self.kept_pattern(name, path, name)?;
            }
            out.insert(name.clone(), self.schema(value, &join(path, name), merged)?);
        }
        Ok(out.into())
    }

    /// A reference, as one to a definition.
    fn reference(&mut self, reference: &str, path: &str, merged: bool) -> Result<Value, Refusal> {
        let (target, _) = self.references.end(reference, path)?;
        let name = self.names.len();
        let name = self.names.entry((target.clone(), merged)).or_insert_with(|| {
            self.todo.push((format!("d{name}"), target, merged));
            format!("d{name}")
        });
        Ok(format!("#/$defs/{name}").into())
    }

    /// The names of properties: listed, or by a pattern or their length.
    fn property_names(
        &mut self,
        names: &Value,
        map: &Map<String, Value>,
        path: &str,
        merged: bool,
        out: &mut Map<String, Value>,
    ) -> Result<(), Refusal> {
        let here = join(path, "propertyNames");
        let names = self.resolved(names, &here)?;
        let restricting: Vec<&String> = match &names {
            Value::Object(names) => names.keys().filter(|key| restricts(key)).collect(),
            _ => Vec::new(),
        };
        let only_strings = |key: &String| key == "format" || key == "type" && names["type"] == "string";
        if names == Value::Bool(true) || names.is_object() && restricting.iter().all(|key| only_strings(key))
        {
            return Ok(());
        }
        let refused = |reason: &str| refusal(path, "propertyNames", reason);
        if merged || map.contains_key("patternProperties") || map.contains_key("properties") {
            return Err(refused("is not supported beside other properties or in merged schemas"));
        }
        let values = map.get("additionalProperties").unwrap_or(&Value::Bool(true));
        let listed = names.get("enum").and_then(Value::as_array).cloned();
        let listed = listed.or_else(|| names.get("const").map(|name| vec![name.clone()]));
        let simple =
            |known: &[&str]| restricting.iter().all(|key| only_strings(key) || known.contains(&key.as_str()));
        let values_path = join(path, "additionalProperties");
        let (keyword, members): (&str, Map<String, Value>) = if let (Some(listed), true) =
            (listed, simple(&["enum", "const"]))
        {
            let mut members = Map::new();
            for name in listed.iter().filter_map(Value::as_str) {
                members.insert(name.into(), self.schema(values, &values_path, merged)?);
            }
            ("properties", members)
        } else if simple(&["pattern"]) && names.get("pattern").is_some_and(Value::is_string) {
            let name = names["pattern"].as_str().unwrap_or_default();
            self.kept_pattern(name, &here, "pattern")?;
            (
                "patternProperties",
                [(name.to_string(), self.schema(values, &values_path, merged)?)].into_iter().collect(),
            )
        } else if simple(&["minLength", "maxLength"]) {
            let limit = |key| names.get(key).map(|value| size(value, &here, key)).transpose();
            let (least, most) = (limit("minLength")?.unwrap_or(0), limit("maxLength")?);
            let most = most.map_or(String::new(), |most| most.to_string());
            let name = format!(r"^[\s\S]{{{least},{most}}}$");
            ("patternProperties", [(name, self.schema(values, &values_path, merged)?)].into_iter().collect())
        } else {
            return Err(refused("of this kind is not supported"));
        };
        out.insert(keyword.into(), members.into());
        out.insert("additionalProperties".into(), Value::Bool(false));
        Ok(())
    }
}

/// Refuses sizes of the only type of a schema whose range is empty.
fn check_sizes(map: &Map<String, Value>, path: &str) -> Result<(), Refusal> {
    for (name, least, most) in [
        ("string", "minLength", "maxLength"),
        ("array", "minItems", "maxItems"),
        ("object", "minProperties", "maxProperties"),
    ] {
        if let (Some(from), Some(to)) = (map.get(least), map.get(most))
            && map.get("type").and_then(Value::as_str) == Some(name)
            && size(from, path, least)? > size(to, path, most)?
        {
            return Err(refusal(path, least, &format!("is greater than `{most}`")));
        }
    }
    Ok(())
}

/// The lists and objects in a value.
fn n_nested(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(n_nested).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(n_nested).sum::<usize>(),
        _ => 0,
    }
}

/// The part of an integer's schema on one side of a value that `not` excludes.
fn beside(map: &Map<String, Value>, excluded: i64, above: bool) -> Option<Value> {
    let (key, bound) = match above {
        true => ("minimum", excluded.checked_add(1)?),
        false => ("maximum", excluded.checked_sub(1)?),
    };
    let old = map.get(key).and_then(Value::as_f64);
    let mut part = map.clone();
    part.shift_remove("not");
    if old.is_none_or(|old| if above { old < bound as f64 } else { old > bound as f64 }) {
        part.insert(key.into(), bound.into());
    }
    let (least, most) =
        (part.get("minimum").and_then(Value::as_f64), part.get("maximum").and_then(Value::as_f64));
    (!matches!((least, most), (Some(least), Some(most)) if least > most)).then_some(Value::Object(part))
}
