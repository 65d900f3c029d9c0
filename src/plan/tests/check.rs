//! Faults planted in a valid plan: each is found and correctly named.

use super::super::data::{Edge, Operand, Place, Plan, Point};
use super::super::{DeviceDesc, PlanFault, compile};
use super::graph;
use crate::tensor::{DType, Desc};

/// Inputs, a weight, a constant, a state whose old and new content are read, scratch memory, a step that works in place
/// of its input, and two outputs.
fn good() -> Plan {
    let plan = compile(
        &graph(|g| {
            let x = g.input("x", DType::F32, [64, 4]);
            let (rows, slots) = (g.input("rows", DType::F32, [4, 2, 1]), g.input("slots", DType::I32, [1]));
            let state = g.state("s", DType::F32, [4, 2, 8]);
            g.output("old", state.relu().named("reader of old"));
            let new = state.kv_write(rows, slots).named("write");
            g.output("new", new.sigmoid().named("reader of new"));
            let h = x.linear(g.weight("w", DType::Q8_0, [64, 64])).named("product");
            let bias = g.constant("bias", &[1.0; 64], [64, 1]);
            g.output("y", h.mul(bias).named("in place").exp().mul(x).named("last"));
        }),
        &DeviceDesc::cpu(2),
    );
    let plan = plan.unwrap();
    assert_eq!(plan.check(), Ok(()));
    plan
}

fn step(plan: &Plan, name: &str) -> usize {
    plan.steps.iter().position(|step| step.name == name).unwrap()
}

/// Plants a fault, and expects the check to return one like `wanted`.
fn planted(what: &str, plant: impl FnOnce(&mut Plan), wanted: impl FnOnce(&PlanFault) -> bool) {
    let mut plan = good();
    plant(&mut plan);
    match plan.check() {
        Ok(()) => panic!("{what}: not found"),
        Err(fault) => {
            assert!(wanted(&fault), "{what}: {fault}");
            assert!(fault.to_string().len() > 20, "{fault}");
        }
    }
}

fn is_layout(fault: &PlanFault) -> bool {
    matches!(fault, PlanFault::Layout { .. })
}

fn is_bounds(fault: &PlanFault) -> bool {
    matches!(fault, PlanFault::Bounds { .. })
}

fn is_content(fault: &PlanFault) -> bool {
    matches!(fault, PlanFault::Content { .. })
}

fn is_alias(fault: &PlanFault) -> bool {
    matches!(fault, PlanFault::Alias { .. })
}

fn is_read_only(fault: &PlanFault) -> bool {
    matches!(fault, PlanFault::ReadOnly { .. })
}

#[test]
fn invalid_layouts_are_found() {
    let set = |change: fn(&mut Operand)| {
        move |plan: &mut Plan| {
            let last = step(plan, "last");
            change(&mut plan.steps[last].inputs[1]);
        }
    };
    planted("empty", set(|o| o.desc.shape = [0, 4].into()), is_layout);
    planted("part of a block", set(|o| o.desc.dtype = DType::Q4_K), is_layout);
    planted("strides that overflow", set(|o| o.desc.strides[1] = usize::MAX / 4 * 4), is_layout);
    planted("sizes that overflow", set(|o| o.desc.shape = [1 << 62, 1].into()), is_layout);
    planted("strides between elements", set(|o| o.desc.strides[1] = 130), is_layout);
    planted("rows on one another", set(|o| o.desc.strides[1] = 0), is_layout);
    planted("an offset between elements", set(|o| o.offset += 2), is_layout);
    planted("an offset that overflows", set(|o| o.offset = usize::MAX - 3), is_layout);
    planted("gaps between blocks", |plan| plan.weights[0].desc.strides[0] += 2, is_layout);
    planted("an empty state", |plan| plan.states[0].desc.shape = [4, 0, 8].into(), is_layout);
    planted(
        "a constant too large to address",
        |plan| plan.constants[0].0.desc.strides[0] = 1 << 62,
        is_layout,
    );
}

