//! Plans of random graphs: deterministic, legal, small, and right to the bit.

use std::collections::BTreeMap;
use std::ops::Range;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use rfgraph::exec::Executor;
use rfgraph::graph::case::Draw;
use rfgraph::plan::{DeviceDesc, Operand, Place, Plan, compile};

use crate::support::random_graph::{RandomGraph, Reference, executor, leaf_name};

const MOST: usize = 40;

fn choices() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(any::<u32>(), 1..250)
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn in_arena(operand: &&Operand) -> bool {
    operand.place == Place::Arena
}

/// The life of a value, derived from the plan's steps alone.
#[derive(Debug)]
struct Life {
    value: u32,
    bytes: Range<usize>,
    /// The step that makes the value (-1 for an input), and the last step that needs it.
    made: i64,
    last: i64,
}

/// The lives of all values of the arena. Scratch memory lives during its step.
fn lives(plan: &Plan) -> Vec<Life> {
    let end = plan.steps.len() as i64;
    let mut lives: BTreeMap<u32, Life> = BTreeMap::new();
    for port in &plan.inputs {
        let (value, bytes) = (port.operand.value, port.operand.range());
        lives.insert(value, Life { value, bytes, made: -1, last: end });
    }
    let mut scratch = Vec::new();
    for (i, step) in (0i64..).zip(&plan.steps) {
        for input in step.inputs.iter().filter(in_arena) {
            let life = lives.get_mut(&input.value).unwrap();
            assert!(life.bytes.start <= input.range().start && input.range().end <= life.bytes.end);
            life.last = life.last.max(i);
        }
        for output in step.outputs.iter().filter(in_arena) {
            let (value, bytes) = (output.value, output.range());
            assert!(lives.insert(value, Life { value, bytes, made: i, last: i }).is_none());
        }
        scratch.extend(step.scratch.map(|(at, n)| Life {
            value: u32::MAX,
            bytes: at..at + n,
            made: i,
            last: i,
        }));
    }
    for port in plan.outputs.iter().filter(|port| port.operand.place == Place::Arena) {
        lives.get_mut(&port.operand.value).unwrap().last = end;
    }
    lives.into_values().chain(scratch).collect()
}

/// The later value may take the earlier one's bytes: it is made in the last step that reads the earlier value, by an
/// operator that works in place of exactly that input, with the same layout.
fn in_place(plan: &Plan, earlier: &Life, later: &Life) -> bool {
    let Some(step) = usize::try_from(later.made).ok().map(|i| &plan.steps[i]) else { return false };
    let taken: Vec<&Operand> = step.inputs.iter().filter(|input| input.value == earlier.value).collect();
    let may = match (step.op.as_str(), taken.as_slice()) {
        ("linear", [input]) => step.attributes["residual"] == true && step.inputs.last() == Some(*input),
        ("binary" | "unary" | "gated" | "scale" | "rms_norm" | "magnitude", [input]) => {
            step.inputs.first() == Some(*input)
        }
        _ => false,
    };
    may && earlier.last == later.made
        && earlier.bytes == later.bytes
        && taken[0].desc == step.outputs[0].desc
        && later.value == step.outputs[0].value
}

/// The largest number of bytes of values alive at one step, each rounded up to the alignment; bytes that one value
/// takes over from another count once.
fn most_alive(plan: &Plan, lives: &[Life]) -> usize {
    let align = |n: usize| n.next_multiple_of(plan.device.alignment);
    (0..plan.steps.len().max(1) as i64)
        .map(|step| {
            let alive = |life: &&Life| life.made <= step && step <= life.last;
            let mut ranges: Vec<_> =
                lives.iter().filter(alive).map(|life| (life.bytes.start, align(life.bytes.len()))).collect();
            ranges.sort_unstable();
            ranges.dedup_by_key(|(start, _)| *start);
            ranges.into_iter().map(|(_, bytes)| bytes).sum()
        })
        .max()
        .unwrap_or(0)
}

fn check_memory(plan: &Plan) -> Result<(), TestCaseError> {
    let lives = lives(plan);
    for (i, a) in lives.iter().enumerate() {
        prop_assert!(a.bytes.end <= plan.arena);
        for b in &lives[..i] {
            let (early, late) = if a.made <= b.made { (a, b) } else { (b, a) };
            let together = late.made <= early.last;
            let apart = early.bytes.end <= late.bytes.start || late.bytes.end <= early.bytes.start;
            prop_assert!(
                apart || !together || in_place(plan, early, late),
                "{early:?} and {late:?} share bytes"
            );
        }
    }
    let bound = most_alive(plan, &lives);
    prop_assert_eq!(plan.lower_bound, bound);
    prop_assert!(plan.arena >= bound);
    check_shown_lives(plan)?;
    prop_assert!(plan.arena * 4 <= bound * 5, "arena {}, lower bound {}", plan.arena, bound);
    Ok(())
}

