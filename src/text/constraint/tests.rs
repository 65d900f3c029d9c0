//! Rewinding an answer, and independence of clones.

use proptest::prelude::*;

use super::{Constraint, ConstraintError, ConstraintFactory};
use crate::text::{Tokenizer, demo_tokenizer};

/// Grammars and schemas of each form: recursive, with overlapping lexemes, with an end in the middle, and with limits
/// that the library cannot roll back.
const GRAMMARS: &[&str] = &[
    "start: sum\nsum: atom (/[+*]/ atom)*\natom: /[0-9]{1,3}/ | \"(\" sum \")\"",
    "start: \"a\" | \"ab\" | \"the\" /[a-z ]*/ \".\"",
    "start: word (\", \" word){0,3}\nword[max_tokens=3]: /[a-z]+/",
    "root ::= (\"if\" | \"ifs\" | [a-z]+) \" \" root | [0-9]*",
    "start: <|im_start|> /[a-z]+/ <|im_end|>",
    r#"{"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}, "age": {"type": "integer"}},
        "required": ["name"], "additionalProperties": false}"#,
    r#"{"type": "array", "items": {"enum": ["one", "other", 1.5, null]}, "maxItems": 5}"#,
];

fn constraint(tokenizer: &Tokenizer, grammar: &str) -> Constraint {
    let factory = ConstraintFactory::new(tokenizer).unwrap();
    match grammar.starts_with('{') {
        true => factory.json_schema(grammar).unwrap(),
        false => factory.grammar(grammar).unwrap(),
    }
}

/// State of an answer: whether it is complete, and the tokens that are allowed next.
fn place(constraint: &mut Constraint, n_vocab: usize) -> (bool, Vec<u32>) {
    let mut logits = vec![0.0f32; n_vocab];
    let masked = constraint.mask(&mut logits).is_ok();
    let allowed = (0..).zip(logits).filter(|&(_, logit)| masked && logit == 0.0).map(|(id, _)| id);
    (constraint.is_complete(), allowed.collect())
}

/// Accepts allowed tokens, selected by `choices`, until the answer ends; returns the state before each token and at the
/// end, and the tokens.
fn go_on(
    constraint: &mut Constraint,
    n_vocab: usize,
    choices: &[usize],
) -> (Vec<(bool, Vec<u32>)>, Vec<u32>) {
    let (mut places, mut tokens) = (Vec::new(), Vec::new());
    for choice in choices {
        places.push(place(constraint, n_vocab));
        let Some((false, allowed)) = places.last() else { break };
        let Some(&token) = allowed.get(choice % allowed.len().max(1)) else { break };
        constraint.accept(token).unwrap();
        tokens.push(token);
    }
    places.push(place(constraint, n_vocab));
    (places, tokens)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn masks_after_a_rewind_equal_the_masks_before(
        grammar in prop::sample::select(GRAMMARS), before in prop::collection::vec(any::<usize>(), 0..12),
        first in prop::collection::vec(any::<usize>(), 1..12), second in prop::collection::vec(any::<usize>(), 1..12),
    ) {
        let tokenizer = demo_tokenizer();
        let n_vocab = tokenizer.n_vocab();
        let mut constraint = constraint(&tokenizer, grammar);
        let n_before = go_on(&mut constraint, n_vocab, &before).1.len();
        let mut clone = constraint.clone();
        let (places, tokens) = go_on(&mut constraint, n_vocab, &first);
        // One token at a time, then the same tokens again.
        for n in (0..tokens.len()).rev() {
            constraint.rewind(1).unwrap();
            prop_assert_eq!(&place(&mut constraint, n_vocab), &places[n], "{} tokens of {:?}", n, tokens);
        }
        let other = go_on(&mut constraint, n_vocab, &second);
        constraint.rewind(other.1.len()).unwrap();
        prop_assert_eq!(&go_on(&mut constraint, n_vocab, &first), &(places.clone(), tokens.clone()));
        // The original did not affect its clone; the clone can be rewound beyond the point where it was made.
        prop_assert_eq!(&go_on(&mut clone, n_vocab, &second), &other);
        clone.rewind(other.1.len() + n_before).unwrap();
        constraint.restart();
        prop_assert_eq!(go_on(&mut clone, n_vocab, &first), go_on(&mut constraint, n_vocab, &first));
    }
}

/// A rewind clears an error; a rewind beyond the start is refused.
#[test]
fn rewind_clears_an_error_and_is_refused_beyond_the_start() {
    let tokenizer = demo_tokenizer();
    let n_vocab = tokenizer.n_vocab();
    for grammar in GRAMMARS {
        let mut constraint = constraint(&tokenizer, grammar);
        let (places, tokens) = go_on(&mut constraint, n_vocab, &[3, 5, 8]);
        let accepted = tokens.len();
        let (asked, before) = (accepted + 1, constraint.clone());
        assert_eq!(constraint.rewind(asked), Err(ConstraintError::Rewind { asked, accepted }));
        assert_eq!(place(&mut constraint, n_vocab), place(&mut { before }, n_vocab), "{grammar}");
        let never = (0..n_vocab as u32).find(|id| !places[accepted].1.contains(id)).unwrap();
        assert!(constraint.accept(never).is_err() && constraint.mask(&mut vec![0.0; n_vocab]).is_err());
        constraint.rewind(0).unwrap();
        assert_eq!(place(&mut constraint, n_vocab), places[accepted], "{grammar}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A constraint that begins later is the same from there on, and a rewind over its beginning makes it wait again.
    #[test]
    fn a_constraint_begins_after_free_tokens(
        grammar in prop::sample::select(GRAMMARS), free in prop::collection::vec(0u32..300, 0..6),
        choices in prop::collection::vec(any::<usize>(), 1..10), back in 0usize..16,
    ) {
        let tokenizer = demo_tokenizer();
        let n_vocab = tokenizer.n_vocab();
        let everything = (false, (0..n_vocab as u32).collect::<Vec<u32>>());
        let expected = go_on(&mut constraint(&tokenizer, grammar), n_vocab, &choices);
        let mut late = constraint(&tokenizer, grammar).waiting();
        for &token in &free {
            prop_assert!(!late.has_begun());
            prop_assert_eq!(&place(&mut late, n_vocab), &everything);
            late.accept(token).unwrap();
        }
        late.begin();
        prop_assert_eq!(&go_on(&mut late, n_vocab, &choices), &expected);
        let accepted = expected.1.len();
        let n = back.min(free.len() + accepted);
        late.rewind(n).unwrap();
        if n <= accepted {
            prop_assert!(late.has_begun());
            prop_assert_eq!(&place(&mut late, n_vocab), &expected.0[accepted - n]);
        } else {
            prop_assert!(!late.has_begun());
            prop_assert_eq!(&place(&mut late, n_vocab), &everything);
            let left = free.len() + accepted - n;
            prop_assert_eq!(late.rewind(left + 1), Err(ConstraintError::Rewind { asked: left + 1, accepted: left }));
            let mut clone = late.clone();
            late.begin();
            prop_assert_eq!(&go_on(&mut late, n_vocab, &choices), &expected);
            prop_assert!(!clone.has_begun(), "a clone is independent");
            clone.begin();
            prop_assert_eq!(&go_on(&mut clone, n_vocab, &choices), &expected);
        }
        late.restart();
        prop_assert!(!late.has_begun());
    }
}
