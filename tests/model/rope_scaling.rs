//! The keys `rope.scaling.*`, compared with the angles that transformers' definition gives for them
//! (`tests/fixtures/rope`).

use std::num::NonZeroUsize;
use std::sync::Arc;

use rfgraph::exec::{Budget, CpuExecutor, Executor, WeightMap};
use rfgraph::gguf::Value;
use rfgraph::graph::Graph;
use rfgraph::model::{CacheLayout, CacheTypes, Model, ModelError, Session, SessionOptions};
use rfgraph::ops::Rope;
use rfgraph::plan::{DeviceDesc, compile};
use rfgraph::tensor::DType;
use serde_json::Value as Json;

use crate::keys::Changed;
use crate::support::inside::inside;

fn cases() -> Vec<Json> {
    let text = std::fs::read_to_string(inside("rope/cases.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn value(json: &Json) -> Value {
    match json {
        Json::Bool(yes) => Value::Bool(*yes),
        Json::String(text) => Value::from(text.as_str()),
        Json::Number(n) if n.is_u64() => Value::U32(n.as_u64().unwrap().try_into().unwrap()),
        Json::Number(n) => Value::F32(n.as_f64().unwrap() as f32),
        other => panic!("{other}"),
    }
}

fn numbers(case: &Json, name: &str) -> Vec<f64> {
    case[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// The model of a case: a plain Llama with the keys, and the tensors if the case has factors.
fn model(case: &Json) -> Model {
    let mut file = Changed::of("llama").set("context_length", Value::U32(512));
    for (key, json) in case["keys"].as_object().unwrap() {
        file = file.set(key, value(json));
    }
    if let Some(name) = case["tensor"].as_str() {
        let factors: Vec<f32> = numbers(case, "factors").into_iter().map(|x| x as f32).collect();
        file = file.tensor(name, &factors);
        if name == "rope_factors_long.weight" {
            file = file.tensor("rope_factors_short.weight", &vec![1.0; factors.len()]);
        }
    }
    file.open().unwrap_or_else(|error| panic!("{}: {error}", case["name"]))
}

/// The rotation of a model's queries, as its plan has it.
fn rope(model: &Model) -> Rope {
    let layout = CacheLayout::new(512, 1).unwrap();
    let graph = model.graph(1, 1, layout, CacheTypes::default()).unwrap();
    let plan = compile(&graph, &DeviceDesc::cpu(1)).unwrap();
    let step = plan.steps.iter().find(|step| step.op == "rope").unwrap();
    serde_json::from_value(step.attributes.clone()).unwrap()
}

/// The rotation of (1, 0) in every pair: cosines and sines, position by position.
fn angles(rope: &Rope, factors: Option<Vec<f32>>, positions: &[i32]) -> Vec<(f32, f32)> {
    let graph = Graph::new();
    let shape = [rope.n_rot, 1, positions.len()];
    let (x, at) = (graph.input("x", DType::F32, shape), graph.input("at", DType::I32, [positions.len()]));
    let y = match &factors {
        Some(factors) => x.rope_with_factors(at, graph.input("factors", DType::F32, [factors.len()]), rope),
        None => x.rope(at, rope),
    };
    graph.output("y", y);
    let plan = compile(&graph.finish().unwrap(), &DeviceDesc::cpu(1)).unwrap();
    let budget = Budget::host(Budget::FRACTION);
    let mut executor = CpuExecutor::new(NonZeroUsize::MIN, Arc::new(WeightMap::new()), budget).unwrap();
    let id = executor.load(plan).unwrap();
    executor.set(id, "x", &[1.0f32, 0.0].repeat(rope.n_rot / 2 * positions.len())).unwrap();
    executor.set(id, "at", positions).unwrap();
    if let Some(factors) = factors {
        executor.set(id, "factors", &factors).unwrap();
    }
    let outputs = executor.run(id).unwrap().wait().unwrap();
    outputs.get::<f32>("y").unwrap().chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

/// Angles up to 511 radians with frequencies whose factors are F32: off by 511 · 2⁻²⁴ = 3e-5 at most, times the magnitude.
#[test]
fn every_scaling_rotates_as_transformers_defines() {
    for case in cases() {
        let name = &case["name"];
        let positions: Vec<i32> = numbers(&case, "positions").into_iter().map(|x| x as i32).collect();
        let factors = case["tensor"].is_string().then(|| numbers(&case, "factors"));
        let factors = factors.map(|factors| factors.into_iter().map(|x| x as f32).collect());
        let found = angles(&rope(&model(&case)), factors, &positions);
        let wanted: Vec<(f64, f64)> = numbers(&case, "cos").into_iter().zip(numbers(&case, "sin")).collect();
        assert_eq!(found.len(), wanted.len(), "{name}");
        for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            let off = (f64::from(found.0) - wanted.0).abs().max((f64::from(found.1) - wanted.1).abs());
            assert!(off < 6e-5, "{name}: pair {i}: {found:?} instead of {wanted:?}");
        }
    }
}

/// Beyond the context in training the base would grow with the text.
#[test]
fn dynamic_scaling_bounds_the_context() {
    let case = cases().into_iter().find(|case| case["name"] == "dynamic").unwrap();
    let model = model(&case);
    let open = |n_ctx| Session::new(&model, &SessionOptions { n_ctx, ..SessionOptions::default() });
    assert!(open(512).is_ok());
    let error = open(513).map(|_| ()).unwrap_err();
    assert!(matches!(error, ModelError::Positions { n_positions: 512, .. }), "{error}");
}

#[test]
fn contradicting_magnitudes_of_yarn_are_refused() {
    let file = Changed::of("llama-yarn").set("rope.scaling.yarn_attn_factor", Value::F32(1.5));
    let error = file.set("rope.scaling.attn_factor", Value::F32(1.25)).open().unwrap_err().to_string();
    assert!(error.contains("yarn_attn_factor is 1.5") && error.contains("attn_factor is 1.25"), "{error}");
}
