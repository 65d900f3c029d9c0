//! Methods of Python's strings, lists, tuples, dictionaries and numbers.

use minijinja::{Error, ErrorKind, State, Value};

use super::super::bounds::{made, running, worked};
use super::super::syntax::is_space;
use super::arguments::{Arguments, flag, integer, integer_or, required, text as text_argument};
use super::filters::escaped;
use super::operators::equal;
use super::value::{
    Dictionary, Kind, Method, Sequence, View, dictionary, items_of, sequence, text, tuple, view,
};
use super::{Result, fail, format, print, unicode, unsupported};

/// Methods of strings.
const OF_TEXT: &str = "capitalize casefold center count encode endswith expandtabs find format format_map index isalnum isalpha \
    isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join ljust \
    lower lstrip maketrans partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit \
    rstrip split splitlines startswith strip swapcase title translate upper zfill";

/// Methods of dictionaries. Those that change one are there too, and may not be called.
const OF_DICTIONARY: &str = "clear copy fromkeys get items keys pop popitem setdefault update values";

/// Methods of lists.
const OF_LIST: &str = "append clear copy count extend index insert pop remove reverse sort";

/// Attributes of numbers.
const OF_NUMBER: &str = "as_integer_ratio bit_count bit_length conjugate denominator fromhex from_bytes hex imag is_integer \
    numerator real to_bytes";

/// True if Python's value has this method.
pub(super) fn exists(value: &Value, name: &str) -> bool {
    let names = match view(value) {
        View::Text(_) => OF_TEXT,
        View::Dictionary(_) => OF_DICTIONARY,
        View::Sequence(sequence) => match sequence.kind {
            Kind::List => OF_LIST,
            Kind::Tuple | Kind::Group | Kind::Range => "count index",
            _ => "",
        },
        View::Bool(_) | View::Int(_) | View::Float(_) => OF_NUMBER,
        _ => "",
    };
    names.split(' ').any(|known| known == name)
}

/// The method as a value.
pub(super) fn bound(value: &Value, name: &str) -> Value {
    Value::from_object(Method { target: value.clone(), name: name.to_owned() })
}

/// True for the engine's macros and for functions, which hold no values.
pub(super) fn is_function(value: &Value) -> bool {
    let name = value.as_object().map_or("", |object| object.type_name());
    name.ends_with("::Macro") || name.ends_with("::BoxedFunction")
}

