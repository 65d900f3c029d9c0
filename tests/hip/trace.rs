//! Timelines of a GPU, whose steps and copies are timed by events.

use rfgraph::exec::Executor;
use serde_json::Value;

use crate::support::gpu::{Gpu, config};
use crate::support::timelines::{assert_whole, of_kind, plan, slices, trace, weights};

#[test]
fn gpu_trace_has_steps_copies_and_fences() {
    for wave in [32, 64] {
        let gpu = Gpu::simulated(config(wave));
        let mut executor = gpu.executor(weights());
        let trace = trace(&mut executor, "", 3, 10_000);
        let plan = plan(&executor.device(), "");
        assert_whole(&trace, &plan, 3);
        let slices = slices(&trace);
        assert_eq!(of_kind(&slices, "fence").len(), 3);
        let copies: Vec<&str> = of_kind(&slices, "copy").iter().map(|slice| slice.name).collect();
        assert_eq!(copies, ["write x", "uploads", "downloads"].repeat(3));
        let said = |value: &Value| assert!(value.to_string().contains("one by one"), "{value}");
        said(&trace["otherData"]);
        slices.iter().filter(|slice| slice.name.starts_with("run ")).for_each(|run| said(run.args));
    }
}
