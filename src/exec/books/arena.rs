//! The arena's place in the budget while it grows: the one before stays until all plans know where the larger one is.

use crate::exec::{Budget, ExecError};

/// Who holds the arena.
const ARENA: &str = "arena";
/// Who holds a larger arena while the one before is still there.
const LARGER_ARENA: &str = "a larger arena beside the one there is";

/// Asks the budget for an arena of `bytes` beside the one of `have` bytes. Whatever becomes of it, [`settle_arena`] comes
/// next.
pub fn ask_for_arena(budget: &mut Budget, have: usize, bytes: usize) -> Result<(), ExecError> {
    Ok(budget.hold(if have == 0 { ARENA } else { LARGER_ARENA }, bytes as u64)?)
}

/// Tells the budget that there is one arena, of so many bytes.
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
