//! A plan as text: ports, steps, waits across runs, totals.
//!
//! The text depends on the plan only, so equal plans give equal text. A shape is shown where it is new: at the outputs
//! of a step, at weights and constants, and at an input that is a view of another shape.

use std::fmt;

use super::attributes::Attributes;
use super::data::{Operand, Place, Plan, Point, Step};
use super::show::Names;
use crate::graph::StateKind;

/// Line width, unless a single part is wider.
const COLUMNS: usize = 120;
/// Indentation of a step's continuation lines.
const INDENT: &str = "           ";

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self;
        let names = Names::of(plan);
        let device = &plan.device;
        let deterministic = if device.deterministic { ", deterministic" } else { "" };
        writeln!(
            f,
            "device {}, {} threads, alignment {}{deterministic}",
            device.executor, device.threads, device.alignment
        )?;
        for (word, ports) in [("input ", &plan.inputs), ("output", &plan.outputs)] {
            for port in ports {
                writeln!(f, "{word} {} {} {}", port.name, port.operand.desc, plan.memory(&port.operand))?;
            }
        }
        for (number, step) in plan.steps.iter().enumerate() {
            write_wrapped(f, &parts(&names, number, step))?;
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
    let weights: usize = plan.weights.iter().map(|slot| slot.desc.extent()).sum();
    let states: usize = plan.states.iter().map(|slot| slot.desc.extent()).sum();
    let recurrent = plan.states.iter().filter(|slot| slot.kind == StateKind::Recurrent).count();
    let kinds = if recurrent > 0 { format!(" ({recurrent} recurrent)") } else { String::new() };
    let constants: usize = plan.constants.iter().map(|(_, bytes)| bytes.len()).sum();
    let cost = plan.cost();
    writeln!(f, "steps {}", plan.steps.len())?;
    writeln!(f, "weights {}, {weights} bytes", plan.weights.len())?;
    writeln!(f, "states {}{kinds}, {states} bytes", plan.states.len())?;
    writeln!(f, "constants {}, {constants} bytes", plan.constants.len())?;
    writeln!(f, "arena {} bytes, lower bound {} bytes", plan.arena, plan.lower_bound)?;
    writeln!(f, "cost {} bytes, {} flops", cost.bytes, cost.flops)
}

/// The parts of a step, between which a line may be broken.
fn parts(names: &Names<'_>, number: usize, step: &Step) -> Vec<String> {
    // Most kernel names begin with the operator's name.
    let (operator, kernel) = match step.kernel.starts_with(&step.op) {
        true => (&step.kernel, None),
        false => (&step.op, Some(&step.kernel)),
    };
    let mut parts = vec![format!("{number:>5}  {} {} =", step.name, names.plan.written(step))];
    let mut open = format!("{operator}{}(", Attributes::of(step));
    for (i, input) in step.inputs.iter().enumerate() {
        let end = if i + 1 == step.inputs.len() { ")" } else { "" };
        parts.push(format!("{open}{}{end}", read(names, input)));
        open.clear();
    }
    if step.inputs.is_empty() {
        parts.push(format!("{open})"));
    }
    parts.extend(kernel.map(|kernel| format!("kernel {kernel}")));
    parts.push(format!("{} bytes", step.cost.bytes));
    parts.push(format!("{} flops", step.cost.flops));
    parts.extend(step.scratch.map(|(offset, bytes)| format!("scratch {bytes} bytes @{offset}")));
    let point = Point::Step(number as u32);
    let waits = names.plan.edges.iter().filter(|edge| edge.to == point && !edge.across_runs);
    parts.extend(waits.map(|edge| format!("waits for {}", names.point(edge.from))));
    parts
}

/// An input of a step: the name of its value, with shape and offset if it is a view that differs.
fn read(names: &Names<'_>, input: &Operand) -> String {
    match (input.place, names.value(input)) {
        (Place::Arena, Some((name, whole))) => {
            let desc = if input.desc == whole.desc { String::new() } else { format!(" {}", input.desc) };
            let at = if input.offset == whole.offset { String::new() } else { format!(" @{}", input.offset) };
            format!("{name}{desc}{at}")
        }
        (Place::Arena, None) => format!("? {} {}", input.desc, names.plan.memory(input)),
        (Place::State(_), _) => names.plan.memory(input),
        (Place::Weight(_) | Place::Constant(_), _) => format!("{} {}", names.plan.memory(input), input.desc),
    }
}

/// Writes parts separated by commas, and breaks lines that would be too wide.
fn write_wrapped(f: &mut fmt::Formatter<'_>, parts: &[String]) -> fmt::Result {
    let mut column = 0;
    for (i, part) in parts.iter().enumerate() {
        // The first part ends in an equals sign.
        let comma = if i == 0 || i + 1 == parts.len() { "" } else { "," };
        let width = part.chars().count() + comma.len();
        if i > 0 && column + 1 + width > COLUMNS {
            write!(f, "\n{INDENT}{part}{comma}")?;
            column = INDENT.len() + width;
        } else {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{part}{comma}")?;
            column += space.len() + width;
        }
    }
    writeln!(f)
}
