//! Whole numbers as texts of digits, and regular expressions of their ranges.

/// A positive whole number less one, in digits.
pub(super) fn less_one(number: &str) -> String {
    let mut digits: Vec<u8> = number.bytes().collect();
    for digit in digits.iter_mut().rev() {
        if *digit != b'0' {
            *digit -= 1;
            break;
        }
        *digit = b'9';
    }
    let digits = String::from_utf8_lossy(&digits);
    match digits.trim_start_matches('0') {
        "" => "0".into(),
        digits => digits.into(),
    }
}

/// A whole number more one, in digits.
pub(super) fn more_one(number: &str) -> String {
    let mut digits: Vec<u8> = number.bytes().collect();
    for digit in digits.iter_mut().rev() {
        if *digit != b'9' {
            *digit += 1;
            return String::from_utf8_lossy(&digits).into_owned();
        }
        *digit = b'0';
    }
    format!("1{}", String::from_utf8_lossy(&digits))
}

/// Regular expression of the whole numbers from `from` to `to`, both included, written without leading zeros. `from`
/// is not larger than `to`.
pub(super) fn between(from: &str, to: &str) -> String {
    if from.len() == to.len() {
        return same_length(from, to).join("|");
    }
    let mut parts = same_length(from, &"9".repeat(from.len()));
    if from.len() + 1 < to.len() {
        parts.push(format!("[1-9][0-9]{{{},{}}}", from.len(), to.len() - 2));
    }
    let first = format!("1{}", "0".repeat(to.len() - 1));
    parts.extend(same_length(&first, to));
    parts.join("|")
}

fn same_length(from: &str, to: &str) -> Vec<String> {
    let (low, high) = (from.as_bytes(), to.as_bytes());
    let Some(at) = (0..low.len()).find(|&at| low[at] != high[at]) else { return vec![from.to_string()] };
    let mut parts = vec![from.to_string(), to.to_string()];
    let mut range = |prefix: &str, first: u8, last: u8, more: usize| {
        if first <= last {
            parts.push(format!("{prefix}[{}-{}][0-9]{{{more}}}", first as char, last as char));
        }
    };
    range(&from[..at], low[at] + 1, high[at] - 1, low.len() - at - 1);
    for more in at + 1..low.len() {
        range(&from[..more], low[more] + 1, b'9', low.len() - more - 1);
        range(&to[..more], b'0', high[more].saturating_sub(1), low.len() - more - 1);
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(regex: &str, text: &str) -> bool {
        fancy_regex::Regex::new(&format!("^(?:{regex})$")).unwrap().is_match(text).unwrap()
    }

    proptest! {
        #[test]
        fn ranges_hold_their_numbers_and_no_others(a in any::<u64>(), b in any::<u64>(), other in any::<u64>(), near in -3i128..4) {
            let (from, to) = (a.min(b), a.max(b));
            let regex = between(&from.to_string(), &to.to_string());
            for n in [i128::from(other), i128::from(from) + near, i128::from(to) + near] {
                let inside = (i128::from(from)..=i128::from(to)).contains(&n);
                prop_assert_eq!(matches(&regex, &n.to_string()), inside, "{} in {}..={}", n, from, to);
            }
        }
    }
}
