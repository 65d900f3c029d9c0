//! Python's operators, as the functions that `syntax` translates them to.

use std::cmp::Ordering;

use minijinja::{State, Value};

use super::super::bounds::{made, worked};
use super::arguments::{Arguments, integer};
use super::filters::escaped;
use super::value::{
    Kind, View, alive, dictionary, items_of, kept, key_of, length_of, list, numbers, sequence, text, tuple,
    type_name, view,
};
use super::{Function, Result, fail, format, functions, methods, print, unsupported};

/// The functions, without their prefix.
pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("calculate", |_, arguments| fold(arguments, calculate)),
    ("compare", |_, arguments| compare_all(&arguments.positional)),
    ("concatenate", |_, arguments| concatenate(&arguments.positional)),
    ("negative", |_, arguments| signed(&arguments.positional, -1)),
    ("positive", |_, arguments| signed(&arguments.positional, 1)),
    ("list", |_, arguments| list(arguments.positional)),
    ("tuple", |_, arguments| tuple(arguments.positional)),
    ("dict", |_, arguments| {
        let mut values = arguments.positional.into_iter();
        dictionary(std::iter::from_fn(|| Some((values.next()?, values.next()?))).collect())
    }),
    ("iterate", |_, arguments| {
        let [value] = arguments.bind(["value"])?;
        list(items_of(&value.unwrap_or_default())?)
    }),
    ("rows", |_, arguments| {
        let [value] = arguments.bind(["value"])?;
        let rows = items_of(&value.unwrap_or_default())?;
        list(rows.iter().map(|row| list(items_of(row)?)).collect::<Result<_>>()?)
    }),
    ("keep", |_, arguments| {
        let [value] = arguments.bind(["value"])?;
        kept(value.unwrap_or_default())
    }),
    ("item", |_, arguments| {
        let [value, key] = arguments.bind(["value", "key"])?.map(Option::unwrap_or_default);
        item(&value, &key)
    }),
    ("attribute", |_, arguments| {
        let [value, name] = arguments.bind(["value", "name"])?.map(Option::unwrap_or_default);
        attribute(&value, &name)
    }),
    ("slice", |_, arguments| {
        let bound = arguments.bind(["value", "start", "stop", "step"])?;
        slice(&bound[0].clone().unwrap_or_default(), &bound[1], &bound[2], &bound[3])
    }),
    ("cycle", cycle),
    ("no_other_template", |_, arguments| {
        let word = arguments.positional.first().map(Value::to_string).unwrap_or_default();
        Err(fail(format!("{word}: a chat template has no other templates")))
    }),
];

/// Functions that see the marks of a macro's arguments.
pub(super) fn install_marks(environment: &mut minijinja::Environment<'static>) {
    use minijinja::value::Rest;
    let name = |name: &str| format!("{}{name}", super::super::syntax::PREFIX);
    environment.add_function(name("given"), |value: Value| functions::given(value));
    environment.add_function(name("taken"), |value: Value| functions::taken(value));
    environment
        .add_function(name("varargs"), |values: Rest<Value>| tuple(functions::present(values.to_vec())));
}

/// Values with operators between them, applied from left to right.
fn fold(arguments: Arguments, apply: fn(&str, &Value, &Value) -> Result) -> Result {
    let mut values = arguments.positional.into_iter();
    let mut left = values.next().unwrap_or_default();
    while let (Some(operator), Some(right)) = (values.next(), values.next()) {
        left = apply(operator.as_str().unwrap_or_default(), &left, &right)?;
    }
    Ok(left)
}

/// Values with operators between them.
pub(super) fn sum(values: Vec<Value>) -> Result {
    fold(Arguments { positional: values, named: Vec::new() }, calculate)
}

fn no_operands(operator: &str, left: &Value, right: &Value) -> minijinja::Error {
    fail(format!("no {operator} of {} and {}", type_name(left), type_name(right)))
}

/// Two numbers as Python takes them together.
enum Pair {
    Ints(i128, i128),
    Floats(f64, f64),
}

