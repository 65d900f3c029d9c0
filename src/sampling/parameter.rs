//! A parameter of a stage: its names, its range and its help in one place, for programs and for the command line.

use super::ParamError;

/// A number or texts that a stage is told, with the value to read and to set.
#[derive(Debug)]
pub struct Parameter<'v> {
    /// As programs spell it, such as `top_k`. No two stages have a parameter of the same name.
    pub name: &'static str,
    /// The command line's option, such as `top-k`.
    pub flag: &'static str,
    /// Another spelling of the option.
    pub alias: Option<&'static str>,
    /// The value's name in the help, such as `K`.
    pub value_name: &'static str,
    /// Its effect, and the value that has none.
    pub help: &'static str,
    /// Whether the short help lists it.
    pub common: bool,
    /// Its value.
    pub value: Value<'v>,
}

/// A parameter's value, where it lies in the settings.
#[derive(Debug)]
#[non_exhaustive]
pub enum Value<'v> {
    /// A number within a range.
    Number(&'v mut f32, Range),
    /// How many, and the most that is supported.
    Count(&'v mut usize, usize),
    /// Texts.
    Texts(&'v mut Vec<String>),
}

/// The numbers that a parameter can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Range {
    /// Any finite number.
    Finite,
    /// From 0 on.
    NotNegative,
    /// Above 0.
    Positive,
    /// From 0 to 1.
    Share,
    /// Above 0 and up to 1.
    PositiveShare,
}

impl Range {
    /// Whether a number is in the range.
    pub fn contains(self, value: f32) -> bool {
        match self {
            Range::Finite => value.is_finite(),
            Range::NotNegative => value.is_finite() && value >= 0.0,
            Range::Positive => value.is_finite() && value > 0.0,
            Range::Share => (0.0..=1.0).contains(&value),
            Range::PositiveShare => value > 0.0 && value <= 1.0,
        }
    }

    /// The range in words, as errors say it.
    pub fn describe(self) -> &'static str {
        match self {
            Range::Finite => "a finite number",
            Range::NotNegative => "0 or a positive number",
            Range::Positive => "a number above 0",
            Range::Share => "a number from 0 to 1",
            Range::PositiveShare => "a number above 0 and up to 1",
        }
    }
}

impl<'v> Parameter<'v> {
    /// A parameter by its name, its option, the name of its value, and where that lies.
    pub(super) fn new(
        name: &'static str,
        flag: &'static str,
        value_name: &'static str,
        value: Value<'v>,
    ) -> Parameter<'v> {
        Parameter { name, flag, alias: None, value_name, help: "", common: false, value }
    }

    /// Its effect, in a line of help.
    pub(super) fn help(self, help: &'static str) -> Parameter<'v> {
        Parameter { help, ..self }
    }

    /// Another spelling of the option.
    pub(super) fn alias(self, alias: &'static str) -> Parameter<'v> {
        Parameter { alias: Some(alias), ..self }
    }

    /// The short help lists it.
    pub(super) fn common(self) -> Parameter<'v> {
        Parameter { common: true, ..self }
    }

    /// Refuses a value outside of its range.
    pub(super) fn check(&self) -> Result<(), ParamError> {
        let name = self.name;
        match &self.value {
            Value::Number(value, range) if !range.contains(**value) => {
                Err(ParamError::OutOfRange { name, value: **value, expected: range.describe() })
            }
            Value::Count(value, most) if **value > *most => {
                Err(ParamError::TooMany { name, value: **value, most: *most })
            }
            _ => Ok(()),
        }
    }
}
