//! Reads the text of a GBNF grammar into plain rules: groups and repetitions become rules of their own.

use std::collections::HashMap;
use std::fmt::Write;
use std::iter::Peekable;
use std::str::CharIndices;

use toktrie::TokTrie;

use super::GbnfError;
use super::rules::{Rules, Sequence, Symbol, Terminal};
use super::tokens;

/// True if a grammar is in GBNF: its first rule is defined with `::=`.
pub(in super::super) fn is_gbnf(grammar: &str) -> bool {
    let lines = grammar.lines().map(str::trim_start);
    let text: Vec<&str> = lines.filter(|line| !line.starts_with('#') && !line.is_empty()).take(2).collect();
    let after_name = text.join(" ");
    let after_name = after_name.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "-_".contains(c));
    after_name.trim_start().starts_with("::=")
}

/// The rules of a grammar, which may name tokens of a vocabulary.
pub(super) fn read(grammar: &str, vocabulary: &TokTrie) -> Result<Rules, GbnfError> {
    let rules = Rules { alternatives: Vec::new(), terminals: Vec::new(), root: 0 };
    let mut reader = Reader {
        text: grammar,
        vocabulary,
        chars: grammar.char_indices().peekable(),
        rules,
        names: HashMap::new(),
        terminals: HashMap::new(),
        repeated: HashMap::new(),
        depth: 0,
    };
    reader.space();
    while reader.chars.peek().is_some() {
        reader.rule()?;
    }
    let undefined = reader.names.iter().filter(|(_, rule)| !rule.defined);
    if let Some((name, rule)) = undefined.min_by_key(|(_, rule)| rule.used_at) {
        let reason = format!("there is no rule `{name}`");
        return Err(GbnfError { line: reader.line_of(rule.used_at), reason });
    }
    match reader.names.get("root") {
        Some(root) => Ok(Rules { root: root.number, ..reader.rules }),
        None => Err(GbnfError { line: 1, reason: "there is no rule `root`, where a text begins".into() }),
    }
}

/// A named rule: its number, the offset of its first mention, and whether it is defined yet.
struct Named {
    number: usize,
    used_at: usize,
    defined: bool,
}

/// A number of repetitions: exactly so many, at most so many, or any number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Times {
    Exactly(u32),
    AtMost(u32),
    Any,
}

