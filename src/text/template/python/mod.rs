//! Python's values and functions, for templates that were written for Jinja2.
//!
//! `value` has lists, tuples, dictionaries and iterators; `print` writes values as Python does; `operators` has what
//! `syntax` translates operators to; `methods` those of strings and containers; `format` both kinds of format strings;
//! `filters`, `sequences`, `tests` and `functions` are Jinja2's. A difference from Python or Jinja2 is an error
//! ([`unsupported`]), never another result.
//!
//! This folder knows values, not where they come from: no message, no tokenizer. The values that it builds and reads are accounted
//! for in `bounds`.

mod arguments;
mod filters;
mod format;
mod functions;
mod json;
mod methods;
mod operators;
mod print;
mod sequences;
mod tests;
mod unicode;
mod value;

use minijinja::{Environment, Error, ErrorKind, State, Value};

use arguments::Arguments;

pub(super) use print::write_value;
pub(super) use value::{dictionary, list, of_json};

type Result<T = Value> = std::result::Result<T, Error>;

/// A filter, test or function: the first positional argument is the value it is applied to.
type Function = fn(&mut State<'_, '_>, Arguments) -> Result;

/// Gives an environment everything that templates may call.
pub(super) fn install(environment: &mut Environment<'static>) {
    environment.set_formatter(write_value);
    environment.set_unknown_method_callback(methods::call);
    for &(name, function) in filters::FILTERS.iter().chain(sequences::FILTERS) {
        environment.add_filter(name, arguments::adapt(function));
    }
    for &(name, function) in tests::TESTS {
        environment.add_test(name, arguments::adapt(function));
    }
    for &(name, function) in functions::FUNCTIONS {
        environment.add_global(name, Value::from_function(arguments::adapt(function)));
    }
    for &(name, function) in operators::FUNCTIONS {
        let name = format!("{}{name}", super::syntax::PREFIX);
        environment.add_global(name, Value::from_function(arguments::adapt(function)));
    }
    operators::install_marks(environment);
    let constant = |name: &str| format!("{}{name}", super::syntax::PREFIX);
    environment.add_global(constant("infinity"), Value::from(f64::INFINITY));
    environment.add_global(constant("missing"), Value::from_object(functions::Missing::Absent));
    environment.add_test(constant("absent"), |value: &Value| functions::is_absent(value));
    environment.add_filter(constant("only_text"), |value: &Value| match value.as_str() {
        Some(_) => Ok(value.clone()),
        None => Err(fail("a filter of a block gives no text")),
    });
}

/// The text of an argument of a function that the engine calls itself.
pub(super) fn message_of(value: &Value) -> Result<String> {
    print::str_of(&functions::taken(value.clone()))
}

/// An error with this text, as Python raises for a wrong type or value.
fn fail(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

/// The error for what Jinja2 can do and this module does not.
fn unsupported(what: impl std::fmt::Display) -> Error {
    fail(format!("{what} is not supported"))
}
