//! Turns the regular parts of a grammar into deterministic automata, which an Earley parser follows in constant time and memory
//! per character.
//!
//! A text may have many derivations: `([a-z]+)+` divides ten letters in 512 ways, and the parser keeps them all. A deterministic
//! automaton has one. A rule is regular if in each circle of rules below it the rules call each other only at the end of their
//! alternatives, or only at the beginning (Mohri and Nederhof, "Regular approximation of context-free grammars through
//! transformation"). Such a rule with a circle becomes an automaton by the subset construction, and that the rules
//!
//! ```text
//! L(start) ::= ""        L(q) ::= L(p) c    for each   p -c-> q        rule ::= L(q)    for each q that accepts
//! ```

mod automaton;
mod characters;

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use self::automaton::Automaton;
use super::rules::{Rules, Sequence, Symbol};

/// The way in which the rules of a circle call each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calls {
    /// There is no circle.
    None,
    /// At the end of alternatives.
    Last,
    /// At their beginning.
    First,
    /// Otherwise: not regular.
    Anywhere,
}

/// The circles of a grammar's rules.
struct Circles {
    /// The circle of each rule; a rule without one has a number too.
    of: Vec<usize>,
    calls: Vec<Calls>,
    /// The rules whose texts are regular.
    regular: Vec<bool>,
    /// The rules with a circle below them, or in one.
    recursive: Vec<bool>,
}

/// Replaces each regular rule that no regular rule uses.
pub(super) fn make_deterministic(rules: &mut Rules) {
    let circles = Circles::of(rules);
    // All are made before the first is replaced: one may be a part of another.
    let made = |rule| Some((rule, Automaton::of(rules, &circles, rule)?));
    let automata: Vec<(usize, Automaton)> = circles.highest(rules).into_iter().filter_map(made).collect();
    for (rule, automaton) in automata {
        automaton.replace(rules, rule);
    }
}

/// The rules that a sequence uses.
fn used(sequence: &Sequence) -> impl Iterator<Item = usize> {
    sequence.iter().filter_map(|symbol| match *symbol {
        Symbol::Rule(rule) => Some(rule),
        Symbol::Terminal(_) => None,
    })
}

impl Circles {
    fn of(rules: &Rules) -> Circles {
        let n = rules.alternatives.len();
        let mut graph: DiGraph<(), ()> = DiGraph::with_capacity(n, n);
        (0..n).for_each(|_| _ = graph.add_node(()));
        for (rule, alternatives) in rules.alternatives.iter().enumerate() {
            for to in alternatives.iter().flat_map(used) {
                graph.add_edge(NodeIndex::new(rule), NodeIndex::new(to), ());
            }
        }
        // Rules come after those that they use.
        let components = kosaraju_scc(&graph);
        let mut circles =
            Circles { of: vec![0; n], calls: Vec::new(), regular: vec![false; n], recursive: vec![false; n] };
        for (number, component) in components.iter().enumerate() {
            component.iter().for_each(|node| circles.of[node.index()] = number);
        }
        for (number, component) in components.iter().enumerate() {
            let members: Vec<usize> = component.iter().map(|node| node.index()).collect();
            let calls = circles.calls_of(rules, number, &members);
            let below = || members.iter().flat_map(|&rule| rules.alternatives[rule].iter().flat_map(used));
            let others = || below().filter(|&rule| circles.of[rule] != number);
            let regular = calls != Calls::Anywhere && others().all(|rule| circles.regular[rule]);
            let recursive = calls != Calls::None || others().any(|rule| circles.recursive[rule]);
            circles.calls.push(calls);
            for &rule in &members {
                (circles.regular[rule], circles.recursive[rule]) = (regular, recursive);
            }
        }
        circles
    }

    fn calls_of(&self, rules: &Rules, number: usize, members: &[usize]) -> Calls {
        let (mut any, mut first, mut last) = (false, true, true);
        for sequence in members.iter().flat_map(|&rule| &rules.alternatives[rule]) {
            for (at, symbol) in sequence.iter().enumerate() {
                if matches!(*symbol, Symbol::Rule(rule) if self.of[rule] == number) {
                    any = true;
                    first &= at == 0;
                    last &= at + 1 == sequence.len();
                }
            }
        }
        match (any, last, first) {
            (false, ..) => Calls::None,
            (_, true, _) => Calls::Last,
            (_, _, true) => Calls::First,
            _ => Calls::Anywhere,
        }
    }

    /// The regular rules with a circle that the root is, or that a rule uses which is not regular.
    fn highest(&self, rules: &Rules) -> Vec<usize> {
        let mut highest = vec![false; self.of.len()];
        highest[rules.root] = true;
        for (_, alternatives) in
            rules.alternatives.iter().enumerate().filter(|(rule, _)| !self.regular[*rule])
        {
            alternatives.iter().flat_map(used).for_each(|rule| highest[rule] = true);
        }
        (0..highest.len())
            .filter(|&rule| highest[rule] && self.regular[rule] && self.recursive[rule])
            .collect()
    }

    /// The way in which a rule's circle calls, and true for the rules of that circle.
    fn circle(&self, rule: usize) -> (Calls, impl Fn(usize) -> bool) {
        let number = self.of[rule];
        (self.calls[number], move |other| self.of[other] == number)
    }
}
