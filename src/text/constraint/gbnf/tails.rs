//! Turns right recursion into left recursion, which an Earley parser follows in constant time and memory per character.
//!
//! Rules that end with each other (`a ::= "x" b | "y"`, `b ::= "z" a | "w"`) are the states of an automaton: a rule that
//! ends with another one goes on to that state, any other alternative ends. For each rule `e` of them that is used
//! otherwise, `L(e, j)` derives all that leads from state `e` to state `j`:
//!
//! ```text
//! L(e, e) ::= ""        L(e, k) ::= L(e, j) p    for each   j ::= p k
//! e ::= L(e, j) q       for each   j ::= q   that ends
//! ```
//!
//! The language is the same, and so is the number of derivations of a text.

use std::collections::HashMap;

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::rules::{Rules, Sequence, Symbol};

/// Most alternatives that the rules of one cycle may become. A larger cycle stays as it is: its texts are followed in
/// time that grows with their length.
const MOST: usize = 100_000;

/// The rule that a sequence ends with.
fn tail(sequence: &Sequence) -> Option<usize> {
    match sequence.last() {
        Some(&Symbol::Rule(rule)) => Some(rule),
        _ => None,
    }
}

/// Turns all right recursion into left recursion.
pub(super) fn make_left_recursive(rules: &mut Rules) {
    let n = rules.alternatives.len();
    for (rule, alternatives) in rules.alternatives.iter_mut().enumerate() {
        // `a ::= a` derives nothing of its own.
        alternatives.retain(|sequence| sequence[..] != [Symbol::Rule(rule)]);
    }
    let mut graph: DiGraph<(), ()> = DiGraph::with_capacity(n, n);
    for _ in 0..n {
        graph.add_node(());
    }
    for (rule, alternatives) in rules.alternatives.iter().enumerate() {
        for to in alternatives.iter().filter_map(tail) {
            graph.add_edge(NodeIndex::new(rule), NodeIndex::new(to), ());
        }
    }
    // The cycle of each rule; a component of one rule without an edge to itself is none.
    let mut cycle_of = vec![usize::MAX; n];
    let mut cycles = Vec::new();
    for component in kosaraju_scc(&graph) {
        if component.len() > 1 || graph.contains_edge(component[0], component[0]) {
            component.iter().for_each(|node| cycle_of[node.index()] = cycles.len());
            cycles.push(component.iter().map(|node| node.index()).collect::<Vec<_>>());
        }
    }
    let entries = entries(rules, &cycle_of);
    for (number, cycle) in cycles.iter().enumerate() {
        let entries: Vec<usize> = cycle.iter().copied().filter(|&rule| entries[rule]).collect();
        let size: usize = cycle.iter().map(|&rule| rules.alternatives[rule].len()).sum();
        if size.saturating_mul(entries.len()) <= MOST {
            replace(rules, &entries, |rule| cycle_of.get(rule) == Some(&number));
        }
    }
}

/// The rules that are used outside of their cycle's tails.
fn entries(rules: &Rules, cycle_of: &[usize]) -> Vec<bool> {
    let mut entries = vec![false; cycle_of.len()];
    entries[rules.root] = true;
    for (rule, alternatives) in rules.alternatives.iter().enumerate() {
        for sequence in alternatives {
            for (at, symbol) in sequence.iter().enumerate() {
                if let Symbol::Rule(used) = *symbol
                    && (at + 1 < sequence.len() || cycle_of[rule] != cycle_of[used])
                {
                    entries[used] = true;
                }
            }
        }
    }
    entries
}

/// Replaces the rules of a cycle that are used from elsewhere.
fn replace(rules: &mut Rules, entries: &[usize], in_cycle: impl Fn(usize) -> bool) {
    // The alternatives of a state that end, as one rule, shared by all entries.
    let mut ends: HashMap<usize, Option<Symbol>> = HashMap::new();
    let mut replaced = Vec::new();
    for &entry in entries {
        let first = rules.add(vec![Vec::new()]);
        let mut leads = HashMap::from([(entry, first)]);
        let (mut states, mut at, mut alternatives) = (vec![entry], 0, Vec::new());
        while let Some(&state) = states.get(at) {
            at += 1;
            let from = Symbol::Rule(leads[&state]);
            let (onward, ending): (Vec<Sequence>, Vec<Sequence>) = rules.alternatives[state]
                .iter()
                .cloned()
                .partition(|sequence| tail(sequence).is_some_and(&in_cycle));
            for mut sequence in onward {
                let Some(to) = tail(&sequence) else { continue };
                sequence.pop();
                sequence.insert(0, from);
                let lead = *leads.entry(to).or_insert_with(|| {
                    states.push(to);
                    rules.add(Vec::new())
                });
                rules.alternatives[lead].push(sequence);
            }
            let end = ends
                .entry(state)
                .or_insert_with(|| (!ending.is_empty()).then(|| Symbol::Rule(rules.add(ending))));
            alternatives.extend(end.map(|end| vec![from, end]));
        }
        replaced.push((entry, alternatives));
    }
    for (entry, alternatives) in replaced {
        rules.alternatives[entry] = alternatives;
    }
}
