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
/// Widest field, in characters.
const WIDEST: usize = 100;
/// Steps that a field takes: some are put together from others.
const FIELD: usize = 48;

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

    /// As Python's `strftime` with the names of the C locale, and with the flags and widths of the GNU C library.
    pub(super) fn format(self, format: &str) -> Result<String> {
        if format.len() > LONGEST {
            return Err(Error::new(Kind::Limit, format!("a format of more than {LONGEST} bytes")));
        }
        spend(format.len() / 2)?;
        let mut out = String::new();
        let mut rest = format;
        while let Some((text, field)) = rest.split_once('%') {
            spend(FIELD)?;
            out.push_str(text);
            let (layout, after) = Layout::read(field)?;
            let mut chars = after.chars();
            let shown = chars.next().and_then(|code| self.field(code, layout));
            rest = if shown.is_some() { chars.as_str() } else { after };
            // What is no field stays as it is, with what stands before its letter.
            let flags = field.get(..field.len() - after.len()).unwrap_or_default();
            match shown {
                Some(shown) => out.push_str(&shown),
                None if layout == Layout::default() => out.push('%'),
                None => return Err(Error::value(format!("`strftime_now`: `%{flags}` begins no field"))),
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// A field as `layout` wants it; none where `code` stands for none.
    fn field(self, code: char, layout: Layout) -> Option<String> {
        if let Some((number, digits, fill)) = self.number(code) {
            return Some(layout.number(&number.to_string(), digits, fill));
        }
        let several = |codes: &str| -> Option<String> {
            let one = |c: char| if c.is_alphabetic() { self.field(c, Layout::default()) } else { Some(c.into()) };
            codes.chars().map(one).collect()
        };
        let text = match code {
            'a' | 'A' | 'b' | 'B' | 'h' => self.name(code),
            'c' => several("a b e T Y")?,
            'D' | 'x' => several("m/d/y")?,
            'f' if layout == Layout::default() => "000000".into(),
            'F' => several("Y-m-d")?,
            'n' => "\n".into(),
            'p' | 'P' => self.half(),
            'r' => several("I:M:S p")?,
            'R' => several("H:M")?,
            's' => self.seconds.to_string(),
            't' => "\t".into(),
            'T' | 'X' => several("H:M:S")?,
            // A time that knows no zone has none to tell.
            'z' | 'Z' if layout == Layout::default() => String::new(),
            '%' => "%".into(),
            _ => return None,
        };
        let text = match code {
            'P' => text.to_lowercase(),
            'p' if layout.is_swapped => text.to_lowercase(),
            'a' | 'A' | 'b' | 'B' | 'h' if layout.is_swapped => text.to_uppercase(),
            _ if layout.is_upper => text.to_uppercase(),
            _ => text,
        };
        Some(layout.padded(text))
    }

    /// The fields that are numbers: with how many digits, and by what these are filled up.
    fn number(self, code: char) -> Option<(i64, usize, char)> {
        let (year, month, day) = self.date();
        let second_of_day = self.seconds.rem_euclid(86_400);
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
        let (weekday, day_of_year) = (self.weekday(), self.seconds.div_euclid(86_400) - days_of(year, 1, 1));
        let (week_year, week) = self.week();
        Some(match code {
            'C' => (year / 100, 2, '0'),
            'd' => (day, 2, '0'),
            'e' => (day, 2, ' '),
            'g' => (week_year % 100, 2, '0'),
            'G' => (week_year, 1, '0'),
            'H' => (hour, 2, '0'),
            'I' => (hour12, 2, '0'),
            'j' => (day_of_year + 1, 3, '0'),
            'k' => (hour, 2, ' '),
            'l' => (hour12, 2, ' '),
            'm' => (month, 2, '0'),
            'M' => (minute, 2, '0'),
            'S' => (second, 2, '0'),
            'u' => ((weekday + 6) % 7 + 1, 1, '0'),
            'U' => ((day_of_year + 7 - weekday) / 7, 2, '0'),
            'V' => (week, 2, '0'),
            'w' => (weekday, 1, '0'),
            'W' => ((day_of_year + 7 - (weekday + 6) % 7) / 7, 2, '0'),
            'y' => (year % 100, 2, '0'),
            'Y' => (year, 1, '0'),
            _ => return None,
        })
    }

    fn weekday(self) -> i64 {
        (self.seconds.div_euclid(86_400) + 4).rem_euclid(7)
    }

    /// The year and the week that ISO 8601 counts this day to: those of the week's Thursday.
    fn week(self) -> (i64, i64) {
        let thursday = self.seconds.div_euclid(86_400) - (self.weekday() + 6) % 7 + 3;
        let (year, ..) = Now { seconds: thursday * 86_400 }.date();
        (year, (thursday - days_of(year, 1, 1)) / 7 + 1)
    }

    fn name(self, code: char) -> String {
        let (_, month, _) = self.date();
        let (names, i) =
            if code == 'a' || code == 'A' { (&DAYS[..], self.weekday()) } else { (&MONTHS[..], month - 1) };
        let name = usize::try_from(i).ok().and_then(|i| names.get(i).copied()).unwrap_or("");
        if code == 'A' || code == 'B' { name.into() } else { name.get(..3).unwrap_or_default().into() }
    }

    fn half(self) -> String {
        if self.seconds.rem_euclid(86_400) < 43_200 { "AM" } else { "PM" }.into()
    }
}

/// What stands between a `%` and its letter.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Layout {
    /// `_`, `-` or `0`.
    pad: Option<char>,
    is_upper: bool,
    is_swapped: bool,
    width: usize,
}

impl Layout {
    fn read(text: &str) -> Result<(Layout, &str)> {
        let mut layout = Layout::default();
        let mut rest = text;
        while let Some(flag) = rest.chars().next().filter(|c| "_-0^#".contains(*c)) {
            match flag {
                '^' => layout.is_upper = true,
                '#' => layout.is_swapped = true,
                pad => layout.pad = Some(pad),
            }
            rest = rest.get(1..).unwrap_or_default();
        }
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (width, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if !width.is_empty() {
            layout.width = width.parse().ok().filter(|width| *width <= WIDEST).ok_or_else(|| {
                Error::new(Kind::Limit, format!("a field of `strftime_now` has at most {WIDEST} characters"))
            })?;
        }
        if after.starts_with(['E', 'O']) {
            return Err(Error::value("`strftime_now`: `%E` and `%O` are for other locales: leave out the E or O"));
        }
        Ok((layout, after))
    }

    fn number(self, number: &str, digits: usize, fill: char) -> String {
        let wide = digits.max(self.width);
        match self.pad {
            Some('-') => format!("{number:>width$}", width = self.width),
            Some('_') => format!("{number:>wide$}"),
            None if fill == ' ' => format!("{number:>wide$}"),
            _ => format!("{number:0>wide$}"),
        }
    }

    fn padded(self, text: String) -> String {
        match self.pad {
            Some('0') => format!("{text:0>width$}", width = self.width),
            _ => format!("{text:>width$}", width = self.width),
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
