//! Jinja2's filters of rows of values.

use std::cmp::Ordering;

use minijinja::value::Kwargs;
use minijinja::{Error, State, Value};

use super::super::bounds::{made, worked};
use super::arguments::{Arguments, flag, integer, required, text as text_argument};
use super::operators::{equal, item, order};
use super::print::str_of;
use super::value::{
    Kind, View, items_of, iterator, key_of, length_of, list, sequence, text, tuple, type_name, view,
};
use super::{Function, Result, fail};

/// The filters by name.
pub(super) const FILTERS: &[(&str, Function)] = &[
    ("batch", batch),
    ("count", length),
    ("dictsort", dict_sort),
    ("first", |_, arguments| {
        let value = only(arguments, "seq")?;
        match view(&value) {
            // An iterator keeps what is not asked for.
            View::Iterator(iterator) => Ok(iterator.next()?.unwrap_or_default()),
            _ => Ok(items_of(&value)?.into_iter().next().unwrap_or_default()),
        }
    }),
    ("groupby", group_by),
    ("items", |_, arguments| {
        let value = only(arguments, "value")?;
        iterator(|items| match view(&value) {
            View::Undefined => Ok(()),
            View::Dictionary(dictionary) => {
                for (key, value) in &dictionary.entries {
                    items.push(tuple(vec![key.clone(), value.clone()])?);
                }
                Ok(())
            }
            _ => Err(fail("items needs a dictionary")),
        })
    }),
    ("join", join),
    ("last", |_, arguments| {
        let value = only(arguments, "seq")?;
        reversible(&value)?;
        Ok(items_of(&value)?.pop().unwrap_or_default())
    }),
    ("length", length),
    ("list", |_, arguments| list(items_of(&only(arguments, "value")?)?)),
    ("map", map),
    ("max", |_, arguments| extreme(arguments, Ordering::Greater)),
    ("min", |_, arguments| extreme(arguments, Ordering::Less)),
    ("reject", |state, arguments| select(state, arguments, false, false)),
    ("rejectattr", |state, arguments| select(state, arguments, false, true)),
    ("reverse", |_, arguments| {
        let value = only(arguments, "value")?;
        if let Some(string) = value.as_str() {
            made(string.len())?;
            return text(string.chars().rev().collect(), value.is_safe());
        }
        let mut items = items_of(&value)?;
        items.reverse();
        // A value that cannot be read backwards becomes a list.
        match reversible(&value) {
            Ok(()) => iterator(|reversed| {
                *reversed = items;
                Ok(())
            }),
            Err(_) => list(items),
        }
    }),
    ("select", |state, arguments| select(state, arguments, true, false)),
    ("selectattr", |state, arguments| select(state, arguments, true, true)),
    ("slice", slice),
    ("sort", sort),
    ("sum", |_, arguments| {
        let [value, attribute, start] = arguments.bind(["iterable", "attribute", "start"])?;
        let mut parts = vec![start.unwrap_or(Value::from(0))];
        if parts[0].as_str().is_some() {
            return Err(fail("sum does not join texts"));
        }
        for value in items_of(&required(value)?)? {
            parts.push(Value::from("+"));
            parts.push(attribute_of(&value, &attribute, &None)?);
        }
        super::operators::sum(parts)
    }),
    ("unique", unique),
];

fn only(arguments: Arguments, name: &str) -> Result {
    let [value] = arguments.bind([name])?;
    required(value)
}

fn length(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    Ok(Value::from(length_of(&only(arguments, "obj")?)?))
}

/// An error for what has no order from its end.
fn reversible(value: &Value) -> Result<()> {
    match view(value) {
        View::Undefined | View::Text(_) | View::Sequence(_) | View::Dictionary(_) => Ok(()),
        _ => Err(fail(format!("{} has no last item", type_name(value)))),
    }
}

/// A stable sort; of two values, `compare` says no order for numbers that are none.
pub(super) fn sort_by<T>(
    items: &mut [T],
    compare: impl Fn(&T, &T) -> Result<Option<Ordering>>,
) -> Result<()> {
    let mut failed: Option<Error> = None;
    items.sort_by(|one, other| {
        if failed.is_some() {
            return Ordering::Equal;
        }
        match compare(one, other) {
            Ok(order) => order.unwrap_or(Ordering::Equal),
            Err(error) => {
                failed = Some(error);
                Ordering::Equal
            }
        }
    });
    failed.map_or(Ok(()), Err)
}

/// A text in small letters, another value as it is.
fn folded(value: Value, case_sensitive: bool) -> Result {
    match value.as_str() {
        Some(string) if !case_sensitive => {
            made(string.len())?;
            Ok(Value::from(string.to_lowercase()))
        }
        _ => Ok(value),
    }
}