struct Reader<'g> {
    text: &'g str,
    vocabulary: &'g TokTrie,
    chars: Peekable<CharIndices<'g>>,
    rules: Rules,
    names: HashMap<&'g str, Named>,
    /// Numbers of the terminals.
    terminals: HashMap<Terminal, usize>,
    /// Rules of repetitions.
    repeated: HashMap<(Symbol, Times), usize>,
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

    /// The rule with this name.
    fn reference(&mut self, name: &'g str, at: usize) -> &mut Named {
        let rules = &mut self.rules;
        self.names.entry(name).or_insert_with(|| Named {
            number: rules.add(Vec::new()),
            used_at: at,
            defined: false,
        })
    }

    fn character_terminal(&mut self, regex: String) -> Symbol {
        self.terminal(Terminal::Character(regex))
    }

    fn terminal(&mut self, terminal: Terminal) -> Symbol {
        let terminals = &mut self.rules.terminals;
        let number = *self.terminals.entry(terminal).or_insert_with_key(|terminal| {
            terminals.push(terminal.clone());
            terminals.len() - 1
        });
        Symbol::Terminal(number)
    }

    fn rule(&mut self) -> Result<(), GbnfError> {
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
        let number = rule.number;
        self.rules.alternatives[number] = self.alternatives()?;
        Ok(())
    }

    fn alternatives(&mut self) -> Result<Vec<Sequence>, GbnfError> {
        let mut alternatives = vec![self.sequence()?];
        while self.take('|') {
            alternatives.push(self.sequence()?);
        }
        Ok(alternatives)
    }

    /// Items up to a terminator: `|`, `)`, the next rule, or the end.
    fn sequence(&mut self) -> Result<Sequence, GbnfError> {
        let mut sequence = Sequence::new();
        loop {
            self.space();
            if matches!(self.chars.peek(), None | Some((_, '|' | ')'))) || self.at_next_rule() {
                return Ok(sequence);
            }
            let item = self.item()?;
            match self.repetition()? {
                None => sequence.extend(item),
                Some((least, most)) => {
                    let item = match item[..] {
                        [] => continue,
                        [symbol] => symbol,
                        _ => Symbol::Rule(self.rules.add(vec![item])),
                    };
                    sequence.extend(self.repeat(item, Times::Exactly(least)));
                    let more = most.map_or(Times::Any, |most| Times::AtMost(most - least));
                    sequence.extend(self.repeat(item, more));
                }
            }
        }
    }

    /// A repeated symbol. Large numbers are halved, so that they need few rules: the depth is at most 14.
    fn repeat(&mut self, symbol: Symbol, times: Times) -> Option<Symbol> {
        match times {
            Times::Exactly(0) | Times::AtMost(0) => return None,
            Times::Exactly(1) => return Some(symbol),
            _ => {}
        }
        if let Some(&rule) = self.repeated.get(&(symbol, times)) {
            return Some(Symbol::Rule(rule));
        }
        let rule = self.rules.add(Vec::new());
        self.repeated.insert((symbol, times), rule);
        let join = |parts: &[Option<Symbol>]| parts.iter().copied().flatten().collect::<Sequence>();
        self.rules.alternatives[rule] = match times {
            Times::Any => vec![Vec::new(), vec![Symbol::Rule(rule), symbol]],
            Times::Exactly(n) => {
                let half = self.repeat(symbol, Times::Exactly(n / 2));
                vec![join(&[half, half, (n % 2 == 1).then_some(symbol)])]
            }
            Times::AtMost(1) => vec![Vec::new(), vec![symbol]],
            Times::AtMost(n) => {
                // Up to half of them, or more.
                let few = self.repeat(symbol, Times::AtMost(n / 2));
                let many = self.repeat(symbol, Times::Exactly(n / 2 + 1));
                let more = self.repeat(symbol, Times::AtMost(n - n / 2 - 1));
                vec![join(&[few]), join(&[many, more])]
            }
        };
        Some(Symbol::Rule(rule))
    }

    /// True if a name and `::=` follow.
    fn at_next_rule(&mut self) -> bool {
        let before = self.chars.clone();
        let named = !self.name().is_empty();
        let defined = named && {
            self.space();
            "::=".chars().all(|c| self.take(c))
        };
        self.chars = before;
        defined
    }

    fn item(&mut self) -> Result<Sequence, GbnfError> {
        if self.take('"') {
            return self.literal();
        }
        if self.take('[') {
            return Ok(vec![self.class()?]);
        }
        if self.take('.') {
            return Ok(vec![self.character_terminal(r"[\x{0}-\x{10FFFF}]".into())]);
        }
        if self.next_is('<') || self.next_is('!') {
            return Ok(vec![self.token()?]);
        }
        if self.take('(') {
            if self.depth >= DEEPEST {
                return self.error(format!("more than {DEEPEST} groups within each other"));
            }
            self.depth += 1;
            let mut alternatives = self.alternatives()?;
            self.depth -= 1;
            if !self.take(')') {
                return self.error("a `(` is not closed");
            }
            return Ok(match alternatives.len() {
                1 => alternatives.swap_remove(0),
                _ => vec![Symbol::Rule(self.rules.add(alternatives))],
            });
        }
        let at = self.at();
        let name = self.name();
        if !name.is_empty() {
            return Ok(vec![Symbol::Rule(self.reference(name, at).number)]);
        }
        match self.chars.peek() {
            Some(&(_, c)) => self.error(format!("`{}` is not expected here", c.escape_debug())),
            None => self.error("the grammar ends in the middle of a rule"),
        }
    }

    /// A reference to a token, or with `!` to any other token.
    fn token(&mut self) -> Result<Symbol, GbnfError> {
        let negated = self.take('!');
        let start = self.at();
        if !self.take('<') {
            return self.error("expected `<` and a token after `!`");
        }
        while self.chars.next_if(|&(_, c)| c != '>' && c != '\n').is_some() {}
        if !self.take('>') {
            return self.error("a `<` is not closed");
        }
        let end = self.at();
        match tokens::ids_of(&self.text[start..end], negated, self.vocabulary) {
            Ok(ids) => Ok(self.terminal(Terminal::Token(ids))),
            Err(reason) => self.error(reason),
        }
    }

    /// A literal: one terminal per character.
    fn literal(&mut self) -> Result<Sequence, GbnfError> {
        let mut sequence = Sequence::new();
        while !self.take('"') {
            let Some(c) = self.character()? else { return self.error("a literal is not closed") };
            sequence.push(self.character_terminal(format!(r"\x{{{:X}}}", c as u32)));
        }
        Ok(sequence)
    }

    /// A character class.
    fn class(&mut self) -> Result<Symbol, GbnfError> {
        let mut out = String::from(if self.take('^') { "[^" } else { "[" });
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
        out.push(']');
        Ok(self.character_terminal(out))
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
            None => self.error(format!("{code:X} is not a character")),
        }
    }

    /// The repetition of the last item, if it has one: the least and the most.
    fn repetition(&mut self) -> Result<Option<(u32, Option<u32>)>, GbnfError> {
        self.space();
        if let Some((_, c)) = self.chars.next_if(|&(_, c)| matches!(c, '*' | '+' | '?')) {
            return Ok(Some((u32::from(c == '+'), (c == '?').then_some(1))));
        }
        if !self.take('{') {
            return Ok(None);
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
            (least, most) => Ok(Some((least.unwrap_or(0), most))),
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
