//! The time that `strftime_now` tells: what the caller has handed in.

use super::error::{Error, Kind, Result};
use super::meter::spend;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
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
/// Longest format, in bytes.
const LONGEST: usize = 4096;

/// Steps that a field takes: some are put together from others.
const FIELD: usize = 24;

/// A second of the calendar, in UTC or wherever the caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    seconds: i64,
}

impl Now {
    /// The second that is `seconds` after the start of 1970; years 1 to 9999, the nearest of which is taken.
    pub fn new(seconds: i64) -> Now {
        Now { seconds: seconds.clamp(-62_135_596_800, 253_402_300_799) }
    }

    /// A time as `YYYY-MM-DD`, with `THH:MM:SS` or without.
    ///
    /// # Errors
    /// What it must look like.
    pub fn parse(text: &str) -> std::result::Result<Now, String> {
        let wrong = || format!("`{text}` must look like 2026-01-31 or 2026-01-31T12:30:00");
        let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
        let numbers = |text: &str, separator| -> Option<[i64; 3]> {
            let mut parts = text.split(separator).map(|part| part.parse::<u32>().ok().map(i64::from));
            let all = [parts.next()??, parts.next()??, parts.next()??];
            parts.next().is_none().then_some(all)
        };
        let [year, month, day] = numbers(date, '-').ok_or_else(wrong)?;
        let [hour, minute, second] = numbers(time, ':').ok_or_else(wrong)?;
        let days = days_of(year, month, day);
        let now = Now::new(days * 86_400 + hour * 3600 + minute * 60 + second);
        // A day that no month has would come back as another.
        if hour > 23 || minute > 59 || second > 59 || !(1..=9999).contains(&year) || now.date() != (year, month, day) {
            return Err(wrong());
        }
        Ok(now)
    }

    fn date(self) -> (i64, i64, i64) {
        let days = self.seconds.div_euclid(86_400);
        // Eras of 400 years that start in March, so that a leap day ends its year.
        let from_march = days + 719_468;
        let (era, day_of_era) = (from_march.div_euclid(146_097), from_march.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        (year_of_era + era * 400 + i64::from(month <= 2), month, day)
    }

    /// As Python's `strftime` with the names of the C locale.
    pub(super) fn format(self, format: &str) -> Result<String> {
        if format.len() > LONGEST {
            return Err(Error::new(Kind::Limit, format!("a format of more than {LONGEST} bytes")));
        }
        spend(format.len() / 2)?;
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            spend(FIELD)?;
            match chars.next() {
                None => out.push('%'),
                Some('-') => match chars.next() {
                    Some(code) => {
                        let field = self.field(code);
                        let short = field.trim_start_matches('0');
                        out.push_str(if short.is_empty() { "0" } else { short });
                    }
                    None => out.push_str("%-"),
                },
                Some(code) => out.push_str(&self.field(code)),
            }
        }
        Ok(out)
    }

    fn field(self, code: char) -> String {
        let (year, month, day) = self.date();
        let second_of_day = self.seconds.rem_euclid(86_400);
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        let days = self.seconds.div_euclid(86_400);
        let weekday = (days + 4).rem_euclid(7);
        let day_of_year = days - days_of(year, 1, 1);
        let name = |names: &[&'static str], i: i64| -> &'static str {
            usize::try_from(i).ok().and_then(|i| names.get(i).copied()).unwrap_or("")
        };
        let short = |name: &str| name.get(..3).unwrap_or_default().to_string();
        let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
        let several = |codes: &str| -> String {
            codes.chars().map(|c| if c.is_alphabetic() { self.field(c) } else { c.to_string() }).collect()
        };
        match code {
            'a' => short(name(&DAYS, weekday)),
            'A' => name(&DAYS, weekday).into(),
            'b' | 'h' => short(name(&MONTHS, month - 1)),
            'B' => name(&MONTHS, month - 1).into(),
            'c' => format!("{} {} {day:2} {} {year}", self.field('a'), self.field('b'), self.field('T')),
            'C' => format!("{:02}", year / 100),
            'd' => format!("{day:02}"),
            'D' | 'x' => several("m/d/y"),
            'e' => format!("{day:2}"),
            'f' => "000000".into(),
            'F' => several("Y-m-d"),
            'H' => format!("{hour:02}"),
            'I' => format!("{hour12:02}"),
            'j' => format!("{:03}", day_of_year + 1),
            'm' => format!("{month:02}"),
            'M' => format!("{minute:02}"),
            'n' => "\n".into(),
            'p' => if hour < 12 { "AM" } else { "PM" }.into(),
            'R' => several("H:M"),
            's' => self.seconds.to_string(),
            'S' => format!("{second:02}"),
            't' => "\t".into(),
            'T' | 'X' => several("H:M:S"),
            'u' => if weekday == 0 { 7 } else { weekday }.to_string(),
            'U' => format!("{:02}", (day_of_year + 7 - weekday) / 7),
            'w' => weekday.to_string(),
            'W' => format!("{:02}", (day_of_year + 7 - (weekday + 6) % 7) / 7),
            'y' => format!("{:02}", year % 100),
            'Y' => year.to_string(),
            // A time that knows no zone has none to tell.
            'z' | 'Z' => String::new(),
            '%' => "%".into(),
            other => format!("%{other}"),
        }
    }
}

/// Days from the start of 1970 to a date.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}
