//! Expressions: Jinja2's grammar, printed for the engine.

use super::lexer::Token;
use super::parser::Parser;
use super::printed::{Form, Printed, height_of};
use super::{PREFIX, SyntaxError};

/// Deepest nesting of expressions, and the longest row of attributes, calls, or filters on one value.
const MAX_DEPTH: usize = 60;

/// Most arguments or items in one call; the engine takes 2,000.
const MAX_ARGUMENTS: usize = 1_000;

/// Names that Python's values have as attributes, beside which a dictionary's items of the same name are hidden.
const ATTRIBUTES: &str = "as_integer_ratio bit_count bit_length capitalize casefold center clear conjugate copy count denominator encode \
    endswith expandtabs find format format_map fromkeys get hex imag index isalnum isalpha isascii isdecimal \
    isdigit isidentifier is_integer islower isnumeric isprintable isspace istitle isupper items join keys ljust \
    lower lstrip numerator partition pop real removeprefix removesuffix replace rfind rindex rjust rpartition \
    rsplit rstrip split splitlines startswith start step stop strip swapcase title upper values zfill";

type Parsed = Result<Printed, SyntaxError>;

impl Parser {
    /// Runs a part of the grammar one level deeper.
    fn deeper(&mut self, parse: impl FnOnce(&mut Parser) -> Parsed) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.too_deep());
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn too_deep(&self) -> SyntaxError {
        self.error(format!("an expression is nested more than {MAX_DEPTH} deep"))
    }

    /// The expression, if its tree is not too high: rows of attributes and filters nest without a bracket.
    fn checked(&self, printed: Printed) -> Parsed {
        if printed.height > MAX_DEPTH { Err(self.too_deep()) } else { Ok(printed) }
    }

    /// An expression without `if`.
    pub(super) fn unconditional(&mut self) -> Parsed {
        self.logical("or")
    }

    /// An expression.
    pub(super) fn expression(&mut self) -> Parsed {
        self.deeper(|parser| {
            let mut value = parser.unconditional()?;
            while parser.skip_name("if") {
                let test = parser.unconditional()?.bracketed(Form::Filtered);
                // The missing alternative of an engine's own `if` differs from other undefined values.
                let otherwise = match parser.skip_name("else") {
                    true => parser.expression()?.bracketed(Form::Filtered),
                    false => Printed::atom(format!("{PREFIX}nothing"), 1),
                };
                let value_text = value.bracketed(Form::Filtered);
                let text = format!("{} if {} else {}", value_text.text, test.text, otherwise.text);
                let height = height_of(&[value_text, test, otherwise]);
                value = parser.checked(Printed { text, form: Form::Loose, height })?;
            }
            Ok(value)
        })
    }

    /// Alternatives (`or`) or conjunctions (`and`). They are associative, so that a row can be a balanced tree.
    fn logical(&mut self, operator: &str) -> Parsed {
        let mut parts = Vec::new();
        loop {
            parts.push(if operator == "or" { self.logical("and")? } else { self.negation()? });
            if !self.skip_name(operator) {
                break;
            }
        }
        let printed = balanced(parts, operator);
        self.checked(printed)
    }

    fn negation(&mut self) -> Parsed {
        if !self.skip_name("not") {
            return self.comparison();
        }
        self.deeper(|parser| {
            let value = parser.negation()?.bracketed(Form::Filtered);
            let height = value.height + 1;
            parser.checked(Printed { text: format!("not {}", value.text), form: Form::Loose, height })
        })
    }

    fn comparison(&mut self) -> Parsed {
        self.row(Parser::sum, "compare", |parser| {
            for op in ["==", "!=", "<", "<=", ">", ">="] {
                if parser.skip_op(op) {
                    return Some(op);
                }
            }
            if parser.skip_name("in") {
                return Some("in");
            }
            let negated = parser.is_name("not")
                && matches!(parser.tokens.get(parser.at + 1), Some((Token::Name(name), _)) if name == "in");
            parser.at += if negated { 2 } else { 0 };
            negated.then_some("not in")
        })
    }

    fn sum(&mut self) -> Parsed {
        self.row(Parser::concatenation, "calculate", |parser| {
            ["+", "-"].into_iter().find(|op| parser.skip_op(op))
        })
    }

    fn concatenation(&mut self) -> Parsed {
        let mut parts = vec![self.product()?];
        while self.skip_op("~") {
            parts.push(self.product()?);
        }
        match parts.len() {
            1 => Ok(parts.remove(0)),
            _ => self.function("concatenate", parts),
        }
    }

    fn product(&mut self) -> Parsed {
        self.row(Parser::power, "calculate", |parser| {
            ["*", "/", "//", "%"].into_iter().find(|op| parser.skip_op(op))
        })
    }

    fn power(&mut self) -> Parsed {
        self.row(|parser| parser.signed(true), "calculate", |parser| parser.skip_op("**").then_some("**"))
    }

    /// Operands with operators between them, which a function applies from left to right: a long row is not deep.
    fn row(
        &mut self,
        operand: impl Fn(&mut Parser) -> Parsed,
        function: &str,
        operator: impl Fn(&mut Parser) -> Option<&'static str>,
    ) -> Parsed {
        let mut parts = vec![operand(self)?];
        while let Some(op) = operator(self) {
            parts.push(Printed::text(op));
            parts.push(operand(self)?);
        }
        match parts.len() {
            1 => Ok(parts.remove(0)),
            _ => self.function(function, parts),
        }
    }

    fn function(&self, name: &str, arguments: Vec<Printed>) -> Parsed {
        if arguments.len() > MAX_ARGUMENTS {
            return Err(self.error(format!("more than {MAX_ARGUMENTS} operands or items in a row")));
        }
        self.checked(Printed::call(name, &arguments))
    }

    fn signed(&mut self, with_filters: bool) -> Parsed {
        let sign = ["-", "+"].into_iter().find(|op| self.skip_op(op));
        let value = match sign {
            Some(sign) => self.deeper(|parser| {
                let value = parser.signed(false)?;
                parser.function(if sign == "-" { "negative" } else { "positive" }, vec![value])
            })?,
            None => self.primary()?,
        };
        let value = self.postfix(value)?;
        if with_filters { self.filters(value) } else { Ok(value) }
    }

    fn primary(&mut self) -> Parsed {
        let Some(token) = self.peek().cloned() else { return self.unexpected("an expression") };
        let printed = match token {
            Token::Name(name) => {
                self.at += 1;
                let constant = match name.as_str() {
                    "true" | "True" => "true",
                    "false" | "False" => "false",
                    "none" | "None" => "none",
                    name => name,
                };
                Printed::atom(constant, 1)
            }
            Token::Text(mut text) => {
                self.at += 1;
                while let Some(Token::Text(more)) = self.peek() {
                    text.push_str(more);
                    self.at += 1;
                }
                Printed::text(&text)
            }
            Token::Integer(value) => {
                self.at += 1;
                Printed::atom(value.to_string(), 1)
            }
            Token::Float(value) => {
                self.at += 1;
                let infinite = value.is_infinite();
                Printed::atom(if infinite { format!("{PREFIX}infinity") } else { format!("{value:?}") }, 1)
            }
            Token::Op("(") => {
                self.at += 1;
                return self.deeper(|parser| parser.bracket());
            }
            Token::Op("[") => {
                self.at += 1;
                return self.deeper(|parser| {
                    let items = parser.items("]")?;
                    parser.function("list", items)
                });
            }
            Token::Op("{") => {
                self.at += 1;
                return self.deeper(|parser| parser.dictionary());
            }
            _ => return self.unexpected("an expression"),
        };
        Ok(printed)
    }

    /// Expressions up to a closing bracket.
    fn items(&mut self, close: &str) -> Result<Vec<Printed>, SyntaxError> {
        let mut items = Vec::new();
        while !self.skip_op(close) {
            if !items.is_empty() {
                self.expect_op(",")?;
                if self.skip_op(close) {
                    break;
                }
            }
            items.push(self.expression()?);
        }
        Ok(items)
    }

    fn dictionary(&mut self) -> Parsed {
        let mut parts = Vec::new();
        while !self.skip_op("}") {
            if !parts.is_empty() {
                self.expect_op(",")?;
                if self.skip_op("}") {
                    break;
                }
            }
            parts.push(self.expression()?);
            self.expect_op(":")?;
            parts.push(self.expression()?);
        }
        self.function("dict", parts)
    }

    /// After `(`: a tuple, or an expression in brackets.
    fn bracket(&mut self) -> Parsed {
        let mut items = Vec::new();
        let mut is_tuple = false;
        while !self.is_op(")") {
            items.push(self.expression()?);
            if !self.skip_op(",") {
                break;
            }
            is_tuple = true;
        }
        self.expect_op(")")?;
        match items.len() {
            1 if !is_tuple => Ok(items.remove(0).bracketed(Form::Atom)),
            _ => self.function("tuple", items),
        }
    }

    /// An expression, or a tuple without brackets; `conditional` allows `if`, and `ends` says where a tuple ends.
    pub(super) fn tuple(&mut self, conditional: bool, ends: impl Fn(&Parser) -> bool) -> Parsed {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            if is_tuple && (ends(self) || matches!(self.peek(), Some(Token::BlockEnd | Token::VariableEnd))) {
                break;
            }
            items.push(if conditional { self.expression()? } else { self.unconditional()? });
            if !self.skip_op(",") {
                break;
            }
            is_tuple = true;
        }
        match items.len() {
            1 if !is_tuple => Ok(items.remove(0)),
            _ => self.function("tuple", items),
        }
    }

    fn postfix(&mut self, mut value: Printed) -> Parsed {
        loop {
            if self.skip_op(".") {
                // The engine would read a number's attribute as its fraction.
                let is_number = value.text.starts_with(|c: char| c.is_ascii_digit());
                let value_text = if is_number { format!("({})", value.text) } else { value.text };
                value = self.attribute(Printed { text: value_text, ..value })?;
            } else if self.skip_op("[") {
                value = self.deeper(|parser| parser.subscript(value))?;
            } else if self.is_op("(") {
                value = self.called(value.bracketed(Form::Atom), "")?;
            } else {
                return Ok(value);
            }
        }
    }

    fn attribute(&mut self, value: Printed) -> Parsed {
        match self.next() {
            Some(Token::Integer(index)) => {
                self.function("item", vec![value, Printed::atom(index.to_string(), 1)])
            }
            Some(Token::Name(name)) if self.is_op("(") => {
                let value = value.bracketed(Form::Atom);
                self.called(value, &name)
            }
            Some(Token::Name(name))
                if name.starts_with("__") || ATTRIBUTES.split(' ').any(|known| known == name) =>
            {
                self.function("attribute", vec![value, Printed::text(&name)])
            }
            Some(Token::Name(name)) => {
                let value = value.bracketed(Form::Atom);
                self.checked(Printed::atom(format!("{}.{name}", value.text), value.height + 1))
            }
            _ => {
                self.at -= 1;
                self.unexpected("a name or a number")
            }
        }
    }

    /// After `[`.
    fn subscript(&mut self, value: Printed) -> Parsed {
        let mut keys = Vec::new();
        let nothing = || Printed::atom("none", 1);
        let ends = |parser: &Parser| parser.is_op("]") || parser.is_op(",");
        loop {
            if self.is_op(":") || {
                keys.push(self.expression()?);
                self.is_op(":")
            } {
                let start = keys.pop().unwrap_or_else(nothing);
                let mut parts = vec![value, start];
                while parts.len() < 4 && self.skip_op(":") {
                    let missing = ends(self) || self.is_op(":");
                    parts.push(if missing { nothing() } else { self.expression()? });
                }
                parts.resize_with(4, nothing);
                self.expect_op("]")?;
                return self.function("slice", parts);
            }
            if !self.skip_op(",") {
                break;
            }
        }
        self.expect_op("]")?;
        let key = match keys.len() {
            1 => keys.remove(0),
            _ => self.function("tuple", keys)?,
        };
        self.function("item", vec![value, key])
    }

    /// A call of a value, or of its method.
    fn called(&mut self, value: Printed, method: &str) -> Parsed {
        let marks = match (method, value.text.as_str()) {
            ("", "loop") => "iterate",
            // It may be a macro.
            ("", _) => "given",
            _ => "",
        };
        let (arguments, height) = self.arguments(marks)?;
        let height = 1 + value.height.max(height);
        let text = match method {
            "" => format!("{}({arguments})", value.text),
            // The engine divides by the number of arguments.
            "cycle" => format!("{PREFIX}cycle({}, {arguments})", value.text),
            // The engine's own attribute is a method, as Python's are.
            method => format!("{}.{method}({arguments})", value.text),
        };
        let form = if method == "cycle" { Form::Atom } else { Form::Call };
        self.checked(Printed { text, form, height })
    }

    /// Arguments with their brackets, each passed through the function `marks`.
    fn arguments(&mut self, marks: &str) -> Result<(String, usize), SyntaxError> {
        self.expect_op("(")?;
        let (mut texts, mut height): (Vec<String>, usize) = (Vec::new(), 0);
        let (mut named, mut spread) = (false, false);
        while !self.skip_op(")") {
            if !texts.is_empty() {
                self.expect_op(",")?;
                if self.skip_op(")") {
                    break;
                }
            }
            let is_named =
                matches!(self.ahead().take(2).collect::<Vec<_>>()[..], [Token::Name(_), Token::Op("=")]);
            let mut prefix = String::new();
            if self.skip_op("**") {
                prefix.push_str("**");
                (named, spread) = (true, true);
            } else if self.skip_op("*") {
                prefix.push('*');
                spread = true;
            } else if is_named {
                prefix = format!("{}=", self.expect_name("a name")?);
                self.expect_op("=")?;
                named = true;
            } else if named || spread {
                return self.unexpected("a named argument");
            }
            let value = self.expression()?;
            height = height.max(value.height);
            let marks = match prefix.as_str() {
                "*" => "iterate",
                "**" => "",
                _ => marks,
            };
            // Literals are what they are.
            let is_literal = value.text.starts_with(|c: char| c.is_ascii_digit() || c == '"');
            texts.push(match marks {
                "" => prefix + &value.text,
                "given" if is_literal => prefix + &value.text,
                _ => format!("{prefix}{PREFIX}{marks}({})", value.text),
            });
        }
        if texts.len() > MAX_ARGUMENTS {
            return Err(self.error(format!("more than {MAX_ARGUMENTS} arguments")));
        }
        Ok((texts.join(", "), height))
    }

    /// Filters, tests and calls after an operand.
    fn filters(&mut self, mut value: Printed) -> Parsed {
        loop {
            if self.skip_op("|") {
                let (call, height) = self.filter()?;
                let value_text = value.bracketed(Form::Filtered);
                let height = 1 + value_text.height.max(height);
                let text = format!("{}|{call}", value_text.text);
                value = self.checked(Printed { text, form: Form::Filtered, height })?;
            } else if self.skip_name("is") {
                value = self.test(value)?;
            } else if self.is_op("(") {
                value = self.called(value.bracketed(Form::Atom), "")?;
            } else {
                return Ok(value);
            }
        }
    }

    /// A filter's name with its arguments, from after the bar.
    pub(super) fn filter(&mut self) -> Result<(String, usize), SyntaxError> {
        let mut name = self.expect_name("the name of a filter")?;
        while self.skip_op(".") {
            name = format!("{name}.{}", self.expect_name("the name of a filter")?);
        }
        if !self.is_op("(") {
            return Ok((name, 0));
        }
        let (arguments, height) = self.arguments("")?;
        Ok((format!("{name}({arguments})"), height))
    }

    /// From after `is`.
    fn test(&mut self, value: Printed) -> Parsed {
        let negated = self.skip_name("not");
        let mut name = self.expect_name("the name of a test")?;
        while self.skip_op(".") {
            name = format!("{name}.{}", self.expect_name("the name of a test")?);
        }
        let (arguments, height) = match self.peek() {
            Some(Token::Op("(")) => self.arguments("")?,
            Some(Token::Name(word)) if matches!(word.as_str(), "else" | "or" | "and") => (String::new(), 0),
            Some(Token::Name(word)) if word == "is" => {
                return Err(self.error("tests cannot be chained with is"));
            }
            Some(
                Token::Name(_) | Token::Text(_) | Token::Integer(_) | Token::Float(_) | Token::Op("[" | "{"),
            ) => {
                let argument = self.primary()?;
                let argument = self.postfix(argument)?;
                (argument.text, argument.height)
            }
            _ => (String::new(), 0),
        };
        let value = value.bracketed(Form::Filtered);
        let height = 2 + value.height.max(height);
        let not = if negated { "not " } else { "" };
        let text = format!("{not}{} is {name}({arguments})", value.text);
        self.checked(Printed { text, form: Form::Loose, height })
    }
}

/// A balanced tree of the parts.
fn balanced(mut parts: Vec<Printed>, operator: &str) -> Printed {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let right = balanced(parts.split_off(parts.len() / 2), operator).bracketed(Form::Filtered);
    let left = balanced(parts, operator).bracketed(Form::Filtered);
    let text = format!("{} {operator} {}", left.text, right.text);
    Printed { text, form: Form::Loose, height: height_of(&[left, right]) }
}
