//! Jinja2's tests.

use minijinja::value::ValueKind;
use minijinja::{State, Value};

use super::arguments::{Arguments, required};
use super::functions::is_callable;
use super::operators::{contains, equal, order};
use super::print::str_of;
use super::value::{View, key_of, view};
use super::{Function, Result, filters, sequences, unsupported};
use std::cmp::Ordering;

/// The tests by name.
pub(super) const TESTS: &[(&str, Function)] = &[
    ("boolean", |_, arguments| of(arguments, |value| matches!(view(value), View::Bool(_)))),
    ("callable", |_, arguments| of(arguments, is_callable)),
    ("defined", |_, arguments| of(arguments, |value| !value.is_undefined())),
    ("divisibleby", |_, arguments| {
        let [value, by] = two(arguments)?;
        remainder(&value, &by, 0)
    }),
    ("eq", is_equal),
    ("equalto", is_equal),
    ("escaped", |_, arguments| of(arguments, Value::is_safe)),
    ("even", |_, arguments| {
        let [value] = arguments.bind(["value"])?;
        remainder(&required(value)?, &Value::from(2), 0)
    }),
    ("false", |_, arguments| of(arguments, |value| matches!(view(value), View::Bool(false)))),
    ("filter", |_, arguments| {
        let [value] = arguments.bind(["value"])?;
        let name = required(value)?;
        key_of(&name)?;
        let mut known = filters::FILTERS.iter().chain(sequences::FILTERS);
        Ok(Value::from(known.any(|(known, _)| name.as_str() == Some(known))))
    }),
    ("float", |_, arguments| of(arguments, |value| matches!(view(value), View::Float(_)))),
    ("ge", |_, arguments| ordered(arguments, &[Ordering::Greater, Ordering::Equal])),
    ("greaterthan", |_, arguments| ordered(arguments, &[Ordering::Greater])),
    ("gt", |_, arguments| ordered(arguments, &[Ordering::Greater])),
    ("in", |_, arguments| {
        let [value, container] = two(arguments)?;
        Ok(Value::from(contains(&container, &value)?))
    }),
    ("integer", |_, arguments| of(arguments, |value| matches!(view(value), View::Int(_)))),
    // Strings and undefined values are iterable in Python.
    ("iterable", |_, arguments| {
        of(arguments, |value| {
            let is_loop = || matches!(value.kind(), ValueKind::Iterable);
            matches!(
                view(value),
                View::Undefined | View::Text(_) | View::Sequence(_) | View::Dictionary(_) | View::Iterator(_)
            ) || is_loop()
        })
    }),
    ("le", |_, arguments| ordered(arguments, &[Ordering::Less, Ordering::Equal])),
    ("lessthan", |_, arguments| ordered(arguments, &[Ordering::Less])),
    ("lower", |_, arguments| {
        let [value] = arguments.bind(["value"])?;
        cased(&str_of(&required(value)?)?, char::is_lowercase, char::is_uppercase)
    }),
    ("lt", |_, arguments| ordered(arguments, &[Ordering::Less])),
    ("mapping", |_, arguments| of(arguments, |value| matches!(view(value), View::Dictionary(_)))),
    ("ne", |_, arguments| {
        let [value, other] = two(arguments)?;
        Ok(Value::from(!equal(&value, &other)?))
    }),
    ("none", |_, arguments| of(arguments, Value::is_none)),
    ("number", |_, arguments| {
        of(arguments, |value| matches!(view(value), View::Bool(_) | View::Int(_) | View::Float(_)))
    }),
    ("odd", |_, arguments| {
        let [value] = arguments.bind(["value"])?;
        remainder(&required(value)?, &Value::from(2), 1)
    }),
    ("sameas", |_, arguments| {
        let [value, other] = two(arguments)?;
        match (view(&value), view(&other)) {
            (View::None, View::None) => Ok(Value::from(true)),
            (View::Bool(one), View::Bool(other)) => Ok(Value::from(one == other)),
            (View::None | View::Bool(_), _) | (_, View::None | View::Bool(_)) => Ok(Value::from(false)),
            // Python decides which equal values are the same object.
            _ => Err(unsupported("sameas of other values than true, false and none")),
        }
    }),
    // Values with a length and items, which includes strings, dictionaries and undefined values.
    ("sequence", |_, arguments| {
        let [value] = arguments.bind(["value"])?;
        let value = required(value)?;
        Ok(Value::from(match view(&value) {
            View::Undefined | View::Text(_) | View::Dictionary(_) => true,
            View::Sequence(sequence) => sequence.kind.is_indexed(),
            _ => false,
        }))
    }),
    ("string", |_, arguments| of(arguments, |value| value.as_str().is_some())),
    ("test", |_, arguments| {
        let [value] = arguments.bind(["value"])?;
        let name = required(value)?;
        key_of(&name)?;
        Ok(Value::from(TESTS.iter().any(|(known, _)| name.as_str() == Some(known))))
    }),
    ("true", |_, arguments| of(arguments, |value| matches!(view(value), View::Bool(true)))),
    ("undefined", |_, arguments| of(arguments, Value::is_undefined)),
    ("upper", |_, arguments| {
        let [value] = arguments.bind(["value"])?;
        cased(&str_of(&required(value)?)?, char::is_uppercase, char::is_lowercase)
    }),
];

fn of(arguments: Arguments, test: impl Fn(&Value) -> bool) -> Result {
    let [value] = arguments.bind(["value"])?;
    Ok(Value::from(test(&required(value)?)))
}

fn two(arguments: Arguments) -> Result<[Value; 2]> {
    let [value, other] = arguments.bind(["value", "other"])?;
    Ok([required(value)?, required(other)?])
}

fn is_equal(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, other] = two(arguments)?;
    Ok(Value::from(equal(&value, &other)?))
}

fn ordered(arguments: Arguments, wanted: &[Ordering]) -> Result {
    let [value, other] = two(arguments)?;
    Ok(Value::from(order(&value, &other)?.is_some_and(|found| wanted.contains(&found))))
}

/// True if the remainder is this number.
fn remainder(value: &Value, by: &Value, wanted: i64) -> Result {
    // Of a text it is the text formatted, which equals no number.
    let rest = super::operators::sum(vec![value.clone(), Value::from("%"), by.clone()])?;
    Ok(Value::from(equal(&rest, &Value::from(wanted))?))
}

/// True if the text has letters of one case and none of the other.
fn cased(text: &str, wanted: fn(char) -> bool, other: fn(char) -> bool) -> Result {
    Ok(Value::from(text.chars().any(wanted) && !text.chars().any(other)))
}
