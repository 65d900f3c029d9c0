//! Bounds that `llguidance` does not keep: numbers beyond 2^53, which it rounds, and some that are excluded.

use llguidance::derivre::RegexAst;
use serde_json::{Map, Number, Value};

use super::decimal::{self, Decimal};
use super::digits::between;

/// The largest bound that `llguidance` keeps exactly: every whole number up to here is a double.
const EXACT: i128 = 1 << 53;

/// The largest whole number that is told from others here, 38 digits. Larger bounds of integers are lowered to it.
const LARGEST: i128 = 10i128.pow(38) - 1;

/// A bound: its value, and whether the value itself is excluded.
#[derive(Clone, Debug)]
struct Bound {
    value: f64,
    /// The first whole number of the range.
    whole: i128,
    decimal: Decimal,
    excluded: bool,
}

/// True if `llguidance` would write another number than this one.
pub(super) fn is_rounded(number: &Number) -> bool {
    match (number.as_i64(), number.as_u64()) {
        (Some(n), _) => i128::from(n).abs() > EXACT,
        (None, Some(_)) => true,
        (None, None) => number.as_f64().is_some_and(|n| n.abs() > EXACT as f64),
    }
}

/// The bounds of a schema.
#[derive(Debug)]
pub(super) struct Bounds {
    least: Option<Bound>,
    most: Option<Bound>,
}

impl Bounds {
    /// Reads the bounds of a schema; the error is the keyword and the reason.
    pub(super) fn read(schema: &Map<String, Value>) -> Result<Bounds, (&'static str, String)> {
        let least = side(schema, "minimum", "exclusiveMinimum", false)?;
        let most = side(schema, "maximum", "exclusiveMaximum", true)?;
        Ok(Bounds { least, most })
    }

    /// True if `llguidance` does not round these bounds.
    pub(super) fn are_exact(&self) -> bool {
        let exact =
            |bound: &Option<Bound>| bound.as_ref().is_none_or(|bound| bound.value.abs() <= EXACT as f64);
        exact(&self.least) && exact(&self.most)
    }

    /// True if `llguidance` allows all numbers of the range. It loses some beside a bound that is not a whole number, and beside
    /// one that is excluded and not the only one.
    pub(super) fn are_kept(&self) -> bool {
        let all = || self.least.iter().chain(&self.most);
        let is_alone = all().count() == 1;
        self.are_exact() && all().all(|bound| bound.value.fract() == 0.0 && (!bound.excluded || is_alone))
    }

    /// True if no number is in the range.
    pub(super) fn are_empty(&self) -> bool {
        let (Some(least), Some(most)) = (&self.least, &self.most) else { return false };
        least.value > most.value
            || least.value == most.value && least.whole > most.whole
            || least.value == most.value && least.value.fract() != 0.0 && (least.excluded || most.excluded)
    }

    /// The excluded whole bounds that `llguidance` lets through if the range ends within their unit.
    pub(super) fn leaks(&self) -> impl Iterator<Item = Unit> {
        let leaks = |bound: &&Bound| bound.excluded && bound.value.fract() == 0.0;
        let above = self.least.as_ref().filter(leaks).filter(|bound| bound.value >= 0.0);
        let below = self.most.as_ref().filter(leaks).filter(|bound| bound.value <= 0.0);
        units(above, below)
    }

    /// The units within which the range ends.
    pub(super) fn ends(&self) -> impl Iterator<Item = Unit> {
        let ends = |bound: &&Bound| bound.value.fract() != 0.0;
        let above = self.most.as_ref().filter(ends).filter(|bound| bound.value > 0.0);
        let below = self.least.as_ref().filter(ends).filter(|bound| bound.value < 0.0);
        units(above, below)
    }

    /// The numbers of the range, with a name for them.
    pub(super) fn decimals(&self) -> (String, RegexAst) {
        let decimal = |bound: &'_ Option<Bound>| bound.as_ref().map(|bound| bound.decimal.clone());
        let sides = decimal::sides(decimal(&self.least).as_ref(), decimal(&self.most).as_ref());
        (format!("numbers {}", sides.join("&")), decimal::range(sides))
    }

    /// The part of the range that `llguidance` keeps, as keywords; `None` if it is empty.
    pub(super) fn near(&self) -> Option<Map<String, Value>> {
        let mut near = Map::new();
        let sides = [
            (&self.least, "minimum", "exclusiveMinimum", 1.0),
            (&self.most, "maximum", "exclusiveMaximum", -1.0),
        ];
        for (bound, keyword, exclusive, sign) in sides {
            // A bound on the other side of the range that is kept: nothing of it is left.
            if bound.as_ref().is_some_and(|bound| bound.value * sign > EXACT as f64) {
                return None;
            }
            match bound {
                Some(bound) if bound.value.abs() <= EXACT as f64 => {
                    let keyword = if bound.excluded { exclusive } else { keyword };
                    near.insert(keyword.into(), bound.value.into());
                }
                Some(_) => {
                    near.insert(keyword.into(), Value::from(-sign * EXACT as f64));
                }
                None => {
                    // Beyond 2^53 the other part goes on.
                    let far = if sign > 0.0 { &self.most } else { &self.least };
                    if far.as_ref().is_some_and(|far| far.value.abs() > EXACT as f64) {
                        near.insert(keyword.into(), Value::from(-sign * EXACT as f64));
                    }
                }
            }
        }
        Some(near)
    }

    /// Regular expression of the whole numbers of the range beyond 2^53; `None` if there are none.
    pub(super) fn far(&self) -> Option<String> {
        let side = |bound: &Option<Bound>, sign: i128| bound.as_ref().map(|bound| sign * bound.whole);
        let (least, most) = (side(&self.least, 1), side(&self.most, 1));
        let above = beyond(least, most, "");
        let below = beyond(side(&self.most, -1), side(&self.least, -1), "-");
        let parts: Vec<String> = above.into_iter().chain(below).collect();
        (!parts.is_empty()).then(|| parts.join("|"))
    }
}

