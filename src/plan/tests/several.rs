//! Operators with several outputs, through every pass.

use serde::{Deserialize, Serialize};

use super::super::data::{Place, Plan};
use super::super::order::order;
use super::super::place::place;
use super::super::simplify::simplify;
use super::super::stages::check_placement;
use super::super::{DeviceDesc, PlanFault, compile};
use super::{graph, input, named, ops};
use crate::cpu::{CpuStep, StepError};
use crate::graph::case::{Case, Draw};
use crate::graph::{
    Cost, FurtherOutput, FurtherOutputs, Graph, GraphError, Memory, Operator, ShapeError, Tensor,
};
use crate::tensor::{DType, Desc};

/// Inputs: `x`, then states. Outputs: `y` like `x`, each state written, and another one like `x`. It never runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Several {
    breaks: Breaks,
}

/// The operator rule that it breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Breaks {
    #[default]
    Nothing,
    FurtherInPlace,
    ViewWithFurther,
}

impl Operator for Several {
    const NAME: &'static str = "several";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        inputs.first().copied().ok_or(ShapeError::Arity { wanted: "1 or more", found: 0 })
    }

    fn memory(&self, _: &[Desc]) -> Memory {
        match self.breaks {
            Breaks::ViewWithFurther => Memory::View { input: 0, offset: 0 },
            _ => Memory::InPlace(0),
        }
    }

    fn further_outputs(&self, inputs: &[Desc]) -> Result<FurtherOutputs, ShapeError> {
        let state = |(i, desc): (usize, &Desc)| FurtherOutput { desc: *desc, memory: Memory::WritesState(i) };
        let last = match self.breaks {
            Breaks::FurtherInPlace => Memory::InPlace(0),
            _ => Memory::Fresh,
        };
        let last = FurtherOutput { desc: inputs[0], memory: last };
        Ok(inputs.iter().enumerate().skip(1).map(state).chain([last]).collect())
    }

    fn cpu(&self, _: &CpuStep<'_>) -> Result<(), StepError> {
        Ok(())
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, 0)
    }

    fn case(_: &mut Draw<'_>) -> Case {
        Case::new(Several::default(), Vec::new(), Vec::new(), 0.0)
    }
}

fn state<'g>(g: &'g Graph, name: &str) -> Tensor<'g> {
    g.recurrent_state(name, DType::F32, [4, 2])
}

/// Three outputs from `x` and a state.
fn three<'g>(g: &'g Graph, x: Tensor<'g>, state: Tensor<'g>) -> [Tensor<'g>; 3] {
    g.apply_several(Several::default(), &[x, state])
}

/// Two operators of three outputs each on one state; each has an unused output.
pub(super) fn good() -> Plan {
    let plan = compile(
        &graph(|g| {
            let [y, new, last] = three(g, input(g, "x").relu(), state(g, "s"));
            let [y, newer, _] = three(g, y.add(last), new);
            g.output("y", y.relu());
            g.output("s", newer);
        }),
        &DeviceDesc::cpu(1),
    );
    let plan = plan.unwrap();
    assert_eq!(plan.check(), Ok(()));
    plan
}

fn steps_of(plan: &Plan) -> Vec<usize> {
    (0..plan.steps.len()).filter(|&i| plan.steps[i].op == Several::NAME).collect()
}

#[test]
fn outputs_are_counted_when_the_operator_is_applied() {
    let g = Graph::new();
    let x = input(&g, "x");
    assert_eq!(x.outputs().len(), 1, "a leaf is its only output");
    let [y, new, last] = three(&g, x, state(&g, "s"));
    let descs = [y, new, last].map(|output| output.desc().unwrap().to_string());
    assert_eq!(descs, ["F32[8, 3]", "F32[4, 2]", "F32[8, 3]"]);
    assert_eq!(new.outputs().len(), 3, "from any of them");
    g.output("y", y);
    let [_, _] = g.apply_several(Several::default(), &[x, state(&g, "t")]);
    let error = g.finish().unwrap_err();
    assert!(matches!(error, GraphError::OutputCount { wanted: 2, found: 3, .. }), "{error}");
}

