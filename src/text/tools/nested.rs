//! The rules of lists and objects in notations of their own: Gemma 4's braces, MiniMax M3's items.

use serde_json::Value;

use super::arguments::{Member, properties};
use super::form::{ARRAY, KINDS, Kinds, Notation, OBJECT, STRING, bit};
use super::grammar::Grammar;
use super::kinds::{kinds, resolved};
use super::texts::{self, Writing};
use crate::text::constraint::Refusal;

/// Deepest nesting of values without references.
const DEEPEST: usize = 32;

impl Grammar<'_> {
    /// The value of a part of a schema, as the name of a rule.
    pub(super) fn nested_value(
        &mut self,
        notation: &Notation,
        root: &Value,
        path: &str,
    ) -> Result<String, Refusal> {
        let (path, schema) = resolved(root, path.to_owned());
        if let Some(rule) = self.nested.get(&path) {
            return Ok(rule.clone());
        }
        if path.matches('/').count() > 3 * DEEPEST {
            return Err(Refusal { path, reason: "is too deep for this model's calls".into() });
        }
        let name = self.name();
        self.nested.insert(path.clone(), name.clone());
        let body = self.nested_body(notation, root, &path, schema)?;
        self.define(&name, &body);
        Ok(name)
    }

    fn nested_body(
        &mut self,
        notation: &Notation,
        root: &Value,
        path: &str,
        schema: &Value,
    ) -> Result<String, Refusal> {
        let allowed = kinds(root, schema);
        let map = schema.as_object().cloned().unwrap_or_default();
        for key in ["anyOf", "oneOf"] {
            if let Some(Value::Array(choices)) = map.get(key)
                && allowed & (ARRAY | OBJECT) != 0
            {
                let all = (0..choices.len())
                    .map(|n| self.nested_value(notation, root, &format!("{path}/{key}/{n}")));
                return Ok(all.collect::<Result<Vec<_>, _>>()?.join(" | "));
            }
        }
        let mut ways = Vec::new();
        let scalars = allowed & !(ARRAY | OBJECT | STRING);
        // MiniMax M3 writes no null.
        let scalars = if matches!(notation, Notation::Items(_)) { scalars & !bit(0) } else { scalars };
        if scalars != 0 {
            ways.push(self.json_value(root, path, scalars, allowed)?);
        }
        if allowed & STRING != 0 {
            ways.push(self.nested_text(notation, root, path, scalars)?);
        }
        if allowed & ARRAY != 0 {
            ways.push(self.nested_list(notation, root, path, &map)?);
        }
        if allowed & OBJECT != 0 {
            ways.push(self.nested_object(notation, root, path, &map)?);
        }
        if ways.is_empty() {
            let missing: Vec<&str> =
                (0..6).filter(|kind| allowed & bit(*kind) != 0).map(|kind| KINDS[kind]).collect();
            let reason = format!(
                "values of these kinds are not supported in this model's calls: {}",
                missing.join(", ")
            );
            return Err(Refusal { path: path.to_owned(), reason });
        }
        Ok(ways.join(" | "))
    }

    fn nested_text(
        &mut self,
        notation: &Notation,
        root: &Value,
        path: &str,
        others: Kinds,
    ) -> Result<String, Refusal> {
        let mark = match notation {
            Notation::Braces(mark) | Notation::Items(mark) => mark.as_str(),
            _ => "",
        };
        let mut all = texts::texts(root, path, Writing::Raw, &[mark])?;
        let close = self.form.close.clone().unwrap_or_default();
        if matches!(notation, Notation::Braces(_)) {
            return Ok(format!("{}{}", self.text(mark), self.until(&all, &[&close], mark)));
        }
        if others != 0 {
            all.body = format!("({} & ~/\\s*([-+0-9.]|true|false)(?s:.*)/)", all.body);
        }
        // A whole text in a terminal: the mark that closes its tag is not part of it.
        let terminal = self.terminal(&format!("{} & {}", all.body, texts::without(mark)));
        Ok(format!("{terminal}{}", if all.may_be_empty { "?" } else { "" }))
    }

    fn nested_list(
        &mut self,
        notation: &Notation,
        root: &Value,
        path: &str,
        map: &serde_json::Map<String, Value>,
    ) -> Result<String, Refusal> {
        let refused = |key: &str| Refusal {
            path: format!("{path}/{key}"),
            reason: "is not supported in lists of this model's calls".into(),
        };
        let other = ["prefixItems", "contains", "uniqueItems", "enum", "const", "allOf", "unevaluatedItems"];
        if let Some(key) =
            other.iter().find(|key| map.get(**key).is_some_and(|value| *value != Value::Bool(false)))
        {
            return Err(refused(key));
        }
        if !map.get("items").is_some_and(Value::is_object) {
            return Err(refused("items"));
        }
        let item = self.nested_value(notation, root, &format!("{path}/items"))?;
        let limit = |key: &str| map.get(key).and_then(Value::as_u64);
        let (least, most) = (limit("minItems").unwrap_or(0), limit("maxItems"));
        if most == Some(0) {
            return Ok(if matches!(notation, Notation::Braces(_)) { self.text("[]") } else { "\"\"".into() });
        }
        let times = |less: u64| {
            let most = most.map_or(String::new(), |most| (most - less).to_string());
            format!("{{{},{most}}}", least.saturating_sub(less))
        };
        Ok(match notation {
            Notation::Items(mark) => {
                let (open, close) =
                    (self.text(&format!("{mark}<item>")), self.text(&format!("{mark}</item>")));
                format!("({open}{item} {close}){}", times(0))
            }
            _ => {
                let optional = if least == 0 { "?" } else { "" };
                format!("\"[\" ({item} (\",\" {item}){}){optional} \"]\"", times(1))
            }
        })
    }

    fn nested_object(
        &mut self,
        notation: &Notation,
        root: &Value,
        path: &str,
        map: &serde_json::Map<String, Value>,
    ) -> Result<String, Refusal> {
        let mut members = Vec::new();
        for (key, path, is_required) in properties(map, path)? {
            let value = self.nested_value(notation, root, &path)?;
            members.push(match notation {
                Notation::Items(mark) => {
                    let open = self.text(&format!("{mark}<{key}>"));
                    let member = format!("{open}{value} {}", self.text(&format!("{mark}</{key}>")));
                    Member { first: member.clone(), next: member, is_required }
                }
                _ => Member {
                    first: format!("{}{value}", self.text(&format!("{key}:"))),
                    next: format!("{}{value}", self.text(&format!(",{key}:"))),
                    is_required,
                },
            });
        }
        let members = self.in_order(members, "");
        Ok(match notation {
            Notation::Items(_) => members,
            _ => format!("\"{{\" {members} \"}}\""),
        })
    }
}
