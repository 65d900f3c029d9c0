//! The signatures of kernels, read from their sources, and whether a launch agrees with one.

use std::fmt;

use rfgraph::device::{Arg, Launch, Source, Which};
use rfgraph::hip::sources;
use rfgraph::tensor::{DType, Desc};

/// What a kernel declares.
#[derive(Debug)]
pub struct Signature {
    pub name: String,
    pub parameters: Vec<Parameter>,
}

/// A parameter: `const float* x` is a constant pointer to `float`.
#[derive(Debug)]
pub struct Parameter {
    pub name: String,
    pub base: String,
    pub is_pointer: bool,
    pub is_const: bool,
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (constant, star) =
            (if self.is_const { "const " } else { "" }, if self.is_pointer { "*" } else { "" });
        write!(f, "{constant}{}{star} {}", self.base, self.name)
    }
}

/// The kernels that a source defines by `KERNEL(name)(…)`, `KERNEL_OF(threads, name)(…)` or
/// `KERNEL_FITTING(threads, blocks, name)(…)`.
pub fn signatures(source: &str) -> Vec<Signature> {
    let code: Vec<&str> = source
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(|line| line.split("//").next().unwrap_or(line))
        .collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("KERNEL") {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if code[..at].ends_with(is_word) {
            continue;
        }
        let rest = code[at..].trim_start_matches(is_word);
        let (head, rest) = in_parentheses(rest).unwrap_or_else(|| panic!("no name after KERNEL: {rest:.80}"));
        let (list, _) =
            in_parentheses(rest).unwrap_or_else(|| panic!("no parameters after KERNEL({head}): {rest:.80}"));
        let name = head.rsplit(',').next().unwrap_or(head).trim().to_string();
        let parameters = list.split(',').map(str::trim).filter(|part| !part.is_empty()).map(parameter);
        found.push(Signature { name, parameters: parameters.collect() });
    }
    found
}

/// What stands between the parenthesis that a text begins with and its partner, and what comes after.
fn in_parentheses(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start().strip_prefix('(')?;
    let mut depth = 1;
    for (i, c) in text.char_indices() {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth == 0 {
            return Some((&text[..i], &text[i + 1..]));
        }
    }
    None
}

fn parameter(text: &str) -> Parameter {
    let spaced = text.replace('*', " * ");
    let mut words: Vec<&str> = spaced.split_whitespace().collect();
    let name = words.pop().unwrap_or_default().to_string();
    let (is_const, is_pointer) = (words.contains(&"const"), words.contains(&"*"));
    words.retain(|word| !["const", "*"].contains(word));
    Parameter { name, base: words.join(" "), is_pointer, is_const }
}

/// The text of a launch's source.
pub fn text(launch: &Launch) -> &str {
    match &launch.variant.source {
        Source::Own { text, .. } => text,
        Source::BuiltIn(name) => sources::source(name).unwrap_or_else(|| panic!("no source {name}")),
        other => panic!("{other:?} has no text"),
    }
}

/// What is wrong with the arguments of a launch by its kernel's signature, for a step of these inputs and outputs; empty if
/// nothing is.
pub fn complaints(signature: &Signature, launch: &Launch, inputs: &[Desc], outputs: &[Desc]) -> Vec<String> {
    let (have, want) = (launch.args.len(), signature.parameters.len());
    let mut all = Vec::new();
    if have != want {
        all.push(format!("{have} arguments for {want} parameters"));
    }
    for (i, ((name, arg), parameter)) in launch.args.iter().zip(&signature.parameters).enumerate() {
        if *name != parameter.name {
            all.push(format!("argument {i} is `{name}`, the parameter `{}`", parameter.name));
        }
        if let Err(why) = takes(parameter, *arg, inputs, outputs) {
            all.push(format!("argument {i}, for `{parameter}`: {why}"));
        }
    }
    all
}

/// Whether a parameter is of the kind and size of an argument; why it isn't.
fn takes(parameter: &Parameter, arg: Arg, inputs: &[Desc], outputs: &[Desc]) -> Result<(), String> {
    let types: &[&str] = match arg {
        Arg::Address(..) | Arg::Null if !parameter.is_pointer => return Err("an address is passed".into()),
        Arg::Null => return Ok(()),
        Arg::Address(which, _) => return points_to(parameter, which, inputs, outputs),
        _ if parameter.is_pointer => return Err("a value is passed".into()),
        Arg::Layout(_) => &["Layout"],
        Arg::I32(_) => &["i32", "int"],
        Arg::U32(_) => &["u32", "unsigned", "unsigned int"],
        Arg::I64(_) => &["i64", "long long"],
        Arg::F32(_) => &["float"],
        other => return Err(format!("{other:?} is of no kind that this test knows")),
    };
    match types.contains(&parameter.base.as_str()) {
        true => Ok(()),
        false => Err(format!("{} is passed", types[0])),
    }
}

/// Whether a pointer is one to the elements of a tensor, or to bytes, and constant where the tensor is only read.
fn points_to(parameter: &Parameter, which: Which, inputs: &[Desc], outputs: &[Desc]) -> Result<(), String> {
    let tensor = match which {
        Which::Scratch => return Ok(()),
        Which::Input(i) => inputs.get(i as usize),
        Which::Output => outputs.first(),
        Which::OutputAt(i) => outputs.get(i as usize),
        other => return Err(format!("{other:?} is of no kind that this test knows")),
    };
    let tensor = tensor.ok_or_else(|| format!("the step has no {which:?}"))?;
    if matches!(which, Which::Input(_)) && !parameter.is_const {
        return Err("an input is passed, which is not written".into());
    }
    let elements: &[&str] = match tensor.dtype {
        DType::F32 => &["float", "u8"],
        DType::I32 => &["i32", "int", "u8"],
        _ => &["u8"],
    };
    match elements.contains(&parameter.base.as_str()) {
        true => Ok(()),
        false => Err(format!("elements of {} are passed", tensor.dtype)),
    }
}
