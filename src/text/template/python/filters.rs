//! Jinja2's filters of single values.

use minijinja::{State, Value};

use super::super::bounds::{made, worked};
use super::super::syntax::is_space;
use super::arguments::{Arguments, flag, integer_or, required, text as text_argument};
use super::methods::{self, capitalized, justified, lines_of, replaced, stripped};
use super::operators::attribute;
use super::print::str_of;
use super::value::{View, items_of, length_of, text, type_name, view};
use super::{Function, Result, fail, format, json, unicode, unsupported};

/// The filters by name.
pub(super) const FILTERS: &[(&str, Function)] = &[
    ("abs", abs),
    ("attr", |_, arguments| {
        let [value, name] = arguments.bind(["obj", "name"])?;
        let (value, name) = (required(value)?, Value::from(str_of(&required(name)?)?));
        // An attribute only: the items of a dictionary are none.
        match view(&value) {
            View::Dictionary(_) if !methods::exists(&value, name.as_str().unwrap_or_default()) => {
                Ok(Value::UNDEFINED)
            }
            _ => attribute(&value, &name),
        }
    }),
    ("capitalize", |_, arguments| on_text(arguments, |text| Ok(capitalized(text)))),
    ("center", center),
    ("d", default),
    ("default", default),
    ("e", |_, arguments| escape(arguments, false)),
    ("escape", |_, arguments| escape(arguments, false)),
    ("filesizeformat", file_size),
    ("float", float),
    ("forceescape", |_, arguments| escape(arguments, true)),
    ("format", |_, arguments| {
        let mut values = arguments.positional;
        if values.is_empty() {
            return Err(fail("format needs a text"));
        }
        let template = soft(&values.remove(0))?;
        let given = match arguments.named {
            named if named.is_empty() => super::value::tuple(values)?,
            _ if !values.is_empty() => return Err(fail("format takes values with or without names")),
            named => {
                let pairs = named.into_iter().map(|(name, value)| (Value::from(name), value));
                super::value::dictionary(pairs.collect())?
            }
        };
        format::percent(template.as_str().unwrap_or_default(), template.is_safe(), &given)
    }),
    ("indent", indent),
    ("int", int),
    ("lower", |_, arguments| on_text(arguments, |text| Ok(text.to_lowercase()))),
    ("replace", |_, arguments| {
        let [value, old, new, count] = arguments.bind(["s", "old", "new", "count"])?;
        let count = count.filter(|count| !count.is_none());
        let text = str_of(&required(value)?)?;
        let (old, new) = (str_of(&required(old)?)?, str_of(&required(new)?)?);
        super::value::text(replaced(&text, &old, &new, integer_or(&count, -1)?)?, false)
    }),
    ("round", round),
    ("safe", |_, arguments| {
        let [value] = arguments.bind(["value"])?;
        text(str_of(&required(value)?)?, true)
    }),
    ("string", |_, arguments| {
        let [value] = arguments.bind(["value"])?;
        soft(&required(value)?)
    }),
    ("title", |_, arguments| {
        let [value] = arguments.bind(["value"])?;
        text(title(&str_of(&required(value)?)?), false)
    }),
    ("tojson", json::to_json),
    ("trim", |_, arguments| {
        let [value, characters] = arguments.bind(["value", "chars"])?;
        let value = soft(&required(value)?)?;
        let characters = text_argument(&characters)?;
        let string = value.as_str().unwrap_or_default();
        methods::account_for_strip(string, characters)?;
        text(stripped(string, characters, true, true).to_owned(), value.is_safe())
    }),
    ("truncate", truncate),
    ("upper", |_, arguments| on_text(arguments, |text| Ok(text.to_uppercase()))),
    ("urlencode", url_encode),
    ("wordcount", |_, arguments| {
        let [value] = arguments.bind(["value"])?;
        let words = str_of(&required(value)?)?;
        Ok(Value::from(words.split(|c| !unicode::is_word(c)).filter(|word| !word.is_empty()).count()))
    }),
    ("pprint", |_, _| Err(unsupported("the filter pprint"))),
    ("random", |_, _| Err(unsupported("the filter random"))),
    ("striptags", |_, _| Err(unsupported("the filter striptags"))),
    ("urlize", |_, _| Err(unsupported("the filter urlize"))),
    ("wordwrap", |_, _| Err(unsupported("the filter wordwrap"))),
    ("xmlattr", |_, _| Err(unsupported("the filter xmlattr"))),
];

