//! Templates of public reports, each with variations; the results are Jinja2's.
//!
//! More of their kind: an empty template in `template_of_model`, a refused system message in `conversations`, rows of
//! operators in `template_bounds`.

use rfgraph::text::{ChatTemplate, Message, RenderOptions};

use crate::templates::now;

fn check(cases: &[(&str, &str)]) {
    for (source, expected) in cases {
        let options =
            RenderOptions { add_generation_prompt: true, now: Some(now()), ..RenderOptions::default() };
        let messages = [Message::new("user", "Lily had a dog")];
        let template =
            ChatTemplate::new(source, "<s>", "</s>").unwrap_or_else(|error| panic!("{source}: {error}"));
        let got =
            template.render_with(&messages, &options).unwrap_or_else(|error| panic!("{source}: {error}"));
        assert_eq!(got, *expected, "{source}");
    }
}

#[test]
fn length_of_undefined() {
    check(&[
        (
            "{% for m in messages %}{% if m.tool_calls | length > 0 %}T{% endif %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
            "user: Lily had a dog\nassistant:",
        ),
        ("{{ messages[0].nothing | count }}{{ messages[0].content }}", "0Lily had a dog"),
        (
            "{{ nothing | first is defined }}{{ nothing | last is defined }}{{ messages[0].content }}",
            "FalseFalseLily had a dog",
        ),
        (
            "{% if not nothing | list %}{{ messages[0].content }}{% endif %}{{ nothing | join(',') }}",
            "Lily had a dog",
        ),
        (
            "{% for x in nothing %}{% else %}{{ messages[0].content }}{% endfor %}{{ nothing | sum }}",
            "Lily had a dog0",
        ),
        (
            "{{ nothing | upper }}{{ nothing | trim }}{{ nothing | default('d') }}{{ nothing | map('upper') | list }}{{ messages[0].content }}",
            "d[]Lily had a dog",
        ),
    ]);
}

#[test]
fn line_ends() {
    check(&[
        (
            "{% for m in messages %}\r\n{{ m.role }}: {{ m.content }}\r\n{% endfor %}\r\n{% if add_generation_prompt %}assistant:{% endif %}\r\n",
            "user: Lily had a dog\nassistant:",
        ),
        (
            "{% for m in messages %}\r{{ m.role }}: {{ m.content }}\r{% endfor %}\r{% if add_generation_prompt %}assistant:{% endif %}\r",
            "user: Lily had a dog\nassistant:",
        ),
        (
            "a\r\n{%- if true %}\r\n  {{ messages[0].content }}\r\n  {% endif -%}\r\n  b\r\n\r\n",
            "a  Lily had a dog\nb\n",
        ),
        ("{# c\r\n #}\r\n{{ messages[0].content }}\r\n{{ 'x\r\ny' }}", "Lily had a dog\nx\ny"),
        (
            "{% set x %}\r\n{{ messages[0].content }}\r\n{% endset %}{{ x | length }}{{ x }}",
            "15Lily had a dog\n",
        ),
        (
            "{% raw %}\r\n{{ x }}\r{% endraw %}\r\n{{ messages[0].content }}\n\r\n",
            "\n{{ x }}\nLily had a dog\n",
        ),
    ]);
}

#[test]
fn python_methods() {
    check(&[
        (
            "{% set c = messages[0].content %}{{ c.rsplit(' ', 1)[0] }}{{ c.partition(' ')[0] }}{{ c.index('y') }}{{ c.removeprefix('L') }}{{ '7'.zfill(3) }}{{ '%s' % c }}{{ c | wordcount }}{{ c | truncate(4) }}{{ c | indent(2, true) }}{{ c is callable }}",
            "Lily had aLily3ily had a dog007Lily had a dog4L...  Lily had a dogFalse",
        ),
        (
            "{% set c = messages[0].content %}{{ c.swapcase() }}|{{ c.casefold() }}|{{ c.center(20, '*') }}|{{ c.ljust(16) }}|{{ c.rjust(16, '.') }}|{{ c.expandtabs() }}",
            "lILY HAD A DOG|lily had a dog|***Lily had a dog***|Lily had a dog  |..Lily had a dog|Lily had a dog",
        ),
        (
            "{% set c = messages[0].content %}{{ c.rpartition(' ') }}{{ c.splitlines() }}{{ c.removesuffix('dog') }}{{ c.rindex('d') }}{{ c.find('a', 7) }}{{ c.isidentifier() }}",
            "('Lily had a', ' ', 'dog')['Lily had a dog']Lily had a 119False",
        ),
        (
            "{% set c = messages[0].content %}{{ '%-20s|%5.1f|%03d|%x' % (c, 2.25, 7, 255) }}{{ '{0:>16}{1:,}'.format(c, 1234567) }}{{ +3 }}{{ c.istitle() }}",
            "Lily had a dog      |  2.2|007|ff  Lily had a dog1,234,5673False",
        ),
        (
            "{% set j = joiner('; ') %}{% for w in messages[0].content.split() %}{{ j() }}{{ w }}{% endfor %}{% macro f() %}{{ varargs | join('+') }}{% endmacro %}{{ f(1, 2) }} {{ messages[0].content }}",
            "Lily; had; a; dog1+2 Lily had a dog",
        ),
        (
            "{{ messages[0].items() | list }}{{ messages[0].keys() | list }}{{ messages[0].get('x', 'd') }}{{ messages[0].content | e }}{{ ('<' | safe) + '<' }}{{ messages[0].content.startswith(('L', 'x')) }}",
            "[('role', 'user'), ('content', 'Lily had a dog')]['role', 'content']dLily had a dog<&lt;True",
        ),
    ]);
}

