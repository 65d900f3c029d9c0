//! Translates grammars in GBNF, llama.cpp's form of BNF, to Lark.
//!
//! GBNF works on characters. So each character of a literal and each class becomes its own lexeme: then the lexer's
//! rule of the longest match never applies, and the language is the same.

use std::collections::HashMap;
use std::fmt::Write;
use std::iter::Peekable;
use std::str::CharIndices;

/// An error in a grammar, with its line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct GbnfError {
    /// The line, counted from 1.
    pub line: usize,
    /// Description of the error.
    pub reason: String,
}

/// True if a grammar is in GBNF: its first rule is defined with `::=`.
pub(super) fn is_gbnf(grammar: &str) -> bool {
    let lines = grammar.lines().map(str::trim_start);
    let text: Vec<&str> = lines.filter(|line| !line.starts_with('#') && !line.is_empty()).take(2).collect();
    let after_name = text.join(" ");
    let after_name = after_name.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "-_".contains(c));
    after_name.trim_start().starts_with("::=")
}

/// The equivalent grammar in Lark, whose start rule is GBNF's `root`.
pub(super) fn to_lark(grammar: &str) -> Result<String, GbnfError> {
    let mut reader =
        Reader { text: grammar, chars: grammar.char_indices().peekable(), rules: HashMap::new(), depth: 0 };
    let mut lark = String::new();
    reader.space();
    while reader.chars.peek().is_some() {
        reader.rule(&mut lark)?;
    }
    let mut rules: Vec<(&str, &Rule)> = reader.rules.iter().map(|(name, rule)| (*name, rule)).collect();
    rules.sort_by_key(|(_, rule)| rule.used_at);
    if let Some((name, rule)) = rules.iter().find(|(_, rule)| !rule.defined) {
        let reason = format!("there is no rule `{name}`");
        return Err(GbnfError { line: reader.line_of(rule.used_at), reason });
    }
    match reader.rules.get("root") {
        Some(root) => Ok(format!("start: {}\n{lark}", root.lark)),
        None => Err(GbnfError { line: 1, reason: "there is no rule `root`, where a text begins".into() }),
    }
}

/// A rule: its Lark name, the offset of its first mention, and whether it is defined yet.
struct Rule {
    lark: String,
    used_at: usize,
    defined: bool,
}

struct Reader<'g> {
    text: &'g str,
    chars: Peekable<CharIndices<'g>>,
    rules: HashMap<&'g str, Rule>,
    depth: usize,
}

/// Deepest nesting of groups: no real grammar exceeds it, and recursion must not exhaust the stack.
const DEEPEST: usize = 100;

impl<'g> Reader<'g> {
    fn at(&mut self) -> usize {
        self.chars.peek().map_or(self.text.len(), |&(at, _)| at)
    }

    fn next_is(&mut self, c: char) -> bool {
        self.chars.peek().is_some_and(|&(_, next)| next == c)
    }

    fn take(&mut self, c: char) -> bool {
        self.chars.next_if(|&(_, next)| next == c).is_some()
    }

    fn line_of(&self, at: usize) -> usize {
        1 + self.text[..at].matches('\n').count()
    }

    fn error<T>(&mut self, reason: impl Into<String>) -> Result<T, GbnfError> {
        let at = self.at();
        Err(GbnfError { line: self.line_of(at), reason: reason.into() })
    }

    /// Skips white space and comments. Newlines have no meaning: a rule ends where the `::=` of the next begins.
    fn space(&mut self) {
        while let Some(&(_, c)) = self.chars.peek() {
            if c == '#' {
                while self.chars.next_if(|&(_, c)| c != '\n').is_some() {}
            } else if !c.is_whitespace() {
                break;
            } else {
                self.chars.next();
            }
        }
    }

