//! Values that the library would not keep, as placeholders: strings with a pattern, and numbers beyond
//! 2^53 or beside a bound that is excluded.

use llguidance::derivre::RegexAst;
use serde_json::{Map, Value, json};

use super::keywords::{BOUNDS, TYPES, ZOD_DURATION, bounds, is_of, refusal, shown, size, types};
use super::lexemes::{Lexeme, MARKER};
use super::number::is_rounded;
use super::rewrite::Rewriter;
use super::{Refusal, pattern};

impl Rewriter<'_> {
    /// The listed values, of which numbers beyond 2^53 become placeholders.
    pub(super) fn values(
        &mut self,
        map: &Map<String, Value>,
        key: &str,
        path: &str,
        merged: bool,
    ) -> Result<Value, Refusal> {
        let value = &map[key];
        let all = match (key, value) {
            ("enum", Value::Array(values)) => values.as_slice(),
            ("enum", other) => {
                return Err(refusal(path, key, &format!("must be a list, not {}", shown(other))));
            }
            _ => std::slice::from_ref(value),
        };
        let types = types(map, path)?;
        let fits =
            |value: &&Value| types.as_ref().is_none_or(|types| types.iter().any(|name| is_of(value, name)));
        let (far, near): (Vec<&Value>, Vec<&Value>) =
            all.iter().filter(fits).partition(|value| value.as_number().is_some_and(is_rounded));
        if near.is_empty() && far.is_empty() {
            return Err(refusal(path, key, "no value is allowed"));
        }
        if near.iter().any(|value| holds_rounded(value)) || merged && !far.is_empty() {
            return Err(refusal(path, key, "numbers beyond 2^53 are supported as values of their own only"));
        }
        let mut choices = Vec::new();
        if !near.is_empty() {
            choices.push(json!({ "enum": near }));
        }
        for number in far {
            let text = number.to_string();
            choices.push(self.placeholder(format!("number {text}"), RegexAst::Literal(text)));
        }
        Ok(any_of(choices))
    }

    /// A schema of strings with a pattern or of numbers beyond 2^53, with placeholders; `None` if it needs none.
    pub(super) fn split(&mut self, map: &Map<String, Value>, path: &str) -> Result<Option<Value>, Refusal> {
        let mut types = types(map, path)?
            .unwrap_or_else(|| TYPES.into_iter().filter(|name| *name != "integer").collect());
        let mut take = |name: &str| match types.iter().position(|known| *known == name) {
            Some(at) => types.remove(at) == name,
            None => false,
        };
        let mut choices = Vec::new();
        if let Some(text) = map.get("pattern")
            && take("string")
        {
            let text = text.as_str().ok_or_else(|| refusal(path, "pattern", "must be a string"))?;
            choices.push(self.patterned(text, map, path)?);
        }
        let bounds = bounds(map, path)?;
        for (name, whole) in [("number", false), ("integer", true)] {
            let kept = if whole { bounds.are_exact() } else { bounds.are_kept() };
            if kept || map.contains_key("multipleOf") || !take(name) {
                continue;
            }
            if bounds.are_empty() {
                return Err(Refusal { path: path.into(), reason: "no number is within the bounds".into() });
            }
            if !whole {
                let (key, regex) = bounds.decimals();
                choices.push(self.placeholder(key, regex));
                continue;
            }
            if let Some(mut near) = bounds.near() {
                near.insert("type".into(), name.into());
                choices.push(near.into());
            }
            if let Some(regex) = bounds.far() {
                choices.push(self.placeholder(format!("numbers {regex}"), RegexAst::Regex(regex)));
            }
        }
        if choices.is_empty() {
            return Ok(None);
        }
        if !types.is_empty() {
            let mut rest = Map::new();
            let mut done = vec!["pattern", "type"];
            if !types.contains(&"number") && !types.contains(&"integer") {
                done.extend(BOUNDS);
            }
            self.keywords(map, &done, path, false, &mut rest)?;
            rest.insert("type".into(), types.into());
            choices.push(rest.into());
        }
        Ok(Some(any_of(choices)))
    }

    /// Strings with a pattern. A format beside it is an annotation.
    pub(super) fn patterned(
        &mut self,
        text: &str,
        map: &Map<String, Value>,
        path: &str,
    ) -> Result<Value, Refusal> {
        if text == ZOD_DURATION {
            return Ok(json!({"type": "string", "format": "duration"}));
        }
        let limit = |key| map.get(key).map(|value| size(value, path, key)).transpose();
        let (least, most) = (limit("minLength")?.unwrap_or(0), limit("maxLength")?);
        let least = u32::try_from(least).map_err(|_| refusal(path, "minLength", "is too large"))?;
        // No answer is longer than a limit of more than 32 bits.
        let most = most.and_then(|most| u32::try_from(most).ok());
        let key = format!("string {least} {most:?} {text}");
        let string = pattern::string(text, least, most);
        let string = string.map_err(|reason| refusal(path, "pattern", &format!("`{text}` {reason}")))?;
        Ok(self.placeholder(key, string))
    }

    /// A reference to a definition that stands for a regular expression.
    pub(super) fn placeholder(&mut self, key: String, regex: RegexAst) -> Value {
        let n_bytes = &mut self.n_bytes;
        let number = *self.lexeme_of.entry(key).or_insert_with_key(|key| {
            *n_bytes += key.len();
            let number = self.lexemes.len();
            let placeholder = format!("{MARKER}{}", self.n_before + number);
            self.lexemes.push(Lexeme { placeholder, regex });
            number
        });
        json!({ "$ref": format!("#/$defs/l{number}") })
    }
}

pub(super) fn any_of(mut choices: Vec<Value>) -> Value {
    if choices.len() == 1 { choices.swap_remove(0) } else { json!({ "anyOf": choices }) }
}

/// True if a value is or holds a number that the library would round.
pub(super) fn holds_rounded(value: &Value) -> bool {
    let mut todo = vec![value];
    while let Some(value) = todo.pop() {
        match value {
            Value::Number(number) if is_rounded(number) => return true,
            Value::Array(items) => todo.extend(items),
            Value::Object(map) => todo.extend(map.values()),
            _ => {}
        }
    }
    false
}