/// Calls a method that the engine does not know.
pub(super) fn call(
    _: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> std::result::Result<Value, Error> {
    if !exists(value, method) {
        return Err(Error::from(ErrorKind::UnknownMethod));
    }
    running(|| called(value, method, Arguments::of(arguments)?))
}

fn called(value: &Value, method: &str, arguments: Arguments) -> Result {
    match view(value) {
        View::Text(string) => {
            let looks_at_all = !matches!(method, "startswith" | "endswith" | "removeprefix" | "removesuffix");
            worked(if looks_at_all { string.len() / 4 } else { 0 })?;
            of_text(string, value.is_safe(), method, arguments)
        }
        View::Dictionary(entries) => of_dictionary(entries, method, arguments),
        View::Sequence(items) => of_list(items, method, arguments),
        View::Float(number) if method == "is_integer" => Ok(Value::from(number.fract() == 0.0)),
        View::Int(number) if method == "bit_length" => {
            Ok(Value::from(128 - number.unsigned_abs().leading_zeros()))
        }
        _ => Err(unsupported(format!("the method {method} of a number"))),
    }
}

fn of_dictionary(entries: &Dictionary, method: &str, arguments: Arguments) -> Result {
    let pairs = || entries.entries.iter();
    match method {
        "get" => {
            let [key, default] = arguments.bind(["key", "default"])?;
            Ok(match entries.get(&required(key)?)? {
                Some(value) => value.clone(),
                None => default.unwrap_or(Value::from(())),
            })
        }
        "keys" => sequence(Kind::Keys, pairs().map(|(key, _)| key.clone()).collect()),
        "values" => sequence(Kind::Values, pairs().map(|(_, value)| value.clone()).collect()),
        "items" => {
            let items = pairs().map(|(key, value)| tuple(vec![key.clone(), value.clone()]));
            sequence(Kind::Items, items.collect::<Result<_>>()?)
        }
        "copy" => dictionary(entries.entries.clone()),
        "fromkeys" => Err(unsupported("fromkeys")),
        _ => Err(fail(format!("{method} would change a dictionary"))),
    }
}

fn of_list(list: &Sequence, method: &str, arguments: Arguments) -> Result {
    match method {
        "count" => {
            let value = required(arguments.bind::<1>(["value"])?[0].clone())?;
            let mut count = 0;
            for item in &list.items {
                count += usize::from(equal(item, &value)?);
            }
            Ok(Value::from(count))
        }
        "index" => {
            let [value, start, stop] = arguments.bind(["value", "start", "stop"])?;
            if list.kind == Kind::Range && start.is_some() {
                return Err(fail("index of a range takes one value"));
            }
            let (start, stop) = range_of(&start, &stop, list.items.len())?;
            let value = required(value)?;
            for at in start..stop {
                if equal(&list.items[at], &value)? {
                    return Ok(Value::from(at));
                }
            }
            Err(fail("the list does not have the value"))
        }
        "copy" => sequence(list.kind, list.items.clone()),
        _ => Err(fail(format!("{method} would change a list"))),
    }
}

/// Start and stop as Python's slices take them.
fn range_of(start: &Option<Value>, stop: &Option<Value>, length: usize) -> Result<(usize, usize)> {
    let place = |given: &Option<Value>, default: usize| -> Result<usize> {
        Ok(match integer(given)? {
            None => default,
            Some(at) if at < 0 => length.saturating_sub(usize::try_from(at.unsigned_abs()).unwrap_or(length)),
            Some(at) => usize::try_from(at).unwrap_or(length).min(length),
        })
    };
    Ok((place(start, 0)?, place(stop, length)?))
}

/// `capitalize`.
pub(super) fn capitalized(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    if let Some(first) = characters.next() {
        unicode::push_title(first, &mut out);
    }
    out + &characters.as_str().to_lowercase()
}

/// Accounts for [`stripped`]: each character of the text may be compared with each of the others.
pub(super) fn account_for_strip(text: &str, characters: Option<&str>) -> Result<()> {
    worked(text.len().saturating_mul(characters.map_or(0, str::len)) / 64)
}

/// `strip`, at one or both sides.
pub(super) fn stripped<'t>(text: &'t str, characters: Option<&str>, left: bool, right: bool) -> &'t str {
    let goes = |character: char| match characters {
        Some(characters) => characters.contains(character),
        None => is_space(character),
    };
    let text = if left { text.trim_start_matches(goes) } else { text };
    if right { text.trim_end_matches(goes) } else { text }
}

/// `center`, `ljust` and `rjust`: the share of the filling that is on the left.
pub(super) fn justified(text: &str, width: i64, fill: &str, side: &str) -> Result<String> {
    let (length, width) = (text.chars().count(), usize::try_from(width).unwrap_or(0));
    let missing = width.saturating_sub(length);
    made(missing.saturating_mul(fill.len()))?;
    let left = match side {
        "ljust" => 0,
        "rjust" => missing,
        _ => missing / 2 + (missing & width & 1),
    };
    Ok(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)))
}

