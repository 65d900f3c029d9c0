//! The tokens of a template, as Jinja2 with `trim_blocks` and `lstrip_blocks` finds them.

use super::{PREFIX, SyntaxError, is_space};

/// A token of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Text outside of tags, white space removed where a tag says so.
    Data(String),
    /// `{%`
    BlockBegin,
    /// `%}`
    BlockEnd,
    /// `{{`
    VariableBegin,
    /// `}}`
    VariableEnd,
    /// A name or a keyword.
    Name(String),
    /// A string literal, its escapes resolved.
    Text(String),
    /// A whole number.
    Integer(u128),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// An operator or a bracket.
    Op(&'static str),
}

/// The operators, longer ones before their beginnings.
const OPERATORS: [&str; 25] = [
    "**", "//", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<",
    "=", ".", ":", "|", ",",
];

/// The kinds of tags.
#[derive(Clone, Copy, PartialEq)]
enum Tag {
    Block,
    Variable,
    Comment,
    Raw,
}

/// Reads a whole template.
pub(super) fn tokens(source: &str) -> Result<Vec<(Token, usize)>, SyntaxError> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    // Jinja2 drops the last newline, one only.
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer { source: &source, at: 0, line: 1, out: Vec::new(), line_starts: true };
    lexer.read()?;
    Ok(lexer.out)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: usize,
    out: Vec<(Token, usize)>,
    /// True if the last tag took the end of its line.
    line_starts: bool,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn error(&self, reason: impl Into<String>) -> SyntaxError {
        SyntaxError { line: self.line, reason: reason.into() }
    }

    fn advance(&mut self, bytes: usize) {
        let passed = &self.source.as_bytes()[self.at..self.at + bytes];
        self.line += passed.iter().filter(|&&byte| byte == b'\n').count();
        self.at += bytes;
    }

    fn push(&mut self, token: Token) {
        self.out.push((token, self.line));
    }

    fn read(&mut self) -> Result<(), SyntaxError> {
        while !self.rest().is_empty() {
            let Some((data, tag, length)) = find_tag(self.rest()) else {
                self.data(self.rest().len(), '+');
                return Ok(());
            };
            let opening = &self.rest()[data..data + length];
            let sign = sign_of(&opening[2..]);
            // Before an output only `-` removes white space.
            self.data(data, if tag == Tag::Variable && sign != '-' { '+' } else { sign });
            match tag {
                Tag::Comment => self.comment(length)?,
                Tag::Raw => self.raw(length)?,
                Tag::Block => self.tag(length, Token::BlockBegin)?,
                Tag::Variable => self.tag(length, Token::VariableBegin)?,
            }
        }
        Ok(())
    }

    /// Text up to a tag with this sign: `-` removes white space before it, and `+` keeps the indentation of its line.
    fn data(&mut self, bytes: usize, sign: char) {
        let text = &self.rest()[..bytes];
        let kept = match sign {
            '-' => text.trim_end_matches(is_space),
            '+' => text,
            _ => {
                let start = text.rfind('\n').map_or(0, |newline| newline + 1);
                let whole_line = start > 0 || self.line_starts;
                if whole_line && text[start..].chars().all(is_space) { &text[..start] } else { text }
            }
        };
        if !kept.is_empty() {
            self.push(Token::Data(kept.to_owned()));
        }
        self.advance(bytes);
    }

    /// Ends a tag whose end is `end`, a sign before it included, with the white space that it takes.
    fn end_tag(&mut self, end: &str, trims: bool) {
        let after = &self.rest()[end.len()..];
        let more = match () {
            () if end.starts_with('-') => after.len() - after.trim_start_matches(is_space).len(),
            () if trims && !end.starts_with('+') && after.starts_with('\n') => 1,
            () => 0,
        };
        self.line_starts = self.rest()[..end.len() + more].ends_with('\n');
        self.advance(end.len() + more);
    }

    fn comment(&mut self, opening: usize) -> Result<(), SyntaxError> {
        // `{#-}` is not an end: the sign belongs to the beginning.
        let Some(length) = self.rest()[opening..].find("#}") else {
            return Err(self.error("a comment has no end"));
        };
        let inside = &self.rest()[opening..opening + length];
        let sign = inside.len() - inside.strip_suffix(['-', '+']).unwrap_or(inside).len();
        let end = &self.rest()[opening + length - sign..opening + length + 2];
        self.advance(opening + length - sign);
        self.end_tag(end, true);
        Ok(())
    }

    fn raw(&mut self, opening: usize) -> Result<(), SyntaxError> {
        // `-%}` of the beginning takes white space, `%}` does not take its newline.
        let end = if self.rest()[..opening].ends_with("-%}") { "-%}" } else { "%}" };
        self.advance(opening - end.len());
        self.end_tag(end, false);
        let mut from = 0;
        while let Some(found) = self.rest()[from..].find("{%") {
            let start = from + found;
            let inside = &self.rest()[start + 2..];
            let sign = sign_of(inside);
            if let Some((end, length)) = word_tag(inside, "endraw", &["+%}", "-%}", "%}"]) {
                self.data(start, sign);
                self.advance(2 + length - end.len());
                self.end_tag(end, true);
                return Ok(());
            }
            from = start + 2;
        }
        Err(self.error("{% raw %} has no {% endraw %}"))
    }

    /// A block or an output, from its beginning to its end.
    fn tag(&mut self, opening: usize, begin: Token) -> Result<(), SyntaxError> {
        let (ends, end): (&[&'static str], _) = match begin {
            Token::BlockBegin => (&["+%}", "-%}", "%}"], Token::BlockEnd),
            _ => (&["-}}", "}}"], Token::VariableEnd),
        };
        self.push(begin);
        self.advance(opening);
        let mut open = Vec::new();
        while let Some(first) = self.rest().chars().next() {
            let found = ends.iter().find(|end| self.rest().starts_with(**end));
            if let (true, Some(found)) = (open.is_empty(), found) {
                let trims = end == Token::BlockEnd;
                self.push(end);
                self.end_tag(found, trims);
                return Ok(());
            }
            if is_space(first) {
                let blank = self.rest().len() - self.rest().trim_start_matches(is_space).len();
                self.advance(blank);
            } else {
                self.token(first, &mut open)?;
            }
        }
        Err(self.error("a tag has no end"))
    }

    fn token(&mut self, first: char, open: &mut Vec<&'static str>) -> Result<(), SyntaxError> {
        let after_dot = self.source[..self.at].ends_with('.');
        let number = if first.is_ascii_digit() { number(self.rest(), after_dot) } else { None };
        if let Some((token, length)) = number {
            let Some(token) = token else { return Err(self.error("a number is too large")) };
            self.push(token);
            self.advance(length);
        } else if first == '_' || first.is_alphanumeric() {
            let rest = self.rest();
            let length =
                rest.len() - rest.trim_start_matches(|c: char| c == '_' || c.is_alphanumeric()).len();
            let name = &rest[..length];
            if !name.is_ascii() || first.is_ascii_digit() {
                return Err(self.error(format!("the name {name} is not supported")));
            }
            if name.starts_with(PREFIX) {
                return Err(self.error(format!("names with {PREFIX} are reserved")));
            }
            self.push(Token::Name(name.to_owned()));
            self.advance(length);
        } else if first == '"' || first == '\'' {
            let length = string_length(self.rest()).ok_or_else(|| self.error("a string has no end"))?;
            let text = unescape(&self.rest()[1..length - 1]).map_err(|reason| self.error(reason))?;
            self.push(Token::Text(text));
            self.advance(length);
        } else {
            let found = OPERATORS.into_iter().find(|operator| self.rest().starts_with(operator));
            let operator = found.ok_or_else(|| self.error(format!("unexpected character {first:?}")))?;
            match operator {
                "(" => open.push(")"),
                "[" => open.push("]"),
                "{" => open.push("}"),
                ")" | "]" | "}" if open.pop() != Some(operator) => {
                    return Err(self.error(format!("unexpected {operator:?}")));
                }
                _ => {}
            }
            self.push(Token::Op(operator));
            self.advance(operator.len());
        }
        Ok(())
    }
}

