//! Reads calls that are written in a form.
//!
//! A model need not keep to the white space of its template, so that of the form's texts is not compared.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Tool;
use super::form::{
    ALL_KINDS, ARRAY, Arguments, Around, Form, Kinds, Members, Notation, OBJECT, Pattern, Piece, STRING,
    Values, bit, kind_of,
};
use super::kinds::{kinds, resolved};
use crate::text::answer::{
    Begun, CallReader, Read, ToolCall, braces_value, is_name_character, python_literal,
};

/// Reads the calls of some tools.
#[derive(Debug)]
pub(super) struct Reader {
    form: Form,
    /// The schemas of the tools' parameters.
    parameters: HashMap<String, Value>,
}

/// Longest name of an argument, in bytes.
const LONGEST_KEY: usize = 256;

/// The reason why a text is not read.
enum Fault {
    /// It ends too early.
    Cut,
    /// It is something else.
    Other,
}

type Step<'t, T = ()> = Result<(T, &'t str), Fault>;

impl Reader {
    pub(super) fn new(form: Form, tools: &[Tool]) -> Reader {
        let parameters = tools.iter().map(|tool| (tool.name.clone(), tool.parameters.clone())).collect();
        Reader { form, parameters }
    }

    /// The schema of an argument.
    fn schema(&self, tool: &str, key: &str) -> &Value {
        let root = self.parameters.get(tool).unwrap_or(&Value::Null);
        let (_, object) = resolved(root, "#".into());
        object.get("properties").and_then(|properties| properties.get(key)).unwrap_or(&Value::Null)
    }

    /// The kinds of the values of an argument.
    fn kinds(&self, tool: &str, key: &str) -> Kinds {
        self.parameters.get(tool).map_or(ALL_KINDS, |root| kinds(root, self.schema(tool, key)))
    }

    fn calls(&self, written: &str) -> Result<Vec<ToolCall>, Fault> {
        let form = &self.form;
        let marked = form.first.without(form.lead);
        let starts = [Some(&marked), form.next.as_ref()].into_iter().flatten();
        let mut fault = Fault::Other;
        let mut begun = None;
        for start in starts {
            match self.call(start, written.trim_start()) {
                Ok(call) => {
                    begun = Some(call);
                    break;
                }
                Err(Fault::Cut) => fault = Fault::Cut,
                Err(Fault::Other) => {}
            }
        }
        let Some((call, mut rest)) = begun else { return Err(fault) };
        let mut calls = vec![call];
        loop {
            let ended = eat(&form.tail, rest, &mut Captured::default());
            match ended {
                Ok(((), left)) if left.trim().is_empty() => return Ok(calls),
                Err(Fault::Cut) => fault = Fault::Cut,
                _ => fault = Fault::Other,
            }
            let next = form.next.as_ref().map(|next| self.call(next, rest));
            match next {
                Some(Ok((call, left))) => {
                    calls.push(call);
                    rest = left;
                }
                Some(Err(Fault::Cut)) => return Err(Fault::Cut),
                _ => return Err(fault),
            }
        }
    }

