//! Python's format strings: `'%s' % value` and `'{}'.format(value)`.

use minijinja::Value;

use super::super::bounds::{made, worked};
use super::arguments::Arguments;
use super::filters::escaped;
use super::operators::item;
use super::print::{number_text, repr, str_of};
use super::value::{Kind, View, text, view};
use super::{Result, fail, unsupported};

/// Largest width or precision.
const MAX_WIDTH: usize = 10_000;

/// Work of a field beside its bytes: 5 million of `%%` took 1.4 s.
const FIELD: usize = 8;

/// The layout of a field.
#[derive(Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

/// `template % values`.
pub(super) fn percent(template: &str, safe: bool, values: &Value) -> Result {
    let (positional, is_mapping) = match view(values) {
        View::Sequence(items) if matches!(items.kind, Kind::Tuple | Kind::Group) => {
            (items.items.clone(), false)
        }
        // Whatever has items may be asked for them by name.
        View::Dictionary(_) | View::Sequence(_) | View::Undefined => (vec![values.clone()], true),
        _ => (vec![values.clone()], false),
    };
    worked(template.len())?;
    let mut left = positional.into_iter();
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        worked(FIELD)?;
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let rest_before = rest;
        let mut named = None;
        if let Some(after) = rest.strip_prefix('(') {
            let end = after.find(')').ok_or_else(|| fail("a name in a format has no end"))?;
            if !is_mapping || after[..end].contains('(') {
                return Err(fail("a format with names needs a dictionary"));
            }
            let found = item(values, &Value::from(&after[..end]))?;
            if found.is_undefined() || !matches!(view(values), View::Dictionary(_)) {
                return Err(fail("a name of the format is not there"));
            }
            named = Some(found);
            // From the first name on, there are no values without one.
            left = Vec::new().into_iter();
            rest = &after[end + 1..];
        }
        let (spec, after) = percent_spec(rest, &mut left)?;
        rest = after;
        if spec.kind == Some('%') {
            if !rest_before.starts_with('%') {
                return Err(unsupported("a percent sign with a format"));
            }
            out.push('%');
            continue;
        }
        let value = match named {
            Some(found) => found,
            None => left.next().ok_or_else(|| fail("not enough values for the format"))?,
        };
        let field = percent_field(&value, &spec, safe)?;
        made(field.len())?;
        out.push_str(&field);
    }
    out.push_str(rest);
    if left.next().is_some() && !is_mapping {
        return Err(fail("not all values are used by the format"));
    }
    text(out, safe)
}

/// A width or a precision.
fn number(text: &str) -> Result<(Option<usize>, &str)> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &text[..text.len() - rest.len()];
    match digits.parse::<usize>() {
        Ok(value) if value <= MAX_WIDTH => Ok((Some(value), rest)),
        _ if digits.is_empty() => Ok((None, rest)),
        _ => Err(unsupported(format!("a width of more than {MAX_WIDTH}"))),
    }
}

/// The text after a percent sign and a name.
fn percent_spec<'t>(text: &'t str, left: &mut impl Iterator<Item = Value>) -> Result<(Spec, &'t str)> {
    let mut spec = Spec::default();
    let mut rest = text;
    while let Some(flag) = rest.chars().next().filter(|flag| "#0- +".contains(*flag)) {
        match flag {
            '#' => spec.alternate = true,
            '0' => spec.zero = true,
            '-' => spec.align = Some('<'),
            '+' => spec.sign = Some('+'),
            _ => spec.sign = spec.sign.or(Some(' ')),
        }
        rest = &rest[1..];
    }
    let mut star = |rest: &mut &'t str, spec: &mut Spec, is_width: bool| -> Result<Option<usize>> {
        if let Some(after) = rest.strip_prefix('*') {
            *rest = after;
            let value =
                left.next().and_then(|value| value.as_i64()).ok_or_else(|| fail("* needs a number"))?;
            if value < 0 && is_width {
                spec.align = Some('<');
            }
            let size = if value < 0 && !is_width { 0 } else { value.unsigned_abs() as usize };
            return if size > MAX_WIDTH { Err(unsupported("so large a width")) } else { Ok(Some(size)) };
        }
        let (value, after) = number(rest)?;
        *rest = after;
        Ok(value)
    };
    spec.width = star(&mut rest, &mut spec, true)?.unwrap_or(0);
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        spec.precision = Some(star(&mut rest, &mut spec, false)?.unwrap_or(0));
    }
    rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
    spec.kind = rest.chars().next();
    let kind = spec.kind.ok_or_else(|| fail("incomplete format"))?;
    Ok((spec, &rest[kind.len_utf8()..]))
}

