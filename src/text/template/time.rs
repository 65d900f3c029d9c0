//! Dates and times, for templates that print them.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the start of 1970, UTC; negative before then.
pub(super) fn unix_seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A day of the Gregorian calendar.
struct Date {
    year: i64,
    /// Counted from 0.
    month: usize,
    /// Counted from 1.
    day: i64,
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: usize) -> i64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

/// The date this many days after 1 January 1970.
fn date_of(days: i64) -> Date {
    // The calendar repeats every 400 years, or 146,097 days.
    let mut year = 1970 + days.div_euclid(146_097) * 400;
    let mut left = days.rem_euclid(146_097);
    while left >= 365 + i64::from(is_leap(year)) {
        left -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let mut month = 0;
    while left >= days_in(year, month) {
        left -= days_in(year, month);
        month += 1;
    }
    Date { year, month, day: left + 1 }
}

/// Formats a time in UTC as C's `strftime` does, with the directives for dates and times.
///
/// An error names the unsupported directive.
pub(super) fn strftime(format: &str, unix_seconds: i64) -> Result<String, String> {
    let (days, seconds) = (unix_seconds.div_euclid(86_400), unix_seconds.rem_euclid(86_400));
    let Date { year, month, day } = date_of(days);
    // 1 January 1970 was a Thursday.
    let weekday = WEEKDAYS[(days + 4).rem_euclid(7) as usize];
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let hour_of_12 = (hour + 11) % 12 + 1;
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let directive = characters.next();
        // Writing to a String cannot fail.
        let _ = match directive {
            Some('Y') => write!(out, "{year:04}"),
            Some('y') => write!(out, "{:02}", year.rem_euclid(100)),
            Some('m') => write!(out, "{:02}", month + 1),
            Some('B') => write!(out, "{}", MONTHS[month]),
            Some('b') => write!(out, "{}", &MONTHS[month][..3]),
            Some('d') => write!(out, "{day:02}"),
            Some('A') => write!(out, "{weekday}"),
            Some('a') => write!(out, "{}", &weekday[..3]),
            Some('H') => write!(out, "{hour:02}"),
            Some('I') => write!(out, "{hour_of_12:02}"),
            Some('M') => write!(out, "{minute:02}"),
            Some('S') => write!(out, "{second:02}"),
            Some('p') => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
            Some('Z') => write!(out, "UTC"),
            Some('z') => write!(out, "+0000"),
            Some('%') => write!(out, "%"),
            other => {
                let name = other.map_or(String::new(), String::from);
                return Err(format!("strftime_now does not know %{name}"));
            }
        };
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_formatted() {
        let format = "%A %a %d %b %B %Y %y %m %H:%M:%S %I %p %Z%z%%";
        // Output of `date -u -d @SECONDS +FORMAT`.
        for (seconds, expected) in [
            (0, "Thursday Thu 01 Jan January 1970 70 01 00:00:00 12 AM UTC+0000%"),
            (951_825_599, "Tuesday Tue 29 Feb February 2000 00 02 11:59:59 11 AM UTC+0000%"),
            (1_798_761_600, "Friday Fri 01 Jan January 2027 27 01 00:00:00 12 AM UTC+0000%"),
            (4_107_542_400, "Monday Mon 01 Mar March 2100 00 03 00:00:00 12 AM UTC+0000%"),
            (-1, "Wednesday Wed 31 Dec December 1969 69 12 23:59:59 11 PM UTC+0000%"),
        ] {
            assert_eq!(strftime(format, seconds).unwrap(), expected);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = date_of(-200_000);
        for days in -199_999..200_000 {
            let next = date_of(days);
            let same_month = (next.year, next.month, next.day) == (last.year, last.month, last.day + 1);
            let next_month = next.day == 1 && last.day == days_in(last.year, last.month);
            assert!(same_month || next_month, "day {days}");
            last = next;
        }
    }

    #[test]
    fn an_unknown_directive_is_named() {
        assert_eq!(strftime("%Q", 0).unwrap_err(), "strftime_now does not know %Q");
        assert!(strftime("100%", 0).is_err());
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        for seconds in [i64::MIN, i64::MAX] {
            assert!(strftime("%Y-%m-%d", seconds).is_ok());
        }
    }
}
