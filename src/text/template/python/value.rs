//! Lists, tuples, dictionaries and iterators as Python has them.
//!
//! They know how deep they are nested, since the end of a value is a recursion in Rust, and no value may hold a
//! namespace, which could come to hold the value.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Error, State, Value};

use super::super::bounds::{is_bound, kept_alive, made, worked};
use super::print::{number_text, repr};
use super::{Result, fail, methods, unsupported};

/// Deepest nesting of values.
const MAX_DEPTH: usize = 100;

/// Bytes of an item in a list, and of an entry in a dictionary with its key's index.
const ITEM: usize = size_of::<Value>();
const ENTRY: usize = 6 * ITEM;

/// The kinds of [`Sequence`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    List,
    Tuple,
    Range,
    /// A tuple with the names `grouper` and `list`.
    Group,
    Keys,
    Values,
    Items,
}

impl Kind {
    /// True if the items have places.
    pub(super) fn is_indexed(self) -> bool {
        matches!(self, Kind::List | Kind::Tuple | Kind::Range | Kind::Group)
    }
}

/// Values in a row.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) kind: Kind,
    pub(super) items: Vec<Value>,
    /// Start, stop and step of a range.
    pub(super) range: [i64; 3],
    depth: usize,
}

/// A dictionary, in the order of insertion.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    pub(super) entries: Vec<(Value, Value)>,
    /// Places of the keys by what they are equal to.
    index: HashMap<String, usize>,
    depth: usize,
}

/// The values of a Python generator: every item once, and then the failure of the one after them, if there is one.
#[derive(Debug)]
pub(super) struct Iterator {
    items: Mutex<(VecDeque<Value>, Option<Error>)>,
    depth: usize,
}

/// A method that is not called at once.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) target: Value,
    pub(super) name: String,
}

/// A value by its type in Python.
pub(super) enum View<'v> {
    Undefined,
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'v str),
    Sequence(&'v Sequence),
    Dictionary(&'v Dictionary),
    Iterator(&'v Iterator),
    /// A namespace, a macro, a function, a loop.
    Other,
}

pub(super) fn view(value: &Value) -> View<'_> {
    match value.kind() {
        ValueKind::Undefined => View::Undefined,
        ValueKind::None => View::None,
        ValueKind::Bool => View::Bool(value.is_true()),
        ValueKind::Number if value.is_integer() => {
            i128::try_from(value.clone()).map_or(View::Other, View::Int)
        }
        ValueKind::Number => f64::try_from(value.clone()).map_or(View::Other, View::Float),
        ValueKind::String => value.as_str().map_or(View::Other, View::Text),
        _ => {
            if let Some(sequence) = value.downcast_object_ref() {
                View::Sequence(sequence)
            } else if let Some(dictionary) = value.downcast_object_ref() {
                View::Dictionary(dictionary)
            } else if let Some(iterator) = value.downcast_object_ref() {
                View::Iterator(iterator)
            } else {
                View::Other
            }
        }
    }
}

/// The name of a value's type in messages.
pub(super) fn type_name(value: &Value) -> &'static str {
    match view(value) {
        View::Undefined => "an undefined value",
        View::None => "none",
        View::Bool(_) => "a truth value",
        View::Int(_) | View::Float(_) => "a number",
        View::Text(_) => "a text",
        View::Sequence(sequence) => match sequence.kind {
            Kind::Tuple | Kind::Group => "a tuple",
            _ => "a list",
        },
        View::Dictionary(_) => "a dictionary",
        View::Iterator(_) => "an iterator",
        View::Other => "an object",
    }
}

/// The nesting of a value, if a container may hold it.
fn depth_of(value: &Value) -> Result<usize> {
    Ok(match view(value) {
        View::Sequence(sequence) => sequence.depth,
        View::Dictionary(dictionary) => dictionary.depth,
        View::Iterator(iterator) => iterator.depth,
        // Functions and macros hold nothing.
        View::Other if methods::is_function(value) => 0,
        View::Other => return Err(unsupported("to hold a namespace, a loop or a method in another value")),
        _ => 0,
    })
}