/// `splitlines`.
pub(super) fn lines_of(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    let is_end = |c: char| {
        matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    while !rest.is_empty() {
        let Some(at) = rest.find(is_end) else {
            lines.push(rest);
            break;
        };
        let end = if rest[at..].starts_with("\r\n") {
            2
        } else {
            rest[at..].chars().next().map_or(1, char::len_utf8)
        };
        lines.push(&rest[..if keep_ends { at + end } else { at }]);
        rest = &rest[at + end..];
    }
    lines
}

/// `split` at white space, at most `most` times; from the end if `reverse`.
fn split_words(text: &str, most: usize, reverse: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = stripped(text, None, true, true);
    while !rest.is_empty() {
        let at = if reverse { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(at) = at.filter(|_| parts.len() < most) else {
            // The white space at the far end goes with the last part, unless that is the whole text.
            parts.push(rest);
            break;
        };
        let after = at + rest[at..].chars().next().map_or(1, char::len_utf8);
        if reverse {
            parts.push(&rest[after..]);
            rest = rest[..at].trim_end_matches(is_space);
        } else {
            parts.push(&rest[..at]);
            rest = rest[after..].trim_start_matches(is_space);
        }
    }
    if reverse {
        parts.reverse();
    }
    parts
}

fn split(string: &str, safe: bool, arguments: Arguments, reverse: bool) -> Result {
    let [separator, most] = arguments.bind(["sep", "maxsplit"])?;
    let most = usize::try_from(integer_or(&most, -1)?).unwrap_or(usize::MAX);
    let parts: Vec<&str> = match text_argument(&separator)? {
        None if most == 0 => {
            let rest = stripped(string, None, !reverse, reverse);
            if rest.is_empty() { Vec::new() } else { vec![rest] }
        }
        None => {
            // The rest after the last split keeps the white space at its end.
            let trimmed = stripped(string, None, !reverse, reverse);
            let parts = split_words(string, most, reverse);
            match parts.len() > most {
                true if reverse => {
                    let end = parts[0].len() + (trimmed.len() - trimmed.trim_start_matches(is_space).len());
                    let mut parts = parts;
                    parts[0] = &trimmed[..end];
                    parts
                }
                true => {
                    let mut parts = parts;
                    if let Some(last) = parts.last_mut() {
                        let tail = trimmed.len() - trimmed.trim_end_matches(is_space).len();
                        *last = &trimmed[trimmed.len() - tail - last.len()..];
                    }
                    parts
                }
                false => parts,
            }
        }
        Some("") => return Err(fail("empty separator")),
        Some(separator) if reverse => {
            let mut parts: Vec<&str> = string.rsplitn(most.saturating_add(1), separator).collect();
            parts.reverse();
            parts
        }
        Some(separator) => string.splitn(most.saturating_add(1), separator).collect(),
    };
    texts(parts, safe)
}

/// A list of texts.
fn texts<'t>(parts: impl IntoIterator<Item = &'t str>, safe: bool) -> Result {
    let values = parts.into_iter().map(|part| text(part.to_owned(), safe));
    sequence(Kind::List, values.collect::<Result<_>>()?)
}

/// `find` and `index`, also from the right, and `count`: in characters.
fn search(string: &str, method: &str, arguments: Arguments) -> Result {
    let [part, start, stop] = arguments.bind(["sub", "start", "end"])?;
    let part = required(part)?;
    let part = part.as_str().ok_or_else(|| fail("only texts are in a text"))?;
    let length = string.chars().count();
    let (from, to) = range_of(&start, &stop, length)?;
    if from > to || integer(&start)?.is_some_and(|start| start > length as i64) {
        return match method {
            "count" => Ok(Value::from(0)),
            "find" | "rfind" => Ok(Value::from(-1)),
            _ => Err(fail("the text does not have the part")),
        };
    }
    let byte = |character: usize| string.char_indices().nth(character).map_or(string.len(), |(at, _)| at);
    let (begin, end) = (byte(from), byte(to));
    let inside = &string[begin..end];
    let found = match method {
        // An empty text is between any two characters.
        "count" if part.is_empty() => return Ok(Value::from(to - from + 1)),
        "count" => return Ok(Value::from(inside.matches(part).count())),
        "find" | "index" => inside.find(part),
        _ => inside.rfind(part),
    };
    match found {
        Some(at) => Ok(Value::from(from + inside[..at].chars().count())),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(fail("the text does not have the part")),
    }
}

/// `startswith` and `endswith`, with one text or a tuple of them.
fn affix(string: &str, method: &str, arguments: Arguments) -> Result {
    let [part, start, stop] = arguments.bind(["prefix", "start", "end"])?;
    if start.is_some() || stop.is_some() {
        return Err(unsupported(format!("{method} with a place")));
    }
    let part = required(part)?;
    let has =
        |part: &str| if method == "startswith" { string.starts_with(part) } else { string.ends_with(part) };
    match view(&part) {
        View::Text(part) => {
            worked(part.len() / 16)?;
            Ok(Value::from(has(part)))
        }
        View::Sequence(parts) if parts.kind == Kind::Tuple => {
            for part in &parts.items {
                let part = part.as_str().ok_or_else(|| fail(format!("{method} needs texts")))?;
                worked(1 + part.len() / 16)?;
                if has(part) {
                    return Ok(Value::from(true));
                }
            }
            Ok(Value::from(false))
        }
        _ => Err(fail(format!("{method} needs a text or a tuple of texts"))),
    }
}

/// The text with other texts in place of a part, at most `most` times.
pub(super) fn replaced(string: &str, old: &str, new: &str, most: i64) -> Result<String> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let count = string.matches(old).count().min(most);
    made(string.len() + count.saturating_mul(new.len()))?;
    Ok(string.replacen(old, new, most))
}

