//! Random JSON schemas.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A schema that some value satisfies: nested objects, arrays, strings, numbers, enums and choices.
pub fn schema() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            3 => object(inner.clone()),
            2 => (inner.clone(), 0usize..3, 0usize..3).prop_map(|(items, least, more)| {
                json!({"type": "array", "items": items, "minItems": least, "maxItems": least + more})
            }),
            1 => prop::collection::vec(inner.clone(), 1..4).prop_map(|choices| json!({"anyOf": choices})),
            1 => (inner.clone(), inner).prop_map(|(a, b)| json!({
                "type": "array", "prefixItems": [a, b], "items": false, "minItems": 2
            })),
        ]
    })
}

fn object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let property = ("[a-zé \"]{1,6}", inner, any::<bool>());
    prop::collection::vec(property, 0..5).prop_map(|properties| {
        let mut required: Vec<&String> = properties.iter().filter(|p| p.2).map(|p| &p.0).collect();
        required.sort();
        required.dedup();
        let named: Map<String, Value> = properties.iter().map(|p| (p.0.clone(), p.1.clone())).collect();
        json!({"type": "object", "properties": named, "required": required, "additionalProperties": false})
    })
}

fn leaf() -> impl Strategy<Value = Value> {
    let pattern = prop_oneof![
        Just("^[a-c]{1,3}$"),
        Just("^(yes|no)$"),
        Just("^[0-9]{4}-[0-9]{2}$"),
        Just("^\"?[^\\\\]{2}$"),
    ];
    prop_oneof![
        1 => Just(json!({"type": "boolean"})),
        1 => Just(json!({"type": "null"})),
        2 => (0usize..3, 0usize..8).prop_map(|(least, more)| {
            json!({"type": "string", "minLength": least, "maxLength": least + more})
        }),
        2 => pattern.prop_map(|pattern| json!({"type": "string", "pattern": pattern})),
        2 => (-2000i64..2000, 0i64..3000).prop_map(|(least, more)| {
            json!({"type": "integer", "minimum": least, "maximum": least + more})
        }),
        1 => (-500i32..500, 1i32..800).prop_map(|(least, more)| {
            let (least, most) = (f64::from(least) / 8.0, f64::from(least + more) / 8.0);
            json!({"type": "number", "minimum": least, "exclusiveMaximum": most})
        }),
        2 => prop::collection::vec(value(), 1..4).prop_map(|values| json!({"enum": values})),
        1 => value().prop_map(|value| json!({"const": value})),
        1 => Just(json!({"type": ["string", "null"], "maxLength": 3})),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[ -~é\n]{0,6}".prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(json!([1, {"a": "b"}])),
    ]
}
