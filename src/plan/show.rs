//! A plan for people: as text, one line a step, and as a drawing for Graphviz.
//!
//! Both are functions of the plan alone, so equal plans look equal to the byte. The third form, JSON, is
//! the plan's own serde form.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::data::{Edge, LeafSlot, Operand, Place, Plan, Point, Step};

impl Plan {
    /// The plan as a directed graph in Graphviz's language: steps and ports, and who reads whose value.
    /// Weights stand in the steps that read them.
    pub fn dot(&self) -> PlanDot<'_> {
        PlanDot(self)
    }
}

/// What [`Plan::dot`] gives; it is shown by `Display`.
#[derive(Clone, Copy, Debug)]
pub struct PlanDot<'p>(&'p Plan);

impl fmt::Display for Plan {
    /// The plan as text: ports, one line for each step, the waits from run to run, totals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self;
        let names = Names::of(plan);
        let device = &plan.device;
        writeln!(
            f,
            "device {}, {} threads, alignment {}",
            device.executor, device.threads, device.alignment
        )?;
        for (word, ports) in [("input ", &plan.inputs), ("output", &plan.outputs)] {
            for port in ports {
                writeln!(f, "{word} {} {} in {}", port.name, port.operand.desc, names.memory(&port.operand))?;
            }
        }
        for (number, step) in plan.steps.iter().enumerate() {
            writeln!(f, "{number:>5}  {}", Line { step, point: Point::Step(number as u32), names: &names })?;
        }
        for port in (0..plan.outputs.len() as u32).map(Point::Download) {
            for edge in plan.edges.iter().filter(|edge| edge.to == port && !edge.across_runs) {
                writeln!(f, "{} waits for {}", names.point(port), names.point(edge.from))?;
            }
        }
        for edge in plan.edges.iter().filter(|edge| edge.across_runs) {
            let (from, to) = (names.point(edge.from), names.point(edge.to));
            writeln!(f, "{to} of the next run waits for {from}")?;
        }
        totals(f, plan)
    }
}

/// Sums over the plan.
fn totals(f: &mut fmt::Formatter<'_>, plan: &Plan) -> fmt::Result {
    let sum = |slots: &[LeafSlot]| slots.iter().map(|slot| slot.desc.extent()).sum::<usize>();
    let constants: usize = plan.constants.iter().map(|(_, bytes)| bytes.len()).sum();
    let cost = plan.cost();
    writeln!(f, "steps {}", plan.steps.len())?;
    writeln!(f, "weights {}, {} bytes", plan.weights.len(), sum(&plan.weights))?;
    writeln!(f, "states {}, {} bytes", plan.states.len(), sum(&plan.states))?;
    writeln!(f, "constants {}, {constants} bytes", plan.constants.len())?;
    writeln!(f, "arena {} bytes, lower bound {} bytes", plan.arena, plan.lower_bound)?;
    writeln!(f, "cost {} bytes, {} flops", cost.bytes, cost.flops)
}

/// A step on one line.
struct Line<'p> {
    step: &'p Step,
    point: Point,
    names: &'p Names<'p>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { step, point, names } = self;
        let output = &step.output;
        write!(f, "{} {} in {}", step.name, output.desc, names.memory(output))?;
        write!(f, " = {}{}(", step.op, Attributes(&step.attributes))?;
        for (i, input) in step.inputs.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", names.operand(input), input.desc)?;
        }
        f.write_str(")")?;
        if step.kernel != step.op {
            write!(f, ", kernel {}", step.kernel)?;
        }
        if let Some((offset, bytes)) = step.scratch {
            write!(f, ", scratch {bytes} bytes in arena+{offset}")?;
        }
        for edge in names.plan.edges.iter().filter(|edge| edge.to == *point && !edge.across_runs) {
            write!(f, ", waits for {}", names.point(edge.from))?;
        }
        write!(f, ", {} bytes, {} flops", step.cost.bytes, step.cost.flops)
    }
}

/// An operator's attributes: `[eps=0.00001]`; nothing where there are none.
struct Attributes<'p>(&'p Value);

impl fmt::Display for Attributes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => Ok(()),
            Value::Object(fields) if fields.is_empty() => Ok(()),
            Value::Object(fields) => {
                for (i, (key, value)) in fields.iter().enumerate() {
                    write!(f, "{}{key}=", if i == 0 { "[" } else { ", " })?;
                    match value {
                        Value::String(text) => f.write_str(text)?,
                        other => match other.as_f64().filter(|_| other.is_f64()) {
                            // Attributes are f32: as one, 1e-5 is short.
                            Some(number) => write!(f, "{:?}", number as f32)?,
                            None => write!(f, "{other}")?,
                        },
                    }
                }
                f.write_str("]")
            }
            Value::String(text) => write!(f, "[{text}]"),
            other => write!(f, "[{other}]"),
        }
    }
}

