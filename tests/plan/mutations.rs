//! Damaged plans: a serialized plan that was changed is refused, or runs without touching memory that is not its own.

use std::num::NonZeroUsize;

use proptest::prelude::*;
use rfgraph::exec::{Budget, CpuExecutor, Executor, Outputs};
use rfgraph::graph::case::Draw;
use rfgraph::plan::{Plan, compile};
use serde_json::Value;

use crate::support::random_graph::RandomGraph;
use crate::support::several;

/// The result of a damaged plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unreadable,
    Refused,
    Failed,
    Ran,
}

/// Collects every number and every text below a value.
fn leaves<'v>(value: &'v mut Value, numbers: &mut Vec<&'v mut Value>) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(|value| leaves(value, numbers)),
        Value::Object(all) => all.values_mut().for_each(|value| leaves(value, numbers)),
        Value::Number(_) | Value::String(_) => numbers.push(value),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Replaces a number by a neighbour, a limit, or another number of the plan; a text by another text of the plan.
fn damage_leaf(draw: &mut Draw<'_>, plan: &mut Value) {
    let mut all = Vec::new();
    leaves(plan, &mut all);
    let at = draw.number(0..=all.len() - 1);
    let other = all[draw.number(0..=all.len() - 1)].clone();
    let new = match all[at].as_u64() {
        Some(n) => match draw.number(0..=8) {
            0 => Value::from(n + 1),
            1 => Value::from(n.saturating_sub(1)),
            2 => Value::from(n + 64),
            3 => Value::from(n.saturating_sub(64)),
            4 => Value::from(n.saturating_mul(2)),
            5 => Value::from(0),
            6 => Value::from(u64::MAX >> draw.number(0..=40)),
            7 => Value::from(1u64 << draw.number(0..=63)),
            _ => other,
        },
        None => other,
    };
    *all[at] = new;
}

/// Swaps, repeats, drops or renames an element of one of the plan's lists.
fn damage_list(draw: &mut Draw<'_>, plan: &mut Value) {
    let lists = ["steps", "edges", "inputs", "outputs", "weights", "states", "constants"];
    let of_step = draw.number(0..=3) == 3;
    let list = match plan["steps"].as_array().map_or(0, Vec::len) {
        steps if of_step && steps > 0 => {
            let step = draw.number(0..=steps - 1);
            &mut plan["steps"][step][draw.one_of(&["outputs", "inputs"])]
        }
        _ => &mut plan[draw.one_of(&lists)],
    };
    let Some(list) = list.as_array_mut() else { return };
    if list.is_empty() {
        return;
    }
    let (a, b) = (draw.number(0..=list.len() - 1), draw.number(0..=list.len() - 1));
    match draw.number(0..=3) {
        0 => list.swap(a, b),
        1 => list.insert(b, list[a].clone()),
        2 => {
            let name = list[b].get("name").cloned();
            if let (Some(name), Some(slot)) = (name, list[a].get_mut("name")) {
                *slot = name;
            }
        }
        _ => _ = list.remove(a),
    }
}

fn fate(choices: &[u32]) -> Fate {
    let mut draw = Draw::new(choices);
    let random = RandomGraph::draw(&mut draw, 12);
    let data = random.data(&mut draw);
    // Little memory, so that a plan with a huge arena is refused and not tried.
    let budget = Budget::new(64 << 20, 64 << 20, 1.0);
    let mut executor = CpuExecutor::new(NonZeroUsize::new(2).unwrap(), data.weights.clone(), budget).unwrap();
    several::ROWS.into_iter().for_each(|row| executor.register(row));
    let plan = compile(&random.build(), &executor.device()).unwrap();
    let mut written = serde_json::to_value(&plan).unwrap();
    for _ in 0..draw.number(1..=3) {
        if draw.number(0..=2) == 2 {
            damage_list(&mut draw, &mut written);
        } else {
            damage_leaf(&mut draw, &mut written);
        }
    }
    let Ok(damaged) = serde_json::from_value::<Plan>(written) else { return Fate::Unreadable };
    let verdict = damaged.check();
    let names = names_twice(&damaged);
    let ports: Vec<usize> = damaged.inputs.iter().map(|port| port.operand.desc.shape.elements()).collect();
    let Ok(id) = executor.load(damaged) else { return Fate::Refused };
    assert_eq!(verdict, Ok(()), "loaded what the check refuses");
    assert_eq!(names, None, "loaded two of one name");
    for number in 0..ports.len() {
        let bytes = executor.plan(id).unwrap().inputs[number].operand.range().len();
        executor.write(id, number, &vec![0; bytes]).unwrap();
    }
    match executor.run(id).and_then(|run| run.wait()) {
        Ok(outputs) => {
            read_all(&outputs);
            Fate::Ran
        }
        Err(_) => Fate::Failed,
    }
}

/// A name that two weights, states, inputs or outputs share: both would be bound to the same memory.
fn names_twice(plan: &Plan) -> Option<String> {
    let slots = [
        plan.weights.iter().map(|slot| &slot.name).collect::<Vec<_>>(),
        plan.states.iter().map(|slot| &slot.name).collect(),
    ];
    let ports =
        [&plan.inputs, &plan.outputs].map(|all| all.iter().map(|port| &port.name).collect::<Vec<_>>());
    let twice = |names: Vec<&String>| {
        names.iter().enumerate().find_map(|(i, name)| names[..i].contains(name).then(|| name.to_string()))
    };
    slots.into_iter().chain(ports).find_map(twice)
}

fn read_all(outputs: &Outputs<'_>) {
    let mut number = 0;
    while let Ok(bytes) = outputs.at::<u8>(number) {
        std::hint::black_box(bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
        number += 1;
    }
}

#[test]
fn damaged_plans_are_refused_or_harmless() {
    let config = ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let fates = std::cell::RefCell::new(Vec::new());
    let choices = prop::collection::vec(any::<u32>(), 1..120);
    let result = runner.run(&choices, |choices| {
        fates.borrow_mut().push(fate(&choices));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    // Every fate occurs: damage that matters, and damage that does not.
    let count = |fate| fates.borrow().iter().filter(|other| **other == fate).count();
    let counts = [Fate::Unreadable, Fate::Refused, Fate::Failed, Fate::Ran].map(count);
    println!("unreadable, refused, failed, ran: {counts:?}");
    assert!(counts[1] > 300 && counts[3] > 50, "{counts:?}");
}
