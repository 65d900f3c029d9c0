//! What operators pass is what kernels take: every launch of the parity cases and of the fixtures' models against the
//! signature in the kernel's source. Nothing is compiled and nothing runs.

use std::collections::{BTreeMap, BTreeSet};

use rfgraph::device::{Command, Launch, Lower, LowerError, PlatformKind, Target};
use rfgraph::graph::Memory;
use rfgraph::graph::case::{Case, Draw};
use rfgraph::hip::sources;
use rfgraph::model::{CacheLayout, CacheTypes, Output};
use rfgraph::ops;
use rfgraph::plan::{DeviceDesc, compile};
use rfgraph::tensor::Desc;

use crate::support::architectures::fixtures;
use crate::support::several;
use crate::support::signature::{Signature, complaints, signatures, text};

/// Parity cases of each operator.
const CASES: usize = 300;

/// Kernels that no case launches, each with its reason.
const NEVER_LAUNCHED: &[&str] = &[];

/// Waves of 32 and 64 lanes, with matrix instructions and without.
const ARCHES: [&str; 6] = ["sim32", "sim64", "gfx906", "gfx90a", "gfx1100", "sm_90"];

/// Each with a BLAS library and without.
fn targets() -> impl Iterator<Item = Target> {
    let targets = ARCHES.iter().map(|arch| Target::named(arch).unwrap());
    targets.flat_map(|target| [false, true].map(|blas| Target { blas, ..target.clone() }))
}

/// The launches that were looked at, and what was found.
#[derive(Default)]
struct Check {
    /// Signatures by source text and kernel.
    known: BTreeMap<(String, String), Signature>,
    seen: BTreeSet<(String, String)>,
    launches: usize,
    /// Each complaint once, by kernel.
    wrong: BTreeSet<String>,
}

impl Check {
    fn commands(&mut self, op: &str, commands: &[Command], inputs: &[Desc], outputs: &[Desc]) {
        for command in commands {
            if let Command::Launch(launch) = command {
                self.launch(op, launch, inputs, outputs);
            }
        }
    }

    fn launch(&mut self, op: &str, launch: &Launch, inputs: &[Desc], outputs: &[Desc]) {
        self.launches += 1;
        let key = (text(launch).to_string(), launch.variant.entry.to_string());
        if !self.known.contains_key(&key) {
            let read = signatures(&key.0).into_iter();
            self.known.extend(read.map(|signature| ((key.0.clone(), signature.name.clone()), signature)));
        }
        let Some(signature) = self.known.get(&key) else {
            self.wrong.insert(format!("`{op}` launches `{}`, which its source does not define", key.1));
            return;
        };
        let found = complaints(signature, launch, inputs, outputs);
        self.wrong.extend(found.into_iter().map(|what| format!("`{op}`, kernel `{}`: {what}", key.1)));
        self.seen.insert(key);
    }

    fn case(&mut self, case: &Case, target: &Target, deterministic: bool) {
        let inputs: Vec<Desc> = case.inputs.iter().map(|input| input.desc).collect();
        let outputs = case.op.outputs(&inputs).unwrap();
        // Nothing runs for a view.
        if matches!(case.op.memory(&inputs), Memory::View { .. }) {
            return;
        }
        let (output, further) = outputs.split_first().unwrap();
        let lower = Lower::new(case.op.name(), target, &inputs, output, further);
        let mut lower = lower.deterministic(deterministic);
        match case.op.hip(&mut lower) {
            Ok(()) => self.commands(case.op.name(), &lower.finish().0, &inputs, &outputs),
            Err(LowerError::Unsupported { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The same numbers in every run: a multiplicative generator (Knuth, MMIX); its upper bits are the good ones.
fn choices() -> impl Iterator<Item = Vec<u32>> {
    let mut seed = 0_u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 32) as u32
    };
    std::iter::repeat_with(move || (0..40).map(|_| next()).collect())
}

#[test]
fn operators_pass_what_kernels_take() {
    let mut check = Check::default();
    let targets: Vec<Target> = targets().collect();
    let mut choices = choices();
    for row in ops::TABLE.iter().chain(&several::ROWS) {
        for choices in choices.by_ref().take(CASES) {
            let case = (row.case)(&mut Draw::new(&choices));
            for target in &targets {
                for deterministic in [false, true] {
                    check.case(&case, target, deterministic);
                }
            }
        }
    }
    println!("{} launches of {} kernels", check.launches, check.seen.len());
    assert!(check.wrong.is_empty(), "{:#?}", check.wrong);
    let seen: BTreeSet<&str> = check.seen.iter().map(|(_, name)| name.as_str()).collect();
    let kernels = sources::files().iter().filter(|file| file.name.ends_with(".hip"));
    let defined: Vec<String> =
        kernels.flat_map(|file| signatures(file.text)).map(|signature| signature.name).collect();
    assert!(defined.len() > 30, "few kernels were found: {defined:?}");
    let never: Vec<&str> = defined.iter().map(String::as_str).filter(|name| !seen.contains(name)).collect();
    assert_eq!(
        never, NEVER_LAUNCHED,
        "kernels that no parity case launches: their arguments are not checked"
    );
}

/// Fused operators and their views, as models have them.
#[test]
fn models_pass_what_kernels_take() {
    let mut check = Check::default();
    let layout = CacheLayout::new(256, 1).unwrap();
    for fixture in fixtures() {
        let model = fixture.model();
        let graphs = model.graphs_of_session(64, layout, CacheTypes::default(), &[Output::TopK(40)]).unwrap();
        for graph in graphs {
            for target in targets().filter(|target| target.platform != PlatformKind::Amd) {
                let plan = compile(&graph, &DeviceDesc::hip(target)).unwrap();
                for step in &plan.steps {
                    let descs = |operands: &[rfgraph::plan::Operand]| -> Vec<Desc> {
                        operands.iter().map(|operand| operand.desc).collect()
                    };
                    let (inputs, outputs) = (descs(&step.inputs), descs(&step.outputs));
                    check.commands(
                        &format!("{} of {}", step.op, fixture.name),
                        &step.commands,
                        &inputs,
                        &outputs,
                    );
                }
            }
        }
    }
    println!("{} launches of {} kernels", check.launches, check.seen.len());
    assert!(check.wrong.is_empty(), "{:#?}", check.wrong);
    assert!(check.launches > 10_000);
}

#[test]
fn signatures_are_read_from_sources() {
    let source = "#define KERNEL(x) x\n// KERNEL(no)(int a)\nKERNEL_FITTING(2 * N, f(1), b)\n(const float* x, Layout x_at, // why\n\
                  long long n) { }\nMY_KERNEL(c)(int n)\nKERNEL(d)() {}\n";
    let found = signatures(source);
    let described: Vec<String> = found
        .iter()
        .map(|signature| {
            let parameters = signature.parameters.iter().map(|parameter| parameter.to_string());
            format!("{}({})", signature.name, parameters.collect::<Vec<_>>().join(", "))
        })
        .collect();
    assert_eq!(described, ["b(const float* x, Layout x_at, long long n)", "d()"]);
}
