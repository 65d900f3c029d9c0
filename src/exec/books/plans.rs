//! Values by plan, for plans that are loaded and unloaded.

use std::collections::BTreeMap;

use crate::exec::{ExecError, PlanId};

/// A value for each loaded plan.
#[derive(Debug)]
pub struct Plans<T>(BTreeMap<PlanId, T>);

impl<T> Default for Plans<T> {
    fn default() -> Plans<T> {
        Plans(BTreeMap::new())
    }
}

impl<T> Plans<T> {
    /// The value of a plan.
    ///
    /// # Errors
    /// The plan is not loaded.
    pub fn get(&self, id: PlanId) -> Result<&T, ExecError> {
        self.0.get(&id).ok_or_else(|| unknown(id))
    }

    /// The value of a plan, mutable.
    ///
    /// # Errors
    /// As [`Plans::get`].
    pub fn get_mut(&mut self, id: PlanId) -> Result<&mut T, ExecError> {
        self.0.get_mut(&id).ok_or_else(|| unknown(id))
    }

    /// Adds the value of a plan that was loaded.
    pub fn insert(&mut self, id: PlanId, value: T) {
        self.0.insert(id, value);
    }

    /// Removes the value of a plan that is unloaded.
    ///
    /// # Errors
    /// As [`Plans::get`].
    pub fn remove(&mut self, id: PlanId) -> Result<T, ExecError> {
        self.0.remove(&id).ok_or_else(|| unknown(id))
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.values()
    }

    /// All values, mutable.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.values_mut()
    }

    /// The number of plans.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn unknown(id: PlanId) -> ExecError {
    ExecError::Unknown { what: "plan", name: id.0.to_string() }
}
