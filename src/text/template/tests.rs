//! The bounds, from inside: how far real templates are from them, and that the deepest template fits the stack.

use std::path::Path;

use super::bounds::STACK;
use super::*;

/// The templates of real models.
fn real_templates() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text/templates/real");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let templates = paths.filter(|path| path.extension().is_some_and(|extension| extension == "jinja"));
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    templates.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect()
}

/// A conversation of so many messages, each with a text of about so many bytes.
fn conversation(count: usize, bytes: usize) -> Vec<Message> {
    let text = |n: usize| format!("{n} ") + &"word ".repeat(bytes / 5);
    let role = |n: usize| if n.is_multiple_of(2) { "user" } else { "assistant" };
    (0..count).map(|n| Message::new(role(n), text(n))).collect()
}

#[test]
fn real_templates_stay_far_below_the_bounds() {
    let templates = real_templates();
    assert!(templates.len() >= 70, "{}", templates.len());
    let mut accepted = 0;
    for (name, source) in templates {
        let template = ChatTemplate::new(&source, "<s>", "</s>").unwrap();
        let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
        // Long messages, many messages, many short ones.
        for messages in [conversation(3, 200_000), conversation(301, 1_000), conversation(2_001, 5)] {
            let full = template.bounds(&messages, &options);
            let bounds = Bounds { steps: full.steps / 4, bytes: full.bytes / 4, work: full.work / 4 };
            match template.render_once(&messages, FORMS[0], &options, bounds) {
                Ok(_) => accepted += 1,
                Err(TemplateError::Refused(_) | TemplateError::Failed { .. }) => {}
                Err(error) => panic!("{name}, {} messages: {error}", messages.len()),
            }
        }
    }
    assert!(accepted >= 190, "{accepted} renderings");
}

/// Templates nested as deep as possible, with a number for the depth.
fn deep_template(kind: usize, depth: usize) -> String {
    let n = depth;
    let wrapped = |open: &str, inner: &str, close: &str| open.repeat(n) + inner + &close.repeat(n);
    match kind {
        0 => format!("{{{{ {} }}}}", wrapped("(", "1", ")")),
        1 => format!("{{{{ {} }}}}", wrapped("[", "1", "]")),
        2 => format!("{{{{ {} }}}}", wrapped("{'a': ", "1", "}")),
        3 => format!("{{{{ {} 1 }}}}", "not ".repeat(n)),
        4 => format!("{{{{ {} 1 }}}}", "- ".repeat(n)),
        5 => format!("{{{{ {} }}}}", wrapped("s(", "1", ")")),
        6 => format!("{{{{ x{} }}}}", "|upper".repeat(n)),
        7 => format!("{{{{ x{} }}}}", ".a".repeat(n)),
        8 => format!("{{{{ x{} }}}}", "[0]".repeat(n)),
        9 => format!("{{{{ {} }}}}", wrapped("1 if ", "1", " else 1")),
        10 => format!("{{{{ {}1 }}}}", "1 if 1 else ".repeat(n)),
        11 => wrapped("{% if 1 %}", "1", "{% endif %}"),
        12 => wrapped("{% for i in [1] %}", "1", "{% endfor %}"),
        13 => format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}0".repeat(n)),
        14 => wrapped("{% set v %}", "1", "{% endset %}"),
        15 => wrapped("{% macro f() %}", "1", "{% endmacro %}"),
        16 => wrapped("{% call f() %}", "1", "{% endcall %}"),
        17 => wrapped("{% filter upper %}", "1", "{% endfilter %}"),
        18 => format!("{{{{ {} }}}}", wrapped("x|d(", "1", ")")),
        19 => format!("{{{{ {} }}}}", wrapped("x is eq(", "1", ")")),
        20 => format!("{{{{ {} }}}}", "1 + ".repeat(n) + "1"),
        21 => format!("{{{{ {} }}}}", "1 and ".repeat(n) + "1"),
        22 => format!("{{{{ {} }}}}", "x ~ ".repeat(n) + "1"),
        23 => format!("{{{{ {} }}}}", "1 < ".repeat(n) + "1"),
        24 => format!("{{{{ {} }}}}", "2 ** ".repeat(n) + "1"),
        25 => format!("{{% for {}x{} in [] %}}{{% endfor %}}", "(".repeat(n), ")".repeat(n)),
        26 => format!("{{{{ x{} }}}}", "()".repeat(n)),
        27 => format!("{{{{ x{} }}}}", " is upper".repeat(n)),
        28 => wrapped("{% with a = 1 %}", "1", "{% endwith %}"),
        29 => format!("{{% set {}x = 1 %}}", "(".repeat(n)),
        30 => format!("{{% macro m(k) %}}{{{{ m(k) }}}}{{% endmacro %}}{{{{ m({n}) }}}}"),
        31 => format!(
            "{{% set ns = namespace(l=[]) %}}{{% for i in range({n}) %}}{{% set ns.l = [ns.l] %}}{{% endfor %}}{{{{ ns.l }}}}"
        ),
        32 => "{% for i in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}".to_owned(),
        33 => format!("{{{{ {}1{} }}}}", "-(not [".repeat(n), "])".repeat(n)),
        34 => format!("{{{{ {} }}}}", "'%s' % ".repeat(n) + "1"),
        35 => format!("{{% set x | {} %}}1{{% endset %}}", vec!["upper"; n].join(" | ")),
        _ => wrapped("{% if 1 %}{% for i in [1] %}{{ [[[[1]]]] }}", "", "{% endfor %}{% endif %}"),
    }
}

const KINDS: usize = 37;

/// Every depth ends with a result or an error, on a quarter of the stack that templates get.
#[test]
fn deepest_templates_fit_the_stack() {
    let mut compiled = 0;
    for kind in 0..KINDS {
        for depth in [2, 8, 18, 30, 45, 58, 60, 74, 98, 100, 500, 900, 20_000] {
            let source = deep_template(kind, depth);
            let Ok(translated) = syntax::translate(&source) else { continue };
            let run = || {
                let Ok(mut environment) = compile(translated) else { return false };
                environment.set_fuel(Some(200_000));
                let template = environment.get_template(NAME).unwrap();
                let _ = within(Bounds::of(0, 0), || template.render(context! { x => "x" }));
                true
            };
            let thread = std::thread::Builder::new().stack_size(STACK / 4);
            let ended = std::thread::scope(|scope| thread.spawn_scoped(scope, run).unwrap().join());
            compiled += usize::from(ended.unwrap_or_else(|_| panic!("kind {kind} at {depth}")));
        }
    }
    // Most kinds compile at most depths up to fifty.
    assert!(compiled > KINDS * 4, "{compiled}");
}

#[test]
fn nesting_beyond_the_bounds_is_an_error_with_its_number() {
    for (kind, expected) in [
        (0, "more than 60 deep"),
        (3, "more than 60 deep"),
        (11, "more than 100 deep"),
        (13, "more than 100 deep"),
        (20, "more than 1000"),
    ] {
        let error = ChatTemplate::new(&deep_template(kind, 20_000), "", "").err().unwrap().to_string();
        assert!(error.contains(expected), "{kind}: {error}");
    }
}
