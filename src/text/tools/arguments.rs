//! The rules of arguments that are written one after the other.

use serde_json::{Map, Value, json};

use super::Tool;
use super::form::{Around, KINDS, Kinds, Members, Notation, STRING, Values, bit};
use super::grammar::Grammar;
use super::kinds::{kinds, resolved, restricted};
use super::texts::{self, Writing, literal};
use crate::text::constraint::Refusal;

/// A member of an object: what is written if it is the first, and after another one.
pub(super) struct Member {
    pub(super) first: String,
    pub(super) next: String,
    pub(super) is_required: bool,
}

/// The properties of an object, each with its name, its path and whether it is required.
pub(super) fn properties(
    map: &Map<String, Value>,
    path: &str,
) -> Result<Vec<(String, String, bool)>, Refusal> {
    check_object(map, path)?;
    let all = map.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let required = map.get("required").and_then(Value::as_array).into_iter().flatten();
    let required: Vec<&str> = required.filter_map(Value::as_str).collect();
    if let Some(missing) = required.iter().find(|name| !all.contains_key(**name)) {
        let reason = format!("`{missing}` is not among the properties, which this model's calls need");
        return Err(Refusal { path: format!("{path}/required"), reason });
    }
    let mut fitting = Vec::new();
    for (key, schema) in all {
        let here = format!("{path}/properties/{}", key.replace('~', "~0").replace('/', "~1"));
        if key.is_empty()
            || key.contains(|c: char| c.is_control() || c.is_whitespace() || "<>\"'=:{}[],".contains(c))
        {
            return Err(Refusal {
                path: here,
                reason: "this name cannot be written in this model's calls".into(),
            });
        }
        let is_required = required.contains(&key.as_str());
        if schema != Value::Bool(false) || is_required {
            fitting.push((key, here, is_required));
        }
    }
    Ok(fitting)
}

