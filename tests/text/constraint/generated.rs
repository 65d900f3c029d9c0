//! Schemas that pydantic, zod and schemars generate (`tests/fixtures/text/schemas`), with instances whose verdicts are those
//! of the `jsonschema` Python package.

use rfgraph::text::ConstraintFactory;
use serde_json::Value;

use super::{allows, demo_tokenizer};

#[test]
fn generated_schemas_allow_their_instances_and_no_others() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/text/schemas/schemas.jsonl");
    let lines = std::fs::read_to_string(path).unwrap();
    let tokenizer = demo_tokenizer();
    let factory = ConstraintFactory::new(&tokenizer).unwrap();
    let (mut schemas, mut valid, mut invalid) = (0, 0, 0);
    for line in lines.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let (name, schema) = (&entry["name"], &entry["schema"]);
        let mut constraint = factory
            .json_schema(&schema.to_string())
            .unwrap_or_else(|error| panic!("{name}: {error} for {schema}"));
        for (key, allowed) in [("valid", true), ("invalid", false)] {
            for instance in entry[key].as_array().unwrap() {
                let text = instance.to_string();
                assert_eq!(allows(&tokenizer, &mut constraint, &text), allowed, "{name}: {text} by {schema}");
                *(if allowed { &mut valid } else { &mut invalid }) += 1;
            }
        }
        schemas += 1;
    }
    assert!(
        schemas >= 200 && valid >= 300 && invalid >= 300,
        "{schemas} schemas, {valid} and {invalid} instances"
    );
}