#[test]
fn outputs_that_overlap_themselves_are_found() {
    planted(
        "rows of a state on one another",
        |plan| {
            let write = step(plan, "write");
            let desc = &mut plan.steps[write].outputs[0].desc;
            desc.strides[1] = 0;
        },
        is_layout,
    );
    planted(
        "rows that overlap by half",
        |plan| {
            let product = step(plan, "product");
            plan.steps[product].outputs[0].desc.strides[1] /= 2;
        },
        is_layout,
    );
}

#[test]
fn tensors_out_of_bounds_are_found() {
    planted(
        "an offset too far",
        |plan| {
            let last = step(plan, "last");
            plan.steps[last].inputs[1].offset = plan.arena - 64;
        },
        is_bounds,
    );
    planted("an arena too small", |plan| plan.arena -= 64, is_bounds);
    planted(
        "a weight that there is not",
        |plan| {
            let product = step(plan, "product");
            plan.steps[product].inputs[0].place = Place::Weight(1);
        },
        is_bounds,
    );
    planted("a constant that is shorter", |plan| plan.constants[0].1.truncate(100), is_bounds);
    planted(
        "a state that is smaller",
        |plan| {
            plan.states[0].desc = Desc::contiguous(DType::F32, [4, 2, 7]).unwrap();
        },
        is_bounds,
    );
    planted(
        "a larger scratch",
        |plan| {
            let product = step(plan, "product");
            let (offset, _) = plan.steps[product].scratch.unwrap();
            plan.steps[product].scratch = Some((offset, plan.arena - offset + 1));
        },
        is_bounds,
    );
    planted("a port outside", |plan| plan.outputs[2].operand.offset = plan.arena, is_bounds);
}

#[test]
fn duplicate_names_are_found() {
    // The larger one would be accessed in the smaller one's memory.
    planted(
        "states",
        |plan| {
            let mut larger = plan.states[0].clone();
            larger.desc = Desc::contiguous(DType::F32, [4, 2, 800]).unwrap();
            plan.states.push(larger);
            for step in &mut plan.steps {
                let operands = step.inputs.iter_mut().chain(&mut step.outputs);
                let of_the_state = operands.filter(|operand| operand.place == Place::State(0));
                of_the_state.for_each(|operand| {
                    (operand.place, operand.offset) = (Place::State(1), 4 * 2 * 700 * 4);
                });
            }
            for port in &mut plan.outputs {
                if port.operand.place == Place::State(0) {
                    port.operand.place = Place::State(1);
                }
            }
        },
        |fault| matches!(fault, PlanFault::Duplicate { what: "state", name } if name == "s"),
    );
    planted(
        "weights",
        |plan| plan.weights.push(plan.weights[0].clone()),
        |fault| matches!(fault, PlanFault::Duplicate { what: "weight", name } if name == "w"),
    );
    planted(
        "inputs",
        |plan| plan.inputs[0].name = "slots".into(),
        |fault| matches!(fault, PlanFault::Duplicate { what: "input", name } if name == "slots"),
    );
    planted(
        "outputs",
        |plan| plan.outputs[0].name = "y".into(),
        |fault| matches!(fault, PlanFault::Duplicate { what: "output", name } if name == "y"),
    );
}

#[test]
fn scratch_out_of_place_is_found() {
    for scratch in [(usize::MAX - 63, 64), (32, 64)] {
        planted(
            "scratch",
            |plan| {
                let product = step(plan, "product");
                plan.steps[product].scratch = Some(scratch);
            },
            is_layout,
        );
    }
}

#[test]
fn reads_of_other_values_are_found() {
    planted(
        "two steps change places",
        |plan| {
            let product = step(plan, "product");
            plan.steps.swap(product, product + 1);
        },
        is_content,
    );
    planted("a step is left out", |plan| drop(plan.steps.remove(step(plan, "product"))), is_content);
    planted(
        "old content is read after the write",
        |plan| {
            let (reader, write) = (step(plan, "reader of old"), step(plan, "write"));
            plan.steps.swap(reader, write);
        },
        is_content,
    );
    planted(
        "new content is read before the write",
        |plan| {
            let (reader, write) = (step(plan, "reader of new"), step(plan, "write"));
            plan.steps.swap(reader, write);
        },
        is_content,
    );
    planted(
        "an input is overwritten, and the next run does not send it again",
        |plan| {
            let (last, slots) = (step(plan, "reader of new"), plan.input("slots").unwrap().1.operand);
            plan.steps[last].scratch = Some((slots.offset, 64));
        },
        is_content,
    );
    planted("an output that nobody makes", |plan| plan.outputs[2].operand.value += 100, is_content);
    planted("an input that nobody gives", |plan| drop(plan.inputs.remove(0)), is_content);
}

