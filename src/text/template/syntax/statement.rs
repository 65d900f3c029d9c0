//! Statements: tag by tag, without recursion.

use super::lexer::{Token, tokens};
use super::parser::Parser;
use super::printed::{Form, quoted};
use super::{PREFIX, SyntaxError};

/// Deepest nesting of blocks; each `elif` counts as one, since the engine nests it.
const MAX_BLOCKS: usize = 100;

/// Most arguments of a macro beyond the named ones.
const MAX_VARARGS: usize = 16;

/// A block that is open.
struct Block {
    /// The word of its beginning.
    word: &'static str,
    /// The engine's word for its end.
    end: &'static str,
    /// The levels that it adds to the nesting.
    depth: usize,
    has_else: bool,
    line: usize,
}

/// Translates a template for the engine. Its output has no white space control: the engine must be set to keep it all.
pub(in super::super) fn translate(source: &str) -> Result<String, SyntaxError> {
    let mut writer =
        Writer { parser: Parser::new(tokens(source)?), out: String::new(), line: 1, open: Vec::new() };
    while writer.parser.peek().is_some() {
        writer.piece()?;
    }
    match writer.open.last() {
        Some(block) => {
            let reason = format!("{{% {} %}} has no end", block.word);
            Err(SyntaxError { line: block.line, reason })
        }
        None => Ok(writer.out),
    }
}

struct Writer {
    parser: Parser,
    out: String,
    /// Line of the output, counted from 1.
    line: usize,
    open: Vec<Block>,
}

type Done = Result<(), SyntaxError>;

impl Writer {
    /// Writes a tag of the engine on the line that it has in the source.
    fn write(&mut self, line: usize, tag: &str) {
        if self.line < line {
            self.out.push_str("{#");
            self.out.extend(std::iter::repeat_n('\n', line - self.line));
            self.out.push_str("#}");
            self.line = line;
        }
        self.out.push_str(tag);
    }

    fn piece(&mut self) -> Done {
        let line = self.parser.line();
        match self.parser.next() {
            // Text is written as a value, so that what is captured is accounted for.
            Some(Token::Data(text)) => {
                self.write(line, &format!("{{{{ {} }}}}", quoted(&text)));
                Ok(())
            }
            Some(Token::VariableBegin) => {
                let value = self.parser.tuple(true, |_| false)?;
                match self.parser.peek() {
                    Some(Token::VariableEnd) => self.parser.next(),
                    _ => return self.parser.unexpected("end of print statement"),
                };
                self.write(line, &format!("{{{{ {} }}}}", value.text));
                Ok(())
            }
            _ => {
                let word = self.parser.expect_name("a statement")?;
                self.statement(line, &word)
            }
        }
    }

    fn end_tag(&mut self) -> Done {
        match self.parser.peek() {
            Some(Token::BlockEnd) => {
                self.parser.next();
                Ok(())
            }
            _ => self.parser.unexpected("end of statement block"),
        }
    }

    /// Ends a tag that begins a block.
    fn begin(&mut self, line: usize, word: &'static str, end: &'static str, tag: &str) -> Done {
        self.parser.skip_op(":");
        self.end_tag()?;
        self.open.push(Block { word, end, depth: 1, has_else: false, line });
        self.check_depth()?;
        self.write(line, tag);
        Ok(())
    }

    fn check_depth(&self) -> Done {
        match self.open.iter().map(|block| block.depth).sum::<usize>() {
            depth if depth > MAX_BLOCKS => {
                Err(self.parser.error(format!("blocks are nested more than {MAX_BLOCKS} deep")))
            }
            _ => Ok(()),
        }
    }

    fn statement(&mut self, line: usize, word: &str) -> Done {
        match word {
            "if" => {
                let test = self.parser.tuple(false, |_| false)?;
                self.begin(line, "if", "endif", &format!("{{% if {} %}}", test.text))
            }
            "elif" => self.alternative(line),
            "else" => self.otherwise(line),
            "for" => self.repetition(line),
            "set" => self.assignment(line),
            "macro" => self.definition(line),
            "call" => self.call(line),
            "filter" => {
                let chain = self.filter_chain()?;
                self.begin(
                    line,
                    "filter",
                    "endfilter",
                    &format!("{{% filter {chain} | {PREFIX}only_text %}}"),
                )
            }
            "with" => self.scope(line),
            // Marks the model's own text for training. transformers makes it a scope.
            "generation" => self.begin(line, "generation", "endwith", "{% with %}"),
            "break" | "continue" => {
                self.end_tag()?;
                let is_macro = |block: &&Block| matches!(block.word, "for" | "macro" | "call" | "generation");
                match self.open.iter().rev().find(is_macro) {
                    Some(block) if block.word == "for" => {}
                    _ => return Err(self.parser.error(format!("{word} outside of a loop"))),
                }
                self.write(line, &format!("{{% {word} %}}"));
                Ok(())
            }
            // There is only one template: each of these fails when it runs.
            "include" | "import" | "from" | "extends" => {
                while !matches!(self.parser.peek(), Some(Token::BlockEnd) | None) {
                    self.parser.next();
                }
                self.end_tag()?;
                self.write(line, &format!("{{{{ {PREFIX}no_other_template({}) }}}}", quoted(word)));
                Ok(())
            }
            "block" | "autoescape" => Err(self.parser.error(format!("{{% {word} %}} is not supported"))),
            _ => self.end(line, word),
        }
    }

