//! Finite automata of regular rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::characters::Classes;
use super::{Calls, Circles};
use crate::text::constraint::gbnf::rules::{Rules, Sequence, Symbol, Terminal};

/// The most states of an automaton before it is made deterministic.
const MOST_STATES: usize = 20_000;

/// The most transitions of a deterministic automaton: the parser has an item for each where a text of the rule begins.
const MOST_TRANSITIONS: usize = 3000;

/// The most transitions of an automaton before it is made deterministic.
const MOST_EDGES: usize = 100_000;

/// The most work of the subset construction: members of all sets of states together, and their transitions by class.
const MOST_WORK: usize = 2_000_000;

/// The most ranges of characters that the transitions of a deterministic automaton have together: they are written out.
const MOST_RANGES: usize = 30_000;

/// The deepest nesting of rules: building recurses along it.
const DEEPEST: usize = 100;

/// An automaton with transitions by terminals, and by nothing.
#[derive(Default)]
struct Nondeterministic {
    transitions: Vec<Vec<(Option<usize>, u32)>>,
    n_transitions: usize,
}

impl Nondeterministic {
    fn state(&mut self) -> Option<u32> {
        self.transitions.push(Vec::new());
        u32::try_from(self.transitions.len() - 1).ok().filter(|&state| (state as usize) < MOST_STATES)
    }

    fn connect(&mut self, from: u32, by: Option<usize>, to: u32) -> Option<()> {
        self.transitions[from as usize].push((by, to));
        self.n_transitions += 1;
        (self.n_transitions <= MOST_EDGES).then_some(())
    }

    /// Adds a rule behind a state; returns the state after it. `None` if the automaton becomes too large.
    fn rule(
        &mut self,
        rules: &Rules,
        circles: &Circles,
        rule: usize,
        from: u32,
        depth: usize,
    ) -> Option<u32> {
        if depth > DEEPEST {
            return None;
        }
        let (calls, in_circle) = circles.circle(rule);
        let first = |sequence: &Sequence| called(sequence.first(), &in_circle);
        let last = |sequence: &Sequence| called(sequence.last(), &in_circle);
        // The state in which each rule of the circle begins (or ends, if the circle calls at the beginning).
        let mut state_of = HashMap::from([(rule, self.state()?)]);
        let (mut todo, mut at) = (vec![rule], 0);
        let end = self.state()?;
        match calls {
            Calls::First => self.connect(state_of[&rule], None, end)?,
            _ => self.connect(from, None, state_of[&rule])?,
        }
        while let Some(&member) = todo.get(at) {
            at += 1;
            let own = state_of[&member];
            for sequence in &rules.alternatives[member] {
                let other = if calls == Calls::First { first(sequence) } else { last(sequence) };
                let other = match other {
                    None => None,
                    Some(other) if state_of.contains_key(&other) => Some(state_of[&other]),
                    Some(other) => {
                        todo.push(other);
                        let state = self.state()?;
                        state_of.insert(other, state);
                        Some(state)
                    }
                };
                let is_first = calls == Calls::First;
                let rest = match (other, is_first) {
                    (None, _) => &sequence[..],
                    (Some(_), true) => &sequence[1..],
                    (Some(_), false) => &sequence[..sequence.len() - 1],
                };
                let start = if is_first { other.unwrap_or(from) } else { own };
                let stop = self.sequence(rules, circles, rest, start, depth)?;
                let onward = if is_first { own } else { other.unwrap_or(end) };
                self.connect(stop, None, onward)?;
            }
        }
        Some(end)
    }

    fn sequence(
        &mut self,
        rules: &Rules,
        circles: &Circles,
        sequence: &[Symbol],
        from: u32,
        depth: usize,
    ) -> Option<u32> {
        let mut at = from;
        for symbol in sequence {
            at = match *symbol {
                Symbol::Rule(rule) => self.rule(rules, circles, rule, at, depth + 1)?,
                Symbol::Terminal(terminal) => {
                    let to = self.state()?;
                    self.connect(at, Some(terminal), to)?;
                    to
                }
            };
        }
        Some(at)
    }

    /// All states that these reach by nothing, sorted.
    fn closure(&self, states: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut all: BTreeSet<u32> = states.into_iter().collect();
        let mut todo: Vec<u32> = all.iter().copied().collect();
        while let Some(state) = todo.pop() {
            for &(by, to) in &self.transitions[state as usize] {
                if by.is_none() && all.insert(to) {
                    todo.push(to);
                }
            }
        }
        all.into_iter().collect()
    }
}

