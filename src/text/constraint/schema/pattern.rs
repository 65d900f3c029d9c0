//! Patterns of strings, as regular expressions over the text of a JSON string.
//!
//! `llguidance` also translates patterns, but a class without quotes or backslashes that has all control characters
//! (`[^\\]`) still gets their escapes there: `^[^\\]$` would allow `"\\"`. Here each character has one set of spellings,
//! whatever expression it stands in, so that intersections and complements are right.

use llguidance::derivre::{Regex, RegexAst, RegexBuilder};
use llguidance::regex_to_lark;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look};

use super::ecma;

/// Cost up to which it is found out whether any text matches, as `llguidance` does it for its patterns.
const FUEL: u64 = 100_000;

/// Most conditions beside a counted repetition. With four and `.{8,20}` the library's lexer had too many states after the first
/// character.
const MOST_CONDITIONS: usize = 3;

/// Deepest nesting of a pattern.
const DEEPEST: u32 = 100;

/// A JSON string, with its quotes, that a pattern matches somewhere and whose length is in the range.
///
/// # Errors
/// The reason why the pattern cannot be kept.
pub(super) fn string(pattern: &str, least: u32, most: Option<u32>) -> Result<RegexAst, String> {
    let mut all = vec![search(Writing::Json, pattern, 0)?];
    if least > 0 || most.is_some() {
        all.push(RegexAst::Repeat(Box::new(any(Writing::Json)), least, most.unwrap_or(u32::MAX)));
    }
    let body = if all.len() == 1 { all.swap_remove(0) } else { RegexAst::And(all) };
    if matches!(body, RegexAst::And(_)) && is_empty(&body)? {
        return Err("matches no text of this length".into());
    }
    let quote = || RegexAst::Literal("\"".into());
    Ok(RegexAst::Concat(vec![quote(), body, quote()]))
}

/// The texts in which a pattern matches somewhere, outside of JSON.
///
/// # Errors
/// The reason why the pattern cannot be kept.
pub(super) fn text(pattern: &str) -> Result<RegexAst, String> {
    search(Writing::Plain, pattern, 0)
}

/// True if an expression matches no text.
///
/// # Errors
/// The reason if that cannot be found out.
fn is_empty(expression: &RegexAst) -> Result<bool, String> {
    Ok(compiled(expression)?.always_empty())
}

/// True if an expression matches the empty text.
///
/// # Errors
/// The reason if that cannot be found out.
pub(super) fn allows_empty(expression: &RegexAst) -> Result<bool, String> {
    Ok(compiled(expression)?.is_match(""))
}

fn compiled(expression: &RegexAst) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new();
    let expression = builder.mk(expression).map_err(|error| format!("{error:#}"))?;
    let regex = builder.to_regex_limited(expression, FUEL);
    regex.map_err(|_| "is too complex with these lengths or conditions".into())
}

/// The spelling of characters.
#[derive(Clone, Copy)]
enum Writing {
    /// In a JSON string.
    Json,
    /// As they are.
    Plain,
}

/// True if `llguidance` keeps a pattern exactly: it means the same to it, and no class has all control characters but lacks quotes or
/// backslashes.
pub(super) fn is_kept(pattern: &str) -> bool {
    let Ok(hir) = parse(pattern) else { return false };
    if ecma::translated(pattern).as_deref() != Ok(pattern) {
        return false;
    }
    let mut todo = vec![&hir];
    while let Some(hir) = todo.pop() {
        match hir.kind() {
            HirKind::Class(Class::Unicode(class)) => {
                let has = |from: char, to: char| {
                    class.ranges().iter().any(|range| range.start() <= from && to <= range.end())
                };
                let controls = has('\0', '\t') && has('\u{B}', '\u{1F}');
                if controls && !(has('"', '"') && has('\\', '\\')) {
                    return false;
                }
            }
            HirKind::Repetition(repetition) => todo.push(&repetition.sub),
            HirKind::Capture(capture) => todo.push(&capture.sub),
            HirKind::Concat(parts) | HirKind::Alternation(parts) => todo.extend(parts),
            _ => {}
        }
    }
    true
}