fn percent_field(value: &Value, spec: &Spec, safe: bool) -> Result<String> {
    let kind = spec.kind.unwrap_or('s');
    match kind {
        's' | 'r' | 'a' => {
            let mut written = String::new();
            match kind {
                's' => written = str_of(value)?,
                _ => repr(value, &mut written)?,
            }
            if kind == 'a' && !written.is_ascii() {
                return Err(unsupported("%a"));
            }
            if safe && !value.is_safe() {
                written = escaped(&Value::from(""), &written);
            }
            if let Some(precision) = spec.precision {
                written = written.chars().take(precision).collect();
            }
            Ok(pad(&written, "", &Spec { zero: false, ..spec_of(spec) }, '>'))
        }
        'c' => match view(value) {
            View::Text(text) if text.chars().count() == 1 => {
                Ok(pad(text, "", &Spec { zero: false, ..spec_of(spec) }, '>'))
            }
            View::Int(code) => {
                let character = character(code)?.to_string();
                Ok(pad(&character, "", &Spec { zero: false, ..spec_of(spec) }, '>'))
            }
            View::Bool(code) => percent_field(&Value::from(i64::from(code)), spec, safe),
            _ => Err(fail("%c needs a character")),
        },
        'd' | 'i' | 'u' => {
            let whole = match view(value) {
                View::Float(value) if value.is_finite() && value.abs() < 1e30 => value.trunc() as i128,
                View::Int(value) => value,
                View::Bool(value) => i128::from(value),
                _ => return Err(fail(format!("%{kind} needs a number"))),
            };
            let digits = format!("{:0>1$}", whole.unsigned_abs(), spec.precision.unwrap_or(0));
            Ok(pad(&digits, sign_of(whole < 0, spec.sign), &spec_of(spec), '>'))
        }
        'x' | 'X' | 'o' => {
            let whole = match view(value) {
                View::Int(value) => value,
                View::Bool(value) => i128::from(value),
                _ => return Err(fail(format!("%{kind} needs a whole number"))),
            };
            let digits = in_base(whole.unsigned_abs(), kind);
            let digits = format!("{digits:0>0$}", spec.precision.unwrap_or(0));
            let prefix = if spec.alternate { format!("0{kind}") } else { String::new() };
            let sign = format!("{}{prefix}", sign_of(whole < 0, spec.sign));
            Ok(pad(&digits, &sign, &spec_of(spec), '>'))
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let value = match view(value) {
                View::Float(value) => value,
                View::Int(value) => value as f64,
                View::Bool(value) => f64::from(u8::from(value)),
                _ => return Err(fail(format!("%{kind} needs a number"))),
            };
            let digits = float_digits(value, kind, spec.precision.unwrap_or(6), spec.alternate);
            let zero = spec.zero && value.is_finite();
            Ok(pad(&digits, sign_of(is_negative(value), spec.sign), &Spec { zero, ..spec_of(spec) }, '>'))
        }
        _ => Err(fail(format!("unsupported format character {kind:?}"))),
    }
}

fn character(code: i128) -> Result<char> {
    u32::try_from(code).ok().and_then(char::from_u32).ok_or_else(|| fail("this number is not a character"))
}

fn spec_of(spec: &Spec) -> Spec {
    Spec { fill: spec.fill, align: spec.align, zero: spec.zero, width: spec.width, ..Spec::default() }
}

fn is_negative(value: f64) -> bool {
    value.is_sign_negative() && !value.is_nan()
}

fn sign_of(negative: bool, sign: Option<char>) -> &'static str {
    match (negative, sign) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(' ')) => " ",
        _ => "",
    }
}