/// A text as it is, `Markup` or not; of any other value its text.
pub(super) fn soft(value: &Value) -> Result {
    match value.as_str() {
        Some(_) => Ok(value.clone()),
        None => text(str_of(value)?, false),
    }
}

/// A filter of the text of a value.
fn on_text(arguments: Arguments, apply: impl Fn(&str) -> Result<String>) -> Result {
    let [value] = arguments.bind(["s"])?;
    let value = soft(&required(value)?)?;
    text(apply(value.as_str().unwrap_or_default())?, value.is_safe())
}

/// A text in HTML, where it is not `Markup` already.
pub(super) fn escaped(value: &Value, text: &str) -> String {
    if value.is_safe() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            _ => out.push(character),
        }
    }
    out
}

fn escape(arguments: Arguments, force: bool) -> Result {
    let [value] = arguments.bind(["value"])?;
    let value = required(value)?;
    let written = str_of(&value)?;
    made(written.len())?;
    text(if force { escaped(&Value::from(""), &written) } else { escaped(&value, &written) }, true)
}

fn abs(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value] = arguments.bind(["x"])?;
    let value = required(value)?;
    match view(&value) {
        View::Bool(value) => Ok(Value::from(i64::from(value))),
        View::Int(number) => Ok(if number < 0 { Value::from(-number) } else { value.clone() }),
        View::Float(value) => Ok(Value::from(value.abs())),
        _ => Err(fail(format!("no absolute value of {}", type_name(&value)))),
    }
}

fn center(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, width] = arguments.bind(["value", "width"])?;
    let value = soft(&required(value)?)?;
    let width = integer_or(&width, 80)?;
    text(justified(value.as_str().unwrap_or_default(), width, " ", "center")?, value.is_safe())
}

fn default(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, default, boolean] = arguments.bind(["value", "default_value", "boolean"])?;
    let value = required(value)?;
    let missing = value.is_undefined() || (flag(&boolean) && !value.is_true());
    Ok(if missing { default.unwrap_or(Value::from("")) } else { value })
}

/// `float(text)`.
fn parse_float(text: &str) -> Option<f64> {
    let text = stripped(text, None, true, true);
    let mut previous = ' ';
    let joins = |(at, c): (usize, char)| {
        let good = c != '_'
            || (previous.is_ascii_digit() && text[at + 1..].starts_with(|next: char| next.is_ascii_digit()));
        previous = c;
        good
    };
    if !text.is_ascii() || !text.char_indices().all(joins) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// `int(text, base)`.
fn parse_int(text: &str, base: i64) -> Result<Option<i128>> {
    let text = stripped(text, None, true, true).to_ascii_lowercase();
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (if text.starts_with('-') { -1 } else { 1 }, digits),
        None => (1, text.as_str()),
    };
    let prefix = match digits.get(..2) {
        Some("0b") => 2,
        Some("0o") => 8,
        Some("0x") => 16,
        _ => 0,
    };
    let (radix, digits) = match base {
        0 if prefix == 0 => (10, digits),
        _ if prefix > 0 && (base == 0 || base == prefix) => {
            (prefix, digits[2..].strip_prefix('_').unwrap_or(&digits[2..]))
        }
        2..=36 => (base, digits),
        _ => return Err(fail("int has bases from 2 to 36")),
    };
    let radix = radix as u32;
    let valid = !digits.is_empty()
        && digits.split('_').all(|part| !part.is_empty() && part.chars().all(|c| c.is_digit(radix)))
        && (base != 0 || prefix > 0 || !digits.starts_with('0') || digits.chars().all(|c| "0_".contains(c)));
    if !valid {
        return Ok(None);
    }
    match i128::from_str_radix(&digits.replace('_', ""), radix) {
        Ok(value) => Ok(Some(sign * value)),
        Err(_) => Err(unsupported("a whole number of more than 128 bits")),
    }
}

