//! The duration of steps, measured, and from it the number of prompt rows that fit the time of a step.

use std::time::Duration;

/// The share of a new measurement in a running mean.
const WEIGHT: f64 = 0.25;

/// The fewest prompt rows of a step. Fewer would read all weights for almost no work.
const LEAST_ROWS: usize = 16;

/// Running means of the time of steps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Seconds of a step without prompt rows.
    decode: Option<f64>,
    /// Seconds that each row of a prompt adds.
    row: Option<f64>,
    /// Prompt rows of the last step that had some. The next has at most twice as many, since a small step says little
    /// about a large one.
    last: usize,
}

impl Pace {
    /// Adds the time of a step with `n_prompt` rows of prompts.
    pub fn observe(&mut self, n_prompt: usize, time: Duration) {
        let seconds = time.as_secs_f64();
        if n_prompt == 0 {
            mix(&mut self.decode, seconds);
        } else {
            // The rest of the step is also there without the prompt rows. It is no longer than the step: without this a
            // slow step, such as the first of its size, would leave prompts the fewest rows for as long as there are some.
            let rest = self.decode.unwrap_or(0.0).min(seconds);
            self.decode = self.decode.map(|_| rest);
            mix(&mut self.row, (seconds - rest) / n_prompt as f64);
            self.last = n_prompt;
        }
    }

    /// The number of prompt rows, at most `most`, for a step of about `budget`.
    pub fn prompt_rows(&self, budget: Duration, decodes: bool, most: usize) -> usize {
        // Nothing is known before the first prompt. A first step of a few rows measures it.
        let Some(row) = self.row else { return most.min(4 * LEAST_ROWS) };
        let decode = if decodes { self.decode.unwrap_or(0.0) } else { 0.0 };
        let left = (budget.as_secs_f64() - decode).max(0.0);
        let rows = if row > 0.0 { left / row } else { f64::INFINITY };
        // A cast of a large float saturates.
        (rows as usize).min(2 * self.last).max(LEAST_ROWS).min(most)
    }
}

fn mix(mean: &mut Option<f64>, value: f64) {
    *mean = Some(mean.map_or(value, |mean| mean + WEIGHT * (value - mean)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Steps of answers alone are slow at first: their plan is made. Prompts that come then in every step do not pay for it.
    #[test]
    fn a_slow_step_of_answers_does_not_slow_all_prompts() {
        let (budget, answers) = (Duration::from_millis(50), Duration::from_millis(10));
        let with_rows = |rows: usize| answers + Duration::from_micros(20) * rows as u32;
        let mut pace = Pace::default();
        pace.observe(0, answers);
        pace.observe(64, with_rows(64));
        pace.observe(0, Duration::from_millis(600));
        let mut rows = 0;
        for _ in 0..30 {
            rows = pace.prompt_rows(budget, true, 2048);
            pace.observe(rows, with_rows(rows));
        }
        assert!(rows > 1500, "{rows} rows in a step of 50 ms, of which 2,000 fit beside the answers");
    }

    proptest! {
        /// After a few steps of a device with constant rates, a step takes at most the budget, or has the fewest rows.
        #[test]
        fn steps_of_a_steady_device_fit_the_budget(
            decode_us in 1u64..50_000,
            row_us in 1u64..5_000,
            budget_ms in 1u64..500,
        ) {
            let budget = Duration::from_millis(budget_ms);
            let time = |rows: usize| Duration::from_micros(decode_us + row_us * rows as u64);
            let mut pace = Pace::default();
            for _ in 0..30 {
                pace.observe(0, time(0));
                let rows = pace.prompt_rows(budget, true, 512);
                pace.observe(rows, time(rows));
            }
            let rows = pace.prompt_rows(budget, true, 512);
            // The means have converged to 0.75^30 of their first error.
            let close = budget.mul_f64(1.05) + Duration::from_micros(decode_us);
            prop_assert!(rows == LEAST_ROWS || time(rows) <= close, "{rows} rows");
            let more = time(rows + rows / 8 + 1);
            prop_assert!(rows == 512 || more > budget.mul_f64(0.9), "{rows} rows are too few");
        }
    }
}