    fn end(&mut self, line: usize, word: &str) -> Done {
        match self.open.pop() {
            Some(block) if word.strip_prefix("end") == Some(block.word) => {
                self.end_tag()?;
                self.write(line, &format!("{{% {} %}}", block.end));
                Ok(())
            }
            Some(block) => {
                let reason = format!("unexpected {word} in {{% {} %}} of line {}", block.word, block.line);
                Err(self.parser.error(reason))
            }
            None => Err(self.parser.error(format!("unknown statement {word}"))),
        }
    }

    fn alternative(&mut self, line: usize) -> Done {
        let test = self.parser.tuple(false, |_| false)?;
        self.parser.skip_op(":");
        self.end_tag()?;
        match self.open.last_mut() {
            Some(block) if block.word == "if" && !block.has_else => block.depth += 1,
            _ => return Err(self.parser.error("unexpected elif")),
        }
        self.check_depth()?;
        self.write(line, &format!("{{% elif {} %}}", test.text));
        Ok(())
    }

    fn otherwise(&mut self, line: usize) -> Done {
        self.parser.skip_op(":");
        self.end_tag()?;
        match self.open.last_mut() {
            Some(block) if matches!(block.word, "if" | "for") && !block.has_else => block.has_else = true,
            _ => return Err(self.parser.error("unexpected else")),
        }
        self.write(line, "{% else %}");
        Ok(())
    }

    fn repetition(&mut self, line: usize) -> Done {
        let target = self.target(0)?;
        if !self.parser.skip_name("in") {
            return self.parser.unexpected("in");
        }
        let items = self.parser.tuple(false, |parser| parser.is_name("recursive"))?;
        let iterate = if target.contains(',') { "rows" } else { "iterate" };
        let mut tag = format!("{{% for {target} in {PREFIX}{iterate}({})", items.text);
        if self.parser.skip_name("if") {
            tag += &format!(" if {}", self.parser.expression()?.text);
        }
        if self.parser.skip_name("recursive") {
            tag += " recursive";
        }
        self.begin(line, "for", "endfor", &(tag + " %}"))
    }

    /// The names that a value is assigned to.
    fn target(&mut self, depth: usize) -> Result<String, SyntaxError> {
        if depth > 8 {
            return Err(self.parser.error("names are nested more than 8 deep"));
        }
        let mut parts = Vec::new();
        let mut is_tuple = false;
        loop {
            if self.parser.skip_op("(") {
                let inner = self.target(depth + 1)?;
                self.parser.expect_op(")")?;
                parts.push(format!("({inner})"));
            } else if is_tuple && !matches!(self.parser.peek(), Some(Token::Name(_)))
                || self.parser.is_name("in")
            {
                break;
            } else {
                let name = self.parser.expect_name("a name")?;
                if matches!(name.as_str(), "loop" | "self") {
                    return Err(self.parser.error(format!("a value named {name} is not supported")));
                }
                parts.push(name);
            }
            if !self.parser.skip_op(",") {
                break;
            }
            is_tuple = true;
        }
        match parts.len() {
            0 => self.parser.unexpected("a name"),
            1 if !is_tuple => Ok(parts.remove(0)),
            1 => Ok(format!("{},", parts[0])),
            _ => Ok(parts.join(", ")),
        }
    }

    fn assignment(&mut self, line: usize) -> Done {
        let is_attribute = matches!(self.parser.ahead().nth(1), Some(Token::Op(".")));
        let target = if is_attribute {
            let name = self.parser.expect_name("a name")?;
            self.parser.expect_op(".")?;
            format!("{name}.{}", self.parser.expect_name("a name")?)
        } else {
            self.target(0)?
        };
        if self.parser.skip_op("=") {
            let value = self.parser.tuple(true, |_| false)?;
            self.end_tag()?;
            // A namespace holds its values for as long as it lives, so that they may not hold the namespace.
            let value = match (is_attribute, target.contains(',')) {
                (true, _) => format!("{PREFIX}keep({})", value.text),
                (_, true) => format!("{PREFIX}iterate({})", value.text),
                _ => value.text,
            };
            self.write(line, &format!("{{% set {target} = {value} %}}"));
            return Ok(());
        }
        let filters =
            if self.parser.skip_op("|") { format!(" | {}", self.filter_chain()?) } else { String::new() };
        self.begin(line, "set", "endset", &format!("{{% set {target}{filters} %}}"))
    }

