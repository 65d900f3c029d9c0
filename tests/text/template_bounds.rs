//! Templates that take time, memory or stack without end.

use std::time::{Duration, Instant};

use rfgraph::text::{ChatTemplate, Message, TemplateError};

fn render(source: &str) -> Result<String, TemplateError> {
    ChatTemplate::new(source, "<s>", "</s>")?.render(&[Message::new("user", "hi")], true)
}

/// A loop that runs long enough for anything.
fn repeated(statement: &str) -> String {
    format!(
        "{{% set ns = namespace(x='abcdefghijklmnopqrstuvwxyz', l=[1]) %}}{{% for i in range(99999) %}}{statement}{{% endfor %}}"
    )
}

#[test]
fn values_that_grow_without_end_are_an_error() {
    for statement in [
        "{% set ns.x = ns.x + ns.x %}",
        "{% set ns.x = ns.x ~ ns.x %}",
        "{% set ns.x = ns.x * 2 %}",
        "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}",
        "{% set ns.x = [ns.x, ns.x]|join %}",
        "{% set ns.x = ns.x.join([ns.x, ns.x]) %}",
        "{% set ns.x = ns.x|replace('a', ns.x) %}",
        "{% set ns.x = '%s%s' % (ns.x, ns.x) %}",
        "{% set ns.x = '{0}{0}'.format(ns.x) %}",
        "{% set ns.x = (ns.x|tojson)|tojson %}",
        "{% set ns.x = ns.x|indent(ns.x, true) %}",
        "{% set ns.x = ns.x|center(i * i * i * 1000) %}",
        "{% set ns.l = ns.l + ns.l %}",
        "{% set ns.l = ns.l * 2 %}",
        "{% set ns.l = ns.l|slice(99999)|list + ns.l %}",
        "{% set ns.l = ns.l|batch(999999, 0)|list + ns.l|batch(9999999, 0)|list %}",
        "{{ ns.x * 9999 }}",
        "{% set ns.l = ns.l + ['%9999d' % i] %}",
    ] {
        let error = render(&repeated(statement)).err();
        assert!(matches!(error, Some(TemplateError::TooLarge { .. })), "{statement}: {error:?}");
    }
    for at_once in [
        "{{ 'a' * 10 ** 12 }}",
        "{{ [1] * 10 ** 12 }}",
        "{{ 'a'.center(10 ** 12) }}",
        "{{ 'a'|indent(10 ** 12, true) }}",
        "{{ [1]|batch(10 ** 12, 0)|list }}",
        "{{ 'a'.zfill(10 ** 15) }}",
        "{{ '\t'.expandtabs(10 ** 12) }}",
        "{{ ('a' * 10 ** 6)|replace('a', 'b' * 10 ** 6) }}",
    ] {
        let error = render(at_once).err();
        assert!(matches!(error, Some(TemplateError::TooLarge { .. })), "{at_once}: {error:?}");
    }
}

/// A value that holds another twice, many times over, is as large as two to that power where it is written or compared.
#[test]
fn values_that_share_parts_are_bounded_where_they_are_read() {
    for read in [
        "{{ ns.l }}",
        "{{ ns.l|tojson }}",
        "{{ ns.l == (ns.l[0], ns.l[0]) }}",
        "{{ ns.l|string|length }}",
        "{{ ns.l < ns.l }}",
        "{{ {ns.l: 1} }}",
    ] {
        let shared = "{% set ns = namespace(l=(1,)) %}{% for i in range(90) %}{% set ns.l = (ns.l, ns.l) %}{% endfor %}";
        let start = Instant::now();
        let error = render(&format!("{shared}{read}")).err();
        assert!(
            matches!(error, Some(TemplateError::TooLarge { .. } | TemplateError::Endless { .. })),
            "{read}: {error:?}"
        );
        assert!(start.elapsed() < Duration::from_secs(20), "{read}: {:?}", start.elapsed());
    }
}

#[test]
fn templates_without_end_are_an_error() {
    let start = Instant::now();
    for endless in [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% set l = range(99999)|list %}{% for a in range(99999) %}{{ 'q' in l }}{% endfor %}",
        "{% set l = range(99999)|list %}{% for a in range(99999) %}{% set x = l|sort(reverse=true) %}{% endfor %}",
        "{% set s = 'ab' * 999999 %}{% for a in range(99999) %}{% set x = s.count('abab') %}{% endfor %}",
        "{% set s = 'ab' * 33333 %}{% for a in range(99999) %}{% set x = s|map('upper')|list %}{% endfor %}",
        "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    ] {
        let error = render(endless).err();
        assert!(matches!(error, Some(TemplateError::Endless { .. })), "{endless}: {error:?}");
    }
    for recursive in [
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
    ] {
        assert!(matches!(render(recursive), Err(TemplateError::Failed { .. })), "{recursive}");
    }
    // About half a second each; the limit leaves room for a busy machine.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

