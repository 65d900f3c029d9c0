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

/// Most repetitions of a Lark grammar with `&` or `~`, all of them multiplied. The library looks for a text in an intersection
/// state by state, without a limit: `/\p{L}+/ & /.{1,12}/{999}` took 8 s and 400 MiB.
const MOST_REPETITIONS: f64 = 1000.0;

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

/// The limits for a grammar in Lark as a user writes it. Repetitions of repetitions took 0.8 s and 126 MiB within the
/// library's own limit, 1,000,000; a terminal of 15,000 words needs 300,000 at most.
pub(super) fn lark_limits(limits: &ParserLimits, text: &str) -> ParserLimits {
    ParserLimits { initial_lexer_fuel: 60_000 + 2 * text.len() as u64, ..limits.clone() }
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
    if n_rules > MOST_LARK_RULES {
        return Err(format!("it has {n_rules} rules; {MOST_LARK_RULES} is the most"));
    }
    let n_repetitions: f64 = repetitions(text).product();
    match n_repetitions > MOST_REPETITIONS && intersects(text) {
        true => Err(format!(
            "its repetitions multiply to more than {MOST_REPETITIONS}, the most beside `&` or `~`"
        )),
        false => Ok(()),
    }
}

/// The upper bounds of the repetitions of a Lark grammar: `{2,3}`, also in regular expressions, and `~2..3`.
fn repetitions(text: &str) -> impl Iterator<Item = f64> {
    let marks = text.char_indices().filter(|(_, c)| matches!(c, '{' | '~'));
    marks.map(|(at, _)| {
        let rest = &text[at + 1..];
        let is_part = |c: char| c.is_ascii_digit() || matches!(c, ',' | '.' | ' ');
        let numbers = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        let numbers = numbers.split([',', '.', ' ']).filter_map(|number| number.parse::<f64>().ok());
        numbers.fold(1.0, f64::max)
    })
}

/// True if a Lark grammar has `&` or `~` outside of texts, regular expressions and comments; a repetition's `~` counts too.
fn intersects(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find(['"', '/', '#', '<', '&', '~']) {
        let (mark, inner) = (&rest[at..at + 1], &rest[at + 1..]);
        rest = match mark {
            "&" | "~" => return true,
            "#" => after(inner, "\n"),
            "/" if inner.starts_with('/') => after(inner, "\n"),
            "<" => match inner.find(|c: char| c.is_whitespace() || matches!(c, '<' | '>')) {
                Some(end) if inner[end..].starts_with('>') => &inner[end + 1..],
                _ => inner,
            },
            mark => closed(inner, mark),
        };
    }
    false
}

/// The text after a mark; none without it.
fn after<'t>(text: &'t str, mark: &str) -> &'t str {
    text.split_once(mark).map_or("", |(_, rest)| rest)
}

/// The text after a mark that no backslash escapes; none without it.
fn closed<'t>(text: &'t str, mark: &str) -> &'t str {
    let mut escaped = false;
    let end = text.find(|c: char| {
        let ends = !escaped && mark.starts_with(c);
        escaped = !escaped && c == '\\';
        ends
    });
    end.map_or("", |end| &text[end + 1..])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intersections_are_found_outside_of_texts() {
        for text in
            ["A: /a/ & /b/", "A: ~/a/", "a: \"\\\"\" & b", "# \"\nA: b & c", "A: <\"> & b", "A: /\\/\"/ & b"]
        {
            assert!(intersects(text), "{text}");
        }
        for text in
            ["A: /a&b/", "a: \"&~\"", "# a & b", "a: b // ~c", "a: <&>", "A: /[\\/&]/", "a: \"\\\"&\""]
        {
            assert!(!intersects(text), "{text}");
        }
    }

    #[test]
    fn repetitions_beside_an_intersection_are_few() {
        let all = |text| repetitions(text).collect::<Vec<_>>();
        assert_eq!(
            all("A: /x{3}/ /y{1,12}z{4,}/{999} b~2..30 c ~ 5 %json {}"),
            [3.0, 12.0, 4.0, 999.0, 30.0, 5.0, 1.0]
        );
        assert!(check_lark("start: A\nA: /[a-z]+/ & /.{1,12}/ & /[^&]{2,50}/").is_ok());
        assert!(check_lark("start: A\nA: /[a-z]+/ & /.{1,12}/{999}").is_err());
        assert!(check_lark("start: A\nA: /.{1,12}/{999}").is_ok());
    }
}