fn classified(string: &str, method: &str) -> Option<bool> {
    let all = |class: fn(char) -> bool| !string.is_empty() && string.chars().all(class);
    let any = |class: fn(char) -> bool| string.chars().any(class);
    Some(match method {
        "isalnum" => all(|c| unicode::is_alpha(c) || unicode::is_numeric(c)),
        "isalpha" => all(unicode::is_alpha),
        "isascii" => string.is_ascii(),
        "isdecimal" => all(unicode::is_decimal),
        "isdigit" => all(unicode::is_digit),
        "isnumeric" => all(unicode::is_numeric),
        "isprintable" => string.chars().all(unicode::is_printable),
        "isspace" => all(is_space),
        "islower" => any(char::is_lowercase) && !any(|c| c.is_uppercase() || unicode::is_title(c)),
        "isupper" => any(char::is_uppercase) && !any(|c| c.is_lowercase() || unicode::is_title(c)),
        "istitle" => {
            let mut after_cased = false;
            let mut cased = false;
            for character in string.chars() {
                let capital = character.is_uppercase() || unicode::is_title(character);
                if (capital && after_cased) || (character.is_lowercase() && !after_cased) {
                    return Some(false);
                }
                after_cased = unicode::is_cased(character);
                cased |= after_cased;
            }
            cased
        }
        "isidentifier" => {
            let starts = |c: char| c == '_' || unicode::is_alpha(c);
            string.chars().next().is_some_and(starts)
                && string.chars().all(|c| starts(c) || unicode::is_decimal(c))
        }
        _ => return None,
    })
}

/// The text in other letters.
fn recased(string: &str, method: &str) -> Option<String> {
    Some(match method {
        "capitalize" => capitalized(string),
        "lower" => string.to_lowercase(),
        "upper" => string.to_uppercase(),
        "title" => {
            let mut out = String::new();
            let mut after_cased = false;
            for character in string.chars() {
                match after_cased {
                    true => out.extend(character.to_lowercase()),
                    false => unicode::push_title(character, &mut out),
                }
                after_cased = unicode::is_cased(character);
            }
            out
        }
        "swapcase" => {
            let mut out = String::new();
            for character in string.chars() {
                match character.is_uppercase() {
                    true => out.extend(character.to_lowercase()),
                    false => out.extend(character.to_uppercase()),
                }
            }
            out
        }
        _ => return None,
    })
}

