//! A recursive descent recogniser of sums of products of numbers and parentheses.

/// The text is a sum: products of numbers of one to three digits and of sums in parentheses.
pub fn is_sum(text: &str) -> bool {
    sum(text.as_bytes()) == Some(&[])
}

/// Removes a sum from the beginning.
fn sum(text: &[u8]) -> Option<&[u8]> {
    let mut rest = product(text)?;
    while let [b'+' | b'-', after @ ..] = rest {
        rest = product(after)?;
    }
    Some(rest)
}

fn product(text: &[u8]) -> Option<&[u8]> {
    let mut rest = atom(text)?;
    while let [b'*', after @ ..] = rest {
        rest = atom(after)?;
    }
    Some(rest)
}

fn atom(text: &[u8]) -> Option<&[u8]> {
    if let [b'(', inner @ ..] = text {
        return match sum(inner)? {
            [b')', rest @ ..] => Some(rest),
            _ => None,
        };
    }
    let digits = text.iter().take_while(|c| c.is_ascii_digit()).count();
    (1..=3).contains(&digits).then(|| &text[digits..])
}
