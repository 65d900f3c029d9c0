//! Jinja2's global functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Object, ObjectRepr};
use minijinja::{Error, State, Value};

use super::arguments::{Arguments, integer_or, required};
use super::methods::is_function;
use super::value::{Dictionary, Method, View, dictionary, items_of, kept, numbers, view};
use super::{Function, Result, fail, unsupported};

/// The functions by name.
pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("cycler", |_, arguments| {
        let items = arguments.only_positional()?;
        if items.is_empty() {
            return Err(fail("cycler needs values"));
        }
        for item in &items {
            kept(item.clone())?;
        }
        Ok(Value::from_object(Cycler { items, at: AtomicUsize::new(0) }))
    }),
    ("dict", dict),
    ("joiner", |_, arguments| {
        let [separator] = arguments.bind(["sep"])?;
        let separator = kept(separator.unwrap_or(Value::from(", ")))?;
        Ok(Value::from_object(Joiner { separator, used: AtomicUsize::new(0) }))
    }),
    ("lipsum", |_, _| Err(unsupported("lipsum"))),
    ("namespace", namespace),
    ("range", range),
];

/// Stands for an argument of a macro: the engine takes an undefined one for one that is not given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Missing {
    /// The call does not give it.
    Absent,
    /// The call gives an undefined value.
    Undefined,
}

impl Object for Missing {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// The values up to the first that is missing.
pub(super) fn present(values: Vec<Value>) -> Vec<Value> {
    values.into_iter().take_while(|value| !is_absent(value)).map(taken).collect()
}

/// True if a call does not give the argument.
pub(super) fn is_absent(value: &Value) -> bool {
    value.downcast_object_ref() == Some(&Missing::Absent)
}

/// An argument for a macro.
pub(super) fn given(value: Value) -> Value {
    if value.is_undefined() { Value::from_object(Missing::Undefined) } else { value }
}

/// An argument of a macro as its body sees it.
pub(super) fn taken(value: Value) -> Value {
    if value.downcast_object_ref::<Missing>().is_some() { Value::UNDEFINED } else { value }
}

/// True if Python could call the value.
pub(super) fn is_callable(value: &Value) -> bool {
    is_function(value)
        || value.is_undefined()
        || value.downcast_object_ref::<Method>().is_some()
        || value.downcast_object_ref::<Joiner>().is_some()
        // A loop calls itself.
        || value.as_object().is_some_and(|object| object.type_name().ends_with("::Loop"))
}

/// `cycler`: one value after the other.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        (key.as_str() == Some("current")).then(|| self.items[self.at.load(Ordering::Relaxed)].clone())
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        _: &[Value],
    ) -> std::result::Result<Value, Error> {
        let at = self.at.load(Ordering::Relaxed);
        match method {
            "next" => {
                self.at.store((at + 1) % self.items.len(), Ordering::Relaxed);
                Ok(self.items[at].clone())
            }
            "reset" => {
                self.at.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(fail(format!("a cycler has no method {method}"))),
        }
    }
}

/// `joiner`: nothing at the first call, then the separator.
#[derive(Debug)]
struct Joiner {
    separator: Value,
    used: AtomicUsize,
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        arguments: &[Value],
    ) -> std::result::Result<Value, Error> {
        match (arguments.is_empty(), self.used.swap(1, Ordering::Relaxed)) {
            (false, _) => Err(fail("a joiner takes no arguments")),
            (true, 0) => Ok(Value::from("")),
            (true, _) => Ok(self.separator.clone()),
        }
    }
}

/// The pairs of `dict(…)` and `namespace(…)`.
fn pairs(arguments: Arguments) -> Result<Vec<(Value, Value)>> {
    let mut pairs = Vec::new();
    match arguments.positional.as_slice() {
        [] => {}
        [given] => match view(given) {
            View::Dictionary(Dictionary { entries, .. }) => pairs.extend(entries.iter().cloned()),
            _ => {
                for pair in items_of(given)? {
                    match <[Value; 2]>::try_from(items_of(&pair)?) {
                        Ok([key, value]) => pairs.push((key, value)),
                        Err(_) => return Err(fail("a dictionary is made of pairs")),
                    }
                }
            }
        },
        _ => return Err(fail("at most one argument without a name")),
    }
    pairs.extend(arguments.named.into_iter().map(|(name, value)| (Value::from(name), value)));
    Ok(pairs)
}

fn dict(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    dictionary(pairs(arguments)?)
}

fn namespace(state: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let mut fields = Vec::new();
    for (key, value) in pairs(arguments)? {
        let name = key.as_str().ok_or_else(|| unsupported("such a name in a namespace"))?;
        fields.push((name.to_owned(), kept(value)?));
    }
    // Only the engine's own namespace can be assigned to.
    Value::from_function(minijinja::functions::namespace).call(state, &[Value::from_pairs(fields)])
}

/// Most items of a range in Jinja2's sandbox.
const MAX_RANGE: u128 = 100_000;

fn range(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [first, second, step] = arguments.bind(["start", "stop", "step"])?;
    let needed = |value: Option<Value>| -> Result<i64> { integer_or(&Some(required(value)?), 0) };
    let (start, stop) = match second {
        None => (0, needed(first)?),
        second => (needed(first)?, needed(second)?),
    };
    let step = integer_or(&step, 1)?;
    if step == 0 {
        return Err(fail("the step of a range is zero"));
    }
    let distance =
        if step > 0 { i128::from(stop) - i128::from(start) } else { i128::from(start) - i128::from(stop) };
    let distance = u128::try_from(distance).unwrap_or(0);
    let count = distance.div_ceil(u128::from(step.unsigned_abs()));
    if count > MAX_RANGE {
        return Err(fail(format!("a range of more than {MAX_RANGE} items")));
    }
    numbers([start, stop, step], count as usize)
}