fn int(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, default, base] = arguments.bind(["value", "default", "base"])?;
    let value = required(value)?;
    let whole = |value: f64| -> Result<Option<i128>> {
        match value {
            _ if !value.is_finite() => Ok(None),
            _ if value.abs() >= 1e38 => Err(unsupported("a whole number of more than 128 bits")),
            _ => Ok(Some(value.trunc() as i128)),
        }
    };
    let found = match view(&value) {
        View::Bool(value) => Some(i128::from(value)),
        View::Int(value) => Some(value),
        View::Float(value) => whole(value)?,
        View::Text(text) => {
            worked(text.len())?;
            match parse_int(text, integer_or(&base, 10)?)? {
                Some(value) => Some(value),
                None => parse_float(text).map(whole).transpose()?.flatten(),
            }
        }
        View::Undefined => return Err(fail("an undefined value is not a number")),
        _ => None,
    };
    Ok(match found {
        Some(value) => i64::try_from(value).map_or(Value::from(value), Value::from),
        None => default.unwrap_or(Value::from(0)),
    })
}

fn float(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, default] = arguments.bind(["value", "default"])?;
    let value = required(value)?;
    let found = match view(&value) {
        View::Bool(value) => Some(f64::from(u8::from(value))),
        View::Int(value) => Some(value as f64),
        View::Float(value) => Some(value),
        View::Text(text) => parse_float(text),
        View::Undefined => return Err(fail("an undefined value is not a number")),
        _ => None,
    };
    Ok(found.map_or_else(|| default.unwrap_or(Value::from(0.0)), Value::from))
}

fn round(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, precision, method] = arguments.bind(["value", "precision", "method"])?;
    let value = required(value)?;
    let precision = integer_or(&precision, 0)?;
    let method = text_argument(&method)?.unwrap_or("common").to_owned();
    if !matches!(method.as_str(), "common" | "ceil" | "floor") {
        return Err(fail("round has the methods common, ceil and floor"));
    }
    if !(0..=15).contains(&precision) {
        return Err(unsupported("round to such a precision"));
    }
    let number = match view(&value) {
        View::Bool(number) if method == "common" => return Ok(Value::from(i64::from(number))),
        View::Int(_) if method == "common" => return Ok(value),
        View::Bool(number) => f64::from(u8::from(number)),
        View::Int(number) => number as f64,
        View::Float(number) => number,
        _ => return Err(fail(format!("{} cannot be rounded", type_name(&value)))),
    };
    if method == "common" {
        // The exact value rounded to so many digits, and ties to even, as Python's.
        let rounded: f64 = format!("{number:.0$}", precision as usize).parse().unwrap_or(number);
        return Ok(Value::from(rounded));
    }
    if !number.is_finite() {
        return Err(fail("round needs a finite number"));
    }
    let scale = 10_f64.powi(precision as i32);
    let scaled = number * scale;
    // Python's `ceil` and `floor` give whole numbers, which have no negative zero.
    let whole = if method == "ceil" { scaled.ceil() } else { scaled.floor() } + 0.0;
    Ok(Value::from(whole / scale))
}

fn title(text: &str) -> String {
    let splits = |c: char| c == '-' || is_space(c) || "({[<".contains(c);
    // Lower case depends on the letters around (the final sigma), so each word is lowered as a whole.
    let mut result = String::new();
    let mut original = text;
    while !original.is_empty() {
        let end = original.find(splits).unwrap_or(original.len());
        let mut word = original[..end].chars();
        if let Some(first) = word.next() {
            result.extend(first.to_uppercase());
            result.push_str(&word.as_str().to_lowercase());
        }
        let separator = original[end..].chars().next();
        result.extend(separator);
        original = &original[end + separator.map_or(0, char::len_utf8)..];
    }
    result
}