    /// A call up to the end of its arguments.
    fn call<'t>(&self, head: &Pattern, text: &'t str) -> Step<'t, ToolCall> {
        let mut captured = Captured::default();
        let Some(at) = head.0.iter().rposition(|piece| *piece == Piece::Name) else {
            return Err(Fault::Other);
        };
        // The last piece is the name, which ends where the arguments may begin.
        let ((), rest) = eat(&Pattern(head.0[..at].to_vec()), text, &mut captured)?;
        let mut fault = Fault::Other;
        for (end, c) in rest.char_indices().map(|(at, c)| (at, Some(c))).chain([(rest.len(), None)]) {
            if end > 0 {
                match self.arguments(&rest[..end], &rest[end..]) {
                    Ok((arguments, left)) => {
                        let id = (!captured.id.is_empty()).then_some(captured.id);
                        return Ok((ToolCall { id, name: rest[..end].to_owned(), arguments }, left));
                    }
                    Err(Fault::Cut) => fault = Fault::Cut,
                    Err(Fault::Other) => {}
                }
            }
            if !c.is_some_and(is_name_character) {
                break;
            }
        }
        Err(fault)
    }

    fn arguments<'t>(&self, name: &str, text: &'t str) -> Step<'t, Value> {
        match &self.form.arguments {
            Arguments::Json(before) => {
                let ((), rest) = eat(before, text, &mut Captured::default())?;
                let (value, rest) = json(rest)?;
                if value.is_object() { Ok((value, rest)) } else { Err(Fault::Other) }
            }
            Arguments::Members(members) => self.members(members, name, text),
        }
    }

    fn members<'t>(&self, members: &Members, name: &str, text: &'t str) -> Step<'t, Value> {
        let mut object = Map::new();
        let mut captured = Captured::default();
        let mut rest = text;
        loop {
            let before = if object.is_empty() { &members.first } else { &members.next };
            let opened =
                eat(&Pattern(before.0[..before.0.len().saturating_sub(1)].to_vec()), rest, &mut captured);
            match opened.and_then(|((), after)| self.member(members, name, after)) {
                Ok(((key, value), left)) => {
                    captured.key.clone_from(&key);
                    object.insert(key, value);
                    rest = left;
                }
                Err(fault) if object.is_empty() => {
                    return match eat(&members.none, rest, &mut captured) {
                        Ok(((), left)) if self.ends(left) => Ok((Value::Object(object), left)),
                        _ => Err(fault),
                    };
                }
                Err(Fault::Cut) if !self.ends(rest) => return Err(Fault::Cut),
                Err(_) => return Ok((Value::Object(object), rest)),
            }
        }
    }

    /// True if a call may have ended before this text.
    fn ends(&self, rest: &str) -> bool {
        let may = |pattern: &Pattern| {
            let text = pattern.leading_text();
            !text.is_empty() && !matches!(eat_text(text, rest), Err(Fault::Other))
        };
        rest.trim().is_empty() || may(&self.form.tail) || self.form.next.as_ref().is_some_and(may)
    }

    /// A key, its value, and what closes it.
    fn member<'t>(&self, members: &Members, name: &str, text: &'t str) -> Step<'t, (String, Value)> {
        let befores = || members.around.iter().flatten().map(|around| around.before.as_str());
        let words = |before: &'_ str| before.split_whitespace().next().unwrap_or_default().to_owned();
        let found = befores().filter_map(|before| text.find(words(before).as_str())).min();
        let Some(end) = found.filter(|end| *end > 0 && *end <= LONGEST_KEY) else {
            return Err(if text.len() <= LONGEST_KEY && found.is_none() { Fault::Cut } else { Fault::Other });
        };
        let (key, rest) = text.split_at(end);
        if key.contains('\n') {
            return Err(Fault::Other);
        }
        let allowed = self.kinds(name, key);
        let ways = members.around.iter().enumerate();
        let mut ways: Vec<(&Around, Kinds)> =
            ways.filter_map(|(kind, around)| Some((around.as_ref()?, bit(kind)))).collect();
        // The longest text before a value that fits; of equal ones those that the schema allows.
        ways.sort_by_key(|(around, kinds)| (std::cmp::Reverse(around.before.len()), kinds & allowed == 0));
        let mut fault = Fault::Other;
        for (around, kind) in ways {
            // Of a value that is allowed and cut, the beginning may look like another one.
            if kind & allowed == 0 && matches!(fault, Fault::Cut) {
                break;
            }
            let fits = |(other, kinds): (usize, &Option<Around>)| {
                kinds.as_ref().filter(|other| other.before == around.before).map_or(0, |_| bit(other))
            };
            let same: Kinds = members.around.iter().enumerate().map(fits).fold(0, |a, b| a | b);
            match self.value(members, around, kind, same & allowed, (name, key), rest) {
                Ok((value, left)) => return Ok(((key.to_owned(), value), left)),
                Err(Fault::Cut) => fault = Fault::Cut,
                Err(Fault::Other) => {}
            }
        }
        Err(fault)
    }

    /// A value that is written like those of one kind. `allowed` are the kinds that are written alike and allowed.
    fn value<'t>(
        &self,
        members: &Members,
        around: &Around,
        kind: Kinds,
        allowed: Kinds,
        (tool, key): (&str, &str),
        text: &'t str,
    ) -> Step<'t, Value> {
        let rest = match text.strip_prefix(around.before.as_str()) {
            Some(rest) => rest,
            None => eat_text(&around.before, text)?.1,
        };
        let close = members.close.filled(Values { last_key: key, ..Values::default() });
        let end = format!("{}{}", around.after, close.leading_text());
        let closed = |rest: &'t str| eat_text(&end, rest);
        match &around.notation {
            Notation::Quoted(_) => {
                // The quotation mark is part of the text before.
                let at = text.len() - rest.len() - 1;
                let (value, left) = python_literal(&text[at..]).ok_or(Fault::Cut)?;
                let ((), left) = eat_text(close.leading_text(), left)?;
                Ok((value, left))
            }
            Notation::Raw => {
                let at = rest.find(end.trim()).ok_or(Fault::Cut)?;
                let mut value = &rest[..at];
                if end.starts_with('\n') {
                    value = value.strip_suffix('\n').unwrap_or(value);
                }
                let ((), left) = closed(&rest[at..])?;
                Ok((Value::String(value.to_owned()), left))
            }
            Notation::Braces(_) => {
                let (value, left) = braces_value(rest).ok_or(Fault::Other)?;
                let ((), left) = closed(left)?;
                Ok((value, left))
            }
            Notation::Items(mark) => {
                let root = self.parameters.get(tool).unwrap_or(&Value::Null);
                let (value, left) = items_value(root, self.schema(tool, key), mark, rest, 0)?;
                let ((), left) = closed(left)?;
                Ok((value, left))
            }
            Notation::Json => {
                let (value, left) = json(rest).or_else(|fault| python_literal(rest).ok_or(fault))?;
                if kind_of(&value) & (kind | allowed) & !STRING == 0 {
                    return Err(Fault::Other);
                }
                let ((), left) = closed(left)?;
                Ok((value, left))
            }
        }
    }
}