#[test]
fn illegal_outputs_are_refused() {
    let refused = |breaks, what: &str| {
        let def = graph(|g| g.output("y", g.apply(Several { breaks }, &[input(g, "x")])));
        let error = def.check("build").unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    refused(Breaks::FurtherInPlace, "must be fresh or write a state");
    refused(Breaks::ViewWithFurther, "has further outputs");
    let twice = graph(|g| {
        let s = state(g, "s");
        g.output("y", g.apply(Several::default(), &[input(g, "x"), s, s]));
    });
    let error = twice.check("build").unwrap_err().to_string();
    assert!(error.contains("two outputs of `several.2` write into `s`"), "{error}");
}

#[test]
fn operator_keeps_unused_outputs() {
    let simple = simplify(&graph(|g| {
        let [_, _, last] = three(g, input(g, "x"), state(g, "s"));
        g.output("last", last.relu());
    }));
    let simple = simple.unwrap();
    simple.check("simplify").unwrap();
    assert_eq!(simple.len(), 6, "x, s, three outputs, relu");
    assert_eq!(compile(&simple, &DeviceDesc::cpu(1)).unwrap().steps[0].outputs.len(), 3);
}

#[test]
fn equal_operators_are_merged_unless_they_write_a_state() {
    let stateless = graph(|g| {
        let x = input(g, "x");
        let both = [(); 2].map(|()| g.apply(Several::default(), &[x]).outputs()[1]);
        g.output("y", both[0].mul(both[1]));
    });
    let simple = simplify(&stateless).unwrap();
    assert_eq!(ops(&simple), ["several", "binary"]);
    let product = simple.outputs()[0].1;
    assert_eq!(simple.node(product).inputs()[0], simple.node(product).inputs()[1]);
    let writers = graph(|g| {
        let x = input(g, "x");
        let [a, new, _] = three(g, x, state(g, "s"));
        let [b, ..] = three(g, x, new);
        g.output("y", a.mul(b));
    });
    assert_eq!(ops(&simplify(&writers).unwrap()), ["several", "several", "binary"]);
}

/// The writer's first output is not a state; its second one is.
#[test]
fn readers_of_old_content_come_before_a_step_with_further_outputs() {
    let def = graph(|g| {
        let s = state(g, "s");
        let [y, ..] = three(g, input(g, "x"), s);
        g.output("y", y.named("writer").relu());
        g.output("old", s.relu().named("reader"));
    });
    let order = order(&def).unwrap();
    let at = |name| order.iter().position(|&id| id == named(&def, name)).unwrap();
    assert!(at("reader") < at("writer"));
    compile(&def, &DeviceDesc::cpu(1)).unwrap();
}

/// An output that is read late lives from its step on, whatever its node's position in the order.
#[test]
fn outputs_live_from_their_step_on() {
    let def = graph(|g| {
        let [y, _, last] = three(g, input(g, "x"), state(g, "s"));
        let busy = (0..4).fold(y, |y, _| y.relu().add(y));
        g.output("y", busy.add(last));
    });
    let device = DeviceDesc::cpu(1);
    let mut order = order(&def).unwrap();
    let last = named(&def, "several.2.2");
    order.retain(|&id| id != last);
    order.insert(order.len() - 1, last);
    let placement = place(&def, &order, &device).unwrap();
    check_placement(&def, &order, &placement).unwrap();
    let mut over = placement.clone();
    over.values.insert(last, placement.values[&named(&def, "several.2")]);
    let error = check_placement(&def, &order, &over).unwrap_err().to_string();
    assert!(error.contains("over each other"), "{error}");
}

#[test]
fn faults_of_further_outputs_are_found() {
    let planted = |what: &str, plant: fn(&mut Plan, usize), wanted: fn(&PlanFault) -> bool| {
        let mut plan = good();
        let step = steps_of(&plan)[1];
        plant(&mut plan, step);
        match plan.check() {
            Ok(()) => panic!("{what}: not found"),
            Err(fault) => assert!(wanted(&fault), "{what}: {fault}"),
        }
    };
    let is_alias = |fault: &PlanFault| matches!(fault, PlanFault::Alias { .. });
    let is_content = |fault: &PlanFault| matches!(fault, PlanFault::Content { .. });
    planted(
        "over another output",
        |plan, at| plan.steps[at].outputs[2].offset = plan.steps[at].outputs[0].offset,
        is_alias,
    );
    planted(
        "over half of another output",
        |plan, at| {
            plan.steps[at].outputs[2].offset = plan.steps[at].outputs[0].offset + 64;
            plan.arena += 64;
        },
        is_alias,
    );
    planted(
        "in place of an input of the arena",
        |plan, at| {
            let step = &mut plan.steps[at];
            step.outputs[2].offset = step.inputs[0].offset;
            step.outputs[0].offset = plan.arena;
            plan.arena += 128;
        },
        is_alias,
    );
    planted(
        "a state that lies apart from its input",
        |plan, at| plan.steps[at].outputs[1].desc = Desc::contiguous(DType::F32, [4]).unwrap(),
        is_alias,
    );
    planted(
        "over a value that is read later",
        |plan, at| {
            let x = plan.inputs[0].operand.offset;
            plan.steps[at].outputs[2].offset = x;
        },
        is_content,
    );
    planted(
        "an output that is read is left out",
        |plan, at| _ = plan.steps[at].outputs.remove(1),
        is_content,
    );
    planted(
        "no output",
        |plan, at| plan.steps[at].outputs.clear(),
        |fault| matches!(fault, PlanFault::NoOutput { .. }),
    );
    planted(
        "a weight is written",
        |plan, at| {
            let desc = Desc::contiguous(DType::F32, [8, 3]).unwrap();
            plan.constants.push((super::super::LeafSlot { name: "c".into(), desc }, vec![0; 96]));
            (plan.steps[at].outputs[2].place, plan.steps[at].outputs[2].offset) = (Place::Constant(0), 0);
        },
        |fault| matches!(fault, PlanFault::ReadOnly { .. }),
    );
    planted(
        "past the arena",
        |plan, at| plan.steps[at].outputs[2].offset = plan.arena,
        |fault| matches!(fault, PlanFault::Bounds { .. }),
    );
}

#[test]
fn a_plan_says_which_states_are_recurrent() {
    let plan = good();
    let text = plan.to_string();
    assert!(text.contains("F32[4, 2] recurrent state s"), "{text}");
    assert!(text.contains("states 1 (1 recurrent), 32 bytes"), "{text}");
    let written = serde_json::to_value(&plan).unwrap();
    assert_eq!(written["states"][0]["kind"], "recurrent");
    assert_eq!(serde_json::from_value::<Plan>(written).unwrap(), plan);
}

#[test]
fn fusing_for_a_gpu_keeps_outputs_with_their_operator() {
    let def = graph(|g| {
        let x = g.input("x", DType::F32, [64, 1]);
        let [y, _, last] = g.apply_several(Several::default(), &[x, state(g, "s")]);
        let gate = y.linear(g.weight("gate", DType::F32, [64, 96])).silu();
        g.output("y", gate.mul(y.linear(g.weight("up", DType::F32, [64, 96]))));
        g.output("last", last);
    });
    let fused = super::super::fuse_gpu::fuse_gpu(
        simplify(&super::super::fuse::fuse(&def)).unwrap(),
        &super::fuse_gpu::gpu(),
    );
    let fused = fused.unwrap();
    fused.check("fuse_gpu").unwrap();
    assert_eq!(ops(&fused), ["several", "project"]);
}
