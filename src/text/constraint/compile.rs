//! Bounds of compiling: sizes that keep it under two seconds, and a stack for the library's recursion.

use std::fmt::Display;

use llguidance::api::ParserLimits;

/// Largest schema, in bytes. An `enum` of 400 KB compiles in 0.1 s.
pub(super) const MOST_SCHEMA: usize = 4 << 20;

/// Largest GBNF grammar, in bytes. One of 600 KB with 60,000 alternatives compiles in 0.06 s.
pub(super) const MOST_GBNF: usize = 4 << 20;

/// Largest Lark grammar, in bytes: the library compares each literal with all others, 60,000 of them (600 KB) in 3 s.
const MOST_LARK: usize = 200_000;

/// Largest Lark grammar with a JSON schema in it, whose properties the library compares with each other.
const MOST_LARK_WITH_SCHEMA: usize = 50_000;

/// Most rules of a Lark grammar. The library recurses along chains of rules, with 12 KB of stack for each.
const MOST_LARK_RULES: usize = 20_000;

/// Stack of the thread that compiles. Schemas recurse along references, with 3 KB for each subschema of 20,000 at most;
/// rules of Lark with 12 KB each. Pages that are not used take no memory.
const STACK: usize = 512 << 20;

/// Sets the library's limits.
pub(super) fn set_limits(limits: &mut ParserLimits) {
    limits.verbose_errors = false;
    // Alternatives that are open at once: 2000 were too few for an enumeration in Lark.
    limits.max_items_in_row = 10_000;
    // All items of a mask, at 1.6 million a second.
    limits.step_max_items = 100_000;
}

/// Refuses a text that is too large.
pub(super) fn check_size(text: &str, most: usize) -> Result<(), String> {
    match text.len() <= most {
        true => Ok(()),
        false => Err(format!("it has {} bytes; {most} is the most", text.len())),
    }
}

/// Refuses a Lark grammar that is too large.
pub(super) fn check_lark(text: &str) -> Result<(), String> {
    let with_schema = text.contains("%json");
    check_size(text, if with_schema { MOST_LARK_WITH_SCHEMA } else { MOST_LARK })?;
    // Each rule begins on a line of its own.
    let begins =
        |line: &&str| line.trim_start().starts_with(|c: char| c.is_alphabetic() || "_?!".contains(c));
    let n_rules = text.lines().filter(begins).filter(|line| line.contains(':')).count();
    match n_rules <= MOST_LARK_RULES {
        true => Ok(()),
        false => Err(format!("it has {n_rules} rules; {MOST_LARK_RULES} is the most")),
    }
}

/// Runs a function on a thread with a large stack.
pub(super) fn with_stack<T: Send>(f: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    let failed = |error: &dyn Display| format!("no thread to compile it: {error}");
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("rfgraph-grammar".into()).stack_size(STACK);
        let thread = builder.spawn_scoped(scope, f).map_err(|error| failed(&error))?;
        thread.join().unwrap_or_else(|_| Err("the library failed".into()))
    })
}

/// The reason in an error of the library, without the trace of a panic.
pub(super) fn reason(error: &str) -> String {
    let text = error.split("\n<backtrace>").next().unwrap_or(error);
    text.trim_end_matches("<non-verbose/>").trim_end().to_string()
}
