//! The plans that a session keeps loaded: a bounded number, by the sizes of the batches that they are made for. Sizes
//! are products of several numbers of rows, so that a long-running session would otherwise collect thousands of plans.

use std::collections::BTreeMap;

use super::plans::BatchPlan;
use crate::model::BatchShape;

/// Plans by sizes, of which the least recently used can be removed.
#[derive(Debug)]
pub(super) struct LoadedPlans {
    plans: BTreeMap<BatchShape, Entry>,
    /// The largest number of plans.
    most: usize,
    /// The number of uses so far, as a clock.
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    plan: BatchPlan,
    last_use: u64,
    /// Never removed.
    stays: bool,
}

impl LoadedPlans {
    /// Room for any number of plans, until [`LoadedPlans::keep`].
    pub fn new() -> LoadedPlans {
        LoadedPlans { plans: BTreeMap::new(), most: usize::MAX, uses: 0 }
    }

    /// The plan for a batch of these sizes.
    pub fn get(&self, shape: &BatchShape) -> Option<&BatchPlan> {
        self.plans.get(shape).map(|entry| &entry.plan)
    }

    /// All plans.
    pub fn values(&self) -> impl Iterator<Item = &BatchPlan> {
        self.plans.values().map(|entry| &entry.plan)
    }

    /// The number of plans.
    pub fn len(&self) -> usize {
        self.plans.len()
    }

    /// Counts a use of a plan. False if it is not loaded.
    pub fn touch(&mut self, shape: &BatchShape) -> bool {
        self.uses += 1;
        let entry = self.plans.get_mut(shape);
        entry.map(|entry| entry.last_use = self.uses).is_some()
    }

    /// Adds a plan, whose first use is now.
    pub fn add(&mut self, shape: BatchShape, plan: BatchPlan) {
        self.plans.insert(shape, Entry { plan, last_use: self.uses, stays: false });
    }

    /// The present plans are never removed.
    pub fn all_stay(&mut self) {
        self.plans.values_mut().for_each(|entry| entry.stays = true);
    }

    /// Limits the number of plans to `n`, at least one, beside those that stay.
    pub fn keep(&mut self, n: usize) {
        let stay = self.plans.values().filter(|entry| entry.stays).count();
        self.most = stay.saturating_add(n.max(1));
    }

    /// One more plan would be too many.
    pub fn is_full(&self) -> bool {
        self.plans.len() >= self.most
    }

    /// Removes the least recently used plan, unless all plans stay.
    pub fn remove_oldest(&mut self) -> Option<BatchPlan> {
        let removable = self.plans.iter().filter(|(_, entry)| !entry.stays);
        let (&shape, _) = removable.min_by_key(|(_, entry)| entry.last_use)?;
        self.plans.remove(&shape).map(|entry| entry.plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Output;

    fn shape(n: usize) -> BatchShape {
        BatchShape::decode(n, Output::Logits)
    }

    #[test]
    fn least_recently_used_plan_is_removed_and_first_plans_stay() {
        let mut plans = LoadedPlans::new();
        plans.add(shape(1), BatchPlan { parts: Vec::new() });
        assert!(!plans.is_full());
        plans.all_stay();
        plans.keep(3);
        assert!(!plans.is_full() && plans.remove_oldest().is_none());
        for n in [2, 3, 4] {
            assert!(!plans.touch(&shape(n)));
            plans.add(shape(n), BatchPlan { parts: Vec::new() });
        }
        assert!(plans.is_full() && plans.touch(&shape(2)));
        for (removed, left) in [(3, 3), (4, 2), (2, 1)] {
            assert!(plans.remove_oldest().is_some() && plans.get(&shape(removed)).is_none(), "{removed}");
            assert_eq!(plans.len(), left);
        }
        assert!(plans.remove_oldest().is_none() && plans.get(&shape(1)).is_some());
    }
}