/// The sign of a tag's beginning, or a blank.
fn sign_of(inside: &str) -> char {
    inside.chars().next().filter(|sign| matches!(sign, '-' | '+')).unwrap_or(' ')
}

/// The first tag: where it begins, its kind, and the length of its beginning.
fn find_tag(text: &str) -> Option<(usize, Tag, usize)> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find('{')?;
        let inside = text.get(at + 2..).unwrap_or_default();
        let sign = usize::from(sign_of(inside) != ' ');
        match text.as_bytes().get(at + 1) {
            Some(b'{') => return Some((at, Tag::Variable, 2 + sign)),
            Some(b'#') => return Some((at, Tag::Comment, 2 + sign)),
            Some(b'%') => {
                return match word_tag(inside, "raw", &["-%}", "%}"]) {
                    Some((_, length)) => Some((at, Tag::Raw, 2 + length)),
                    None => Some((at, Tag::Block, 2 + sign)),
                };
            }
            _ => from = at + 1,
        }
    }
}

/// A tag that has only this word, from after its `{%`: the end that it has, and the length with that end.
fn word_tag(inside: &str, word: &str, ends: &[&'static str]) -> Option<(&'static str, usize)> {
    let rest = inside.strip_prefix(['-', '+']).unwrap_or(inside).trim_start_matches(is_space);
    let rest = rest.strip_prefix(word)?.trim_start_matches(is_space);
    let end = ends.iter().find(|end| rest.starts_with(**end))?;
    Some((end, inside.len() - rest.len() + end.len()))
}

/// Length of a run of digits that single underscores may join.
fn digits(text: &str, is_digit: impl Fn(char) -> bool) -> usize {
    let mut length = 0;
    loop {
        let rest = &text[length..];
        let joined = usize::from(length > 0 && rest.starts_with('_'));
        let run = rest[joined..].len() - rest[joined..].trim_start_matches(&is_digit).len();
        if run == 0 {
            return length;
        }
        length += joined + run;
    }
}

/// A number and its length; no token if it is too large.
fn number(text: &str, after_dot: bool) -> Option<(Option<Token>, usize)> {
    let decimal = |text: &str| digits(text, |c| c.is_ascii_digit());
    let whole = decimal(text);
    let fraction = text[whole..].strip_prefix('.').map_or(0, decimal);
    let mut length = if fraction > 0 { whole + 1 + fraction } else { whole };
    if let Some(exponent) = text[length..].strip_prefix(['e', 'E']) {
        let sign = usize::from(exponent.starts_with(['-', '+']));
        let count = decimal(&exponent[sign..]);
        length += if count > 0 { 1 + sign + count } else { 0 };
    }
    if length > whole && !after_dot {
        let value = text[..length].replace('_', "").parse().ok();
        return Some((value.map(Token::Float), length));
    }
    let radix = match text.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0b") => 2,
        Some("0o") => 8,
        Some("0x") => 16,
        _ => 10,
    };
    let begin = if radix == 10 { 0 } else { 2 };
    // An underscore may follow the prefix too.
    let joined = usize::from(begin > 0 && text[begin..].starts_with('_'));
    let count = digits(&text[begin + joined..], |c| c.is_digit(radix));
    if begin > 0 && count > 0 {
        let length = begin + joined + count;
        let value = u128::from_str_radix(&text[begin..length].replace('_', ""), radix).ok();
        return Some((value.map(Token::Integer), length));
    }
    // A number that begins with 0 has no other digits.
    let length = if text.starts_with('0') { digits(text, |c| c == '0') } else { whole };
    Some((text[..length].replace('_', "").parse().ok().map(Token::Integer), length))
}