#[test]
fn aliased_operands_are_found() {
    planted(
        "in place, a row further",
        |plan| {
            let at = step(plan, "in place");
            plan.steps[at].outputs[0].offset += 128;
            plan.arena += 128;
        },
        is_alias,
    );
    planted(
        "scratch over an input",
        |plan| {
            let product = step(plan, "product");
            let (x, (_, bytes)) = (plan.inputs[0].operand, plan.steps[product].scratch.unwrap());
            plan.steps[product].scratch = Some((x.offset, bytes));
        },
        is_alias,
    );
    planted(
        "scratch over the output",
        |plan| {
            let product = step(plan, "product");
            let (offset, bytes) =
                (plan.steps[product].outputs[0].offset, plan.steps[product].scratch.unwrap().1);
            plan.arena = plan.arena.max(offset + bytes);
            plan.steps[product].scratch = Some((offset, bytes));
        },
        is_alias,
    );
    planted(
        "a state is written where it is read",
        |plan| {
            let write = step(plan, "write");
            let state = plan.steps[write].inputs[0];
            plan.steps[write].inputs[1] = Operand { desc: plan.steps[write].inputs[1].desc, ..state };
        },
        is_alias,
    );
}

#[test]
fn writes_to_read_only_memory_are_found() {
    for place in [Place::Constant(0), Place::Weight(0)] {
        planted(
            "a step writes it",
            |plan| {
                let last = step(plan, "last");
                let desc = Desc::contiguous(DType::F32, [4]).unwrap();
                plan.steps[last].outputs[0] =
                    Operand { place, offset: 0, desc, ..plan.steps[last].outputs[0] };
            },
            is_read_only,
        );
    }
    planted(
        "an input lies in a state",
        |plan| {
            let operand = &mut plan.inputs[1].operand;
            (operand.place, operand.offset) = (Place::State(0), 0);
        },
        is_read_only,
    );
}

#[test]
fn missing_edges_are_found() {
    // Every edge that no stronger edge implies is needed.
    let lane = |point| match point {
        Point::Upload(i) => (0, 0, i),
        Point::Download(i) => (0, 1, i),
        Point::Step(i) => (1, 0, i),
    };
    let plan = good();
    let (mut needed, edges) = (0, &plan.edges);
    for (i, edge) in edges.iter().enumerate() {
        // An edge between the same lanes that starts later and ends earlier is stronger.
        let is_stronger = |other: &Edge| {
            let ((from, to), (other_from, other_to)) =
                ((lane(edge.from), lane(edge.to)), (lane(other.from), lane(other.to)));
            other != edge
                && other.across_runs == edge.across_runs
                && (other_from.0, other_to.0) == (from.0, to.0)
                && other_from >= from
                && other_to <= to
        };
        if !edges.iter().any(is_stronger) {
            needed += 1;
            planted(
                "an edge is left out",
                |plan| _ = plan.edges.remove(i),
                |fault| matches!(fault, PlanFault::Race { across_runs, .. } if *across_runs == edge.across_runs),
            );
        }
    }
    assert!(needed >= 6, "{needed} of {edges:?}");
    planted(
        "edges lead too late",
        |plan| {
            let late = Point::Step(plan.steps.len() as u32 - 1);
            let uploads = plan.edges.iter_mut().filter(|edge| matches!(edge.from, Point::Upload(_)));
            uploads.for_each(|edge| edge.to = late);
        },
        |fault| matches!(fault, PlanFault::Race { across_runs: false, .. }),
    );
}
