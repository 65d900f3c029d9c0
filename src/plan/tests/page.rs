//! The page: well-formed markup around the plan's data, whatever names the plan contains.

use serde_json::Value;

use crate::graph::Graph;
use crate::plan::flow::Flow;
use crate::plan::{DeviceDesc, Place, Plan, compile};
use crate::tensor::DType;

/// Names that close elements, open comments, or look like placeholders of the frame.
const HOSTILE: [&str; 5] = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "@DATA@",
    "\u{2028}\"'&amp;\\u003c",
    "]]></style>",
];

/// A plan with a state, a constant and views, whose names all begin with `name`.
fn plan(name: &str) -> Plan {
    let graph = Graph::new();
    let named = |what: &str| format!("{name}{what}");
    let x = graph.input(named("x"), DType::F32, [8, 2]);
    let w = graph.weight(named("w"), DType::F32, [8, 8]);
    let bias = graph.constant(named("bias"), &[0.5; 8], [8]);
    let y = x.linear(w).add(bias).named(named("shifted"));
    graph.output(named("y"), y.mul(y).named(named("square")));
    compile(&graph.finish().unwrap(), &DeviceDesc::cpu(2)).unwrap()
}

/// The elements of a page: their names and, for scripts and styles, their text. Panics for an unclosed element.
fn elements(page: &str) -> Vec<(String, &str)> {
    let (mut open, mut found, mut rest) = (Vec::new(), Vec::new(), page);
    while let Some(at) = rest.find('<') {
        let tag = &rest[at + 1..];
        let end = tag.find('>').unwrap();
        let name: String = tag.chars().take_while(|c| c.is_alphanumeric() || "/!".contains(*c)).collect();
        rest = &tag[end + 1..];
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop().as_deref(), Some(name)),
            None if name == "script" || name == "style" => {
                let close = rest.find(&format!("</{name}")).unwrap();
                found.push((name.clone(), &rest[..close]));
                rest = &rest[close + name.len() + 3..];
            }
            None => {
                found.push((name.clone(), ""));
                if !["!doctype", "meta", "input"].contains(&name.as_str()) {
                    open.push(name);
                }
            }
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
    found
}

/// The data of the page's scripts.
fn data(page: &str) -> Value {
    let scripts: Vec<&str> =
        elements(page).into_iter().filter(|(name, _)| name == "script").map(|(_, text)| text).collect();
    let [data, _code] = scripts[..] else { panic!("{} scripts", scripts.len()) };
    serde_json::from_str(data).unwrap()
}

#[test]
fn page_data_decodes_to_the_plan() {
    let plan = plan("");
    let data = data(&plan.page("a title").to_string());
    assert_eq!(serde_json::from_value::<Plan>(data["plan"].clone()).unwrap(), plan);
    assert_eq!(data["title"], "a title");
    let count = |key: &str| data[key].as_array().unwrap().len();
    assert_eq!(
        (count("alive"), count("layers"), count("reads")),
        (plan.steps.len(), plan.steps.len(), plan.steps.len())
    );
    // Every tensor of the arena has a box: inputs and outputs of steps.
    let in_arena = plan.lives().iter().map(|life| life.name.clone()).collect::<Vec<_>>();
    for name in plan.inputs.iter().map(|port| &port.name).chain(plan.steps.iter().map(|step| &step.name)) {
        assert!(in_arena.contains(name), "{name} has no box");
    }
    assert_eq!(data["lives"].as_array().unwrap().len(), in_arena.len());
}

#[test]
fn further_outputs_and_kinds_of_state_are_shown() {
    let plan = super::several::good();
    let data = data(&plan.page("").to_string());
    assert_eq!(data["plan"]["states"][0]["kind"], "recurrent");
    let lives = plan.lives();
    for (number, step) in plan.steps.iter().enumerate() {
        for (i, output) in step.outputs.iter().enumerate() {
            let name = step.output_name(i);
            let boxes = lives.iter().filter(|life| life.first == number && life.name == name);
            let wanted = usize::from(output.place == Place::Arena);
            assert_eq!(boxes.count(), wanted, "{name}");
        }
        // Every read value is an input, another step's output, or the state's content from before the run.
        for (input, from) in step.inputs.iter().zip(&Flow::of(&plan).reads[number]) {
            let held = plan.steps.iter().all(|step| step.outputs.iter().all(|out| out.value != input.value));
            assert_eq!(from.is_none(), held && plan.inputs[0].operand.value != input.value, "{}", step.name);
        }
    }
    let text = plan.to_string();
    let last = plan.steps.iter().find(|step| step.op == "several").unwrap().output_name(2).into_owned();
    assert!(text.contains(&format!(", {last})")), "{text}");
}

#[test]
fn hostile_names_stay_data() {
    let names = |page: &str| -> Vec<String> { elements(page).into_iter().map(|(name, _)| name).collect() };
    let usual = names(&plan("").page("").to_string());
    for name in HOSTILE {
        let plan = plan(name);
        let page = plan.page(name).to_string();
        assert_eq!(names(&page), usual, "{name}");
        let data = data(&page);
        assert_eq!(serde_json::from_value::<Plan>(data["plan"].clone()).unwrap(), plan, "{name}");
        assert_eq!(data["title"], name);
    }
}

/// The page's scripts insert text as text, and load nothing.
#[test]
fn page_is_self_contained() {
    let page = plan("").page("").to_string();
    for forbidden in
        ["http:", "https:", "src=", "url(", "import ", "fetch(", "innerHTML", "insertAdjacentHTML", "eval("]
    {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn a_plan_without_steps_has_a_page() {
    let graph = Graph::new();
    graph.output("y", graph.input("x", DType::F32, [4]));
    let plan = compile(&graph.finish().unwrap(), &DeviceDesc::cpu(1)).unwrap();
    assert_eq!(plan.steps.len(), 0);
    assert_eq!(data(&plan.page("").to_string())["alive"].as_array().unwrap().len(), 1);
}
