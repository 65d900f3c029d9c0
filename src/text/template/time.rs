//! Dates and times, for templates that print them.

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

/// A moment in UTC, by the calendar and the clock.
struct Moment {
    unix_seconds: i64,
    date: Date,
    /// Counted from 0, the first of January.
    day_of_year: i64,
    /// Counted from 0, a Sunday.
    weekday: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Moment {
    fn at(unix_seconds: i64) -> Moment {
        let (days, seconds) = (unix_seconds.div_euclid(86_400), unix_seconds.rem_euclid(86_400));
        let date = date_of(days);
        let day_of_year = (0..date.month).map(|month| days_in(date.year, month)).sum::<i64>() + date.day - 1;
        Moment {
            unix_seconds,
            day_of_year,
            // 1 January 1970 was a Thursday.
            weekday: (days + 4).rem_euclid(7),
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            date,
        }
    }

    fn hour_of_12(&self) -> i64 {
        (self.hour + 11) % 12 + 1
    }

    /// The week of the year, with weeks that begin on Sunday (0) or Monday (1); days before the first are in week 0.
    fn week_from(&self, first_day: i64) -> i64 {
        (self.day_of_year + 7 - (self.weekday - first_day).rem_euclid(7)) / 7
    }

    /// Year and week of ISO 8601: the week belongs to the year that has its Thursday.
    fn iso_week(&self) -> (i64, i64) {
        let thursday = self.day_of_year - (self.weekday + 6) % 7 + 3;
        let length = |year: i64| 365 + i64::from(is_leap(year));
        let (year, day) = match thursday {
            day if day < 0 => (self.date.year - 1, day + length(self.date.year - 1)),
            day if day >= length(self.date.year) => (self.date.year + 1, day - length(self.date.year)),
            day => (self.date.year, day),
        };
        (year, day / 7 + 1)
    }
}

/// One directive's value, before flags and width.
enum Field {
    /// A number with its least width and the character that fills it.
    Number(i64, usize, char),
    Text(String),
    /// A format made of other directives.
    Of(&'static str),
}

fn field(directive: char, at: &Moment) -> Option<Field> {
    use Field::{Number, Of, Text};
    let weekday = WEEKDAYS[at.weekday.rem_euclid(7) as usize];
    let month = MONTHS[at.date.month];
    let half = if at.hour < 12 { "AM" } else { "PM" };
    Some(match directive {
        'Y' => Number(at.date.year, 1, '0'),
        'C' => Number(at.date.year.div_euclid(100), 1, '0'),
        'y' => Number(at.date.year.rem_euclid(100), 2, '0'),
        'G' => Number(at.iso_week().0, 1, '0'),
        'g' => Number(at.iso_week().0.rem_euclid(100), 2, '0'),
        'm' => Number(at.date.month as i64 + 1, 2, '0'),
        'd' => Number(at.date.day, 2, '0'),
        'e' => Number(at.date.day, 2, ' '),
        'j' => Number(at.day_of_year + 1, 3, '0'),
        'H' => Number(at.hour, 2, '0'),
        'k' => Number(at.hour, 2, ' '),
        'I' => Number(at.hour_of_12(), 2, '0'),
        'l' => Number(at.hour_of_12(), 2, ' '),
        'M' => Number(at.minute, 2, '0'),
        'S' => Number(at.second, 2, '0'),
        's' => Number(at.unix_seconds, 1, '0'),
        'f' => Text("000000".to_owned()),
        'u' => Number((at.weekday + 6) % 7 + 1, 1, '0'),
        'w' => Number(at.weekday, 1, '0'),
        'U' => Number(at.week_from(0), 2, '0'),
        'W' => Number(at.week_from(1), 2, '0'),
        'V' => Number(at.iso_week().1, 2, '0'),
        'A' => Text(weekday.to_owned()),
        'a' => Text(weekday[..3].to_owned()),
        'B' => Text(month.to_owned()),
        'b' | 'h' => Text(month[..3].to_owned()),
        'p' => Text(half.to_owned()),
        'P' => Text(half.to_lowercase()),
        // Python's `datetime.now()` has no time zone.
        'z' | 'Z' => Text(String::new()),
        'n' => Text("\n".to_owned()),
        't' => Text("\t".to_owned()),
        '%' => Text("%".to_owned()),
        'c' => Of("%a %b %e %H:%M:%S %Y"),
        'D' | 'x' => Of("%m/%d/%y"),
        'F' => Of("%Y-%m-%d"),
        'R' => Of("%H:%M"),
        'T' | 'X' => Of("%H:%M:%S"),
        'r' => Of("%I:%M:%S %p"),
        _ => return None,
    })
}

/// Flags and width between `%` and the directive, as in C's library on Linux.
#[derive(Default)]
struct Style {
    /// `-`: no filling.
    bare: bool,
    /// `_` or `0`.
    fill: Option<char>,
    /// `^`.
    upper: bool,
    /// `#`: capitals for names, small letters for AM and PM.
    swap: bool,
    width: usize,
}

/// Largest width of a directive.
const MAX_WIDTH: usize = 64;

/// Formats a time in UTC as Python's `datetime.now().strftime` does on Linux in the C locale: every directive, with its
/// flags and width. A lone `%` at the end stands for itself.
///
/// An error names the unknown directive. (The C library prints it as it stands; no author means that.)
pub(crate) fn strftime(format: &str, unix_seconds: i64) -> Result<String, String> {
    let mut out = String::new();
    format_into(format, &Moment::at(unix_seconds), &mut out)?;
    Ok(out)
}

fn format_into(format: &str, at: &Moment, out: &mut String) -> Result<(), String> {
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        out.push_str(&rest[..start]);
        let after = &rest[start + 1..];
        if after.is_empty() {
            out.push('%');
            return Ok(());
        }
        let mut style = Style::default();
        let flags = after.len() - after.trim_start_matches(['-', '_', '0', '^', '#']).len();
        for flag in after[..flags].chars() {
            match flag {
                '-' => style.bare = true,
                '^' => style.upper = true,
                '#' => style.swap = true,
                fill => style.fill = Some(if fill == '_' { ' ' } else { '0' }),
            }
        }
        let digits = after.len() - after[flags..].trim_start_matches(|c: char| c.is_ascii_digit()).len();
        // Without digits there is no width; too many digits are a width beyond the limit.
        let width = if digits > flags { after[flags..digits].parse().unwrap_or(usize::MAX) } else { 0 };
        // `%Ey` and `%Od` ask for another calendar's forms, of which the C locale has none.
        let name = after[digits..].strip_prefix(['E', 'O']).unwrap_or(&after[digits..]);
        let end = name.chars().next().map_or(0, char::len_utf8);
        let used = after.len() - name.len() + end;
        let unknown = || format!("strftime_now does not know %{}", &after[..used]);
        style.width = Some(width).filter(|&width| width <= MAX_WIDTH).ok_or_else(unknown)?;
        let directive = name.chars().next().ok_or_else(unknown)?;
        push_field(field(directive, at).ok_or_else(unknown)?, directive, &style, at, out)?;
        rest = &after[used..];
    }
    out.push_str(rest);
    Ok(())
}

fn push_field(
    field: Field,
    directive: char,
    style: &Style,
    at: &Moment,
    out: &mut String,
) -> Result<(), String> {
    let (mut text, fill) = match field {
        Field::Number(value, digits, fill) => {
            let fill = if style.bare { ' ' } else { style.fill.unwrap_or(fill) };
            let digits = if style.bare { 0 } else { digits };
            let (sign, number) = (if value < 0 { "-" } else { "" }, value.unsigned_abs().to_string());
            let width = digits.max(style.width).saturating_sub(sign.len());
            let filling: String = std::iter::repeat_n(fill, width.saturating_sub(number.len())).collect();
            (format!("{sign}{filling}{number}"), fill)
        }
        Field::Text(text) => (text, style.fill.unwrap_or(' ')),
        Field::Of(format) => {
            let mut text = String::new();
            format_into(format, at, &mut text)?;
            (text, style.fill.unwrap_or(' '))
        }
    };
    if directive == 'z' {
        // No zone has no width either.
        return Ok(());
    }
    // `%P` stays small.
    if (style.upper && directive != 'P') || (style.swap && matches!(directive, 'a' | 'A' | 'b' | 'B' | 'h')) {
        text = text.to_uppercase();
    }
    if style.swap && directive == 'p' {
        text = text.to_lowercase();
    }
    out.extend(std::iter::repeat_n(fill, style.width.saturating_sub(text.chars().count())));
    out.push_str(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_formatted() {
        let format = "%A %a %d %b %B %Y %y %m %H:%M:%S %I %p %j %U %W %V %G %g %u %w %e %k %l%%";
        // Output of Python 3.11's `datetime.fromtimestamp(SECONDS, UTC).strftime(format)`.
        for (seconds, expected) in [
            (0, "Thursday Thu 01 Jan January 1970 70 01 00:00:00 12 AM 001 00 00 01 1970 70 4 4  1  0 12%"),
            (
                951_825_599,
                "Tuesday Tue 29 Feb February 2000 00 02 11:59:59 11 AM 060 09 09 09 2000 00 2 2 29 11 11%",
            ),
            (
                1_798_761_600,
                "Friday Fri 01 Jan January 2027 27 01 00:00:00 12 AM 001 00 00 53 2026 26 5 5  1  0 12%",
            ),
            (
                4_107_542_400,
                "Monday Mon 01 Mar March 2100 00 03 00:00:00 12 AM 060 09 09 09 2100 00 1 1  1  0 12%",
            ),
            (
                -1,
                "Wednesday Wed 31 Dec December 1969 69 12 23:59:59 11 PM 365 52 52 01 1970 70 3 3 31 23 11%",
            ),
        ] {
            assert_eq!(strftime(format, seconds).unwrap(), expected);
        }
    }

    #[test]
    fn flags_and_widths_are_those_of_the_c_library() {
        // 2 January 2026, 03:04:05; output of Python 3.11 on Linux.
        for (format, expected) in [
            ("%B %-d, %Y", "January 2, 2026"),
            (
                "%c|%F|%T|%R|%r|%D|%x|%X",
                "Fri Jan  2 03:04:05 2026|2026-01-02|03:04:05|03:04|03:04:05 AM|01/02/26|01/02/26|03:04:05",
            ),
            ("%^a %#B %#p %P %_d %_H %-j %-I", "FRI JANUARY am am  2  3 2 3"),
            ("%5d|%_5d|%05d|%5a|%010Y|%-5d", "00002|    2|00002|  Fri|0000002026|    2"),
            ("%Ey %Od %s %f %C%n%t%h", "26 02 1767323045 000000 20\n\tJan"),
            ("[%z%Z] 100%", "[] 100%"),
        ] {
            assert_eq!(strftime(format, 1_767_323_045).unwrap(), expected);
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
        assert_eq!(strftime("%-5Q", 0).unwrap_err(), "strftime_now does not know %-5Q");
        assert!(strftime("%99999999999999999999d", 0).is_err());
        assert!(strftime("%", 0).is_ok() && strftime("%-", 0).is_err() && strftime("%é", 0).is_err());
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        for seconds in [i64::MIN, i64::MAX] {
            assert!(strftime("%Y-%m-%d", seconds).is_ok());
        }
    }
}