/// The public report's templates and more of their kind: each ended the process.
#[test]
fn long_rows_of_operators_do_not_overflow_the_stack() {
    let n = 20_000;
    let row = |part: &str| format!("{{{{ {}1 }}}}", part.repeat(n));
    let around = |open: &str, close: &str| format!("{{{{ {}1{} }}}}", open.repeat(n), close.repeat(n));
    for source in [
        row("not "),
        row("-"),
        row("+"),
        row("1+"),
        row("1 ~ "),
        row("1 and "),
        row("1 or "),
        row("1 if 1 else "),
        row("2 ** "),
        row("1 < "),
        around("(", ")"),
        around("[", "]"),
        around("f(", ")"),
        around("{1: ", "}"),
        format!("{{{{ x{} }}}}", ".a".repeat(n)),
        format!("{{{{ x{} }}}}", "|upper".repeat(n)),
        format!("{{{{ x{} }}}}", "[0]".repeat(n)),
        "{% if 1 %}".repeat(n),
        "{% for x in y %}".repeat(n),
        format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(n)),
        "{% macro f() %}".repeat(n),
    ] {
        // On the small stack that a library's user may have; most are errors, a balanced row is an answer.
        let small = std::thread::Builder::new().stack_size(256 << 10);
        let beginning: String = source.chars().take(30).collect();
        let result = small.spawn(move || render(&source)).unwrap().join();
        assert!(result.is_ok(), "{beginning}");
    }
}

#[test]
fn the_engines_own_panics_are_out_of_reach() {
    for (source, expected) in [
        ("{{ 'abc'[0:2:-1] ~ messages[0].content }}", Some("hi")),
        ("{{ [1, 2][5:1:-1] }}{{ messages[0].content }}", Some("[]hi")),
    ] {
        assert_eq!(render(source).ok().as_deref(), expected, "{source}");
    }
    for source in [
        "{% for x in [1] %}{{ loop.cycle() }}{% endfor %}",
        "{% for x in [1] %}{{ loop.cycle(*[]) }}{% endfor %}",
        "{% for x in [1] %}{{ (loop.cycle)() }}{% endfor %}",
        "{% for x in [1] %}{{ loop['cycle']() }}{% endfor %}",
        "{% for x in [1] %}{% set l = loop %}{{ l.cycle(a=1) }}{% endfor %}",
    ] {
        assert!(render(source).is_err(), "{source}");
    }
}

/// A namespace in itself would never be freed.
#[test]
fn no_value_holds_a_namespace() {
    for source in [
        "{% set ns = namespace() %}{% set ns.a = ns %}",
        "{% set ns = namespace() %}{% set ns.a = [ns] %}",
        "{% set ns = namespace() %}{% set other = namespace(a={'k': ns}) %}",
        "{% set ns = namespace() %}{% set c = cycler(ns) %}",
        "{% set ns = namespace() %}{% set j = joiner(ns) %}",
        "{% for x in [1] %}{% set ns = namespace(l=loop) %}{% endfor %}",
    ] {
        let error = render(&format!("{source}hi")).unwrap_err().to_string();
        assert!(error.contains("in another value is not supported"), "{source}: {error}");
    }
}

/// Functions that read long texts account for what they read.
#[test]
fn reading_long_texts_again_and_again_is_an_error() {
    for statement in [
        "{% set y = strftime_now('%c' * 400000) %}",
        "{% set y = {ns.s: 1}[ns.s] %}",
        "{% set y = messages[0][ns.s] %}",
        "{% set y = messages[0].get(ns.s) %}",
        "{% set y = ns.s.startswith(ns.s) %}",
        "{% set y = ns.s.endswith(('b', ns.s)) %}",
        "{% set y = ns.s.strip('b' * 10000) %}",
        "{% set y = ns.s|trim('b' * 10000) %}",
        "{% set y = ('%%' * 500000) % () %}",
        "{% set y = ('{{' * 500000).format() %}",
    ] {
        let start = Instant::now();
        let source = format!(
            "{{% set ns = namespace(s='a' * 1000000) %}}{{% for i in range(99999) %}}{statement}{{% endfor %}}"
        );
        let error = render(&source).err();
        assert!(
            matches!(error, Some(TemplateError::TooLarge { .. } | TemplateError::Endless { .. })),
            "{statement}: {error:?}"
        );
        // A second at most in a release build on an idle machine.
        assert!(start.elapsed() < Duration::from_secs(20), "{statement}: {:?}", start.elapsed());
    }
}

/// 39,000 passes of such a loop took 3.1 s while only items and bytes counted.
#[test]
fn building_lists_and_dictionaries_counts_beside_their_items() {
    for value in ["{'a': {'b': 1, 'c': {'d': 2}}}", "[[], [[], [[]]], [[], []], [[], [], []], [[], []]]"] {
        let source = |times: usize| {
            format!(
                "{{% for i in range({times}) %}}{{% set y = {value} %}}{{% endfor %}}{{{{ messages[0].content }}}}"
            )
        };
        assert!(render(&source(1000)).is_ok(), "{value}");
        let error = render(&source(30_000)).err();
        assert!(
            matches!(error, Some(TemplateError::TooLarge { .. } | TemplateError::Endless { .. })),
            "{value}: {error:?}"
        );
    }
}

/// Five million fields took 1.4 s while only their bytes counted.
#[test]
fn fields_of_formats_count_beside_their_bytes() {
    for statement in ["s % ()", "b.format('')"] {
        let source = |times: usize| {
            format!(
                "{{% set s='%%' * 500 %}}{{% set b='{{0}}' * 500 %}}\
                 {{% for i in range({times}) %}}{{% set y = {statement} %}}{{% endfor %}}\
                 {{{{ messages[0].content }}}}"
            )
        };
        assert!(render(&source(300)).is_ok(), "{statement}");
        let error = render(&source(3000)).err();
        assert!(
            matches!(error, Some(TemplateError::TooLarge { .. } | TemplateError::Endless { .. })),
            "{error:?}"
        );
    }
}