/// The positive whole numbers beyond 2^53 of a range, written after `sign`.
fn beyond(least: Option<i128>, most: Option<i128>, sign: &str) -> Option<String> {
    let from = least.unwrap_or(EXACT).max(EXACT);
    let Some(most) = most else {
        let from = from.to_string();
        let longest = "9".repeat(from.len());
        let more = format!("[1-9][0-9]{{{},}}", from.len());
        return Some(format!("{sign}(?:{}|{more})", between(&from, &longest)));
    };
    (most > EXACT && most >= from)
        .then(|| format!("{sign}(?:{})", between(&from.to_string(), &most.to_string())))
}

/// The numbers from a whole number up to the next one that is farther from zero, by that number and whether they are above
/// zero.
pub(super) type Unit = (i64, bool);

/// The units of a bound above zero and of one below.
fn units(above: Option<&Bound>, below: Option<&Bound>) -> impl Iterator<Item = Unit> {
    let unit = |bound: &Bound, is_above| (bound.value.trunc() as i64, is_above);
    let units = [above.map(|bound| unit(bound, true)), below.map(|bound| unit(bound, false))];
    units.into_iter().flatten()
}

/// One side of the range: the keyword itself, and its exclusive form, a number or (in draft 4) a Boolean.
fn side(
    schema: &Map<String, Value>,
    keyword: &'static str,
    exclusive: &'static str,
    upper: bool,
) -> Result<Option<Bound>, (&'static str, String)> {
    let number = |key: &'static str, value: &Value| match value {
        Value::Number(number) => Ok(number.clone()),
        other => Err((key, format!("must be a number, not {other}"))),
    };
    let plain = schema.get(keyword).map(|value| number(keyword, value)).transpose()?;
    let (plain, strict) = match schema.get(exclusive) {
        Some(Value::Bool(true)) => (None, plain),
        None | Some(Value::Bool(false)) => (plain, None),
        Some(value) => (plain, Some(number(exclusive, value)?)),
    };
    let plain = plain.map(|number| bound(&number, false, upper));
    let strict = strict.map(|number| bound(&number, true, upper));
    Ok(match (plain, strict) {
        (Some(plain), Some(strict)) => {
            let plain_binds = if upper { plain.value < strict.value } else { plain.value > strict.value };
            Some(if plain_binds { plain } else { strict })
        }
        (plain, strict) => plain.or(strict),
    })
}

fn bound(number: &Number, excluded: bool, upper: bool) -> Bound {
    let mut value = number.as_f64().unwrap_or(0.0);
    if is_rounded(number) && value.abs() == EXACT as f64 {
        // Rounded to 2^53, but beyond it.
        value += value.signum() * 2.0;
    }
    let exact = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    let whole = exact.unwrap_or_else(|| {
        let rounded = if upper { value.floor() } else { value.ceil() };
        (rounded as i128).clamp(-LARGEST, LARGEST)
    });
    let step = i128::from(excluded && (exact.is_some() || value.fract() == 0.0));
    let text = match exact {
        Some(exact) => exact.to_string(),
        // All digits of the double: the shortest text of a large one is another number.
        None if value.fract() == 0.0 => format!("{value:.0}"),
        None => value.to_string(),
    };
    let whole = if upper { whole - step } else { whole + step };
    Bound { value, whole, decimal: Decimal::new(&text, excluded), excluded }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::digits::more_one;
    use super::*;

    fn matches(regex: &str, text: &str) -> bool {
        fancy_regex::Regex::new(&format!("^(?:{regex})$")).unwrap().is_match(text).unwrap()
    }

    fn check(schema: &Value, whole: bool, yes: &[&str], no: &[&str]) {
        let bounds = Bounds::read(schema.as_object().unwrap()).unwrap();
        let decimal = |bound: &Option<Bound>| bound.as_ref().map(|bound| bound.decimal.clone());
        let sides = match whole {
            true => vec![bounds.far().unwrap()],
            false => decimal::sides(decimal(&bounds.least).as_ref(), decimal(&bounds.most).as_ref()),
        };
        let holds = |text: &str| sides.iter().all(|side| matches(side, text));
        yes.iter().for_each(|text| assert!(holds(text), "{text} for {schema}"));
        no.iter().for_each(|text| assert!(!holds(text), "{text} for {schema}"));
    }

    #[test]
    fn bounds_beyond_2_53_are_exact() {
        let int64 = json!({"minimum": i64::MIN, "maximum": i64::MAX});
        let yes = ["-9223372036854775808", "9223372036854775807", "9007199254740993", "-9007199254740993"];
        let no = ["-9223372036854775809", "9223372036854775808", "1e30", "9223372036854775807.5"];
        check(&int64, true, &yes, &no);
        let uint64 = json!({"minimum": 0, "exclusiveMaximum": u64::MAX});
        check(&uint64, true, &["18446744073709551614"], &["18446744073709551615", "-9007199254740993"]);
        let double = json!({"minimum": 0, "maximum": f64::MAX});
        let most = format!("{:.0}", f64::MAX);
        let over = more_one(&most);
        check(
            &double,
            false,
            &["0", &most, "9007199254740993.25", &"9".repeat(308)],
            &[&over, &"9".repeat(309)],
        );
        let from = json!({"exclusiveMinimum": 9007199254740996i64});
        let yes = ["9007199254740997", "9007199254740996.0001", &"1".repeat(30)];
        check(&from, false, &yes, &["9007199254740996", "9007199254740996.00", "-9007199254740997"]);
    }
}