/// The text at its width: zeros come after the sign, other filling before or after both.
fn pad(digits: &str, sign: &str, spec: &Spec, align: char) -> String {
    let length = digits.chars().count() + sign.chars().count();
    let missing = spec.width.saturating_sub(length);
    let (fill, align) = match (spec.fill, spec.align) {
        (fill, Some(align)) => (fill.unwrap_or(' '), align),
        (fill, None) if spec.zero => (fill.unwrap_or('0'), '='),
        (fill, None) => (fill.unwrap_or(' '), align),
    };
    let filling = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
    match align {
        '<' => format!("{sign}{digits}{}", filling(missing)),
        '=' => format!("{sign}{}{digits}", filling(missing)),
        '^' => format!("{}{sign}{digits}{}", filling(missing / 2), filling(missing - missing / 2)),
        _ => format!("{}{sign}{digits}", filling(missing)),
    }
}

fn in_base(value: u128, kind: char) -> String {
    match kind {
        'x' => format!("{value:x}"),
        'X' => format!("{value:X}"),
        'o' => format!("{value:o}"),
        'b' => format!("{value:b}"),
        _ => value.to_string(),
    }
}

/// A number's digits without its sign.
fn float_digits(value: f64, kind: char, precision: usize, alternate: bool) -> String {
    let value = value.abs();
    let written = if !value.is_finite() {
        number_text(value)
    } else {
        match kind.to_ascii_lowercase() {
            'f' | '%' => {
                let dot = if alternate && precision == 0 { "." } else { "" };
                format!("{value:.precision$}{dot}")
            }
            'e' => exponential(value, precision),
            _ => general(value, precision.max(1), alternate),
        }
    };
    if kind.is_ascii_uppercase() { written.to_uppercase() } else { written }
}

fn exponential(value: f64, precision: usize) -> String {
    let written = format!("{value:.precision$e}");
    let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// `%g`: so many significant digits, with an exponent where the number is long.
fn general(value: f64, precision: usize, alternate: bool) -> String {
    let scientific = exponential(value, precision - 1);
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let trimmed = |digits: &str| match digits.contains('.') && !alternate {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => digits.to_owned(),
    };
    if exponent < -4 || exponent >= precision as i64 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(digits), exponent.abs());
    }
    let decimals = usize::try_from(precision as i64 - 1 - exponent).unwrap_or(0);
    trimmed(&format!("{value:.decimals$}"))
}

/// `template.format(…)`.
pub(super) fn braces(template: &str, safe: bool, arguments: Arguments) -> Result {
    if safe {
        return Err(unsupported("format of Markup"));
    }
    worked(template.len())?;
    let mut automatic = Some(0);
    let mut out = String::new();
    write_braces(template, &arguments, &mut automatic, 0, &mut out)?;
    text(out, false)
}

/// Writes a template; `automatic` is the next field without a number, or `None` after one with a number.
fn write_braces(
    template: &str,
    arguments: &Arguments,
    automatic: &mut Option<usize>,
    depth: usize,
    out: &mut String,
) -> Result<()> {
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let brace = &rest[at..at + 1];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            out.push_str(brace);
            rest = after;
            continue;
        }
        worked(FIELD)?;
        let end = if brace == "{" { field_end(rest) } else { None };
        let end = end.ok_or_else(|| fail("a brace in a format has no partner"))?;
        let field = &rest[..end];
        rest = &rest[end + 1..];
        let (name, conversion, spec) = field_parts(field)?;
        let value = looked_up(name, arguments, automatic)?;
        let mut inner = String::new();
        if spec.contains(['{', '}']) {
            if depth > 0 {
                return Err(fail("fields of a format are nested too deep"));
            }
            write_braces(spec, arguments, automatic, depth + 1, &mut inner)?;
        } else {
            inner.push_str(spec);
        }
        let written = match conversion {
            None => formatted(&value, &inner)?,
            Some('s') => formatted(&Value::from(str_of(&value)?), &inner)?,
            Some('r') => {
                let mut text = String::new();
                repr(&value, &mut text)?;
                formatted(&Value::from(text), &inner)?
            }
            Some(_) => return Err(unsupported("such a conversion")),
        };
        made(written.len())?;
        out.push_str(&written);
    }
    out.push_str(rest);
    Ok(())
}

