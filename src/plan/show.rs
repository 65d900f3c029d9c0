//! A plan as a drawing for Graphviz, and the names used by all readable forms.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::attributes::Attributes;
use super::data::{Edge, Operand, Place, Plan, Point, StateSlot, Step};
use super::flow::Flow;
use crate::graph::StateKind;

impl Plan {
    /// The plan as a directed graph in Graphviz's language: steps and ports as nodes, values as edges. Weights are
    /// shown in the steps that read them.
    pub fn dot(&self) -> PlanDot<'_> {
        PlanDot(self)
    }

    /// The outputs of a step with their places: `F32[8, 4] @64 and F32[4, 2] recurrent state s`.
    pub(crate) fn written(&self, step: &Step) -> String {
        let output = |operand: &Operand| format!("{} {}", operand.desc, self.memory(operand));
        step.outputs.iter().map(output).collect::<Vec<_>>().join(" and ")
    }

    /// The operand's memory, with the offset: `@64` in the arena, `state cache_k.0`.
    pub(super) fn memory(&self, operand: &Operand) -> String {
        let (kind, name) = match operand.place {
            Place::Arena => return format!("@{}", operand.offset),
            Place::Weight(i) => ("weight", self.weights.get(i as usize).map(|slot| &slot.name)),
            Place::State(i) => match self.states.get(i as usize) {
                Some(StateSlot { name, kind: StateKind::Recurrent, .. }) => ("recurrent state", Some(name)),
                slot => ("state", slot.map(|slot| &slot.name)),
            },
            Place::Constant(i) => ("constant", self.constants.get(i as usize).map(|(slot, _)| &slot.name)),
        };
        let name = name.map_or("?", String::as_str);
        match operand.offset {
            0 => format!("{kind} {name}"),
            offset => format!("{kind} {name} @{offset}"),
        }
    }
}

/// The drawing made by [`Plan::dot`]; written by `Display`.
#[derive(Clone, Copy, Debug)]
pub struct PlanDot<'p>(&'p Plan);

/// Names of operands.
pub(super) struct Names<'p> {
    pub plan: &'p Plan,
    /// For each value in the arena, the name and operand of the input or step output that wrote it.
    values: BTreeMap<u32, (Cow<'p, str>, &'p Operand)>,
}

impl<'p> Names<'p> {
    pub fn of(plan: &'p Plan) -> Names<'p> {
        let inputs = plan.inputs.iter().map(|port| (Cow::from(port.name.as_str()), &port.operand));
        let outputs =
            |step: &'p Step| (0..).zip(&step.outputs).map(|(i, output)| (step.output_name(i), output));
        let named = inputs.chain(plan.steps.iter().flat_map(outputs));
        Names { plan, values: named.map(|(name, operand)| (operand.value, (name, operand))).collect() }
    }

    /// The value of an operand or of the tensor that it is a view of: its name, and the operand as written.
    pub fn value(&self, operand: &Operand) -> Option<(&str, &'p Operand)> {
        self.values.get(&operand.value).map(|(name, operand)| (name.as_ref(), *operand))
    }

    pub fn point(&self, point: Point) -> String {
        let port = |ports: &'p [super::Port], i: u32| ports.get(i as usize).map_or("?", |port| &port.name);
        match point {
            Point::Upload(i) => format!("upload of {}", port(&self.plan.inputs, i)),
            Point::Download(i) => format!("download of {}", port(&self.plan.outputs, i)),
            Point::Step(i) => format!("step {i}"),
        }
    }
}

impl fmt::Display for PlanDot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.0;
        let names = Names::of(plan);
        writeln!(f, "digraph plan {{\n  rankdir=TB;\n  node [shape=box, fontname=\"monospace\"];")?;
        for (i, port) in plan.inputs.iter().enumerate() {
            let label = format!("{}\n{}\n{}", port.name, port.operand.desc, plan.memory(&port.operand));
            writeln!(f, "  {} [shape=ellipse, label={}];", node(Point::Upload(i as u32)), Label(&label))?;
        }
        for (i, step) in plan.steps.iter().enumerate() {
            writeln!(f, "  {} [label={}];", node(Point::Step(i as u32)), Label(&names.step_label(i, step)))?;
        }
        for (i, port) in plan.outputs.iter().enumerate() {
            let label = format!("{}\n{}", port.name, port.operand.desc);
            writeln!(f, "  {} [shape=ellipse, label={}];", node(Point::Download(i as u32)), Label(&label))?;
        }
        for (from, to, operand) in Flow::of(plan).edges(plan) {
            let label = Label(&operand.desc.to_string()).to_string();
            writeln!(f, "  {} -> {} [label={label}];", node(from), node(to))?;
        }
        for Edge { from, to, .. } in plan.edges.iter().filter(|edge| edge.across_runs) {
            let style = "style=dashed, color=gray, constraint=false, label=\"next run\"";
            writeln!(f, "  {} -> {} [{style}];", node(*from), node(*to))?;
        }
        writeln!(f, "}}")
    }
}

impl Names<'_> {
    fn step_label(&self, number: usize, step: &Step) -> String {
        let mut label = format!("{number} {}\n{}{}\n", step.name, step.op, Attributes::of(step));
        for input in step.inputs.iter().filter(|input| input.place != Place::Arena) {
            label.push_str(&format!("{} {}\n", self.plan.memory(input), input.desc));
        }
        label.push_str(&self.plan.written(step));
        if let Some((offset, bytes)) = step.scratch {
            label.push_str(&format!("\nscratch {bytes} bytes @{offset}"));
        }
        label.push_str(&format!("\n{} bytes, {} flops", step.cost.bytes, step.cost.flops));
        label
    }
}

fn node(point: Point) -> String {
    match point {
        Point::Upload(i) => format!("in{i}"),
        Point::Step(i) => format!("s{i}"),
        Point::Download(i) => format!("out{i}"),
    }
}

/// A quoted label; newlines become Graphviz's `\l`, which left-aligns the line.
struct Label<'t>(&'t str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.contains('\n');
        let escaped = self.0.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\l");
        write!(f, "\"{escaped}{}\"", if lines { "\\l" } else { "" })
    }
}