/// The attribute of a value by its path (`a.b.0`), the value itself if none is wanted.
fn attribute_of(value: &Value, attribute: &Option<Value>, default: &Option<Value>) -> Result {
    let path = match attribute.as_ref().map(|attribute| (attribute, view(attribute))) {
        None | Some((_, View::None)) => return Ok(value.clone()),
        Some((_, View::Text(path))) => path,
        Some((attribute, View::Int(_))) => return or_default(item(value, attribute)?, default),
        Some((attribute, _)) => return Err(fail(format!("{} is not an attribute", type_name(attribute)))),
    };
    let mut value = value.clone();
    for part in path.split('.') {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let number = part.parse::<i64>().ok().filter(|_| is_number);
        let key = number.map_or_else(|| Value::from(part), Value::from);
        value = or_default(item(&value, &key)?, default)?;
    }
    Ok(value)
}

fn or_default(value: Value, default: &Option<Value>) -> Result {
    Ok(match default {
        Some(default) if value.is_undefined() && !default.is_none() => default.clone(),
        _ => value,
    })
}

fn join(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, separator, attribute] = arguments.bind(["value", "d", "attribute"])?;
    let separator = separator.map_or(Ok(String::new()), |separator| str_of(&separator))?;
    let mut out = String::new();
    for (n, value) in items_of(&required(value)?)?.iter().enumerate() {
        let part = str_of(&attribute_of(value, &attribute, &None)?)?;
        made(part.len() + separator.len())?;
        out.push_str(if n > 0 { &separator } else { "" });
        out.push_str(&part);
    }
    text(out, false)
}

/// The arguments with which `map` and `select` call a filter or a test.
fn passed(value: &Value, rest: &[Value], named: &[(String, Value)]) -> Vec<Value> {
    let mut values = vec![value.clone()];
    values.extend_from_slice(rest);
    if !named.is_empty() {
        values.push(Value::from(Kwargs::from_iter(named.to_vec())));
    }
    values
}

fn map(state: &mut State<'_, '_>, mut arguments: Arguments) -> Result {
    if arguments.positional.is_empty() {
        return Err(fail("map needs values"));
    }
    let values = arguments.positional.remove(0);
    iterator(|mapped| {
        // Nothing is looked at where there are no values.
        if !values.is_true() {
            return Ok(());
        }
        if arguments.positional.is_empty() {
            let [attribute, default] = arguments.bind::<2>(["attribute", "default"])?;
            let attribute = Some(required(attribute)?);
            for value in &items_of(&values)? {
                mapped.push(attribute_of(value, &attribute, &default)?);
            }
            return Ok(());
        }
        let filter = arguments.positional.remove(0);
        let filter = filter.as_str().ok_or_else(|| fail("map needs the name of a filter"))?;
        for value in &items_of(&values)? {
            worked(8)?;
            mapped.push(state.apply_filter(filter, &passed(value, &arguments.positional, &arguments.named))?);
        }
        Ok(())
    })
}

fn select(state: &mut State<'_, '_>, mut arguments: Arguments, wanted: bool, by_attribute: bool) -> Result {
    if arguments.positional.is_empty() {
        return Err(fail("select needs values"));
    }
    let values = arguments.positional.remove(0);
    iterator(|chosen| {
        if !values.is_true() {
            return Ok(());
        }
        if by_attribute && arguments.positional.is_empty() {
            return Err(fail("an attribute is missing"));
        }
        let attribute = by_attribute.then(|| arguments.positional.remove(0));
        let test = (!arguments.positional.is_empty()).then(|| arguments.positional.remove(0));
        for value in items_of(&values)? {
            worked(8)?;
            let seen = attribute_of(&value, &attribute, &None)?;
            let holds = match &test {
                None => seen.is_true(),
                Some(test) => {
                    let test = test.as_str().ok_or_else(|| fail("select needs the name of a test"))?;
                    state.perform_test(test, &passed(&seen, &arguments.positional, &arguments.named))?
                }
            };
            if holds == wanted {
                chosen.push(value);
            }
        }
        Ok(())
    })
}

fn extreme(arguments: Arguments, wanted: Ordering) -> Result {
    let [value, case, attribute] = arguments.bind(["value", "case_sensitive", "attribute"])?;
    let mut best: Option<(Value, Value)> = None;
    for value in items_of(&required(value)?)? {
        let key = folded(attribute_of(&value, &attribute, &None)?, flag(&case))?;
        let better = match &best {
            None => true,
            Some((_, other)) => order(&key, other)? == Some(wanted),
        };
        if better {
            best = Some((value, key));
        }
    }
    Ok(best.map_or(Value::UNDEFINED, |(value, _)| value))
}

fn sort(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, reverse, case, attribute] =
        arguments.bind(["value", "reverse", "case_sensitive", "attribute"])?;
    let mut keyed = Vec::new();
    for value in items_of(&required(value)?)? {
        worked(8)?;
        // Several attributes are separated by commas.
        let mut keys = Vec::new();
        match text_argument(&attribute) {
            Ok(Some(paths)) => {
                for path in paths.split(',') {
                    let path = Some(Value::from(path));
                    keys.push(folded(attribute_of(&value, &path, &None)?, flag(&case))?);
                }
            }
            _ => keys.push(folded(attribute_of(&value, &attribute, &None)?, flag(&case))?),
        }
        keyed.push((keys, value));
    }
    let backwards = flag(&reverse);
    sort_by(&mut keyed, |one, other| {
        // Equal keys need no order.
        for (one, other) in one.0.iter().zip(&other.0) {
            if !equal(one, other)? {
                let found = order(one, other)?;
                return Ok(if backwards { found.map(Ordering::reverse) } else { found });
            }
        }
        Ok(Some(Ordering::Equal))
    })?;
    list(keyed.into_iter().map(|(_, value)| value).collect())
}

