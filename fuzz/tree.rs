//! Changes of JSON values, which keep the text well formed.

use serde_json::Value;

use super::Random;

/// A value somewhere in a value, each as likely as another.
fn place<'v>(root: &'v mut Value, random: &mut Random) -> Option<&'v mut Value> {
    let mut left = random.below(count(root));
    find(root, &mut left)
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Object(members) => members.values().map(count).sum(),
        Value::Array(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

fn find<'v>(value: &'v mut Value, left: &mut usize) -> Option<&'v mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Object(members) => members.values_mut().find_map(|inner| find(inner, left)),
        Value::Array(items) => items.iter_mut().find_map(|inner| find(inner, left)),
        _ => None,
    }
}

/// Changes one place of a value: a part of `other` or a number or nothing instead of it, members of `other` beside its own.
pub fn change(value: &mut Value, other: &Value, random: &mut Random) {
    const NUMBERS: [f64; 8] = [0.0, -1.0, 3.0, 0.1, -2.5, 1e300, 2_147_483_648.0, 1e-7];
    let mut other = other.clone();
    let piece = place(&mut other, random).map(Value::take).unwrap_or_default();
    let Some(here) = place(value, random) else { return };
    match (random.below(4), here, piece) {
        (0, Value::Object(members), Value::Object(more)) => members.extend(more),
        (0, Value::Array(items), piece) => items.push(piece),
        (1, Value::Object(members), _) => {
            let key = members.keys().nth(random.below(members.len())).cloned();
            key.map(|key| members.remove(&key));
        }
        (1, Value::Array(items), _) => {
            items.pop();
        }
        (1, Value::Number(number), _) => {
            let other = random.pick(&NUMBERS).and_then(|&number| serde_json::Number::from_f64(number));
            *number = other.unwrap_or_else(|| number.clone());
        }
        // Of the same kind, so that keywords mostly have values that they may have.
        (2, here, piece) if std::mem::discriminant(here) != std::mem::discriminant(&piece) => {}
        (_, here, piece) => *here = piece,
    }
}
