//! Weights from their source, and states by name.

use std::collections::BTreeMap;

use crate::exec::{ExecError, WeightSource};
use crate::plan::{LeafSlot, Plan, StateSlot};

/// The states' name as a holder in the budget.
pub const STATES: &str = "KV cache";

/// The bytes of a weight, which must match the plan's description.
pub fn weight<'s>(source: &'s dyn WeightSource, slot: &LeafSlot) -> Result<&'s [u8], ExecError> {
    let missing = || ExecError::MissingWeight { name: slot.name.clone(), desc: slot.desc };
    let (desc, bytes) = source.weight(&slot.name).ok_or_else(missing)?;
    bytes.get(..slot.desc.extent()).filter(|_| desc == slot.desc).ok_or_else(|| {
        let (name, wanted) = (slot.name.clone(), slot.desc.to_string());
        ExecError::Mismatch {
            what: "weight",
            name,
            found: format!("{desc} in {} bytes", bytes.len()),
            wanted,
        }
    })
}

/// States by name, with their memory, which outlives runs. Plans that name the same state share it.
#[derive(Debug)]
pub struct States<M>(BTreeMap<String, (StateSlot, M)>);

impl<M> Default for States<M> {
    fn default() -> States<M> {
        States(BTreeMap::new())
    }
}

impl<M> States<M> {
    /// The memory of a state.
    pub fn get(&self, name: &str) -> Result<&M, ExecError> {
        self.0.get(name).map(|(_, memory)| memory).ok_or_else(|| unknown(name))
    }

    /// The memory of a state, mutable.
    pub fn get_mut(&mut self, name: &str) -> Result<&mut M, ExecError> {
        self.0.get_mut(name).map(|(_, memory)| memory).ok_or_else(|| unknown(name))
    }

    /// Bytes of all states.
    pub fn bytes(&self) -> u64 {
        self.0.values().map(|(slot, _)| slot.desc.extent() as u64).sum()
    }

    /// Bytes of all states after `missing` were added, for the budget. Saturates, as a file may contain any sizes.
    pub fn bytes_with(&self, missing: &[&StateSlot]) -> u64 {
        missing.iter().fold(self.bytes(), |sum, slot| sum.saturating_add(slot.desc.extent() as u64))
    }

    /// The states of a plan that do not exist yet.
    ///
    /// # Errors
    /// A different state of the same name exists.
    pub fn missing<'p>(&self, plan: &'p Plan) -> Result<Vec<&'p StateSlot>, ExecError> {
        let text = |slot: &StateSlot| format!("{} ({})", slot.desc, slot.kind);
        let mut missing = Vec::new();
        for slot in &plan.states {
            match self.0.get(&slot.name) {
                Some((known, _)) if known != slot => {
                    let (name, found, wanted) = (slot.name.clone(), text(known), text(slot));
                    return Err(ExecError::Mismatch { what: "state", name, found, wanted });
                }
                Some(_) => {}
                None => missing.push(slot),
            }
        }
        Ok(missing)
    }

    /// Adds a state.
    pub fn insert(&mut self, slot: &StateSlot, memory: M) {
        self.0.insert(slot.name.clone(), (slot.clone(), memory));
    }

    /// Drops the states of these names.
    pub fn remove(&mut self, names: &[String]) {
        self.0.retain(|name, _| !names.contains(name));
    }
}

fn unknown(name: &str) -> ExecError {
    ExecError::Unknown { what: "state", name: name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::plan::{DeviceDesc, compile};
    use crate::tensor::DType;

    fn plan(recurrent: bool, n_slots: usize) -> Plan {
        let graph = Graph::new();
        let s = match recurrent {
            true => graph.recurrent_state("s", DType::F32, [4, n_slots]),
            false => graph.state("s", DType::F32, [4, n_slots]),
        };
        graph.output("y", s.relu());
        compile(&graph.finish().unwrap(), &DeviceDesc::cpu(1)).unwrap()
    }

    #[test]
    fn a_state_of_another_shape_or_kind_is_refused() {
        let mut states = States::default();
        let first = plan(true, 2);
        let missing = states.missing(&first).unwrap();
        assert_eq!(missing.len(), 1);
        assert_eq!((states.bytes(), states.bytes_with(&missing)), (0, 32));
        states.insert(missing[0], ());
        assert_eq!((states.missing(&first).unwrap().len(), states.bytes()), (0, 32));
        let error = |plan: Plan| states.missing(&plan).unwrap_err().to_string();
        assert_eq!(
            error(plan(true, 3)),
            "state `s` is F32[4, 2] (recurrent), the plan needs F32[4, 3] (recurrent)"
        );
        assert_eq!(
            error(plan(false, 2)),
            "state `s` is F32[4, 2] (recurrent), the plan needs F32[4, 2] (paged)"
        );
    }
}
