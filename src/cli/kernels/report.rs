//! Lists and tables of kernels.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::json;

use super::super::error::CliError;
use super::super::output::{print, print_json};
use super::check::{Checked, Kernel};
use super::needs::Needs;
use crate::hip::code_object::Resources;

/// Lists the needed kernels.
pub(super) fn list(needs: &Needs, as_json: bool) -> Result<(), CliError> {
    if as_json {
        let kernels: Vec<_> = needs
            .variants
            .iter()
            .map(|(variant, targets)| json!({"variant": variant, "targets": targets}))
            .collect();
        return print_json(&json!({"kernels": kernels, "without": needs.without}));
    }
    let targets: BTreeSet<&String> = needs.variants.values().flatten().collect();
    let mut text = String::new();
    for (kernel, needing) in needs.described() {
        text += &kernel;
        if needing.len() < targets.len() {
            text += &format!("  [{}]", list_of(needing));
        }
        text.push('\n');
    }
    text += &without(needs);
    text += &format!("{} kernels for {} targets\n", needs.variants.len(), targets.len());
    print(text)
}

/// Prints the compiled kernels and the failures.
pub(super) fn check(needs: &Needs, checked: &Checked, as_json: bool, each: bool) -> Result<(), CliError> {
    if as_json {
        return print_json(&json!({"targets": checked.targets, "without": needs.without}));
    }
    let mut rows: BTreeMap<(&str, &str), Vec<(&str, &Kernel)>> = BTreeMap::new();
    for target in &checked.targets {
        for kernel in &target.kernels {
            // One line per kernel, or one per kernel and target.
            let key = (kernel.kernel.as_str(), if each { target.arch.as_str() } else { "" });
            rows.entry(key).or_default().push((&target.arch, kernel));
        }
    }
    let mut text = String::new();
    let width = rows.keys().map(|(kernel, arch)| kernel.len() + arch.len() + 1).max().unwrap_or(0);
    let head = ["VGPRs", "AGPRs", "SGPRs", "LDS", "scratch", "spills"];
    let [vgprs, agprs, sgprs, lds, scratch, spills] = head;
    line(&mut text, width, "kernel", [vgprs, agprs, sgprs, lds, scratch].map(String::from), spills);
    for ((kernel, arch), found) in &rows {
        let span = |of: fn(&Resources) -> u32| span(found, of);
        let numbers =
            [span(|k| k.vgprs), span(|k| k.agprs), span(|k| k.sgprs), span(|k| k.lds), span(|k| k.scratch)];
        line(&mut text, width, format!("{kernel} {arch}").trim_end(), numbers, &spilled(found));
    }
    text += &without(needs);
    for target in &checked.targets {
        for failure in &target.failures {
            text += &format!("\n{}: {failure}\n", target.arch);
        }
    }
    for target in &checked.targets {
        let (programs, calls, seconds) = (target.programs, target.compilations, target.seconds);
        let compiler = target.compiler.as_deref().unwrap_or("not found");
        let (kernels, failures) = (target.kernels.len(), target.failures.len());
        text += &format!(
            "{}: {kernels} kernels of {programs} programs in {calls} compilations, {failures} failures, {seconds:.1} s, \
             compiler {compiler}\n",
            target.arch
        );
    }
    print(text)
}

fn line(text: &mut String, width: usize, kernel: &str, numbers: [String; 5], spills: &str) {
    let [vgprs, agprs, sgprs, lds, scratch] = numbers;
    let row = format!("{kernel:width$} {vgprs:>9} {agprs:>7} {sgprs:>9} {lds:>13} {scratch:>9} {spills}");
    let _ = writeln!(text, "{}", row.trim_end());
}

/// Minimum and maximum of a number.
fn span(found: &[(&str, &Kernel)], of: fn(&Resources) -> u32) -> String {
    let numbers = || found.iter().filter_map(|(_, kernel)| kernel.resources.as_ref()).map(of);
    match (numbers().min(), numbers().max()) {
        (Some(least), Some(most)) if least < most => format!("{least}-{most}"),
        (Some(least), _) => least.to_string(),
        _ => "?".into(),
    }
}

/// The targets that spill, with the number of registers.
fn spilled(found: &[(&str, &Kernel)]) -> String {
    let spilling = found.iter().filter(|(_, kernel)| kernel.spills() > 0);
    let words = spilling.map(|(arch, kernel)| {
        let reason = kernel.may_spill.map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("{arch}: {}{reason}", kernel.spills())
    });
    words.collect::<Vec<_>>().join(", ")
}

fn without(needs: &Needs) -> String {
    needs
        .without
        .iter()
        .map(|(what, targets)| format!("no kernel: {what}  [{}]\n", list_of(targets)))
        .collect()
}

fn list_of(targets: &BTreeSet<String>) -> String {
    targets.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