    fn name(&mut self) -> &'g str {
        let start = self.at();
        while self.chars.next_if(|&(_, c)| c.is_ascii_alphanumeric() || c == '-' || c == '_').is_some() {}
        let end = self.at();
        &self.text[start..end]
    }

    /// The rule with this name, in Lark.
    fn reference(&mut self, name: &'g str, at: usize) -> &mut Rule {
        let number = self.rules.len();
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let lark = || format!("r{number}_{}", name.chars().map(plain).collect::<String>());
        self.rules.entry(name).or_insert_with(|| Rule { lark: lark(), used_at: at, defined: false })
    }

    fn rule(&mut self, out: &mut String) -> Result<(), GbnfError> {
        let at = self.at();
        let name = self.name();
        if name.is_empty() {
            let found = self.chars.peek().map_or(' ', |&(_, c)| c);
            return self.error(format!("expected the name of a rule, found `{}`", found.escape_debug()));
        }
        self.space();
        if !"::=".chars().all(|c| self.take(c)) {
            return self.error(format!("expected `::=` after `{name}`"));
        }
        let rule = self.reference(name, at);
        if std::mem::replace(&mut rule.defined, true) {
            return self.error(format!("the rule `{name}` is defined twice"));
        }
        let lark = rule.lark.clone();
        let _ = write!(out, "{lark}: ");
        self.alternatives(out)?;
        out.push('\n');
        Ok(())
    }

    fn alternatives(&mut self, out: &mut String) -> Result<(), GbnfError> {
        loop {
            self.sequence(out)?;
            if !self.take('|') {
                return Ok(());
            }
            out.push_str(" | ");
        }
    }

    /// Items up to a terminator: `|`, `)`, the next rule, or the end.
    fn sequence(&mut self, out: &mut String) -> Result<(), GbnfError> {
        let mut empty = true;
        loop {
            self.space();
            if matches!(self.chars.peek(), None | Some((_, '|' | ')'))) || self.at_next_rule() {
                break;
            }
            let mut item = String::new();
            self.item(&mut item)?;
            // Lark has no `{0}`: an item repeated zero times is the empty text.
            let (item, often) = match self.repetition()? {
                often if often == "{0,0}" => ("\"\"", String::new()),
                often => (item.as_str(), often),
            };
            let _ = write!(out, "{}({item}){often}", if empty { "" } else { " " });
            empty = false;
        }
        if empty {
            out.push_str("\"\"");
        }
        Ok(())
    }

    /// True if a name and `::=` follow.
    fn at_next_rule(&mut self) -> bool {
        let mut ahead =
            Reader { text: self.text, chars: self.chars.clone(), rules: HashMap::new(), depth: 0 };
        let name = ahead.name();
        ahead.space();
        !name.is_empty() && "::=".chars().all(|c| ahead.take(c))
    }

    fn item(&mut self, out: &mut String) -> Result<(), GbnfError> {
        if self.take('"') {
            return self.literal(out);
        }
        if self.take('[') {
            return self.class(out);
        }
        if self.take('.') {
            out.push_str(r"/[\x{0}-\x{10FFFF}]/");
            return Ok(());
        }
        if self.take('(') {
            if self.depth >= DEEPEST {
                return self.error(format!("more than {DEEPEST} groups within each other"));
            }
            self.depth += 1;
            self.alternatives(out)?;
            self.depth -= 1;
            return if self.take(')') { Ok(()) } else { self.error("a `(` is not closed") };
        }
        let at = self.at();
        let name = self.name();
        if !name.is_empty() {
            let lark = &self.reference(name, at).lark;
            out.push_str(lark);
            return Ok(());
        }
        match self.chars.peek() {
            Some((_, '<' | '!')) => self.error("tokens (`<…>`) are not supported; spell their text"),
            Some(&(_, c)) => self.error(format!("`{}` is not expected here", c.escape_debug())),
            None => self.error("the grammar ends in the middle of a rule"),
        }
    }

    /// A literal: one lexeme per character.
    fn literal(&mut self, out: &mut String) -> Result<(), GbnfError> {
        let mut empty = true;
        while !self.take('"') {
            let Some(c) = self.character()? else { return self.error("a literal is not closed") };
            let _ = write!(out, "{}/\\x{{{:X}}}/", if empty { "" } else { " " }, c as u32);
            empty = false;
        }
        if empty {
            out.push_str("\"\"");
        }
        Ok(())
    }

    /// A character class, as a regular expression.
    fn class(&mut self, out: &mut String) -> Result<(), GbnfError> {
        out.push_str(if self.take('^') { "/[^" } else { "/[" });
        let mut empty = true;
        while !self.take(']') {
            let Some(first) = self.character()? else { return self.error("a `[` is not closed") };
            let mut last = first;
            if self.take('-') {
                if self.next_is(']') {
                    // A trailing `-` is literal.
                    out.push_str(r"\x{2D}");
                } else {
                    let Some(c) = self.character()? else { return self.error("a `[` is not closed") };
                    last = c;
                }
            }
            if last < first {
                return self.error(format!("the range `{first}-{last}` is empty"));
            }
            let _ = write!(out, r"\x{{{:X}}}-\x{{{:X}}}", first as u32, last as u32);
            empty = false;
        }
        if empty {
            return self.error("a class of no characters matches nothing");
        }
        out.push_str("]/");
        Ok(())
    }

    /// One character of a literal or a class, unescaped; `None` at the end of the grammar.
    fn character(&mut self) -> Result<Option<char>, GbnfError> {
        let Some((_, c)) = self.chars.next() else { return Ok(None) };
        if c != '\\' {
            return Ok(Some(c));
        }
        let Some((_, escape)) = self.chars.next() else { return Ok(None) };
        let digits = match escape {
            'n' => return Ok(Some('\n')),
            'r' => return Ok(Some('\r')),
            't' => return Ok(Some('\t')),
            '\\' | '"' | '[' | ']' | '-' | '^' => return Ok(Some(escape)),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return self.error(format!("there is no escape `\\{}`", escape.escape_debug())),
        };
        let mut code = 0u32;
        for _ in 0..digits {
            match self.chars.next().and_then(|(_, c)| c.to_digit(16)) {
                Some(digit) => code = (code << 4) | digit,
                None => return self.error(format!("`\\{escape}` needs {digits} hexadecimal digits")),
            }
        }
        match char::from_u32(code) {
            Some(c) => Ok(Some(c)),
            None => self.error(format!("{code:X} is no character")),
        }
    }

    /// The repetition of the last item, in Lark's syntax.
    fn repetition(&mut self) -> Result<String, GbnfError> {
        self.space();
        if let Some((_, c)) = self.chars.next_if(|&(_, c)| matches!(c, '*' | '+' | '?')) {
            return Ok(c.to_string());
        }
        if !self.take('{') {
            return Ok(String::new());
        }
        let least = self.number()?;
        let most = if self.take(',') { self.number()? } else { least };
        self.space();
        if !self.take('}') {
            return self.error("expected `}` after a repetition");
        }
        match (least, most) {
            (None, None) => self.error("a repetition needs a number"),
            (Some(least), Some(most)) if most < least => self.error(format!("{{{least},{most}}} is never")),
            (least, None) => Ok(format!("{{{},}}", least.unwrap_or(0))),
            (least, Some(most)) => Ok(format!("{{{},{most}}}", least.unwrap_or(0))),
        }
    }

    fn number(&mut self) -> Result<Option<u32>, GbnfError> {
        self.space();
        let start = self.at();
        while self.chars.next_if(|&(_, c)| c.is_ascii_digit()).is_some() {}
        let digits = &self.text[start..self.at()];
        self.space();
        match digits.parse() {
            _ if digits.is_empty() => Ok(None),
            Ok(number) if number <= 10_000 => Ok(Some(number)),
            _ => self.error(format!("{digits} repetitions are too many; 10000 is the most")),
        }
    }
}
