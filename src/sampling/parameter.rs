//! A parameter of a stage: its names, range and help in one place, for programs and for the command line.

use super::ParamError;

/// A parameter of a stage, with access to its value.
#[derive(Debug)]
pub struct Parameter<'v> {
    /// Name for programs, such as `top_k`; unique among all stages.
    pub name: &'static str,
    /// Command-line option, such as `top-k`.
    pub flag: &'static str,
    /// Alternative spelling of the option.
    pub alias: Option<&'static str>,
    /// Name of the value in the help, such as `K`.
    pub value_name: &'static str,
    /// Effect, and the value that turns it off.
    pub help: &'static str,
    /// True if the short help lists it.
    pub common: bool,
    /// The current value.
    pub value: Value<'v>,
}

/// A parameter's value, by reference into the settings.
#[derive(Debug)]
#[non_exhaustive]
pub enum Value<'v> {
    /// A number within a range.
    Number(&'v mut f32, Range),
    /// A count, and its maximum.
    Count(&'v mut usize, usize),
    /// Texts.
    Texts(&'v mut Vec<String>),
}

/// Valid numbers of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Range {
    /// Any finite number.
    Finite,
    /// At least 0.
    NotNegative,
    /// Above 0.
    Positive,
    /// From 0 to 1.
    Share,
    /// Above 0 and up to 1.
    PositiveShare,
}

impl Range {
    /// True if the value is in the range.
    pub fn contains(self, value: f32) -> bool {
        match self {
            Range::Finite => value.is_finite(),
            Range::NotNegative => value.is_finite() && value >= 0.0,
            Range::Positive => value.is_finite() && value > 0.0,
            Range::Share => (0.0..=1.0).contains(&value),
            Range::PositiveShare => value > 0.0 && value <= 1.0,
        }
    }

    /// The range in words, for error messages.
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
    /// A parameter from its name, option, value name and value.
    pub(super) fn new(
        name: &'static str,
        flag: &'static str,
        value_name: &'static str,
        value: Value<'v>,
    ) -> Parameter<'v> {
        Parameter { name, flag, alias: None, value_name, help: "", common: false, value }
    }

    /// Sets the help line.
    pub(super) fn help(self, help: &'static str) -> Parameter<'v> {
        Parameter { help, ..self }
    }

    /// Sets an alternative spelling of the option.
    pub(super) fn alias(self, alias: &'static str) -> Parameter<'v> {
        Parameter { alias: Some(alias), ..self }
    }

    /// Shows the option in the short help.
    pub(super) fn common(self) -> Parameter<'v> {
        Parameter { common: true, ..self }
    }

    /// Refuses a value outside its range.
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
