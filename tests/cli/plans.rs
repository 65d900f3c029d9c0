//! `rfgraph graph`: plans of every mode of a session; counts of options.

use rfgraph::plan::Plan;

use crate::commands::{command, failure};

fn plan(args: &[&str]) -> Plan {
    let args = [&["graph", "-t", "2", "--format", "json"], args].concat();
    serde_json::from_slice(&command(&args).output().unwrap().stdout).unwrap()
}

#[test]
fn a_plan_decodes_several_sequences() {
    let rows = |plan: &Plan| plan.outputs[0].operand.desc.shape.elements();
    assert_eq!(rows(&plan(&["-s", "4"])), 4 * rows(&plan(&[])));
    assert_eq!(failure(&["graph", "-s", "4", "--tokens", "4"]).0, Some(2));
}

#[test]
fn a_deterministic_plan_can_be_shown() {
    // Its weights are F16: block formats without minimums, as the demo model's, have one kernel.
    let prompt = ["tests/fixtures/arch/llama/model.gguf", "--tokens", "40"];
    let [usual, alike] = [&prompt[..], &[&prompt[..], &["--deterministic"]].concat()].map(plan);
    assert!(!usual.device.deterministic && alike.device.deterministic);
    assert_ne!(usual.steps, alike.steps, "products of prompts have other kernels");
}

#[test]
fn counts_are_one_or_more() {
    for args in [&["run", "-t", "0"][..], &["graph", "--tokens", "0"], &["bench", "-s", "x"]] {
        let (code, message) = failure(args);
        assert!(code == Some(2) && message.contains("expected 1 or more"), "{message}");
    }
}
