//! Lifetimes of the tensors in the arena, derived from a finished plan.

use std::collections::BTreeMap;

use serde::Serialize;

use super::data::{Place, Plan};

/// Purpose of a range of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LifeKind {
    /// An input: kept for the whole run.
    Input,
    /// A value between two steps.
    Value,
    /// An output: kept until the end of the run.
    Output,
    /// A step's scratch memory.
    Scratch,
}

/// A range of the arena, and the steps during which it is occupied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Life {
    /// Purpose of the range.
    pub kind: LifeKind,
    /// The name of the input, or of the step that writes it; a further output appends its number, as `h.1`.
    pub name: String,
    /// The index of the input, for an input.
    pub input: Option<u32>,
    /// Bytes from the start of the arena.
    pub offset: usize,
    /// Size in bytes, not rounded up to the alignment.
    pub bytes: usize,
    /// The first step, which writes the range.
    pub first: usize,
    /// The last step, which reads the range.
    pub last: usize,
    /// Index of the life that this one takes its memory from: the step works in place.
    pub in_place_of: Option<usize>,
}

impl Plan {
    /// The lives of all inputs, values, outputs and scratch memory of the arena.
    pub fn lives(&self) -> Vec<Life> {
        let end = self.steps.len().saturating_sub(1);
        let mut lives: Vec<Life> = Vec::new();
        // The index of each value's life.
        let mut life_of: BTreeMap<u32, usize> = BTreeMap::new();
        for (i, port) in (0u32..).zip(&self.inputs) {
            life_of.insert(port.operand.value, lives.len());
            let life = Life::new(LifeKind::Input, &port.name, port.operand.range(), 0);
            lives.push(Life { input: Some(i), last: end, ..life });
        }
        for (number, step) in self.steps.iter().enumerate() {
            let read = step.inputs.iter().filter(|input| input.place == Place::Arena);
            for input in read.clone() {
                if let Some(life) = life_of.get(&input.value).and_then(|&life| lives.get_mut(life)) {
                    life.last = life.last.max(number);
                }
            }
            lives.extend(step.scratch.map(|(offset, bytes)| {
                Life::new(LifeKind::Scratch, &step.name, offset..offset + bytes, number)
            }));
            let written = (0..).zip(&step.outputs);
            for (i, output) in written.filter(|(_, output)| output.place == Place::Arena) {
                // In a checked plan, sharing memory here means that the operator works in place.
                let source = read.clone().find(|input| input.shares_memory(output));
                let in_place_of = source.and_then(|source| life_of.get(&source.value)).copied();
                life_of.insert(output.value, lives.len());
                let life = Life::new(LifeKind::Value, &step.output_name(i), output.range(), number);
                lives.push(Life { in_place_of, ..life });
            }
        }
        for port in self.outputs.iter().filter(|port| port.operand.place == Place::Arena) {
            if let Some(life) = life_of.get(&port.operand.value).and_then(|&life| lives.get_mut(life)) {
                life.last = end;
                life.kind = if life.kind == LifeKind::Input { LifeKind::Input } else { LifeKind::Output };
            }
        }
        lives
    }

    /// The bytes of the arena occupied at each step, each life rounded up to the alignment: the arena is at least as
    /// large as their maximum, which is [`Plan::lower_bound`]. A single number for a plan without steps.
    pub fn alive(&self, lives: &[Life]) -> Vec<usize> {
        let rounded = |life: &Life| life.bytes.next_multiple_of(self.device.alignment.max(1));
        let mut alive = vec![0; self.steps.len().max(1)];
        for life in lives {
            // A step that works in place has both values at once in the same bytes.
            let shared = usize::from(life.in_place_of.is_some());
            alive
                .iter_mut()
                .take(life.last + 1)
                .skip(life.first + shared)
                .for_each(|sum| *sum += rounded(life));
        }
        alive
    }
}

impl Life {
    fn new(kind: LifeKind, name: &str, bytes: std::ops::Range<usize>, step: usize) -> Life {
        Life {
            kind,
            name: name.to_owned(),
            input: None,
            offset: bytes.start,
            bytes: bytes.len(),
            first: step,
            last: step,
            in_place_of: None,
        }
    }
}
