//! Bounds of numbers: the numbers at and beside them are allowed if and only if they are in the range.

use proptest::prelude::*;
use rfgraph::text::ConstraintFactory;
use serde_json::{Map, Value, json};

use super::{allows, demo_tokenizer};

/// Numbers are multiples of 10⁻³, so that comparing them is exact.
const UNIT: i64 = 1000;

/// The number of thousandths as JSON writes it: as short as possible.
fn text(thousandths: i64) -> String {
    let (whole, rest) = (thousandths.abs() / UNIT, thousandths.abs() % UNIT);
    let digits = format!("{whole}.{rest:03}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{}{digits}", if thousandths < 0 { "-" } else { "" })
}

/// A bound: its thousandths, and whether it is excluded.
type Bound = (i64, bool);

fn schema(least: Option<Bound>, most: Option<Bound>, kind: &str) -> Value {
    let mut schema = Map::new();
    schema.insert("type".into(), kind.into());
    for (bound, keyword, exclusive) in
        [(least, "minimum", "exclusiveMinimum"), (most, "maximum", "exclusiveMaximum")]
    {
        if let Some((value, excluded)) = bound {
            let number: Value = serde_json::from_str(&text(value)).unwrap();
            schema.insert(if excluded { exclusive } else { keyword }.into(), number);
        }
    }
    schema.into()
}

fn is_in(value: i64, least: Option<Bound>, most: Option<Bound>) -> bool {
    least.is_none_or(|(bound, excluded)| if excluded { value > bound } else { value >= bound })
        && most.is_none_or(|(bound, excluded)| if excluded { value < bound } else { value <= bound })
}

/// Bounds near zero and far from it, whole and not, often in the same unit as others.
fn thousandths() -> impl Strategy<Value = i64> {
    prop_oneof![
        (-3i64..=3).prop_map(|n| n * UNIT),
        (-15i64..=15).prop_map(|n| n * UNIT),
        (-40i64..=40).prop_map(|n| n * UNIT / 4),
        (-200i64..=200).prop_map(|n| n * UNIT / 8),
        -2 * UNIT..2 * UNIT,
        -2_000_000i64..2_000_000,
    ]
}

fn bounds() -> impl Strategy<Value = (Option<Bound>, Option<Bound>)> {
    let near = prop_oneof![Just(1i64), Just(250), Just(UNIT), Just(10 * UNIT), 0..2 * UNIT];
    let pair = (thousandths(), any::<bool>(), prop_oneof![near, 0..500 * UNIT], any::<bool>());
    pair.prop_flat_map(|(least, no_least, more, no_most)| {
        let (least, most) = ((least, no_least), (least + more, no_most));
        prop_oneof![
            8 => Just((Some(least), Some(most))),
            1 => Just((Some(least), None)),
            1 => Just((None, Some(most))),
        ]
    })
}

proptest! {
    #[test]
    fn numbers_are_allowed_in_their_range_only((least, most) in bounds(), is_whole: bool, others in prop::collection::vec(thousandths(), 4)) {
        let tokenizer = demo_tokenizer();
        let factory = ConstraintFactory::new(&tokenizer).unwrap();
        let schema = schema(least, most, if is_whole { "integer" } else { "number" });
        let unit = if is_whole { UNIT } else { 1 };
        let near: Vec<i64> = [least, most].into_iter().flatten().flat_map(|(bound, _)| {
            let whole = bound.div_euclid(UNIT) * UNIT;
            [bound - 1, bound, bound + 1, bound / 10 * 10, bound / 100 * 100, whole - UNIT, whole, whole + UNIT, -bound]
        }).chain(others).chain([0]).filter(|value| value % unit == 0).collect();
        let all_in = |value: &i64| is_in(*value, least, most);
        let mut constraint = match factory.json_schema(&schema.to_string()) {
            Ok(constraint) => constraint,
            Err(error) => {
                prop_assert!(!near.iter().any(all_in), "{} has values: {}", schema, error);
                return Ok(());
            }
        };
        for value in near {
            let expected = all_in(&value);
            let text = text(value);
            prop_assert_eq!(allows(&tokenizer, &mut constraint, &text), expected, "{} for {}", text, schema);
            // More zeros are the same number, and so are those of other signs.
            if !expected && !is_whole {
                let longer = if text.contains('.') { format!("{text}0") } else { format!("{text}.00") };
                prop_assert!(!allows(&tokenizer, &mut constraint, &longer), "{} for {}", longer, schema);
            }
            if value == 0 && !expected {
                prop_assert!(!allows(&tokenizer, &mut constraint, "-0"), "-0 for {}", schema);
            }
        }
    }
}

/// Bounds that only meet where schemas are merged, or beside other keywords, are kept or refused by name.
#[test]
fn excluded_whole_bounds_hold_in_merged_schemas() {
    let tokenizer = demo_tokenizer();
    let factory = ConstraintFactory::new(&tokenizer).unwrap();
    for schema in [
        json!({"allOf": [{"type": "number", "minimum": -13.25}, {"exclusiveMaximum": -13}]}),
        json!({"allOf": [{"type": "number", "exclusiveMinimum": 13}, {"maximum": 13.5}]}),
        json!({"$ref": "#/$defs/n", "maximum": 13.5, "$defs": {"n": {"type": "number", "exclusiveMinimum": 13}}}),
        json!({"type": "number", "exclusiveMinimum": 13, "maximum": 13.5, "multipleOf": 0.5}),
        json!({"type": "number", "minimum": -0.5, "exclusiveMaximum": 0, "multipleOf": 0.5}),
    ] {
        match factory.json_schema(&schema.to_string()) {
            Ok(mut constraint) => {
                for text in ["13", "-13", "13.0", "-13.0", "-0", "0", "-0.0"] {
                    assert!(!allows(&tokenizer, &mut constraint, text), "{text} for {schema}");
                }
            }
            Err(error) => assert!(error.to_string().contains("exclusiveM"), "{error} for {schema}"),
        }
    }
    // Usual ones remain.
    for schema in [
        json!({"allOf": [{"type": "number", "exclusiveMinimum": 0}, {"maximum": 13.5}]}),
        json!({"allOf": [{"type": "number"}, {"exclusiveMinimum": 0}]}),
        json!({"type": "number", "exclusiveMinimum": 0, "maximum": 10, "multipleOf": 0.5}),
    ] {
        let mut constraint = factory.json_schema(&schema.to_string()).unwrap();
        assert!(
            allows(&tokenizer, &mut constraint, "2.5") && !allows(&tokenizer, &mut constraint, "0"),
            "{schema}"
        );
    }
}