/// Checks the lives that plan pages are drawn from: at any step they take at most the lower bound, and two values share
/// bytes at a step only if one is computed in place of the other.
fn check_shown_lives(plan: &Plan) -> Result<(), TestCaseError> {
    let lives = plan.lives();
    prop_assert_eq!(plan.alive(&lives).into_iter().max(), Some(plan.lower_bound));
    for (i, late) in lives.iter().enumerate() {
        let end = late.offset + late.bytes;
        prop_assert!(end <= plan.arena && late.first <= late.last && late.last < plan.steps.len().max(1));
        for (j, early) in lives[..i].iter().enumerate() {
            let together = late.first <= early.last && early.first <= late.last;
            let apart = end <= early.offset || early.offset + early.bytes <= late.offset;
            let goes_on = late.in_place_of == Some(j) && early.last == late.first;
            prop_assert!(apart || !together || goes_on, "{:?} and {:?} share bytes", early, late);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn equal_graphs_have_equal_plans_that_round_trip(choices in choices(), threads in 1usize..4) {
        let random = RandomGraph::draw(&mut Draw::new(&choices), MOST);
        let device = DeviceDesc::cpu(threads);
        let plan = compile(&random.build(), &device).unwrap();
        let written = serde_json::to_string(&plan).unwrap();
        let again = compile(&random.build(), &device).unwrap();
        prop_assert_eq!(&written, &serde_json::to_string(&again).unwrap(), "two compiles, two plans");
        let read: Plan = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(&read, &plan);
        prop_assert_eq!(plan.check(), Ok(()));
    }

    #[test]
    fn values_alive_at_the_same_step_share_no_byte(choices in choices(), threads in 1usize..4) {
        let random = RandomGraph::draw(&mut Draw::new(&choices), MOST);
        check_memory(&compile(&random.build(), &DeviceDesc::cpu(threads)).unwrap())?;
    }
}

proptest! {
    #![proptest_config(config(300))]

    /// Exactly equal: fusing keeps the order of the arithmetic (norm, then weight; activation, then up; product, then
    /// bias, then residual), and no operator's result depends on the addresses of its inputs.
    #[test]
    fn plans_compute_the_same_bits_as_single_operators(choices in choices(), threads in 1usize..3) {
        let mut draw = Draw::new(&choices);
        let random = RandomGraph::draw(&mut draw, MOST);
        let data = random.data(&mut draw);
        let mut executor = executor(threads, data.weights.clone());
        let plan = compile(&random.build(), &executor.device()).unwrap();
        let id = executor.load(plan).unwrap();
        let mut reference = Reference::new(&random);
        for (node, bytes) in &data.inputs {
            let (number, _) = executor.plan(id).unwrap().input(&leaf_name(*node)).unwrap();
            executor.write(id, number, bytes).unwrap();
        }
        // The second run finds in the arena and the state what the first has left there.
        for run in 0..2 {
            let expected = reference.run(&data);
            let outputs = executor.run(id).unwrap().wait().unwrap();
            for (i, expected) in expected.iter().enumerate() {
                let found: &[f32] = outputs.at(i).unwrap();
                let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(found), bits(expected), "output {} of run {}", i, run);
            }
        }
    }
}

fn is_read(plan: &Plan, value: u32) -> bool {
    let outputs = plan.outputs.iter().map(|port| &port.operand);
    plan.steps.iter().flat_map(|step| &step.inputs).chain(outputs).any(|operand| operand.value == value)
}

/// A test with random graphs needs all kinds of nodes in them.
#[test]
fn random_graphs_use_every_kind_of_node() {
    let mut ops: BTreeMap<String, usize> = BTreeMap::new();
    let (mut in_place, mut fused, mut writes, mut unread) = (0, 0, 0, 0);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..200 {
        let choices = choices().new_tree(&mut runner).unwrap().current();
        let random = RandomGraph::draw(&mut Draw::new(&choices), MOST);
        let plan = compile(&random.build(), &DeviceDesc::cpu(1)).unwrap();
        for step in &plan.steps {
            *ops.entry(step.op.clone()).or_default() += 1;
            let taken = |output: &Operand| step.inputs.iter().any(|input| input.shares_memory(output));
            in_place += step.outputs.iter().filter(in_arena).filter(|output| taken(output)).count();
            unread += step.outputs[1..].iter().filter(|output| !is_read(&plan, output.value)).count();
            fused += usize::from(step.op == "linear" && step.inputs.len() > 2);
            fused += usize::from(step.op == "rms_norm" && step.inputs.len() > 1);
            writes += step.outputs.iter().filter(|output| matches!(output.place, Place::State(_))).count();
        }
    }
    for op in [
        "binary",
        "concat",
        "copy",
        "gated",
        "kv_write",
        "linear",
        "magnitude",
        "recur",
        "rms_norm",
        "scale",
        "unary",
    ] {
        assert!(ops.get(op).is_some_and(|&n| n >= 20), "{op}: {ops:?}");
    }
    assert!(in_place > 100 && fused > 50, "{in_place} {fused}");
    assert!(writes > 50 && unread > 50, "{writes} {unread}");
}
