//! Finds the part of a schema that the library refuses: its own errors have no path.

use std::time::{Duration, Instant};

use llguidance::api::ParserLimits;
use serde_json::{Map, Value};

use super::pointer::{at, join};
use super::{Refusal, compile, rewrite};

/// Time to spend on finding the place of an error.
const PATIENCE: Duration = Duration::from_millis(300);

/// The refusal of the innermost part of a schema that is refused, given the refusal of all of it.
pub(in super::super) fn locate(schema: &Value, limits: &ParserLimits, mut refusal: Refusal) -> Refusal {
    let start = Instant::now();
    let mut visited = vec![refusal.path.clone()];
    loop {
        let parts = rewrite::parts(schema, refusal.path.trim_end_matches("/oneOf"));
        let inner = parts.into_iter().find_map(|path| {
            if start.elapsed() > PATIENCE || visited.contains(&path) {
                return None;
            }
            visited.push(path.clone());
            compile(schema, &path, limits).err()
        });
        match inner {
            Some(inner) => refusal = inner,
            None => return with_keyword(schema, refusal),
        }
    }
}

/// The refusal with the keyword that its reason names, if its path ends at a schema.
fn with_keyword(schema: &Value, refusal: Refusal) -> Refusal {
    let is_schema = !["/properties", "/patternProperties"].iter().any(|end| refusal.path.ends_with(end));
    let keywords = at(schema, &refusal.path).filter(|_| is_schema).and_then(Value::as_object);
    let place = |key: &str| {
        let short = key.trim_start_matches("min").trim_start_matches("max");
        let both = Some(format!("min/max{short}")).filter(|_| short != key);
        // The library calls patterns of properties by another word.
        let pattern = Some("patternProperty").filter(|_| key == "patternProperties");
        let names = [Some(key), both.as_deref(), pattern];
        names.into_iter().flatten().filter_map(|name| refusal.reason.find(name)).min()
    };
    let first = |keywords: &Map<String, Value>| {
        let named = keywords.keys().filter_map(|key| Some((place(key)?, key.clone())));
        named.min().map(|(_, key)| key)
    };
    match keywords.and_then(first) {
        Some(key) => Refusal { path: join(&refusal.path, &key), ..refusal },
        None => refusal,
    }
}