impl CallReader for Reader {
    fn markers(&self) -> (&str, Option<&str>) {
        match self.form.open.as_str() {
            // A call after a text, where calls have no marker at the beginning.
            "" => (self.form.next.as_ref().map_or("", Pattern::leading_text), None),
            open => (open, self.form.close.as_deref()),
        }
    }

    fn is_json(&self) -> bool {
        matches!(self.form.arguments, Arguments::Json(_))
    }

    fn text_lead(&self) -> &str {
        if self.form.open.is_empty() { &self.form.text_lead } else { "" }
    }

    fn may_begin(&self, text: &str) -> bool {
        if !self.form.open.is_empty() {
            return false;
        }
        match self.form.first.0.first() {
            Some(Piece::Name) => self.parameters.keys().any(|name| {
                let end = name.len().min(text.len());
                name.as_bytes()[..end] == text.as_bytes()[..end]
                    && text.get(name.len()..).is_none_or(|rest| self.arguments_may_begin(rest))
            }),
            Some(Piece::Text(head)) => begins_like(head.trim_start(), text),
            _ => false,
        }
    }

    fn read(&self, written: &str) -> Read {
        match self.calls(written) {
            Ok(calls) => Read::Calls(calls),
            Err(Fault::Cut) => Read::Cut,
            Err(Fault::Other) => Read::Other,
        }
    }

    fn arguments_begin(&self, written: &str, is_first: bool) -> Begun {
        let Arguments::Json(before) = &self.form.arguments else { return Begun::Never };
        let marked = self.form.first.without(self.form.lead);
        let heads = [Some(&marked).filter(|_| is_first), self.form.next.as_ref()];
        let mut begun = Begun::Never;
        for head in heads.into_iter().flatten() {
            match self.to_arguments(head, before, written.trim_start()) {
                Ok(((), rest)) => return Begun::At(written.len() - rest.len()),
                Err(Fault::Cut) => begun = Begun::Later,
                Err(Fault::Other) => {}
            }
        }
        begun
    }

    fn tail(&self) -> Option<String> {
        fn text(piece: &Piece) -> Option<&str> {
            if let Piece::Text(text) = piece { Some(text) } else { None }
        }
        self.form.tail.0.iter().map(text).collect()
    }

    fn retyped(&self, mut calls: Vec<ToolCall>) -> Vec<ToolCall> {
        for call in &mut calls {
            let Value::Object(arguments) = &mut call.arguments else { continue };
            for (key, value) in arguments.iter_mut() {
                if !value.is_string() && self.kinds(&call.name, key) == STRING {
                    *value = Value::String(value.to_string());
                }
            }
        }
        calls
    }
}

impl Reader {
    /// The text from a call's arguments on, which are in JSON and written after `before`.
    fn to_arguments<'t>(&self, head: &Pattern, before: &Pattern, text: &'t str) -> Step<'t> {
        let Some(at) = head.0.iter().rposition(|piece| *piece == Piece::Name) else {
            return Err(Fault::Other);
        };
        let ((), rest) = eat(&Pattern(head.0[..at].to_vec()), text, &mut Captured::default())?;
        let end = rest.find(|c| !is_name_character(c)).unwrap_or(rest.len());
        let mut fault = if end == rest.len() && end <= LONGEST_KEY { Fault::Cut } else { Fault::Other };
        for name in self.parameters.keys() {
            let Some(after) = rest.strip_prefix(name.as_str()) else { continue };
            match eat(before, after, &mut Captured::default()) {
                Ok(((), left)) if left.trim_start().starts_with('{') => return Ok(((), left.trim_start())),
                Ok(((), left)) if left.trim_start().is_empty() => fault = Fault::Cut,
                Err(Fault::Cut) => fault = Fault::Cut,
                _ => {}
            }
        }
        Err(fault)
    }

    fn arguments_may_begin(&self, rest: &str) -> bool {
        match &self.form.arguments {
            Arguments::Json(before) => begins_like(before.leading_text(), rest),
            Arguments::Members(members) => begins_like(members.first.leading_text(), rest),
        }
    }
}

/// True if a text begins as another one, as far as both go, white space aside.
fn begins_like(head: &str, text: &str) -> bool {
    !matches!(eat_text(head, text), Err(Fault::Other))
}