/// Names of what operands refer to.
struct Names<'p> {
    plan: &'p Plan,
    /// The input or step that a value of the arena comes from.
    values: BTreeMap<u32, &'p str>,
}

impl<'p> Names<'p> {
    fn of(plan: &'p Plan) -> Names<'p> {
        let inputs = plan.inputs.iter().map(|port| (port.operand.value, port.name.as_str()));
        let steps = plan.steps.iter().map(|step| (step.output.value, step.name.as_str()));
        Names { plan, values: inputs.chain(steps).collect() }
    }

    /// The name of the memory, with the offset: `arena+64`, `state cache_k.0`.
    fn memory(&self, operand: &Operand) -> String {
        let (kind, name) = match operand.place {
            Place::Arena => return format!("arena+{}", operand.offset),
            Place::Weight(i) => ("weight", self.plan.weights.get(i as usize).map(|slot| &slot.name)),
            Place::State(i) => ("state", self.plan.states.get(i as usize).map(|slot| &slot.name)),
            Place::Constant(i) => {
                ("constant", self.plan.constants.get(i as usize).map(|(slot, _)| &slot.name))
            }
        };
        let name = name.map_or("?", String::as_str);
        match operand.offset {
            0 => format!("{kind} {name}"),
            offset => format!("{kind} {name}+{offset}"),
        }
    }

    /// What is read, and where: `h arena+64`, `weight w`.
    fn operand(&self, operand: &Operand) -> String {
        match operand.place {
            Place::Arena => {
                let name = self.values.get(&operand.value).copied().unwrap_or("?");
                format!("{name} {}", self.memory(operand))
            }
            Place::Weight(_) | Place::State(_) | Place::Constant(_) => self.memory(operand),
        }
    }

    fn point(&self, point: Point) -> String {
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
            let label = format!("{}\n{}\n{}", port.name, port.operand.desc, names.memory(&port.operand));
            writeln!(f, "  {} [shape=ellipse, label={}];", node(Point::Upload(i as u32)), Label(&label))?;
        }
        for (i, step) in plan.steps.iter().enumerate() {
            writeln!(f, "  {} [label={}];", node(Point::Step(i as u32)), Label(&names.step_label(i, step)))?;
        }
        for (i, port) in plan.outputs.iter().enumerate() {
            let label = format!("{}\n{}", port.name, port.operand.desc);
            writeln!(f, "  {} [shape=ellipse, label={}];", node(Point::Download(i as u32)), Label(&label))?;
        }
        for (from, to, operand) in flow(plan) {
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
        let mut label = format!("{number} {}\n{}{}\n", step.name, step.op, Attributes(&step.attributes));
        for input in step.inputs.iter().filter(|input| input.place != Place::Arena) {
            label.push_str(&format!("{} {}\n", self.memory(input), input.desc));
        }
        label.push_str(&format!("{} in {}", step.output.desc, self.memory(&step.output)));
        if let Some((offset, bytes)) = step.scratch {
            label.push_str(&format!("\nscratch {bytes} bytes in arena+{offset}"));
        }
        label.push_str(&format!("\n{} bytes, {} flops", step.cost.bytes, step.cost.flops));
        label
    }
}

/// Who reads whose value: from the input or the step that wrote it last. Values that no step of the plan
/// writes (weights, constants, what a state held before) have no source.
fn flow(plan: &Plan) -> Vec<(Point, Point, Operand)> {
    let uploads = plan.inputs.iter().enumerate();
    let mut written: BTreeMap<u32, Point> =
        uploads.map(|(i, port)| (port.operand.value, Point::Upload(i as u32))).collect();
    let mut flow = Vec::new();
    for (i, step) in plan.steps.iter().enumerate() {
        let to = Point::Step(i as u32);
        for input in &step.inputs {
            flow.extend(written.get(&input.value).map(|&from| (from, to, *input)));
        }
        written.insert(step.output.value, to);
    }
    for (i, port) in plan.outputs.iter().enumerate() {
        let to = Point::Download(i as u32);
        flow.extend(written.get(&port.operand.value).map(|&from| (from, to, port.operand)));
    }
    flow
}

fn node(point: Point) -> String {
    match point {
        Point::Upload(i) => format!("in{i}"),
        Point::Step(i) => format!("s{i}"),
        Point::Download(i) => format!("out{i}"),
    }
}

/// A quoted label; line ends become Graphviz's `\l`, which puts the line at the left.
struct Label<'t>(&'t str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.contains('\n');
        let escaped = self.0.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\l");
        write!(f, "\"{escaped}{}\"", if lines { "\\l" } else { "" })
    }
}