    fn filter_chain(&mut self) -> Result<String, SyntaxError> {
        let mut chain = Vec::new();
        loop {
            chain.push(self.parser.filter()?.0);
            if !self.parser.skip_op("|") {
                break;
            }
        }
        match chain.len() {
            length if length > MAX_BLOCKS => {
                Err(self.parser.error(format!("more than {MAX_BLOCKS} filters")))
            }
            _ => Ok(chain.join(" | ")),
        }
    }

    fn scope(&mut self, line: usize) -> Done {
        let (mut assignments, mut names) = (Vec::new(), String::new());
        while !matches!(self.parser.peek(), Some(Token::BlockEnd)) && !self.parser.is_op(":") {
            if !assignments.is_empty() {
                self.parser.expect_op(",")?;
            }
            let name = self.parser.expect_name("a name")?;
            self.parser.expect_op("=")?;
            // All values are those outside of the scope.
            let hidden = format!("{PREFIX}{}", assignments.len());
            assignments.push(format!("{hidden} = {}", self.parser.expression()?.text));
            names += &format!("{{% set {name} = {hidden} %}}");
        }
        let tag = format!("{{% with {} %}}{names}", assignments.join(", "));
        self.begin(line, "with", "endwith", &tag)
    }

    /// The parameters of a macro or a call, with their brackets: their names, and the tags that begin the body.
    ///
    /// The engine takes an undefined argument for none, and its defaults do not know the parameters before. So each
    /// parameter has a mark for its default, and the body begins with their values.
    fn parameters(&mut self) -> Result<(Vec<String>, String), SyntaxError> {
        self.parser.expect_op("(")?;
        let (mut names, mut tags) = (Vec::new(), String::new());
        let mut has_default = false;
        while !self.parser.skip_op(")") {
            if !names.is_empty() {
                self.parser.expect_op(",")?;
                if self.parser.skip_op(")") {
                    break;
                }
            }
            let name = self.parser.expect_name("a name")?;
            let taken = format!("{{% set {name} = {PREFIX}taken({name}) %}}");
            if self.parser.skip_op("=") {
                has_default = true;
                let default = self.parser.expression()?.text;
                tags += &format!("{{% if {name} is {PREFIX}absent() %}}{{% set {name} = {default} %}}");
                tags += &format!("{{% else %}}{taken}{{% endif %}}");
            } else if has_default {
                return self.parser.unexpected("=");
            } else {
                tags += &taken;
            }
            names.push(name);
        }
        if names.len() > 500 {
            return Err(self.parser.error("more than 500 parameters"));
        }
        Ok((names, tags))
    }

    fn definition(&mut self, line: usize) -> Done {
        let name = self.parser.expect_name("a name")?;
        let (mut names, mut tags) = self.parameters()?;
        let uses = |word: &str| !names.iter().any(|name| name == word) && self.body_names(word);
        if uses("kwargs") {
            return Err(self.parser.error("kwargs in a macro is not supported"));
        }
        if uses("varargs") {
            let extra: Vec<String> = (0..MAX_VARARGS).map(|n| format!("{PREFIX}{n}")).collect();
            tags += &format!("{{% set varargs = {PREFIX}varargs({}) %}}", extra.join(", "));
            names.extend(extra);
        }
        let tag = format!("{{% macro {name}({}) %}}{tags}", with_marks(&names));
        self.begin(line, "macro", "endmacro", &tag)
    }

    /// True if the body of the macro that begins here has this variable.
    fn body_names(&self, word: &str) -> bool {
        let mut depth = 0;
        let mut before = &Token::BlockEnd;
        for token in self.parser.ahead() {
            match (before, token) {
                (Token::BlockBegin, Token::Name(name)) if name == "macro" => depth += 1,
                (Token::BlockBegin, Token::Name(name)) if name == "endmacro" && depth == 0 => return false,
                (Token::BlockBegin, Token::Name(name)) if name == "endmacro" => depth -= 1,
                (Token::Op("."), _) => {}
                (_, Token::Name(name)) if name == word && depth == 0 => return true,
                _ => {}
            }
            before = token;
        }
        false
    }

    fn call(&mut self, line: usize) -> Done {
        let (names, tags) = if self.parser.is_op("(") { self.parameters()? } else { Default::default() };
        let callee = self.parser.expression()?;
        if callee.form != Form::Call {
            return self.parser.unexpected("a call");
        }
        self.begin(
            line,
            "call",
            "endcall",
            &format!("{{% call({}) {} %}}{tags}", with_marks(&names), callee.text),
        )
    }
}

/// Parameters whose default says that they are not given.
fn with_marks(names: &[String]) -> String {
    names.iter().map(|name| format!("{name}={PREFIX}missing")).collect::<Vec<_>>().join(", ")
}