/// The place of the brace that closes a field.
fn field_end(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Name, conversion and format of a field.
fn field_parts(field: &str) -> Result<(&str, Option<char>, &str)> {
    let at = field.find(['!', ':']).unwrap_or(field.len());
    let (name, rest) = field.split_at(at);
    if name.contains(['{', '}']) {
        return Err(fail("a brace in the name of a field"));
    }
    match rest.strip_prefix('!') {
        None => Ok((name, None, rest.strip_prefix(':').unwrap_or(rest))),
        Some(after) => {
            let conversion = after.chars().next().ok_or_else(|| fail("a conversion is missing"))?;
            let spec = &after[conversion.len_utf8()..];
            match spec.strip_prefix(':') {
                Some(spec) => Ok((name, Some(conversion), spec)),
                None if spec.is_empty() => Ok((name, Some(conversion), "")),
                None => Err(fail("expected ':' after a conversion")),
            }
        }
    }
}

/// The value that a field names.
fn looked_up(name: &str, arguments: &Arguments, automatic: &mut Option<usize>) -> Result {
    let end = name.find(['.', '[']).unwrap_or(name.len());
    let (first, mut path) = name.split_at(end);
    let mut value = if name.is_empty() {
        let at = automatic.ok_or_else(|| fail("fields with and without numbers"))?;
        *automatic = Some(at + 1);
        arguments.positional.get(at).cloned()
    } else if let Ok(at) = first.parse::<usize>() {
        // Only a number alone counts for this rule.
        if path.is_empty() {
            if matches!(automatic, Some(used) if *used > 0) {
                return Err(fail("fields with and without numbers"));
            }
            *automatic = None;
        }
        arguments.positional.get(at).cloned()
    } else {
        arguments.named.iter().find(|(known, _)| known == first).map(|(_, value)| value.clone())
    }
    .ok_or_else(|| fail(format!("the format has no value for {name:?}")))?;
    while !path.is_empty() {
        if let Some(after) = path.strip_prefix('[') {
            let end = after.find(']').ok_or_else(|| fail("a bracket in a format has no end"))?;
            let key = &after[..end];
            let key = key.parse::<i64>().map_or_else(|_| Value::from(key), Value::from);
            value = item(&value, &key)?;
            path = &after[end + 1..];
        } else {
            return Err(unsupported("an attribute in a format"));
        }
    }
    Ok(value)
}

/// `format(value, spec)`.
fn formatted(value: &Value, spec: &str) -> Result<String> {
    match view(value) {
        View::Text(text) => formatted_text(text, &brace_spec(spec)?),
        View::Bool(_) if spec.is_empty() => str_of(value),
        View::Bool(value) => formatted_int(i128::from(value), &brace_spec(spec)?),
        View::Int(value) => formatted_int(value, &brace_spec(spec)?),
        View::Float(_) if spec.is_empty() => str_of(value),
        View::Float(value) => formatted_float(value, &brace_spec(spec)?),
        _ if spec.is_empty() => str_of(value),
        _ => Err(fail("this value has no format")),
    }
}

/// `[[fill]align][sign][#][0][width][grouping][.precision][type]`.
fn brace_spec(text: &str) -> Result<Spec> {
    let mut spec = Spec::default();
    let mut rest = text;
    let is_align = |c: &char| "<>=^".contains(*c);
    let mut characters = text.chars();
    let (first, second) = (characters.next(), characters.next());
    if let (Some(fill), Some(align)) = (first, second.filter(is_align)) {
        spec.fill = Some(fill);
        spec.align = Some(align);
        rest = &text[fill.len_utf8() + 1..];
    } else if let Some(align) = first.filter(is_align) {
        spec.align = Some(align);
        rest = &text[1..];
    }
    let mut take = |wanted: &str| {
        let found = rest.chars().next().filter(|c| wanted.contains(*c));
        rest = &rest[found.map_or(0, char::len_utf8)..];
        found
    };
    spec.sign = take("+- ");
    if take("z").is_some() {
        return Err(unsupported("the option z of a format"));
    }
    spec.alternate = take("#").is_some();
    spec.zero = take("0").is_some();
    let (width, after) = number(rest)?;
    spec.width = width.unwrap_or(0);
    rest = after;
    spec.grouping = rest.chars().next().filter(|c| ",_".contains(*c));
    rest = &rest[spec.grouping.map_or(0, char::len_utf8)..];
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = number(after)?;
        spec.precision = Some(precision.ok_or_else(|| fail("a precision is missing"))?);
        rest = after;
    }
    let mut last = rest.chars();
    spec.kind = last.next();
    if last.next().is_some() {
        return Err(fail(format!("the format {text:?} is not valid")));
    }
    Ok(spec)
}

