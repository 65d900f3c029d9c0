//! Ranges of decimal numbers as regular expressions over their digits, with bounds that may be excluded.
//!
//! `llguidance` has such ranges, but lets an excluded whole bound through if the other bound has the same whole part
//! (`minimum` -13.25, `exclusiveMaximum` -13 allows -13), and loses numbers that end within a bound (13.2 below 13.25).

use llguidance::derivre::RegexAst;

use super::digits::{between, less_one, more_one};

/// Any fraction, or none.
const FRACTION: &str = r"(?:\.[0-9]+)?";

/// A bound: its sign, its digits before and after the point, and whether the number itself is excluded.
#[derive(Clone, Debug)]
pub(super) struct Decimal {
    negative: bool,
    whole: String,
    fraction: String,
    excluded: bool,
}

impl Decimal {
    /// Reads a number that is written without an exponent.
    pub(super) fn new(text: &str, excluded: bool) -> Decimal {
        let (sign, digits) = text.split_at(usize::from(text.starts_with('-')));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let fraction = fraction.trim_end_matches('0');
        let is_zero = whole == "0" && fraction.is_empty();
        let negative = !sign.is_empty() && !is_zero;
        Decimal { negative, whole: whole.into(), fraction: fraction.into(), excluded }
    }

    /// The numbers without a sign that are at least this one without its sign.
    fn at_least(&self) -> String {
        let from = more_one(&self.whole);
        let longer = format!("[1-9][0-9]{{{},}}", from.len());
        let wholes = format!("(?:{}|{longer})", between(&from, &"9".repeat(from.len())));
        format!("{}{}|{wholes}{FRACTION}", self.whole, self.fraction_at_least())
    }

    /// The numbers without a sign that are at most this one without its sign; none if it is zero and excluded.
    fn at_most(&self) -> Option<String> {
        let below = (self.whole != "0").then(|| {
            let wholes = between("0", &less_one(&self.whole));
            format!("(?:{wholes}){FRACTION}")
        });
        let last = self.fraction_at_most().map(|fraction| format!("{}{fraction}", self.whole));
        let parts: Vec<String> = below.into_iter().chain(last).collect();
        (!parts.is_empty()).then(|| parts.join("|"))
    }

    /// The fractions after the same whole part from this one on.
    fn fraction_at_least(&self) -> String {
        if self.fraction.is_empty() {
            let above = r"\.[0-9]*[1-9][0-9]*";
            return if self.excluded { above.into() } else { FRACTION.into() };
        }
        let more = if self.excluded { "[0-9]*[1-9][0-9]*" } else { "[0-9]*" };
        let mut parts = vec![format!("{}{more}", self.fraction)];
        for (at, digit) in self.fraction.bytes().enumerate().filter(|&(_, digit)| digit < b'9') {
            parts.push(format!("{}[{}-9][0-9]*", &self.fraction[..at], char::from(digit + 1)));
        }
        format!(r"\.(?:{})", parts.join("|"))
    }

    /// The fractions after the same whole part up to this one; none if even no fraction is too much.
    fn fraction_at_most(&self) -> Option<String> {
        if self.fraction.is_empty() {
            return (!self.excluded).then(|| r"(?:\.0+)?".into());
        }
        let mut parts = Vec::new();
        for (at, digit) in self.fraction.bytes().enumerate() {
            let before = &self.fraction[..at];
            // A fraction that ends within this one is smaller.
            parts.extend((at > 0).then(|| before.to_owned()));
            parts.extend((digit > b'0').then(|| format!("{before}[0-{}][0-9]*", char::from(digit - 1))));
        }
        parts.extend((!self.excluded).then(|| format!("{}0*", self.fraction)));
        Some(format!(r"(?:\.(?:{}))?", parts.join("|")))
    }
}

/// The numbers that are at least the one bound, and those that are at most the other one, as JSON writes them without an
/// exponent. The range is what both have.
pub(super) fn sides(least: Option<&Decimal>, most: Option<&Decimal>) -> Vec<String> {
    let from = least.map(|least| match least.at_most() {
        Some(below) if least.negative => format!("-(?:{below})|{}", Decimal::new("0", false).at_least()),
        _ => least.at_least(),
    });
    let to = most.map(|most| {
        // Without zero: where a number is at most something, zero has no sign.
        let negative = Decimal::new("0", true).at_least();
        match most.at_most() {
            _ if most.negative => format!("-(?:{})", most.at_least()),
            Some(above) => format!("-(?:{negative})|{above}"),
            None => format!("-(?:{negative})"),
        }
    });
    from.into_iter().chain(to).collect()
}

/// The range with these sides.
pub(super) fn range(sides: Vec<String>) -> RegexAst {
    RegexAst::And(sides.into_iter().map(RegexAst::Regex).collect())
}