fn pair(left: &Value, right: &Value) -> Option<Pair> {
    let number = |value: &Value| match view(value) {
        View::Bool(value) => Some((Some(i128::from(value)), f64::from(u8::from(value)))),
        View::Int(value) => Some((Some(value), value as f64)),
        View::Float(value) => Some((None, value)),
        _ => None,
    };
    Some(match (number(left)?, number(right)?) {
        ((Some(left), _), (Some(right), _)) => Pair::Ints(left, right),
        ((_, left), (_, right)) => Pair::Floats(left, right),
    })
}

/// A whole number; beyond 64 bits Python has it, and the engine's size is the limit.
fn int(value: Option<i128>) -> Result {
    value
        .map(|value| i64::try_from(value).map_or(Value::from(value), Value::from))
        .ok_or_else(|| unsupported("a whole number of more than 128 bits"))
}

fn calculate(operator: &str, left: &Value, right: &Value) -> Result {
    if let (View::Text(template), "%") = (view(left), operator) {
        return format::percent(template, left.is_safe(), right);
    }
    match pair(left, right) {
        Some(Pair::Ints(left, right)) => ints(operator, left, right),
        Some(Pair::Floats(left, right)) => floats(operator, left, right),
        None => match operator {
            "+" => add(left, right),
            "*" => repeat(left, right),
            _ => Err(no_operands(operator, left, right)),
        },
    }
}

fn ints(operator: &str, left: i128, right: i128) -> Result {
    let floor = |left: i128, right: i128| {
        let quotient = left.checked_div(right)?;
        Some(if left % right != 0 && (left < 0) != (right < 0) { quotient - 1 } else { quotient })
    };
    match operator {
        "+" => int(left.checked_add(right)),
        "-" => int(left.checked_sub(right)),
        "*" => int(left.checked_mul(right)),
        "**" if right < 0 => power(left as f64, right as f64),
        "**" => int(u32::try_from(right).ok().and_then(|right| left.checked_pow(right))),
        _ if right == 0 => Err(fail("division by zero")),
        "/" if left.abs().max(right.abs()) > 1 << 53 => Err(unsupported("to divide so large a number")),
        "/" => Ok(Value::from(left as f64 / right as f64)),
        "//" => int(floor(left, right)),
        _ => int(floor(left, right).and_then(|quotient| left.checked_sub(quotient.checked_mul(right)?))),
    }
}

fn power(left: f64, right: f64) -> Result {
    match left.powf(right) {
        _ if left == 0.0 && right < 0.0 => Err(fail("zero to a negative power")),
        result if result.is_nan() && left < 0.0 => Err(unsupported("a complex number")),
        result if result.is_infinite() && left.is_finite() && right.is_finite() => {
            Err(fail("result too large"))
        }
        result => Ok(Value::from(result)),
    }
}

fn floats(operator: &str, left: f64, right: f64) -> Result {
    // As Python: the remainder has the divisor's sign, and the quotient is that of what remains.
    let divided = || {
        let mut rest = left % right;
        if rest != 0.0 && (rest < 0.0) != (right < 0.0) {
            rest += right;
        } else if rest == 0.0 {
            rest = 0.0_f64.copysign(right);
        }
        let exact = (left - rest) / right;
        let floor = exact.floor();
        let quotient = if exact == 0.0 {
            0.0_f64.copysign(left / right)
        } else if exact - floor > 0.5 {
            floor + 1.0
        } else {
            floor
        };
        (quotient, rest)
    };
    Ok(Value::from(match operator {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        "**" => return power(left, right),
        _ if right == 0.0 => return Err(fail("division by zero")),
        "/" => left / right,
        "//" => divided().0,
        _ => divided().1,
    }))
}

fn is_tuple(kind: Kind) -> bool {
    matches!(kind, Kind::Tuple | Kind::Group)
}