fn parse(pattern: &str) -> Result<Hir, String> {
    // In JSON schema `\d` and `\w` are ASCII.
    let pattern = regex_to_lark(&ecma::translated(pattern)?, "dw");
    let parsed = regex_syntax::ParserBuilder::new().nest_limit(DEEPEST).build().parse(&pattern);
    parsed.map_err(|error| {
        // The last line of the library's message is the reason, those before it draw the place.
        let text = error.to_string();
        text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string()
    })
}

/// The texts in which a pattern matches somewhere. Conditions at its beginning (`(?!…)` and `(?=…)`) are kept.
fn search(writing: Writing, pattern: &str, depth: usize) -> Result<RegexAst, String> {
    if depth > 5 {
        return Err("has conditions (`(?!` or `(?=`) more than five deep".into());
    }
    let anchored = pattern.starts_with('^');
    let mut rest = pattern.strip_prefix('^').unwrap_or(pattern);
    let mut conditions = Vec::new();
    while let Some(ahead) = rest.strip_prefix("(?!").or_else(|| rest.strip_prefix("(?=")) {
        let end = closing(ahead).ok_or("has a `(` that is not closed")?;
        let must = rest.starts_with("(?=");
        let condition =
            search(writing, &format!("^(?:{})", ahead[..end].trim_start_matches('^')), depth + 1)?;
        conditions.push(if must { condition } else { RegexAst::Not(Box::new(condition)) });
        rest = &ahead[end + 1..];
    }
    if conditions.len() > MOST_CONDITIONS && pattern.contains('{') {
        return Err(format!(
            "has more than {MOST_CONDITIONS} conditions (`(?!` or `(?=`) beside a counted repetition"
        ));
    }
    if !conditions.is_empty() && !anchored {
        return Err("has a condition (`(?!` or `(?=`) elsewhere than after a `^` at its beginning".into());
    }
    let body = if anchored { format!("^{rest}") } else { rest.to_string() };
    if conditions.is_empty() {
        return unanchored(writing, &parse(&body)?);
    }
    // The conditions hold for each alternative only if `^` does.
    if top_level_bar(rest) {
        return Err("has a condition before alternatives that are not in a group".into());
    }
    conditions.push(unanchored(writing, &parse(&body)?)?);
    Ok(RegexAst::And(conditions))
}

/// The place of the `)` that closes a group, whose `(` is before the text.
fn closing(text: &str) -> Option<usize> {
    walk(text, |depth, c| depth == 0 && c == ')')
}

fn top_level_bar(text: &str) -> bool {
    walk(text, |depth, c| depth == 0 && c == '|').is_some()
}

