//! A layer with the gated delta rule on a GPU: the launches of a decode step.

use rfgraph::device::Command;
use rfgraph::model::{CacheLayout, CacheTypes};
use rfgraph::plan::{DeviceDesc, compile};

use crate::support::architectures::fixtures;
use crate::support::gpu::{Gpu, config};

/// Products, and the activations that they take.
const PRODUCTS: [&str; 3] = ["linear", "project", "quantize"];

/// For one token every launch costs time: norm, convolution, delta rule, gated norm.
#[test]
fn a_delta_layer_decodes_in_four_launches_beside_its_products() {
    let gpu = Gpu::simulated(config(32));
    let model = fixtures().into_iter().find(|fixture| fixture.name == "qwen35").unwrap().model();
    let layout = CacheLayout::new(64, 1).unwrap();
    let graph = model.graph(1, 1, layout, CacheTypes::default()).unwrap();
    let plan = compile(&graph, &DeviceDesc::hip(gpu.context.target().clone())).unwrap();
    let layer = plan.steps.iter().skip_while(|step| step.name != "blk.0.attn_norm");
    let layer = layer.take_while(|step| step.name != "blk.0.ffn_inp");
    let mut launches = Vec::new();
    for step in layer.filter(|step| !PRODUCTS.contains(&step.op.as_str())) {
        let n = step.commands.iter().filter(|command| matches!(command, Command::Launch(_))).count();
        launches.extend(std::iter::repeat_n(step.op.as_str(), n));
    }
    assert_eq!(launches, ["rms_norm", "short_conv", "delta_rule", "gated_norm"]);
}