fn add(left: &Value, right: &Value) -> Result {
    match (view(left), view(right)) {
        (View::Text(one), View::Text(other)) => match left.is_safe() || right.is_safe() {
            true => text(escaped(left, one) + &escaped(right, other), true),
            false => {
                made(one.len() + other.len())?;
                Ok(alive(Value::from([one, other].concat()), one.len() + other.len()))
            }
        },
        (View::Sequence(one), View::Sequence(other))
            if (one.kind == Kind::List && other.kind == Kind::List)
                || (is_tuple(one.kind) && is_tuple(other.kind)) =>
        {
            made(size_of::<Value>() * (one.items.len() + other.items.len()))?;
            let kind = if one.kind == Kind::List { Kind::List } else { Kind::Tuple };
            sequence(kind, one.items.iter().chain(&other.items).cloned().collect())
        }
        _ => Err(no_operands("+", left, right)),
    }
}

fn repeat(left: &Value, right: &Value) -> Result {
    let (repeated, count) = match (view(left), view(right)) {
        (_, View::Int(count)) => (left, count),
        (View::Int(count), _) => (right, count),
        (_, View::Bool(count)) => (left, i128::from(count)),
        (View::Bool(count), _) => (right, i128::from(count)),
        _ => return Err(no_operands("*", left, right)),
    };
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    match view(repeated) {
        View::Text(string) => {
            let bytes = string.len().saturating_mul(count);
            made(bytes)?;
            let text = string.repeat(count);
            Ok(alive(
                if repeated.is_safe() { Value::from_safe_string(text) } else { Value::from(text) },
                bytes,
            ))
        }
        View::Sequence(items) if items.kind == Kind::List || is_tuple(items.kind) => {
            made(items.items.len().saturating_mul(count).saturating_mul(size_of::<Value>()))?;
            let kind = if items.kind == Kind::List { Kind::List } else { Kind::Tuple };
            sequence(kind, std::iter::repeat_n(&items.items, count).flatten().cloned().collect())
        }
        _ => Err(no_operands("*", left, right)),
    }
}

fn signed(values: &[Value], sign: i128) -> Result {
    match values.first().map(view) {
        Some(View::Bool(value)) => int(Some(i128::from(value) * sign)),
        Some(View::Int(value)) => int(value.checked_mul(sign)),
        Some(View::Float(value)) => Ok(Value::from(if sign < 0 { -value } else { value })),
        _ => Err(fail("a sign needs a number")),
    }
}

/// `~`: the values as texts.
fn concatenate(values: &[Value]) -> Result {
    let mut out = String::new();
    for value in values {
        match value.as_str() {
            Some(text) => {
                made(text.len())?;
                out.push_str(text);
            }
            None => out.push_str(&print::str_of(value)?),
        }
    }
    let bytes = out.len();
    Ok(alive(Value::from(out), bytes))
}

/// A row of comparisons, each of neighbours.
fn compare_all(values: &[Value]) -> Result {
    let mut result = true;
    for step in values.windows(3).step_by(2) {
        let [left, operator, right] = step else { continue };
        result = match operator.as_str().unwrap_or_default() {
            "==" => equal(left, right)?,
            "!=" => !equal(left, right)?,
            "in" => contains(right, left)?,
            "not in" => !contains(right, left)?,
            "<" => order(left, right)? == Some(Ordering::Less),
            ">" => order(left, right)? == Some(Ordering::Greater),
            "<=" => matches!(order(left, right)?, Some(Ordering::Less | Ordering::Equal)),
            _ => matches!(order(left, right)?, Some(Ordering::Greater | Ordering::Equal)),
        };
        if !result {
            break;
        }
    }
    Ok(Value::from(result))
}