/// The first place where `found` holds, given the depth of groups and the character outside of escapes and classes.
fn walk(text: &str, found: impl Fn(usize, char) -> bool) -> Option<usize> {
    let (mut depth, mut class, mut escaped) = (0usize, false, false);
    for (at, c) in text.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match c {
            '\\' => escaped = true,
            ']' => class = false,
            _ if class => {}
            '[' => class = true,
            _ if found(depth, c) => return Some(at),
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

/// The texts in which an expression matches somewhere.
fn unanchored(writing: Writing, hir: &Hir) -> Result<RegexAst, String> {
    place(writing, std::slice::from_ref(hir), true, true)
}

/// Expressions in a row, with any text before (`start`) and after them (`end`) unless they are anchored there.
fn place(writing: Writing, parts: &[Hir], start: bool, end: bool) -> Result<RegexAst, String> {
    let free = |open: bool| match open {
        true => RegexAst::Repeat(Box::new(any(writing)), 0, u32::MAX),
        false => RegexAst::EmptyString,
    };
    match (parts.first().map(Hir::kind), parts.last().map(Hir::kind)) {
        (Some(HirKind::Look(Look::Start)), _) if start => return place(writing, &parts[1..], false, end),
        (_, Some(HirKind::Look(Look::End))) if end => {
            return place(writing, &parts[..parts.len() - 1], start, false);
        }
        _ => {}
    }
    match parts {
        [] => Ok(free(start || end)),
        [part] => Ok(match part.kind() {
            HirKind::Alternation(choices) => {
                let choices =
                    choices.iter().map(|choice| place(writing, std::slice::from_ref(choice), start, end));
                RegexAst::Or(choices.collect::<Result<_, _>>()?)
            }
            HirKind::Capture(capture) => place(writing, std::slice::from_ref(&capture.sub), start, end)?,
            HirKind::Concat(parts) => place(writing, parts, start, end)?,
            _ => RegexAst::Concat(vec![free(start), spelled(writing, part)?, free(end)]),
        }),
        [first, middle @ .., last] => {
            let mut all = vec![place(writing, std::slice::from_ref(first), start, false)?];
            for part in middle {
                all.push(spelled(writing, part)?);
            }
            all.push(place(writing, std::slice::from_ref(last), false, end)?);
            Ok(RegexAst::Concat(all))
        }
    }
}

/// An expression over the spellings of characters.
fn spelled(writing: Writing, hir: &Hir) -> Result<RegexAst, String> {
    let all = |parts: &[Hir]| parts.iter().map(|part| spelled(writing, part)).collect::<Result<Vec<_>, _>>();
    Ok(match hir.kind() {
        HirKind::Empty => RegexAst::EmptyString,
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).map_err(|_| "has bytes that are not text")?;
            let characters =
                text.chars().map(|c| character(writing, &ClassUnicode::new([ClassUnicodeRange::new(c, c)])));
            RegexAst::Concat(characters.collect())
        }
        HirKind::Class(Class::Unicode(class)) => character(writing, class),
        HirKind::Class(Class::Bytes(class)) => {
            character(writing, &class.to_unicode_class().ok_or("has bytes that are not text")?)
        }
        HirKind::Look(Look::Start | Look::End) => {
            return Err("has a `^` or `$` elsewhere than at its beginning and end".into());
        }
        HirKind::Look(_) => return Err("has a word boundary, which is not supported".into()),
        HirKind::Repetition(repetition) => RegexAst::Repeat(
            Box::new(spelled(writing, &repetition.sub)?),
            repetition.min,
            repetition.max.unwrap_or(u32::MAX),
        ),
        HirKind::Capture(capture) => spelled(writing, &capture.sub)?,
        HirKind::Concat(parts) => RegexAst::Concat(all(parts)?),
        HirKind::Alternation(choices) => RegexAst::Or(all(choices)?),
    })
}

/// Any character.
fn any(writing: Writing) -> RegexAst {
    character(writing, &ClassUnicode::new([ClassUnicodeRange::new('\0', char::MAX)]))
}

/// The spellings of the characters of a class: as they are, or where JSON needs it, the short escape or `\u00` and digits.
fn character(writing: Writing, class: &ClassUnicode) -> RegexAst {
    let has = |c: char| class.ranges().iter().any(|range| range.start() <= c && c <= range.end());
    let escapes =
        [('"', '"'), ('\\', '\\'), ('\n', 'n'), ('\r', 'r'), ('\t', 't'), ('\u{8}', 'b'), ('\u{C}', 'f')];
    let mut parts = Vec::new();
    let mut plain = class.clone();
    if matches!(writing, Writing::Json) {
        let escaped = [('\0', '\u{1F}'), ('"', '"'), ('\\', '\\')];
        plain.difference(&ClassUnicode::new(escaped.map(|(from, to)| ClassUnicodeRange::new(from, to))));
    }
    if !plain.ranges().is_empty() {
        let range = |range: &ClassUnicodeRange| {
            format!(r"\x{{{:X}}}-\x{{{:X}}}", u32::from(range.start()), u32::from(range.end()))
        };
        parts.push(format!("[{}]", plain.ranges().iter().map(range).collect::<String>()));
    }
    if matches!(writing, Writing::Plain) {
        return parts.pop().map_or(RegexAst::NoMatch, RegexAst::Regex);
    }
    let short: String = escapes
        .iter()
        .filter(|&&(c, _)| has(c))
        .map(|&(_, escape)| format!(r"\x{:X}", escape as u32))
        .collect();
    if !short.is_empty() {
        parts.push(format!(r"\x5C[{short}]"));
    }
    for high in 0..2u32 {
        let low = (0..16u32).filter(|low| {
            let c = char::from_u32(high * 16 + low).unwrap_or_default();
            has(c) && !escapes.iter().any(|&(short, _)| short == c)
        });
        let digits: String = low.map(|low| format!("{low:x}{low:X}")).collect();
        if !digits.is_empty() {
            parts.push(format!(r"\x5Cu00{high}[{digits}]"));
        }
    }
    match parts.is_empty() {
        true => RegexAst::NoMatch,
        false => RegexAst::Regex(parts.join("|")),
    }
}
