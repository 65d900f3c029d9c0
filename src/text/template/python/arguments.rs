//! Arguments, bound to parameters as Python binds them.

use minijinja::value::{Kwargs, Rest, ValueOrKwargs};
use minijinja::{State, Value};

use super::super::bounds::running;
use super::functions::taken;
use super::value::{View, view};
use super::{Function, Result, fail, unsupported};

/// The arguments of one call.
pub(super) struct Arguments {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(String, Value)>,
}

/// The function in the form that the engine calls.
pub(super) fn adapt(
    function: Function,
) -> impl Fn(&mut State<'_, '_>, Rest<ValueOrKwargs>) -> Result + Send + Sync + 'static {
    move |state: &mut State<'_, '_>, arguments: Rest<ValueOrKwargs>| {
        running(|| function(state, Arguments::of(&arguments.into_values())?))
    }
}

impl Arguments {
    /// Takes the engine's arguments apart: named ones come last, in one value.
    pub(super) fn of(values: &[Value]) -> Result<Arguments> {
        let named = values.last().filter(|last| last.is_kwargs());
        let positional = &values[..values.len() - usize::from(named.is_some())];
        let positional = positional.iter().cloned().map(taken).collect();
        let mut arguments = Arguments { positional, named: Vec::new() };
        if let Some(named) = named {
            let named = Kwargs::try_from(named.clone())?;
            let names: Vec<String> = named.args().map(str::to_owned).collect();
            for name in names {
                let value = named.get(&name)?;
                arguments.named.push((name, taken(value)));
            }
        }
        Ok(arguments)
    }

    /// The values of these parameters, with `None` for those that are not given.
    pub(super) fn bind<const N: usize>(self, names: [&str; N]) -> Result<[Option<Value>; N]> {
        if self.positional.len() > N {
            return Err(fail(format!("{} arguments instead of at most {N}", self.positional.len())));
        }
        let mut bound = [const { None }; N];
        for (slot, value) in bound.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            match names.iter().position(|known| *known == name) {
                Some(at) if bound[at].is_none() => bound[at] = Some(value),
                Some(_) => return Err(fail(format!("the argument {name} is given twice"))),
                None => return Err(fail(format!("unknown argument {name}"))),
            }
        }
        Ok(bound)
    }

    /// The positional arguments, where there are no others.
    pub(super) fn only_positional(self) -> Result<Vec<Value>> {
        match self.named.first() {
            Some((name, _)) => Err(fail(format!("unknown argument {name}"))),
            None => Ok(self.positional),
        }
    }
}

/// An argument that must be given.
pub(super) fn required(argument: Option<Value>) -> Result {
    argument.ok_or_else(|| fail("an argument is missing"))
}

/// An optional whole number; `None` counts as not given.
pub(super) fn integer(argument: &Option<Value>) -> Result<Option<i64>> {
    match argument.as_ref().map(view) {
        None | Some(View::None) => Ok(None),
        Some(View::Bool(value)) => Ok(Some(i64::from(value))),
        Some(View::Int(value)) => {
            i64::try_from(value).map(Some).map_err(|_| unsupported("so large a number"))
        }
        Some(_) => Err(fail("a whole number is needed")),
    }
}

/// A whole number that defaults to this one; `None` is not one.
pub(super) fn integer_or(argument: &Option<Value>, default: i64) -> Result<i64> {
    match argument {
        Some(value) if value.is_none() => Err(fail("a whole number is needed")),
        _ => Ok(integer(argument)?.unwrap_or(default)),
    }
}

/// An optional text; `None` counts as not given.
pub(super) fn text(argument: &Option<Value>) -> Result<Option<&str>> {
    match argument {
        None => Ok(None),
        Some(value) if value.is_none() => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or_else(|| fail("a text is needed")),
    }
}

/// The truth of an optional argument.
pub(super) fn flag(argument: &Option<Value>) -> bool {
    argument.as_ref().is_some_and(Value::is_true)
}
