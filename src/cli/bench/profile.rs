//! Times of a plan's runs by operator.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::plan::Plan;

/// Times of one test.
#[derive(Serialize)]
pub(super) struct Profile {
    test: String,
    /// All steps, timed one by one.
    seconds: f64,
    /// The repetition of which the steps were timed, from its first call to its last.
    repetition_seconds: f64,
    /// The same work, without timing its steps.
    real_seconds: f64,
    #[serde(skip)]
    on_gpu: bool,
    operators: Vec<Row>,
}

/// The times of the work as a whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Real {
    /// The repetition of which the steps were timed.
    pub repetition: f64,
    /// The mean of the repetitions before it, without timing steps.
    pub untimed: f64,
    pub on_gpu: bool,
}

#[derive(Serialize)]
struct Row {
    /// The operator and the type of its weight.
    operator: String,
    steps: usize,
    seconds: f64,
    share: f64,
}

/// Explains why the timed repetition takes longer than others: on an H200 the 435 launches of a token took 4.1 ms timed
/// one by one, and 2.8 ms replayed.
const ON_GPU: &str = "  \
  steps are timed one by one: each is queued by itself and starts when the one before has ended and was noted, where
  a replay queues all at once and lets the next begin early. Small steps look larger than they are, by a few
  microseconds each; compare steps of a kind, and take no share of the untimed time from this table
";
const ON_CPU: &str = "  \
  between steps are the session's own work (inputs, block tables, outputs) and the start of each batch; another
  program on the same cores makes any repetition slower
";

impl Profile {
    /// Sums the times of all plans' steps by operator and weight type, longest first.
    pub(super) fn of(test: String, plans: &[(&Plan, &[Duration])], real: Real) -> Profile {
        let mut sums: BTreeMap<String, (usize, Duration)> = BTreeMap::new();
        for (step, time) in plans.iter().flat_map(|(plan, times)| plan.steps.iter().zip(*times)) {
            let quantized = step.inputs.iter().map(|input| input.desc.dtype).find(|dtype| !dtype.is_plain());
            let operator = match quantized {
                Some(dtype) => format!("{} {dtype}", step.op),
                None => step.op.clone(),
            };
            let (steps, sum) = sums.entry(operator).or_default();
            *steps += 1;
            *sum += *time;
        }
        let seconds: f64 = plans.iter().flat_map(|(_, times)| *times).sum::<Duration>().as_secs_f64();
        let row = |(operator, (steps, time)): (String, (usize, Duration))| Row {
            operator,
            steps,
            seconds: time.as_secs_f64(),
            share: if seconds > 0.0 { time.as_secs_f64() / seconds } else { 0.0 },
        };
        let mut operators: Vec<Row> = sums.into_iter().map(row).collect();
        operators.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then_with(|| a.operator.cmp(&b.operator)));
        Profile {
            test,
            seconds,
            repetition_seconds: real.repetition,
            real_seconds: real.untimed,
            on_gpu: real.on_gpu,
            operators,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (timed, whole) = (self.seconds, self.repetition_seconds);
        writeln!(
            f,
            "{}: {:.3} ms = {:.3} ms in its steps + {:.3} ms between them; {:.3} ms if steps are not timed",
            self.test,
            whole * 1e3,
            timed * 1e3,
            (whole - timed) * 1e3,
            self.real_seconds * 1e3
        )?;
        f.write_str(if self.on_gpu { ON_GPU } else { ON_CPU })?;
        for Row { operator, steps, seconds, share } in &self.operators {
            writeln!(
                f,
                "  {operator:20} {steps:>5} steps  {:>10.3} ms  {:>5.1} %",
                seconds * 1e3,
                share * 100.0
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_sum_to_the_whole() {
        let real = Real { repetition: 0.0125, untimed: 0.011, on_gpu: false };
        let profile = Profile { seconds: 0.010, ..Profile::of("tg1".into(), &[], real) };
        let first = profile.to_string().lines().next().unwrap().to_string();
        insta::assert_snapshot!(first, @"tg1: 12.500 ms = 10.000 ms in its steps + 2.500 ms between them; 11.000 ms if steps are not timed");
    }
}