/// Texts that stood for the pieces of a pattern.
#[derive(Default)]
struct Captured {
    id: String,
    key: String,
}

/// The text after a pattern.
fn eat<'t>(pattern: &Pattern, text: &'t str, captured: &mut Captured) -> Step<'t> {
    let mut rest = text;
    for (at, piece) in pattern.0.iter().enumerate() {
        match piece {
            Piece::Text(literal) => ((), rest) = eat_text(literal, rest)?,
            Piece::LastKey => ((), rest) = eat_text(&captured.key, rest)?,
            Piece::Name | Piece::Id | Piece::Index | Piece::Key => {
                let follows = match pattern.0.get(at + 1) {
                    Some(Piece::Text(text)) => text.trim(),
                    _ => "",
                };
                let end = match follows {
                    "" => rest.find(|c| !is_name_character(c)).unwrap_or(rest.len()),
                    follows => rest.find(follows).ok_or(Fault::Cut)?,
                };
                let (value, left) = rest.split_at(end);
                if value.is_empty() || value.len() > LONGEST_KEY || !value.chars().all(is_name_character) {
                    return Err(Fault::Other);
                }
                if *piece == Piece::Id {
                    value.clone_into(&mut captured.id);
                }
                rest = left;
            }
        }
    }
    Ok(((), rest))
}

/// The text after a literal one. White space is skipped where either has some.
fn eat_text<'t>(literal: &str, text: &'t str) -> Step<'t> {
    let mut rest = text;
    for c in literal.chars().filter(|c| !c.is_whitespace()) {
        let after = rest.strip_prefix(c).or_else(|| rest.trim_start().strip_prefix(c));
        rest = match after {
            Some(after) => after,
            None if rest.trim_start().is_empty() => return Err(Fault::Cut),
            None => return Err(Fault::Other),
        };
    }
    let space_follows = literal.ends_with(char::is_whitespace);
    Ok(((), if space_follows { rest.trim_start() } else { rest }))
}

/// The JSON value at the beginning of a text.
fn json(text: &str) -> Step<'_, Value> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match values.next() {
        Some(Ok(value)) => Ok((value, &text[values.byte_offset()..])),
        Some(Err(error)) if !error.is_eof() => Err(Fault::Other),
        _ => Err(Fault::Cut),
    }
}

/// Deepest nesting of lists and objects.
const DEEPEST: usize = 64;

/// A value in tags that begin with a mark, and the text after it, which begins with the mark too.
fn items_value<'t>(root: &Value, schema: &Value, mark: &str, text: &'t str, depth: usize) -> Step<'t, Value> {
    let tag = |text: &'t str| text.trim_start().strip_prefix(mark)?.strip_prefix('<');
    let name =
        |text: &'t str| tag(text).filter(|rest| !rest.starts_with('/')).and_then(|rest| rest.split_once('>'));
    let allowed = kinds(root, schema);
    let schema = match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => resolved(root, reference.to_owned()).1,
        None => schema,
    };
    if name(text).is_none() {
        let at = text.find(mark).ok_or(Fault::Cut)?;
        let (written, rest) = text.split_at(at);
        let value = match serde_json::from_str::<Value>(written.trim()) {
            _ if allowed == STRING => Value::String(written.to_owned()),
            Ok(value) if kind_of(&value) & allowed & !STRING != 0 => value,
            _ if written.is_empty() && allowed & STRING == 0 && allowed & ARRAY != 0 => {
                Value::Array(Vec::new())
            }
            _ if written.is_empty() && allowed & STRING == 0 && allowed & OBJECT != 0 => {
                Value::Object(Map::new())
            }
            _ => Value::String(written.to_owned()),
        };
        return Ok((value, rest));
    }
    if depth > DEEPEST {
        return Err(Fault::Other);
    }
    let is_list = allowed & ARRAY != 0 && name(text).is_some_and(|(tag, _)| tag == "item");
    let (mut list, mut object, mut rest) = (Vec::new(), Map::new(), text);
    while let Some((key, inner)) = name(rest) {
        let part =
            if is_list { schema.get("items") } else { schema.get("properties").and_then(|all| all.get(key)) };
        let (value, left) = items_value(root, part.unwrap_or(&Value::Null), mark, inner, depth + 1)?;
        let closed = tag(left).and_then(|rest| rest.strip_prefix('/')?.strip_prefix(key)?.strip_prefix('>'));
        rest = closed.ok_or(if tag(left).is_some_and(|rest| rest.contains('>')) {
            Fault::Other
        } else {
            Fault::Cut
        })?;
        if is_list {
            list.push(value);
        } else {
            object.insert(key.to_owned(), value);
        }
    }
    Ok((if is_list { Value::Array(list) } else { Value::Object(object) }, rest))
}
