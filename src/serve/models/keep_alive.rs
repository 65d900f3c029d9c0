//! The time that an unused model stays loaded.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The time that a model stays loaded after its last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeepAlive {
    /// Until its memory is needed for another model.
    Forever,
    /// This long; zero: not longer than its answers.
    For(Duration),
}

impl KeepAlive {
    /// Keeps a model for this many seconds. A negative number and a century or more mean [`KeepAlive::Forever`]; NaN gives
    /// `None`.
    pub fn seconds(seconds: f64) -> Option<KeepAlive> {
        const CENTURY: f64 = 3_155_760_000.0;
        match (0.0..CENTURY).contains(&seconds) {
            true => Duration::try_from_secs_f64(seconds).ok().map(KeepAlive::For),
            false => Some(KeepAlive::Forever).filter(|_| !seconds.is_nan()),
        }
    }
}

/// Units, in seconds.
const UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// The error for a text that is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a number of seconds or a time such as 5m or 1h30m; -1 keeps a model loaded, 0 unloads it at once"
)]
pub struct InvalidKeepAlive;

impl FromStr for KeepAlive {
    type Err = InvalidKeepAlive;

    /// Reads seconds, or ollama's form of a time: numbers with units.
    fn from_str(text: &str) -> Result<KeepAlive, InvalidKeepAlive> {
        let text = text.trim();
        if let Ok(seconds) = text.parse() {
            return KeepAlive::seconds(seconds).ok_or(InvalidKeepAlive);
        }
        let (is_negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut seconds = 0.0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(InvalidKeepAlive)?;
            let number: f64 = rest[..digits].parse().map_err(|_| InvalidKeepAlive)?;
            let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
            let unit_text = &rest[digits..unit];
            let (_, size) = UNITS.into_iter().find(|(name, _)| *name == unit_text).ok_or(InvalidKeepAlive)?;
            seconds += number * size;
            rest = &rest[unit..];
        }
        match text.trim_start_matches('-').is_empty() {
            true => Err(InvalidKeepAlive),
            false => KeepAlive::seconds(if is_negative { -seconds } else { seconds }).ok_or(InvalidKeepAlive),
        }
    }
}

impl fmt::Display for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepAlive::Forever => f.write_str("-1"),
            KeepAlive::For(time) if time.as_secs() > 0 && time.as_secs().is_multiple_of(60) => {
                write!(f, "{}m", time.as_secs() / 60)
            }
            KeepAlive::For(time) => write!(f, "{}s", time.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_their_length() {
        for (text, seconds) in [
            ("5m", 300.0),
            ("1h30m", 5400.0),
            ("300", 300.0),
            ("0.5", 0.5),
            ("0", 0.0),
            ("1.5s", 1.5),
            ("250ms", 0.25),
            ("2µs", 2e-6),
        ] {
            assert_eq!(text.parse(), Ok(KeepAlive::For(Duration::from_secs_f64(seconds))), "{text}");
        }
        for text in ["-1", "-1s", "-5m", "-0.1", "1e400", "9e19", "1000000h"] {
            assert_eq!(text.parse(), Ok(KeepAlive::Forever), "{text}");
        }
        for text in ["", "-", "m", "5x", "5 m", "nan", "m5", "5m3", "1.2.3s"] {
            assert_eq!(text.parse::<KeepAlive>(), Err(InvalidKeepAlive), "{text}");
        }
    }

    #[test]
    fn times_are_shown_as_they_are_read() {
        for text in ["5m", "-1", "0s", "1.5s", "90m"] {
            assert_eq!(text.parse::<KeepAlive>().unwrap().to_string(), text);
        }
    }
}
