//! Joins alternatives that begin alike: thousands of words become a tree, so that few of them are open at a time.

use std::collections::HashMap;

use super::rules::{Rules, Sequence, Symbol};

/// Replaces alternatives with a common beginning by the beginning and a rule for what follows. The language is the same.
pub(super) fn join_beginnings(rules: &mut Rules) {
    let mut rule = 0;
    // New rules are added at the end and joined in turn.
    while rule < rules.alternatives.len() {
        if rules.alternatives[rule].len() > 1 {
            join(rules, rule);
        }
        rule += 1;
    }
}

fn join(rules: &mut Rules, rule: usize) {
    let mut groups: Vec<Vec<Sequence>> = Vec::new();
    let mut group_of: HashMap<Option<Symbol>, usize> = HashMap::new();
    for sequence in std::mem::take(&mut rules.alternatives[rule]) {
        let group = *group_of.entry(sequence.first().copied()).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(sequence);
    }
    for mut group in groups {
        let common = group.iter().skip(1).fold(group[0].len(), |common, sequence| {
            sequence.iter().zip(&group[0]).take(common).take_while(|(a, b)| a == b).count()
        });
        if group.iter().all(|sequence| sequence.len() == common) {
            // All are equal.
            group.truncate(1);
        }
        let mut joined = group[0][..common].to_vec();
        if group.len() > 1 {
            let rest = group.iter().map(|sequence| sequence[common..].to_vec()).collect();
            joined.push(Symbol::Rule(rules.add(rest)));
        }
        rules.alternatives[rule].push(joined);
    }
}