/// The nesting of a container of these values.
fn depth_above<'v>(values: impl std::iter::Iterator<Item = &'v Value>) -> Result<usize> {
    let mut depth = 0;
    for value in values {
        depth = depth.max(depth_of(value)?);
    }
    match depth < MAX_DEPTH {
        true => Ok(depth + 1),
        false => Err(fail(format!("a value is nested more than {MAX_DEPTH} deep"))),
    }
}

/// A value that a namespace may hold.
pub(super) fn kept(value: Value) -> Result {
    depth_of(&value)?;
    Ok(value)
}

/// A row of values.
pub(super) fn sequence(kind: Kind, items: Vec<Value>) -> Result {
    let bytes = ITEM * items.len();
    made(bytes)?;
    worked(BUILT + items.len())?;
    let depth = depth_above(items.iter())?;
    Ok(object(Sequence { kind, items, range: [0; 3], depth }, bytes))
}

/// The numbers of a range.
pub(super) fn numbers([start, stop, step]: [i64; 3], count: usize) -> Result {
    made(ITEM * count)?;
    let items = (0..count as i64).map(|n| Value::from(start.wrapping_add(n.wrapping_mul(step)))).collect();
    Ok(object(Sequence { kind: Kind::Range, items, range: [start, stop, step], depth: 1 }, ITEM * count))
}

pub(in super::super) fn list(items: Vec<Value>) -> Result {
    sequence(Kind::List, items)
}

pub(super) fn tuple(items: Vec<Value>) -> Result {
    sequence(Kind::Tuple, items)
}

/// Work of building a list or a dictionary, and of each entry of a dictionary: 39,000 passes of a loop that builds six dictionaries
/// and three lists took 3.1 s while only their items and bytes counted.
const BUILT: usize = 64;

/// A dictionary; of equal keys the first stays, with the last one's value.
pub(in super::super) fn dictionary(pairs: Vec<(Value, Value)>) -> Result {
    let mut bytes = ENTRY * pairs.len();
    made(bytes)?;
    worked(BUILT * (1 + pairs.len()))?;
    let mut result = Dictionary::default();
    for (key, value) in pairs {
        let same = key_of(&key)?;
        match result.index.get(&same) {
            Some(&at) => result.entries[at].1 = value,
            None => {
                made(same.len())?;
                bytes += same.len();
                result.index.insert(same, result.entries.len());
                result.entries.push((key, value));
            }
        }
    }
    result.depth = depth_above(result.entries.iter().map(|(_, value)| value))?;
    Ok(object(result, bytes))
}

/// A generator of the items that `fill` makes. It fails when the item is wanted that could not be made.
pub(super) fn iterator(fill: impl FnOnce(&mut Vec<Value>) -> Result<()>) -> Result {
    let mut items = Vec::new();
    let failure = match fill(&mut items) {
        Err(error) if is_bound(&error) => return Err(error),
        filled => filled.err(),
    };
    let bytes = ITEM * items.len();
    made(bytes)?;
    let depth = depth_above(items.iter())?;
    Ok(object(Iterator { items: Mutex::new((items.into(), failure)), depth }, bytes))
}

/// A container, in the account of what is alive.
fn object<T: Object + 'static>(value: T, bytes: usize) -> Value {
    let value = Arc::new(value);
    kept_alive(Arc::downgrade(&value), bytes);
    Value::from_dyn_object(value)
}

/// A text that is a result; `safe` if it is `Markup`.
pub(super) fn text(text: String, safe: bool) -> Result {
    let bytes = text.len();
    made(bytes)?;
    Ok(alive(if safe { Value::from_safe_string(text) } else { Value::from(text) }, bytes))
}

/// A text that was accounted for, in the account of what is alive.
pub(super) fn alive(value: Value, bytes: usize) -> Value {
    // The engine holds shorter ones without memory of their own.
    if bytes > 22
        && let Some(text) = value.to_str()
    {
        kept_alive(Arc::downgrade(&text), bytes);
    }
    value
}