/// Indents every line but the first (also the first with `first`), empty ones only with `blank`.
fn indent(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, width, first, blank] = arguments.bind(["s", "width", "first", "blank"])?;
    let value = required(value)?;
    let Some(string) = value.as_str() else {
        return Err(fail(format!("{} has no lines", type_name(&value))));
    };
    let by = match width.as_ref().map(view) {
        None => " ".repeat(4),
        Some(View::Text(text)) => text.to_owned(),
        Some(View::Bool(count)) => " ".repeat(usize::from(count)),
        Some(View::Int(count)) => {
            let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
            made(count)?;
            " ".repeat(count)
        }
        Some(_) => return Err(fail("indent needs a number or a text")),
    };
    let by = if value.is_safe() { escaped(&width.unwrap_or_default(), &by) } else { by };
    let with_end = format!("{string}\n");
    let lines = lines_of(&with_end, false);
    made(string.len() + lines.len().saturating_mul(by.len()))?;
    let mut out = String::new();
    for (n, line) in lines.into_iter().enumerate() {
        out.push_str(if n > 0 { "\n" } else { "" });
        if (n == 0 && flag(&first)) || (n > 0 && (flag(&blank) || !line.is_empty())) {
            out.push_str(&by);
        }
        out.push_str(line);
    }
    text(out, value.is_safe())
}

fn truncate(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, length, kill, end, leeway] = arguments.bind(["s", "length", "killwords", "end", "leeway"])?;
    let value = required(value)?;
    let length = integer_or(&length, 255)?;
    let end = end.unwrap_or(Value::from("..."));
    let end = end.as_str().ok_or_else(|| fail("truncate ends with a text"))?;
    let leeway = integer_or(&leeway.filter(|leeway| !leeway.is_none()), 5)?;
    let end_length = end.chars().count() as i64;
    if length < end_length || leeway < 0 {
        return Err(fail("truncate needs a length of at least its end's"));
    }
    // Whatever is short enough stays as it is.
    if length_of(&value)? as i64 <= length.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let Some(string) = value.as_str() else {
        return Err(fail(format!("{} has no characters", type_name(&value))));
    };
    if value.is_safe() {
        return Err(unsupported("truncate of Markup"));
    }
    let cut: String = string.chars().take((length - end_length) as usize).collect();
    let kept =
        if flag(&kill) { cut.as_str() } else { cut.rsplit_once(' ').map_or(cut.as_str(), |(kept, _)| kept) };
    text(format!("{kept}{end}"), false)
}

fn file_size(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value, binary] = arguments.bind(["value", "binary"])?;
    let bytes = match view(&required(value)?) {
        View::Bool(value) => f64::from(u8::from(value)),
        View::Int(value) => value as f64,
        View::Float(value) => value,
        View::Text(text) => parse_float(text).ok_or_else(|| fail("filesizeformat needs a number"))?,
        _ => return Err(fail("filesizeformat needs a number")),
    };
    let binary = flag(&binary);
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    let written = match bytes {
        1.0 => "1 Byte".to_owned(),
        _ if bytes < base => format!("{} Bytes", bytes.trunc()),
        _ => {
            let names = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
            let fits = |n: &usize| bytes < base.powi(*n as i32 + 2);
            let n = (0..names.len()).find(fits).unwrap_or(names.len() - 1);
            let unit =
                if binary { format!("{}iB", names[n].to_uppercase()) } else { format!("{}B", names[n]) };
            format!("{:.1} {unit}", base * bytes / base.powi(n as i32 + 2))
        }
    };
    text(written, false)
}

fn url_encode(_: &mut State<'_, '_>, arguments: Arguments) -> Result {
    let [value] = arguments.bind(["value"])?;
    let value = required(value)?;
    let quoted = |value: &Value, for_query: bool| -> Result<String> {
        let mut out = String::new();
        for byte in str_of(value)?.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                    out.push(char::from(byte))
                }
                b'/' if !for_query => out.push('/'),
                b' ' if for_query => out.push('+'),
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
        made(out.len())?;
        Ok(out)
    };
    let pairs = match view(&value) {
        View::Dictionary(dictionary) => dictionary.entries.clone(),
        View::Sequence(_) | View::Iterator(_) => {
            let mut pairs = Vec::new();
            for pair in items_of(&value)? {
                match <[Value; 2]>::try_from(items_of(&pair)?) {
                    Ok([key, value]) => pairs.push((key, value)),
                    Err(_) => return Err(fail("urlencode needs pairs")),
                }
            }
            pairs
        }
        _ => return text(quoted(&value, false)?, false),
    };
    let mut parts = Vec::new();
    for (key, value) in &pairs {
        parts.push(format!("{}={}", quoted(key, true)?, quoted(value, true)?));
    }
    text(parts.join("&"), false)
}