fn formatted_text(text: &str, spec: &Spec) -> Result<String> {
    if !matches!(spec.kind, None | Some('s'))
        || spec.sign.is_some()
        || spec.alternate
        || spec.grouping.is_some()
        || spec.align == Some('=')
    {
        return Err(fail("this format is for numbers"));
    }
    let cut: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
    // A zero before the width fills on the right.
    let (fill, align) = match (spec.fill, spec.align) {
        (None, None) if spec.zero => (Some('0'), Some('<')),
        (fill, align) if spec.zero => (fill.or(Some('0')), align),
        (fill, align) => (fill, align),
    };
    Ok(pad(&cut, "", &Spec { fill, align, width: spec.width, ..Spec::default() }, '<'))
}

fn formatted_int(value: i128, spec: &Spec) -> Result<String> {
    match spec.kind {
        None | Some('b' | 'c' | 'd' | 'o' | 'x' | 'X' | 'n') if spec.precision.is_none() => {}
        Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') => return formatted_float(value as f64, spec),
        _ => return Err(fail("this format is not for whole numbers")),
    }
    if spec.kind == Some('c') && spec.sign.is_none() && spec.grouping.is_none() {
        return Ok(pad(&character(value)?.to_string(), "", spec, '<'));
    }
    let kind = spec.kind.unwrap_or('d');
    let digits = in_base(value.unsigned_abs(), kind);
    let sign = sign_of(value < 0, spec.sign);
    let prefix = if spec.alternate && "boxX".contains(kind) { format!("0{kind}") } else { String::new() };
    grouped(&digits, "", &format!("{sign}{prefix}"), spec, if kind == 'd' || kind == 'n' { 3 } else { 4 })
}

fn formatted_float(value: f64, spec: &Spec) -> Result<String> {
    let kind = match spec.kind {
        Some(kind @ ('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%')) => Some(kind),
        Some('n') => Some('g'),
        None => None,
        Some(_) => return Err(fail("this format is not for numbers with a fraction")),
    };
    let digits = match kind {
        // As `repr`, or as many digits, with at least one after the point.
        None => match spec.precision {
            None => number_text(value.abs()),
            Some(_) if !value.is_finite() => number_text(value.abs()),
            Some(precision) => {
                let precision = precision.max(1);
                let written = general(value.abs(), precision, false);
                let exponent = exponential(value.abs(), precision - 1);
                let exponent: i64 = exponent.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
                match written.contains(['e', '.']) {
                    // A whole number of as many digits as are wanted has an exponent.
                    false if exponent + 1 >= precision as i64 => {
                        let written = exponential(value.abs(), precision - 1);
                        let (digits, exponent) = written.split_once('e').unwrap_or((&written, ""));
                        let digits = match digits.contains('.') {
                            true => digits.trim_end_matches('0').trim_end_matches('.'),
                            false => digits,
                        };
                        format!("{digits}e{exponent}")
                    }
                    false => written + ".0",
                    true => written,
                }
            }
        },
        Some('%') => float_digits(value * 100.0, '%', spec.precision.unwrap_or(6), spec.alternate) + "%",
        Some(kind) => float_digits(value, kind, spec.precision.unwrap_or(6), spec.alternate),
    };
    let whole = digits.len() - digits.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let sign = sign_of(is_negative(value), spec.sign);
    if spec.grouping.is_some() && spec.zero {
        return Err(unsupported("groups of digits in a number filled with zeros"));
    }
    grouped(&digits[..whole], &digits[whole..], sign, spec, 3)
}

/// Digits in groups, at their width.
fn grouped(whole: &str, fraction: &str, sign: &str, spec: &Spec, size: usize) -> Result<String> {
    let Some(separator) = spec.grouping else {
        return Ok(pad(&format!("{whole}{fraction}"), sign, spec, '>'));
    };
    if separator == ',' && size == 4 {
        return Err(fail("no commas in this format"));
    }
    if spec.zero {
        return Err(unsupported("groups of digits in a number filled with zeros"));
    }
    let mut out = String::new();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n).is_multiple_of(size) {
            out.push(separator);
        }
        out.push(digit);
    }
    Ok(pad(&(out + fraction), sign, spec, '>'))
}
