//! Finds the part of a schema that the library refuses: its own errors have no path.

use std::time::{Duration, Instant};

use llguidance::api::ParserLimits;
use serde_json::Value;

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
            None => return refusal,
        }
    }
}
