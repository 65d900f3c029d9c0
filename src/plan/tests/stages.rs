use super::super::DeviceDesc;
use super::super::order::order;
use super::super::place::place;
use super::super::stages::{check_order, check_placement};
use super::{graph, named};
use crate::graph::GraphDef;
use crate::tensor::DType;

/// Two values that are read together by a third.
fn sample() -> GraphDef {
    graph(|g| {
        let x = g.input("x", DType::F32, [64]);
        let (a, b) = (x.relu().named("a"), x.tanh().named("b"));
        g.output("y", a.sub(b).named("y"));
    })
}

#[test]
fn faults_of_an_order_are_found() {
    let def = sample();
    let good = order(&def).unwrap();
    check_order(&def, &good).unwrap();
    let mut late = good.clone();
    late.reverse();
    let mut twice = good.clone();
    twice.push(named(&def, "a"));
    let mut missing = good.clone();
    missing.retain(|&id| id != named(&def, "y"));
    for (bad, what) in [(late, "before its input"), (twice, "runs twice"), (missing, "never runs")] {
        let error = check_order(&def, &bad).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn faults_of_a_placement_are_found() {
    let def = sample();
    let order = order(&def).unwrap();
    let good = place(&def, &order, &DeviceDesc::cpu(1)).unwrap();
    check_placement(&def, &order, &good).unwrap();
    let (x, a, b) = (named(&def, "x"), named(&def, "a"), named(&def, "b"));
    let mut over_input = good.clone();
    over_input.values.insert(a, good.values[&x]);
    let mut over_each_other = good.clone();
    over_each_other.values.insert(b, good.values[&a]);
    let mut outside = good.clone();
    outside.values.insert(b, good.arena);
    let mut scratch = good.clone();
    scratch.scratch.insert(named(&def, "y"), (good.values[&b], 64));
    for (bad, what) in [
        (over_input, "writes over `x`"),
        (over_each_other, "writes over"),
        (outside, "reaches past"),
        (scratch, "writes over `b`"),
    ] {
        let error = check_placement(&def, &order, &bad).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}