/// The rule of a circle that a sequence's symbol is.
fn called(symbol: Option<&Symbol>, in_circle: &impl Fn(usize) -> bool) -> Option<usize> {
    match symbol {
        Some(&Symbol::Rule(rule)) if in_circle(rule) => Some(rule),
        _ => None,
    }
}

/// A deterministic automaton. Its start is state 0.
pub(super) struct Automaton {
    /// The transitions of each state: by the state that they lead to, the classes of characters.
    transitions: Vec<BTreeMap<usize, BTreeSet<usize>>>,
    accepts: Vec<bool>,
    classes: Classes,
}

impl Automaton {
    /// The automaton of a regular rule; `None` if it becomes too large.
    pub(super) fn of(rules: &Rules, circles: &Circles, rule: usize) -> Option<Automaton> {
        let mut all = Nondeterministic::default();
        let start = all.state()?;
        let end = all.rule(rules, circles, rule, start, 0)?;
        let terminals = all.transitions.iter().flatten().filter_map(|&(by, _)| by).collect();
        let classes = Classes::of(&terminals, &rules.terminals)?;

        let first = all.closure([start]);
        let mut states = vec![first.clone()];
        let mut number_of = HashMap::from([(first, 0)]);
        let mut transitions: Vec<BTreeMap<usize, BTreeSet<usize>>> = Vec::new();
        let (mut work, mut n_transitions, mut n_ranges) = (0, 0, 0);
        while let Some(state) = states.get(transitions.len()) {
            let mut by_class: BTreeMap<usize, BTreeSet<u32>> = BTreeMap::new();
            for &(by, to) in state.iter().flat_map(|&state| &all.transitions[state as usize]) {
                for &class in by.iter().flat_map(|&terminal| classes.of_terminal(terminal)) {
                    by_class.entry(class).or_default().insert(to);
                    work += 1;
                }
                if work > MOST_WORK {
                    return None;
                }
            }
            let mut leads: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
            for (class, targets) in by_class {
                let targets = all.closure(targets);
                work += targets.len();
                n_ranges += classes.n_ranges(class);
                let next = states.len();
                let number = *number_of.entry(targets.clone()).or_insert(next);
                if number == next {
                    states.push(targets);
                }
                leads.entry(number).or_default().insert(class);
            }
            n_transitions += leads.len();
            if work > MOST_WORK || n_transitions > MOST_TRANSITIONS || n_ranges > MOST_RANGES {
                return None;
            }
            transitions.push(leads);
        }
        let accepts = states.iter().map(|state| state.binary_search(&end).is_ok()).collect();
        Some(Automaton { transitions, accepts, classes })
    }

    /// The states from which a text can end.
    fn live(&self) -> Vec<bool> {
        let mut live = self.accepts.clone();
        loop {
            let ends = |state: usize| self.transitions[state].keys().any(|&to| live[to]);
            let more: Vec<usize> = (0..live.len()).filter(|&state| !live[state] && ends(state)).collect();
            if more.is_empty() {
                return live;
            }
            more.into_iter().for_each(|state| live[state] = true);
        }
    }

    /// Replaces a rule by the rules of this automaton.
    pub(super) fn replace(&self, rules: &mut Rules, rule: usize) {
        let live = self.live();
        let lead_of: Vec<usize> = live.iter().map(|_| rules.add(Vec::new())).collect();
        rules.alternatives[lead_of[0]].push(Vec::new());
        let mut terminal_of: HashMap<String, usize> = HashMap::new();
        for (from, leads) in self.transitions.iter().enumerate() {
            for (&to, classes) in leads.iter().filter(|(to, _)| live[**to]) {
                let terminals = &mut rules.terminals;
                let terminal = *terminal_of.entry(self.classes.regex(classes)).or_insert_with_key(|regex| {
                    terminals.push(Terminal::Character(regex.clone()));
                    terminals.len() - 1
                });
                let sequence = vec![Symbol::Rule(lead_of[from]), Symbol::Terminal(terminal)];
                rules.alternatives[lead_of[to]].push(sequence);
            }
        }
        let ends = (0..live.len()).filter(|&state| self.accepts[state]);
        rules.alternatives[rule] = ends.map(|state| vec![Symbol::Rule(lead_of[state])]).collect();
    }
}