/// Length of a string literal with its quotes.
fn string_length(text: &str) -> Option<usize> {
    let quote = *text.as_bytes().first()?;
    let mut at = 1;
    loop {
        match text.as_bytes().get(at)? {
            b'\\' => at += 2,
            byte if *byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// The text of a string literal, with Python's escapes.
fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let first = after.chars().next().unwrap_or('\\');
        let mut used = first.len_utf8();
        match first {
            '\n' => {}
            '\\' | '\'' | '"' => out.push(first),
            'a' => out.push('\x07'),
            'b' => out.push('\x08'),
            'f' => out.push('\x0c'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\x0b'),
            '0'..='7' => {
                used = after.chars().take(3).take_while(|c| c.is_digit(8)).count();
                out.extend(u32::from_str_radix(&after[..used], 8).ok().and_then(char::from_u32));
            }
            'x' | 'u' | 'U' => {
                let count = if first == 'x' {
                    2
                } else if first == 'u' {
                    4
                } else {
                    8
                };
                used = 1 + count;
                let digits =
                    after.get(1..used).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
                let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                let character = code.and_then(char::from_u32);
                out.push(character.ok_or_else(|| format!("the escape \\{first} names no character"))?);
            }
            'N' => return Err("the escape \\N is not supported".to_owned()),
            // Jinja2 reads a backslash before such a character as the character's code.
            other if !other.is_ascii() => return Err(format!("the escape \\{other} is not supported")),
            other => out.extend(['\\', other]),
        }
        rest = &after[used..];
    }
    out.push_str(rest);
    Ok(out)
}