fn unique(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, case, attribute] = arguments.bind(["value", "case_sensitive", "attribute"])?;
    let value = required(value)?;
    iterator(|kept| {
        let mut seen = std::collections::HashSet::new();
        for value in items_of(&value)? {
            if seen.insert(key_of(&folded(attribute_of(&value, &attribute, &None)?, flag(&case))?)?) {
                kept.push(value);
            }
        }
        Ok(())
    })
}

fn dict_sort(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, case, by, reverse] = arguments.bind(["value", "case_sensitive", "by", "reverse"])?;
    let value = required(value)?;
    let at = match text_argument(&by)?.unwrap_or("key") {
        "key" => 0,
        "value" => 1,
        _ => return Err(fail("dictsort sorts by key or value")),
    };
    let View::Dictionary(dictionary) = view(&value) else { return Err(fail("dictsort needs a dictionary")) };
    let mut keyed = Vec::new();
    for (key, value) in &dictionary.entries {
        let by = if at == 0 { key } else { value };
        keyed.push((folded(by.clone(), flag(&case))?, tuple(vec![key.clone(), value.clone()])?));
    }
    let backwards = flag(&reverse);
    sort_by(&mut keyed, |one, other| {
        let found = order(&one.0, &other.0)?;
        Ok(if backwards { found.map(Ordering::reverse) } else { found })
    })?;
    list(keyed.into_iter().map(|(_, pair)| pair).collect())
}

fn group_by(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, attribute, default, case] =
        arguments.bind(["value", "attribute", "default", "case_sensitive"])?;
    let attribute = Some(required(attribute)?);
    let mut keyed = Vec::new();
    for value in items_of(&required(value)?)? {
        let key = attribute_of(&value, &attribute, &default)?;
        keyed.push((folded(key.clone(), flag(&case))?, key, value));
    }
    sort_by(&mut keyed, |one, other| order(&one.0, &other.0))?;
    let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
    for (folded, key, value) in keyed {
        match groups.last_mut() {
            Some((last, _, values)) if equal(last, &folded)? => values.push(value),
            _ => groups.push((folded, key, vec![value])),
        }
    }
    let groups = groups.into_iter().map(|(_, key, values)| sequence(Kind::Group, vec![key, list(values)?]));
    list(groups.collect::<Result<_>>()?)
}

/// A count of at least one.
fn count_of(given: &Value) -> Result<usize> {
    let count = integer(&Some(given.clone()))?.unwrap_or(0);
    usize::try_from(count)
        .ok()
        .filter(|&count| count > 0)
        .ok_or_else(|| fail("a count of at least one is needed"))
}

fn batch(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, count, fill] = arguments.bind(["value", "linecount", "fill_with"])?;
    let (value, count) = (required(value)?, required(count)?);
    iterator(|rows| {
        let items = items_of(&value)?;
        // Rows of no items never fill: the first is empty, and the next has all the others.
        if let View::Int(count @ ..=0) = view(&count) {
            if count == 0 && !items.is_empty() {
                rows.push(list(Vec::new())?);
            }
            if !items.is_empty() {
                rows.push(list(items)?);
            }
            return Ok(());
        }
        let count = count_of(&count)?;
        for row in items.chunks(count) {
            let mut row = row.to_vec();
            if let Some(fill) = fill.as_ref().filter(|fill| !fill.is_none() && row.len() < count) {
                made(count.saturating_mul(size_of::<Value>()))?;
                row.resize(count, fill.clone());
            }
            rows.push(list(row)?);
        }
        Ok(())
    })
}

fn slice(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, count, fill] = arguments.bind(["value", "slices", "fill_with"])?;
    let (value, count) = (required(value)?, required(count)?);
    iterator(|rows| {
        // Less than one slice is none.
        if matches!(view(&count), View::Int(count) if count < 0) {
            return items_of(&value).map(|_| ());
        }
        let count = count_of(&count)?;
        let items = items_of(&value)?;
        made(count.saturating_mul(size_of::<Value>()))?;
        let (short, longer) = (items.len() / count, items.len() % count);
        let mut from = 0;
        for n in 0..count {
            let to = from + short + usize::from(n < longer);
            let mut row = items[from..to].to_vec();
            if let Some(fill) = fill.as_ref().filter(|fill| !fill.is_none() && n >= longer) {
                row.push(fill.clone());
            }
            rows.push(list(row)?);
            from = to;
        }
        Ok(())
    })
}