#[test]
fn strftime() {
    check(&[
        ("{{ strftime_now('%B %-d, %Y') }}{{ messages[0].content }}", "November 21, 2026Lily had a dog"),
        ("{{ strftime_now('%F') }}{{ messages[0].content }}", "2026-11-21Lily had a dog"),
        ("{{ strftime_now('%c') }}{{ messages[0].content }}", "Sat Nov 21 03:04:05 2026Lily had a dog"),
        ("{{ strftime_now('%T') }}{{ messages[0].content }}", "03:04:05Lily had a dog"),
        ("{{ strftime_now('%j') }}{{ messages[0].content }}", "325Lily had a dog"),
        (
            "{{ strftime_now('%A %e %b, %I:%M %p') }}{{ messages[0].content }}",
            "Saturday 21 Nov, 03:04 AMLily had a dog",
        ),
        (
            "{{ strftime_now('%D %R %x %X %r') }}{{ messages[0].content }}",
            "11/21/26 03:04 11/21/26 03:04:05 03:04:05 AMLily had a dog",
        ),
        (
            "{{ strftime_now('%G-W%V-%u %U %W %w %y %C') }}{{ messages[0].content }}",
            "2026-W47-6 46 46 6 26 20Lily had a dog",
        ),
        (
            "{{ strftime_now('%-m/%-d %-H %_d %05Y') }}{{ messages[0].content }}",
            "11/21 3 21 02026Lily had a dog",
        ),
        (
            "{{ strftime_now('%s %f [%Z%z] %h%%') }}{{ messages[0].content }}",
            "1795230245 000000 [] Nov%Lily had a dog",
        ),
    ]);
}

#[test]
fn floats_as_json() {
    check(&[
        ("{{ 2.5e+20 | tojson }} {{ 1e-07 }} {{ messages[0].content }}", "2.5e+20 1e-07 Lily had a dog"),
        (
            "{{ 1e16 | tojson }} {{ 1e15 | tojson }} {{ 123456789012345680.0 | tojson }} {{ messages[0].content }}",
            "1e+16 1000000000000000.0 1.2345678901234568e+17 Lily had a dog",
        ),
        (
            "{{ 0.0001 | tojson }} {{ 0.00001 | tojson }} {{ -0.0 | tojson }} {{ messages[0].content }}",
            "0.0001 1e-05 -0.0 Lily had a dog",
        ),
        (
            "{{ [1.0, 1e22, 5e-324, 1.7976931348623157e308] | tojson }} {{ messages[0].content }}",
            "[1.0, 1e+22, 5e-324, 1.7976931348623157e+308] Lily had a dog",
        ),
        (
            "{{ {'a': 1e100, 'b': [0.1, 1e400]} | tojson }} {{ messages[0].content }}",
            r#"{"a": 1e+100, "b": [0.1, Infinity]} Lily had a dog"#,
        ),
        (
            "{{ (0.1 + 0.2) | tojson }} {{ (1 / 3) }} {{ 100 * 1.1 }} {{ messages[0].content }}",
            "0.30000000000000004 0.3333333333333333 110.00000000000001 Lily had a dog",
        ),
    ]);
}

/// The numbers of a tool's arguments, as they come from a client.
#[test]
fn floats_of_arguments_are_written_as_python_writes_them() {
    let call = serde_json::json!({"function": {"name": "f", "arguments": {"a": 2.5e+20, "b": 1e-07}}});
    let message = Message { tool_calls: vec![call], ..Message::new("assistant", "") };
    let source = "{{ messages[0].tool_calls[0].function.arguments.a | tojson }} {{ messages[0].tool_calls[0].function.arguments.b }}";
    let template = ChatTemplate::new(source, "<s>", "</s>").unwrap();
    assert_eq!(template.render(&[message], false).unwrap(), "2.5e+20 1e-07");
}