/// `left == right`.
pub(super) fn equal(left: &Value, right: &Value) -> Result<bool> {
    worked(4)?;
    match pair(left, right) {
        Some(Pair::Ints(left, right)) => return Ok(left == right),
        Some(Pair::Floats(left, right)) => return Ok(left == right),
        None => {}
    }
    Ok(match (view(left), view(right)) {
        (View::Text(one), View::Text(other)) => {
            worked(one.len().min(other.len()) / 16)?;
            one == other
        }
        (View::None, View::None) | (View::Undefined, View::Undefined) => true,
        (View::Sequence(one), View::Sequence(other)) => {
            let alike = one.kind == other.kind || is_tuple(one.kind) && is_tuple(other.kind);
            if matches!(one.kind, Kind::Keys | Kind::Values | Kind::Items) {
                return Err(unsupported("to compare views of dictionaries"));
            }
            if !alike || one.items.len() != other.items.len() {
                return Ok(false);
            }
            for (one, other) in one.items.iter().zip(&other.items) {
                if !equal(one, other)? {
                    return Ok(false);
                }
            }
            true
        }
        (View::Dictionary(one), View::Dictionary(other)) => {
            if one.entries.len() != other.entries.len() {
                return Ok(false);
            }
            for (key, value) in &one.entries {
                match other.get(key)? {
                    Some(found) if equal(value, found)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (View::Other | View::Iterator(_), View::Other | View::Iterator(_)) => left == right,
        _ => false,
    })
}

/// The order of two values; `None` if one is not a number.
pub(super) fn order(left: &Value, right: &Value) -> Result<Option<Ordering>> {
    worked(4)?;
    match pair(left, right) {
        Some(Pair::Ints(left, right)) => return Ok(Some(left.cmp(&right))),
        Some(Pair::Floats(left, right)) => return Ok(left.partial_cmp(&right)),
        None => {}
    }
    match (view(left), view(right)) {
        (View::Text(one), View::Text(other)) => {
            worked(one.len().min(other.len()) / 16)?;
            Ok(Some(one.cmp(other)))
        }
        (View::Sequence(one), View::Sequence(other))
            if (one.kind == Kind::List && other.kind == Kind::List)
                || (is_tuple(one.kind) && is_tuple(other.kind)) =>
        {
            for (one, other) in one.items.iter().zip(&other.items) {
                if !equal(one, other)? {
                    return order(one, other);
                }
            }
            Ok(Some(one.items.len().cmp(&other.items.len())))
        }
        _ => Err(fail(format!("no order of {} and {}", type_name(left), type_name(right)))),
    }
}

/// `value in container`.
pub(super) fn contains(container: &Value, value: &Value) -> Result<bool> {
    match view(container) {
        View::Undefined => Ok(false),
        View::Text(text) => match view(value) {
            View::Text(part) => {
                worked(text.len() / 8)?;
                Ok(text.contains(part))
            }
            _ => Err(fail(format!("{} cannot be in a text", type_name(value)))),
        },
        View::Sequence(sequence) => {
            if sequence.kind == Kind::Keys {
                key_of(value)?;
            }
            for item in &sequence.items {
                if equal(item, value)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        View::Dictionary(dictionary) => Ok(dictionary.get(value)?.is_some()),
        View::Iterator(iterator) => {
            while let Some(item) = iterator.next()? {
                if equal(&item, value)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Err(fail(format!("nothing is in {}", type_name(container)))),
    }
}

/// `value[key]`, or the attribute of that name.
pub(super) fn item(value: &Value, key: &Value) -> Result {
    let index = || match view(key) {
        View::Int(index) => Some(index),
        View::Bool(index) => Some(i128::from(index)),
        _ => None,
    };
    let place = |length: usize| {
        let index = index()?;
        let from_end = if index < 0 { index.checked_add(length as i128)? } else { index };
        usize::try_from(from_end).ok().filter(|&at| at < length)
    };
    let found = match view(value) {
        View::Undefined => return Err(fail("an undefined value has no items")),
        View::Text(string) if index().is_some() => {
            let length = length_of(value)?;
            let character = place(length).and_then(|at| string.chars().nth(at));
            character.map(|character| text(character.to_string(), value.is_safe())).transpose()?
        }
        View::Sequence(items) if index().is_some() && items.kind.is_indexed() => {
            place(items.items.len()).map(|at| items.items[at].clone())
        }
        View::Dictionary(entries) => match key_of(key) {
            Ok(_) => entries.get(key)?.cloned(),
            // A list cannot be a key, which is as if there were none.
            Err(_) => None,
        },
        View::Other => value.get_item(key).ok().filter(|found| !found.is_undefined()),
        _ => None,
    };
    match (found, key.as_str()) {
        (Some(found), _) => Ok(found),
        (None, Some(name)) if methods::exists(value, name) => Ok(methods::bound(value, name)),
        (None, _) => Ok(Value::UNDEFINED),
    }
}

/// `value.name`: methods come before items.
pub(super) fn attribute(value: &Value, name: &Value) -> Result {
    let text = name.as_str().unwrap_or_default();
    if value.is_undefined() {
        return Err(fail(format!("an undefined value has no attribute {text}")));
    }
    match (view(value), text) {
        (View::Int(_) | View::Float(_), "real") | (View::Int(_), "numerator") => return Ok(value.clone()),
        (View::Int(_), "imag") => return Ok(Value::from(0)),
        (View::Int(_), "denominator") => return Ok(Value::from(1)),
        _ if methods::exists(value, text) => return Ok(methods::bound(value, text)),
        _ => {}
    }
    if text.starts_with("__") && !matches!(view(value), View::Dictionary(_)) {
        return Err(unsupported(format!("the attribute {text}")));
    }
    match view(value) {
        View::Dictionary(_) => item(value, name),
        _ => Ok(value.get_attr(text).unwrap_or_default()),
    }
}

/// `value[start:stop:step]`.
fn slice(value: &Value, start: &Option<Value>, stop: &Option<Value>, step: &Option<Value>) -> Result {
    let length = match view(value) {
        View::Undefined => return Err(fail("an undefined value has no items")),
        View::Text(_) => length_of(value)?,
        View::Sequence(items) if items.kind.is_indexed() => items.items.len(),
        // Python fails, unless Jinja2 finds it out while it compiles: then the slice is undefined.
        _ => return Err(unsupported(format!("a slice of {}", type_name(value)))),
    } as i64;
    let step = integer(step)?.unwrap_or(1);
    if step == 0 {
        return Err(fail("the step of a slice is zero"));
    }
    let bound = |given: &Option<Value>, default: i64| -> Result<i64> {
        let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
        Ok(match integer(given)? {
            None => default,
            Some(at) if at < 0 => at.saturating_add(length).clamp(low, high),
            Some(at) => at.clamp(low, high),
        })
    };
    let (first, end) = if step > 0 { (0, length) } else { (length - 1, -1) };
    let (start, end) = (bound(start, first)?, bound(stop, end)?);
    let distance = if step > 0 { end - start } else { start - end };
    let count = if distance > 0 { (distance - 1) / step.saturating_abs() + 1 } else { 0 };
    let places = (0..count).map(|n| (start + n * step) as usize);
    worked(length as usize)?;
    match view(value) {
        View::Text(string) => {
            made(string.len())?;
            let sliced: String = if step == 1 {
                string.chars().skip(start as usize).take(count as usize).collect()
            } else {
                let characters: Vec<char> = string.chars().collect();
                places.filter_map(|at| characters.get(at)).collect()
            };
            text(sliced, value.is_safe())
        }
        View::Sequence(items) if items.kind == Kind::Range => {
            let [first, _, each] = items.range;
            numbers([first + start * each, first + end * each, each.saturating_mul(step)], count as usize)
        }
        View::Sequence(items) => {
            let kind = if items.kind == Kind::Group { Kind::Tuple } else { items.kind };
            sequence(kind, places.filter_map(|at| items.items.get(at).cloned()).collect())
        }
        _ => Ok(Value::UNDEFINED),
    }
}

/// `loop.cycle`, which needs something to choose from.
fn cycle(state: &mut State<'_, '_>, mut arguments: Arguments) -> Result {
    if arguments.positional.len() < 2 || !arguments.named.is_empty() {
        return Err(fail("cycle needs values"));
    }
    let target = arguments.positional.remove(0);
    target.call_method(state, "cycle", &arguments.positional)
}
