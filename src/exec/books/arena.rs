//! The arena's share of the budget while it grows: the old arena stays until all plans are bound to the larger one.

use crate::exec::{Budget, ExecError};

/// The arena's name as a holder in the budget.
const ARENA: &str = "arena";
/// The name of a larger arena while the old one still exists.
const LARGER_ARENA: &str = "a larger arena beside the one there is";

/// Reserves an arena of `bytes` beside the current one of `have` bytes. The caller then calls [`settle_arena`], also
/// after an error.
pub fn ask_for_arena(budget: &mut Budget, have: usize, bytes: usize) -> Result<(), ExecError> {
    Ok(budget.hold(if have == 0 { ARENA } else { LARGER_ARENA }, bytes as u64)?)
}

/// Records in the budget that there is one arena, of `have` bytes.
pub fn settle_arena(budget: &mut Budget, have: usize) -> Result<(), ExecError> {
    budget.hold(LARGER_ARENA, 0)?;
    Ok(budget.hold(ARENA, have as u64)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_arenas_count_while_one_grows() {
        let mut budget = Budget::new(100, 100, 1.0);
        ask_for_arena(&mut budget, 0, 40).unwrap();
        settle_arena(&mut budget, 40).unwrap();
        assert!(ask_for_arena(&mut budget, 40, 61).is_err());
        assert_eq!(budget.held(), 40);
        ask_for_arena(&mut budget, 40, 60).unwrap();
        assert_eq!(budget.held(), 100);
        settle_arena(&mut budget, 60).unwrap();
        assert_eq!(budget.holders(), [("arena".to_string(), 60)]);
    }
}