impl Grammar<'_> {
    /// The arguments of a tool.
    pub(super) fn members(&mut self, members: &Members, tool: &Tool) -> Result<String, Refusal> {
        let root = &tool.parameters;
        let (path, object) = resolved(root, "#".into());
        let map = object.as_object().cloned().unwrap_or_default();
        let mut all = Vec::new();
        for (key, path, is_required) in properties(&map, &path)? {
            let value = self.value(members, root, &path, &key)?;
            let value = self.rule(&value);
            let values = Values { key: &key, ..Values::default() };
            let first = format!("{}{value}", self.pattern(&members.first, values));
            let next = format!("{}{value}", self.pattern(&members.next, values));
            all.push(Member { first, next, is_required });
        }
        let none = self.pattern(&members.none, Values::default());
        Ok(self.in_order(all, &none))
    }

    /// Members in their order, some left out; `none` if all are.
    pub(super) fn in_order(&mut self, members: Vec<Member>, none: &str) -> String {
        let none = if none.trim().is_empty() { "\"\"" } else { none };
        // From the last to the first: what may be written from there on if nothing was, and if something was.
        let (mut begun, mut fresh) = (String::from("\"\""), String::from(none));
        for Member { first, next, is_required } in members.into_iter().rev() {
            let skipped = |rest: &str| if is_required { String::new() } else { format!(" | {rest}") };
            let (one, other) = (skipped(&fresh), skipped(&begun));
            fresh = self.rule(&format!("{first} {begun}{one}"));
            begun = self.rule(&format!("{next} {begun}{other}"));
        }
        fresh
    }

    /// A value with what surrounds it.
    fn value(&mut self, members: &Members, root: &Value, path: &str, key: &str) -> Result<String, Refusal> {
        // The refusal of a keyword has its path in the schema.
        self.schemas.check(root, path)?;
        let (_, schema) = resolved(root, path.to_owned());
        let allowed = kinds(root, schema);
        let close = members.close.filled(Values { last_key: key, ..Values::default() });
        let close = close.leading_text().to_owned();
        let mut ways = Vec::new();
        let mut done: Kinds = 0;
        for (kind, around) in members.around.iter().enumerate() {
            let Some(around) = around.as_ref().filter(|_| allowed & bit(kind) & !done != 0) else { continue };
            let end = format!("{}{close}", around.after);
            let before = self.text(&around.before);
            // Kinds that are written alike.
            let alike = |(other, way): (usize, &Option<Around>)| match way {
                Some(way) if way == around => bit(other),
                _ => 0,
            };
            let keep = allowed & members.around.iter().enumerate().map(alike).fold(0, |a, b| a | b);
            done |= keep;
            ways.push(match &around.notation {
                Notation::Raw | Notation::Quoted(_) => {
                    let text = self.text_value(members, around, (root, path), allowed & !STRING, &end)?;
                    format!("{before}{text}")
                }
                Notation::Json => {
                    let json = self.json_value(root, path, keep, allowed)?;
                    format!("{before}{json} {}", self.text(&end))
                }
                nested @ (Notation::Braces(_) | Notation::Items(_)) => {
                    self.nested.clear();
                    let (root, part) = restricted(root, path, keep);
                    let value = self.nested_value(nested, &root, &part);
                    let value = value.map_err(|refusal| at_path(refusal, &part, path))?;
                    format!("{before}{value} {}", self.text(&end))
                }
            });
        }
        if ways.is_empty() {
            let missing = (0..6).filter(|kind| allowed & bit(*kind) != 0).map(|kind| KINDS[kind]);
            let missing = missing.collect::<Vec<_>>().join(", ");
            let reason = format!("values of these kinds are not supported in this model's calls: {missing}");
            return Err(Refusal { path: path.to_owned(), reason });
        }
        Ok(format!("({})", ways.join(" | ")))
    }

    /// The values of some of the kinds that a part of a schema allows, in JSON.
    pub(super) fn json_value(
        &mut self,
        root: &Value,
        path: &str,
        keep: Kinds,
        allowed: Kinds,
    ) -> Result<String, Refusal> {
        if keep == allowed {
            return self.schemas.schema(root, path);
        }
        let (root, part) = restricted(root, path, keep);
        self.schemas.schema(&root, &part).map_err(|refusal| at_path(refusal, &part, path))
    }

    /// Texts as values, up to what closes them. `others` are the other kinds that are allowed.
    fn text_value(
        &mut self,
        members: &Members,
        around: &Around,
        (root, path): (&Value, &str),
        others: Kinds,
        end: &str,
    ) -> Result<String, Refusal> {
        if let Notation::Quoted(mark) = around.notation {
            let body = texts::texts(root, path, Writing::Quoted(mark), &[])?.body;
            let terminal = self.terminal(&format!("({body}) {}", literal(&mark.to_string())));
            return Ok(format!("{terminal} {}", self.text(&end[mark.len_utf8()..])));
        }
        let close = self.form.close.clone().unwrap_or_default();
        let mut all = texts::texts(root, path, Writing::Raw, &[end.trim(), close.trim()])?;
        // Of other kinds that are written alike, a text that reads as one is one.
        let alike = members.around.iter().enumerate().any(|(other, way)| {
            others & bit(other) != 0 && way.as_ref().is_some_and(|way| way.before == around.before)
        });
        if alike {
            all.body =
                format!("({} & ~/\\s*([-+0-9.\\[{{\"'(]|true|false|null|True|False|None)(?s:.*)/)", all.body);
        }
        Ok(self.until(&all, &[close.trim()], end))
    }
}

/// A refusal within a part of a schema that stands elsewhere in the tool's.
fn at_path(refusal: Refusal, part: &str, path: &str) -> Refusal {
    let path = refusal.path.strip_prefix(part).map(|rest| format!("{path}{rest}"));
    Refusal { path: path.unwrap_or(refusal.path), reason: refusal.reason }
}

/// Refuses keywords of an object that a list of members cannot keep.
fn check_object(map: &Map<String, Value>, path: &str) -> Result<(), Refusal> {
    let has_properties = map.get("properties").and_then(Value::as_object).is_some_and(|all| !all.is_empty());
    for (key, value) in map {
        let kept = match key.as_str() {
            "type" => value.as_array().map_or(*value == "object", |names| names.contains(&json!("object"))),
            "additionalProperties" | "unevaluatedProperties" => {
                has_properties || *value == Value::Bool(false)
            }
            "minProperties" => value.as_u64() == Some(0),
            key => !RESTRICTING.contains(&key),
        };
        if !kept {
            let reason = "is not supported where this model writes arguments one after the other".into();
            return Err(Refusal { path: format!("{path}/{key}"), reason });
        }
    }
    Ok(())
}

/// Keywords that restrict objects in other ways than by their properties.
const RESTRICTING: [&str; 16] = [
    "$ref",
    "not",
    "if",
    "then",
    "else",
    "enum",
    "const",
    "allOf",
    "anyOf",
    "oneOf",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "maxProperties",
    "patternProperties",
    "propertyNames",
];
