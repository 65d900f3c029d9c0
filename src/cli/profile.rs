//! Where the time of a plan's runs went, operator by operator.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::plan::Plan;

/// Times of one test.
#[derive(Serialize)]
pub(super) struct Profile {
    test: String,
    seconds: f64,
    operators: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    /// The operator, and the type of the weight that it reads.
    operator: String,
    steps: usize,
    seconds: f64,
    share: f64,
}

impl Profile {
    /// Sums the times of all plans' steps by operator and type of weight, the longest first.
    pub(super) fn of(test: String, plans: &[(&Plan, &[Duration])]) -> Profile {
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
        Profile { test, seconds, operators }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {:.3} ms in the steps of its last plan", self.test, self.seconds * 1e3)?;
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