fn of_text(string: &str, safe: bool, method: &str, arguments: Arguments) -> Result {
    if let Some(answer) = classified(string, method) {
        arguments.bind([])?;
        return Ok(Value::from(answer));
    }
    if let Some(result) = recased(string, method) {
        arguments.bind([])?;
        return text(result, safe);
    }
    match method {
        "strip" | "lstrip" | "rstrip" => {
            let [characters] = arguments.bind(["chars"])?;
            let characters = text_argument(&characters)?;
            account_for_strip(string, characters)?;
            text(stripped(string, characters, method != "rstrip", method != "lstrip").to_owned(), safe)
        }
        "split" => split(string, safe, arguments, false),
        "rsplit" => split(string, safe, arguments, true),
        "splitlines" => {
            let [keep_ends] = arguments.bind(["keepends"])?;
            texts(lines_of(string, flag(&keep_ends)), safe)
        }
        "find" | "rfind" | "index" | "rindex" | "count" => search(string, method, arguments),
        "startswith" | "endswith" => affix(string, method, arguments),
        "join" => join(string, safe, arguments),
        "format" => format::braces(string, safe, arguments),
        "replace" => {
            let [old, new, count] = arguments.bind(["old", "new", "count"])?;
            let (old, new) = (required(old)?, required(new)?);
            let to = match (new.as_str(), safe) {
                (Some(to), true) => escaped(&new, to),
                (Some(to), false) => to.to_owned(),
                (None, true) => escaped(&Value::from(""), &print::str_of(&new)?),
                (None, false) => return Err(fail("replace needs two texts")),
            };
            let from = old.as_str().ok_or_else(|| fail("replace needs two texts"))?;
            text(replaced(string, from, &to, integer_or(&count, -1)?)?, safe)
        }
        "center" | "ljust" | "rjust" => {
            let [width, fill] = arguments.bind(["width", "fillchar"])?;
            let fill = fill.unwrap_or(Value::from(" "));
            let fill = fill.as_str().filter(|fill| fill.chars().count() == 1);
            let fill = fill.ok_or_else(|| fail(format!("{method} fills with one character")))?;
            text(justified(string, integer_or(&Some(required(width)?), 0)?, fill, method)?, safe)
        }
        "zfill" => {
            let [width] = arguments.bind(["width"])?;
            let sign = string.len() - string.strip_prefix(['-', '+']).unwrap_or(string).len();
            let width = integer_or(&Some(required(width)?), 0)? - sign as i64;
            text(string[..sign].to_owned() + &justified(&string[sign..], width, "0", "rjust")?, safe)
        }
        "partition" | "rpartition" => {
            let [separator] = arguments.bind(["sep"])?;
            let separator = required(separator)?;
            let separator = separator.as_str().filter(|text| !text.is_empty());
            let separator = separator.ok_or_else(|| fail(format!("{method} needs a text")))?;
            let parts = match method {
                "partition" => string.split_once(separator).map(|(a, b)| [a, separator, b]),
                _ => string.rsplit_once(separator).map(|(a, b)| [a, separator, b]),
            };
            let parts =
                parts.unwrap_or(if method == "partition" { [string, "", ""] } else { ["", "", string] });
            tuple(parts.into_iter().map(|part| text(part.to_owned(), safe)).collect::<Result<_>>()?)
        }
        "removeprefix" | "removesuffix" => {
            let [part] = arguments.bind(["prefix"])?;
            let part = required(part)?;
            let part = part.as_str().ok_or_else(|| fail(format!("{method} needs a text")))?;
            let rest =
                if method == "removeprefix" { string.strip_prefix(part) } else { string.strip_suffix(part) };
            text(rest.unwrap_or(string).to_owned(), safe)
        }
        "expandtabs" => {
            let [size] = arguments.bind(["tabsize"])?;
            expand_tabs(string, safe, integer_or(&size, 8)?)
        }
        // Lower case is what most of `casefold` is; the rest is in a table that is not at hand.
        "casefold" if string.is_ascii() => text(string.to_lowercase(), safe),
        _ => Err(unsupported(format!("the method {method} of such a text"))),
    }
}

fn expand_tabs(string: &str, safe: bool, size: i64) -> Result {
    let size = usize::try_from(size).unwrap_or(0);
    let mut out = String::new();
    let mut column = 0;
    for character in string.chars() {
        match character {
            '\t' => {
                let filling = if size == 0 { 0 } else { size - column % size };
                made(filling)?;
                out.extend(std::iter::repeat_n(' ', filling));
                column += filling;
            }
            _ => {
                out.push(character);
                column = if matches!(character, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    text(out, safe)
}

fn join(separator: &str, safe: bool, arguments: Arguments) -> Result {
    let [items] = arguments.bind(["iterable"])?;
    let items = items_of(&required(items)?)?;
    let mut out = String::new();
    for (n, item) in items.iter().enumerate() {
        let part = match (item.as_str(), safe) {
            (Some(text), true) => escaped(item, text),
            (Some(text), false) => text.to_owned(),
            (None, true) => escaped(&Value::from(""), &print::str_of(item)?),
            (None, false) => return Err(fail("join needs texts")),
        };
        made(part.len() + separator.len())?;
        out.push_str(if n > 0 { separator } else { "" });
        out.push_str(&part);
    }
    // Plain text joined by nothing but texts of `Markup` is plain.
    text(out, safe)
}
