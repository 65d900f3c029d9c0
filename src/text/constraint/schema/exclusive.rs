//! Finds out whether the choices of a `oneOf` exclude each other: then they are the same as those of an `anyOf`.

use serde_json::{Map, Value};

/// Values that a schema allows at most: by type, and for scalars possibly one by one.
struct Shape<'s> {
    /// A bit for each type.
    types: u8,
    /// The only values, if they are listed.
    values: Option<Vec<&'s Value>>,
    schema: Option<&'s Map<String, Value>>,
}

const TYPES: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];
const ALL: u8 = 0b11_1111;
const OBJECT: u8 = 0b10_0000;

fn type_bit(name: &str) -> u8 {
    let name = if name == "integer" { "number" } else { name };
    TYPES.iter().position(|known| *known == name).map_or(ALL, |at| 1 << at)
}

fn type_of(value: &Value) -> u8 {
    type_bit(match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    })
}

/// The shape of a schema; `resolve` follows references.
fn shape<'s>(schema: &'s Value, resolve: &dyn Fn(&'s Value) -> &'s Value) -> Shape<'s> {
    let Value::Object(map) = resolve(schema) else {
        let types = if *schema == Value::Bool(false) { 0 } else { ALL };
        return Shape { types, values: None, schema: None };
    };
    let mut types = match map.get("type") {
        Some(Value::String(name)) => type_bit(name),
        Some(Value::Array(names)) => {
            names.iter().fold(0, |bits, name| bits | name.as_str().map_or(ALL, type_bit))
        }
        _ => ALL,
    };
    let values: Option<Vec<&Value>> = match (map.get("const"), map.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    };
    if let Some(values) = &values {
        types &= values.iter().fold(0, |bits, value| bits | type_of(value));
    }
    Shape { types, values, schema: Some(map) }
}

/// True if two lists have no value in common. Numbers may be equal in other spellings (1 and 1.0).
fn differ(a: &[&Value], b: &[&Value]) -> bool {
    let same = |a: &Value, b: &Value| a == b || a.is_number() && b.is_number() && a.as_f64() == b.as_f64();
    // Lists and objects may hold such numbers too.
    let nested = |value: &&&Value| value.is_array() || value.is_object();
    let (a_nested, b_nested) = (a.iter().any(|value| nested(&value)), b.iter().any(|value| nested(&value)));
    let common = a.iter().any(|a| b.iter().any(|b| same(a, b)));
    !(common || a_nested && b_nested)
}

/// A restriction that makes choices exclude each other. Each leaves only values that satisfy the `oneOf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restriction<'s> {
    /// All choices that have the property require it.
    Require(&'s str),
    /// The choice with this number is without the property.
    Forbid(usize, &'s str),
}

/// The restrictions with which two schemas, choices with these numbers, have no value in common; `None` if none are known.
fn exclude<'s>(
    (a_number, a): (usize, &'s Value),
    (b_number, b): (usize, &'s Value),
    resolve: &dyn Fn(&'s Value) -> &'s Value,
) -> Option<Vec<Restriction<'s>>> {
    let (a, b) = (shape(a, resolve), shape(b, resolve));
    let common = a.types & b.types;
    if common == 0 {
        return Some(Vec::new());
    }
    if let (Some(a), Some(b)) = (&a.values, &b.values)
        && differ(a, b)
    {
        return Some(Vec::new());
    }
    let (Some(first), Some(second)) = (a.schema, b.schema) else { return None };
    if common != OBJECT {
        return None;
    }
    // A property whose values tell the two apart.
    let properties = |map: &'s Map<String, Value>| map.get("properties").and_then(Value::as_object);
    let required = |map: &'s Map<String, Value>, name: &str| {
        map.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|n| n == name))
    };
    let of_second = properties(second);
    let tags = properties(first).into_iter().flatten().filter_map(|(name, one)| {
        let (one, two) = (shape(one, resolve), shape(of_second?.get(name)?, resolve));
        let apart = one.types & two.types == 0
            || matches!((&one.values, &two.values), (Some(one), Some(two)) if differ(one, two));
        apart.then_some(name.as_str())
    });
    let mut tags: Vec<&str> = tags.collect();
    // An object without the property would satisfy both, unless one of them requires it.
    let told_apart = |name: &&str| required(first, name) || required(second, name);
    tags.sort_by_key(|name| !told_apart(name));
    if let Some(tag) = tags.first() {
        return Some(if told_apart(tag) { Vec::new() } else { vec![Restriction::Require(tag)] });
    }
    // Each requires a property that the other one can do without.
    let own = |one: &'s Map<String, Value>, other: &'s Map<String, Value>| {
        let names =
            one.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        names.into_iter().find(|name| !required(other, name))
    };
    let (of_first, of_second) = (own(first, second)?, own(second, first)?);
    Some(vec![Restriction::Forbid(a_number, of_second), Restriction::Forbid(b_number, of_first)])
}

/// Most choices that are compared with each other.
const MOST_CHOICES: usize = 1000;

/// Restrictions with which the choices exclude each other; `None` if none are known.
pub(super) fn restrictions<'s>(
    choices: &'s [Value],
    resolve: &dyn Fn(&'s Value) -> &'s Value,
) -> Option<Vec<Restriction<'s>>> {
    if choices.len() > MOST_CHOICES {
        return None;
    }
    let mut all = Vec::new();
    for (at, a) in choices.iter().enumerate() {
        for (before, b) in choices[..at].iter().enumerate() {
            for restriction in exclude((at, a), (before, b), resolve)? {
                if !all.contains(&restriction) {
                    all.push(restriction);
                }
            }
        }
    }
    Some(all)
}
