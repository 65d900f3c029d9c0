//! ECMA-262's regular expressions, which JSON schemas are written with, in the syntax of the library that reads them.
//!
//! The library gives a meaning to classes in classes (`[[a]]`), to `&&`, `--` and `~~` in them, and to flags (`(?x)`). In
//! ECMA-262 the former are characters, and the latter do not exist.

use std::iter::Peekable;
use std::str::Chars;

/// A pattern in the library's syntax.
///
/// # Errors
/// The part that ECMA-262 does not have.
pub(super) fn translated(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                out.push('\\');
                let escaped = rest.next().ok_or("ends with a backslash")?;
                check_escape(escaped)?;
                out.push(escaped);
            }
            '[' => class(&mut rest, &mut out)?,
            '(' if rest.peek() == Some(&'?') => {
                let kind = rest.clone().nth(1);
                if !matches!(kind, Some(':' | '=' | '!' | '<')) {
                    let kind = kind.map(String::from).unwrap_or_default();
                    return Err(format!("has a group `(?{kind}`, which ECMA-262 does not have"));
                }
                out.push(c);
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Refuses letters behind a backslash that mean something to the library and nothing, or something else, to ECMA-262.
fn check_escape(escaped: char) -> Result<(), String> {
    match escaped.is_ascii_alphabetic() && !"bBcdDfknpPrsStuvwWx".contains(escaped) {
        true => Err(format!("has `\\{escaped}`, which ECMA-262 does not have")),
        false => Ok(()),
    }
}

/// A part of a class: a character as the library writes it, or a set such as `\d`.
struct Atom {
    text: String,
    is_set: bool,
}

/// A class, behind its `[`.
fn class(rest: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), String> {
    let is_negated = rest.next_if_eq(&'^').is_some();
    if rest.next_if_eq(&']').is_some() {
        // `[^]` is any character, `[]` is none.
        return match is_negated {
            true => {
                out.push_str(r"[\s\S]");
                Ok(())
            }
            false => Err("has an empty class".into()),
        };
    }
    out.push_str(if is_negated { "[^" } else { "[" });
    while let Some(first) = atom(rest)? {
        let mut ahead = rest.clone();
        let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']');
        out.push_str(&first.text);
        if is_range {
            rest.next();
            let last = atom(rest)?.ok_or("has a class that does not end")?;
            // Beside a set the hyphen is a character.
            out.push_str(if first.is_set || last.is_set { r"\-" } else { "-" });
            out.push_str(&last.text);
        }
    }
    out.push(']');
    Ok(())
}

/// The next part of a class; `None` at its end.
fn atom(rest: &mut Peekable<Chars<'_>>) -> Result<Option<Atom>, String> {
    let unclosed = || "has a class that does not end".to_string();
    let c = rest.next().ok_or_else(unclosed)?;
    let plain = |text: String| Ok(Some(Atom { text, is_set: false }));
    match c {
        ']' => Ok(None),
        '\\' => {
            let escaped = rest.next().ok_or_else(unclosed)?;
            check_escape(escaped)?;
            let mut text = format!("\\{escaped}");
            match escaped {
                'b' => return plain(r"\x08".into()),
                'x' => text.extend(rest.by_ref().take(2)),
                'u' | 'p' | 'P' if rest.peek() == Some(&'{') => text += &through(rest, '}'),
                'u' => text.extend(rest.by_ref().take(4)),
                _ => {}
            }
            Ok(Some(Atom { text, is_set: "dDsSwWpP".contains(escaped) }))
        }
        '[' | '-' | '^' => plain(format!("\\{c}")),
        '&' | '~' if rest.peek() == Some(&c) => plain(format!("\\{c}")),
        c => plain(c.into()),
    }
}

/// The characters up to the first `last`, with it.
fn through(rest: &mut Peekable<Chars<'_>>, last: char) -> String {
    let mut taken = String::new();
    for c in rest.by_ref() {
        taken.push(c);
        if c == last {
            break;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_ecma_262_have_no_classes_and_operators() {
        for (ecma, library) in [
            (r"^[[ab]]$", r"^[\[ab]]$"),
            (r"^[[:alpha:]]{2}$", r"^[\[:alpha:]]{2}$"),
            (r"[+--]", r"[+-\-]"),
            (r"[a-z--b]", r"[a-z\--b]"),
            (r"[a&&b][a&b]", r"[a\&&b][a&b]"),
            (r"[a~~b]", r"[a\~~b]"),
            (r"[^]", r"[\s\S]"),
            (r"[-a-]", r"[\-a\-]"),
            (r"[\w-a]", r"[\w\-a]"),
            (r"[\x41-\x5A\u0061-\u{7a}\p{L}\b]", r"[\x41-\x5A\u0061-\u{7a}\p{L}\x08]"),
            (r"\[a\](?:b)(?=c)\d", r"\[a\](?:b)(?=c)\d"),
        ] {
            assert_eq!(translated(ecma).as_deref(), Ok(library), "{ecma}");
        }
        for refused in ["(?x)a", "(?P<n>a)", r"\U00000061", r"\Aa\z", "[]", "[a", "a\\", r"[\a]"] {
            assert!(translated(refused).is_err(), "{refused}");
        }
    }
}