/// The form of a key that equal keys share: 1, 1.0 and true are one key.
pub(super) fn key_of(key: &Value) -> Result<String> {
    worked(4)?;
    Ok(match view(key) {
        View::Text(text) => {
            worked(text.len() / 16)?;
            format!("'{text}")
        }
        View::Bool(value) => format!("{}", i32::from(value)),
        View::Int(value) => value.to_string(),
        View::Float(value) if value.fract() == 0.0 && value.abs() < 1e30 => format!("{}", value as i128),
        View::Float(value) => number_text(value),
        View::None => "none".to_owned(),
        View::Undefined => "undefined".to_owned(),
        View::Sequence(sequence) if matches!(sequence.kind, Kind::Tuple | Kind::Group) => {
            let mut text = "(".to_owned();
            for item in &sequence.items {
                let item = key_of(item)?;
                made(item.len())?;
                text += &format!("{}:{item}", item.len());
            }
            text
        }
        View::Sequence(sequence) if sequence.kind == Kind::Range => {
            return Err(unsupported("a range as a key"));
        }
        View::Sequence(_) | View::Dictionary(_) => {
            return Err(fail(format!("{} is not a key", type_name(key))));
        }
        _ => return Err(unsupported("such a key")),
    })
}

impl Dictionary {
    pub(super) fn get(&self, key: &Value) -> Result<Option<&Value>> {
        Ok(self.index.get(&key_of(key)?).map(|&at| &self.entries[at].1))
    }
}

impl Iterator {
    /// The next item.
    pub(super) fn next(&self) -> Result<Option<Value>> {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        match items.0.pop_front() {
            Some(item) => Ok(Some(item)),
            None => items.1.take().map_or(Ok(None), Err),
        }
    }

    fn rest(&self) -> Result<Vec<Value>> {
        let (items, failure) =
            std::mem::take(&mut *self.items.lock().unwrap_or_else(PoisonError::into_inner));
        failure.map_or_else(|| Ok(items.into()), Err)
    }
}

/// `list(value)`.
pub(super) fn items_of(value: &Value) -> Result<Vec<Value>> {
    let items: Vec<Value> = match view(value) {
        View::Undefined => Vec::new(),
        View::Text(text) => {
            made(ITEM * text.len())?;
            text.chars().map(Value::from).collect()
        }
        View::Sequence(sequence) => sequence.items.clone(),
        View::Dictionary(dictionary) => dictionary.entries.iter().map(|(key, _)| key.clone()).collect(),
        View::Iterator(iterator) => iterator.rest()?,
        _ => return Err(fail(format!("{} is not iterable", type_name(value)))),
    };
    worked(items.len())?;
    Ok(items)
}

/// `len(value)`.
pub(super) fn length_of(value: &Value) -> Result<usize> {
    match view(value) {
        View::Undefined => Ok(0),
        View::Text(text) => {
            worked(text.len() / 16)?;
            Ok(text.chars().count())
        }
        View::Sequence(sequence) => Ok(sequence.items.len()),
        View::Dictionary(dictionary) => Ok(dictionary.entries.len()),
        _ => Err(fail(format!("{} has no length", type_name(value)))),
    }
}

/// A JSON value as a template's value.
pub(in super::super) fn of_json(json: &serde_json::Value) -> Result {
    use serde_json::Value as Json;
    Ok(match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::from(integer),
            (None, Some(integer)) => Value::from(integer),
            (None, None) => number.as_f64().map_or(Value::from(()), Value::from),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => list(items.iter().map(of_json).collect::<Result<_>>()?)?,
        Json::Object(fields) => dictionary(
            fields
                .iter()
                .map(|(key, value)| Ok((Value::from(key.as_str()), of_json(value)?)))
                .collect::<Result<_>>()?,
        )?,
    })
}

impl Object for Sequence {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match (self.kind, key.as_str()) {
            (Kind::Group, Some("grouper")) => self.items.first().cloned(),
            (Kind::Group, Some("list")) => self.items.get(1).cloned(),
            _ => self.items.get(key.as_usize()?).cloned(),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.items.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        render(&Value::from_dyn_object(self.clone()), f)
    }
}

impl Object for Dictionary {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get(key).ok().flatten().cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.entries.iter().map(|(key, _)| key.clone()).collect())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        render(&Value::from_dyn_object(self.clone()), f)
    }
}

impl Object for Iterator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(
        self: &Arc<Self>,
        state: &mut State<'_, '_>,
        arguments: &[Value],
    ) -> std::result::Result<Value, Error> {
        self.target.call_method(state, &self.name, arguments)
    }
}

/// For messages of the engine itself.
fn render(value: &Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = String::new();
    repr(value, &mut text).map_err(|_| fmt::Error)?;
    f.write_str(&text)
}
