//! Points in time, as Microsoft, CTIM, HTTP and OData write them.

use std::fmt;
use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point in time in UTC, in steps of 100 ns as in Microsoft Graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Creates it from whole seconds since 1970-01-01T00:00:00Z.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(TICKS_PER_SECOND))
    }

    /// Returns the whole seconds since 1970-01-01T00:00:00Z, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(TICKS_PER_SECOND)
    }

    /// Parses a time as providers write it: RFC 3339 with any number of fraction digits, where the
    /// seconds or the zone may be missing. Without a zone it is UTC.
    ///
    /// Returns `None` for anything else, and for times outside CTIM's range, 1970 to
    /// 2525: Graph writes the year 1 for "never", others write 1601 or 9999.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.trim().split_at_checked(10)?;
        let (hour, rest) = rest.strip_prefix(['T', 't', ' '])?.split_at_checked(2)?;
        let (minute, rest) = rest.strip_prefix(':')?.split_at_checked(2)?;
        let (second, rest) = match rest.strip_prefix(':') {
            Some(rest) => rest.split_at_checked(2)?,
            None => ("0", rest),
        };
        let (ticks, zone) = fraction(rest)?;
        let days = days_since_1970(date)?;
        let [hour, minute, second] = [digits(hour)?, digits(minute)?, digits(second)?];
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset(zone)?;
        let in_range = (0..=LATEST.unix_seconds()).contains(&seconds);
        in_range.then(|| Self(seconds * TICKS_PER_SECOND + ticks))
    }

    /// Parses an HTTP date: `Sun, 06 Nov 1994 08:49:37 GMT`, or one of the two
    /// obsolete forms of RFC 9110 section 5.6.7.
    pub fn parse_http(text: &str) -> Option<Self> {
        let since = httpdate::parse_http_date(text.trim()).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self::from_unix_seconds(0).plus(since)).filter(|time| *time <= LATEST)
    }

    /// Formats it as an HTTP date.
    pub fn http(self) -> String {
        // The library panics after the year 9999.
        let since = self.min(LATEST).since(Self::from_unix_seconds(0));
        httpdate::fmt_http_date(UNIX_EPOCH + since)
    }

    /// Returns the time since `other`, or zero if that is later.
    pub fn since(self, other: Self) -> Duration {
        let ticks = u64::try_from(self.0.saturating_sub(other.0)).unwrap_or_default();
        Duration::from_nanos(ticks.saturating_mul(100))
    }

    /// Returns the time that is `span` later.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(ticks(span)))
    }

    /// Returns the time that is `span` earlier.
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(ticks(span)))
    }

    /// Returns the beginning of its second.
    pub const fn rounded_down(self) -> Self {
        Self(self.0.div_euclid(TICKS_PER_SECOND) * TICKS_PER_SECOND)
    }

    /// Returns the beginning of the next second, or the time itself if it is a whole second.
    pub const fn rounded_up(self) -> Self {
        Self(self.0.saturating_add(TICKS_PER_SECOND - 1)).rounded_down()
    }

    /// Returns the whole milliseconds since 1970-01-01T00:00:00Z, CTIM's precision.
    pub const fn unix_milliseconds(self) -> i64 {
        self.0.div_euclid(TICKS_PER_SECOND / 1_000)
    }

    /// Formats it as CTIM requires: `2026-01-31T23:59:59.000Z`.
    pub fn ctim(self) -> String {
        str::from_utf8(&self.ctim_text()).unwrap_or_default().to_owned()
    }

    /// Like [`ctim`](Self::ctim), as ASCII.
    pub(crate) fn ctim_text(self) -> [u8; 24] {
        let ((year, month, day), [hour, minute, second]) = self.calendar();
        let millis = self.0.rem_euclid(TICKS_PER_SECOND) / 10_000;
        let mut text = [b'0'; 24];
        // It fits up to the year 9999; CTIM's range ends in 2525.
        let _ = write!(
            text.as_mut_slice(),
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        );
        text
    }

    /// Formats it as an OData literal in full precision: `2026-01-31T23:59:59.0000000Z`.
    pub fn odata(self) -> String {
        let ((year, month, day), [hour, minute, second]) = self.calendar();
        let fraction = self.0.rem_euclid(TICKS_PER_SECOND);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:07}Z")
    }

    /// Returns year, month and day, and hour, minute and second.
    fn calendar(self) -> ((i64, i64, i64), [i64; 3]) {
        let seconds = self.unix_seconds();
        let clock = seconds.rem_euclid(86_400);
        (civil(seconds.div_euclid(86_400)), [clock / 3_600, clock / 60 % 60, clock % 60])
    }
}

impl fmt::Display for Timestamp {
    /// For people, to the second: `2026-01-31 23:59:59 UTC`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((year, month, day), [hour, minute, second]) = self.calendar();
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

fn digits(text: &str) -> Option<i64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Splits `.1234567Z` into ticks and `Z`; drops digits after the seventh.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (all, zone) = rest.split_at_checked(end)?;
    let seven: String = all.chars().chain("0000000".chars()).take(7).collect();
    (!all.is_empty()).then_some((digits(&seven)?, zone))
}

/// Parses `Z`, `+01:00`, `+0100`, `+01` or nothing into seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match zone.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, zone.strip_prefix('+')?),
    };
    let (hours, rest) = rest.split_at_checked(2)?;
    let minutes = match rest.strip_prefix(':').unwrap_or(rest) {
        "" => "0",
        // Broken tools append the milliseconds and a `Z` to an offset: `+0530123Z`.
        rest if rest.len() == 6 && rest.ends_with(['Z', 'z']) => {
            digits(rest.get(..5)?)?;
            rest.get(..2)?
        }
        rest => Some(rest).filter(|rest| rest.len() == 2)?,
    };
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours <= 23 && minutes <= 59).then(|| sign * (hours * 3_600 + minutes * 60))
}

/// Returns the days from 1970-01-01 to a Gregorian date, if the date exists.
fn days_since_1970(date: &str) -> Option<i64> {
    let mut parts = date.split('-').map(digits);
    let [year, month, day] = [parts.next()??, parts.next()??, parts.next()??];
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Years start in March, so the leap day is the last day of its year.
    let year = year - i64::from(month <= 2);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(year * 365 + leap_days + day_of_year - DAYS_TO_1970)
}

/// Returns the year, month and day that are `days` after 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_1970;
    let era = days.div_euclid(DAYS_OF_400_YEARS);
    let in_era = days.rem_euclid(DAYS_OF_400_YEARS);
    let year_of_era = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let day_of_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

fn ticks(span: Duration) -> i64 {
    i64::try_from(span.as_nanos() / 100).unwrap_or(i64::MAX)
}

const TICKS_PER_SECOND: i64 = 10_000_000;
/// 2525-01-01T00:00:00Z, the end of CTIM's range.
const LATEST: Timestamp = Timestamp::from_unix_seconds(17_514_144_000);
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;
const DAYS_OF_400_YEARS: i64 = 146_097;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_times_that_graph_writes_and_writes_those_that_ctim_reads() {
        let rows = [
            // Graph writes zero to seven digits.
            ("2026-01-22T12:09:22.8566667Z", Some("2026-01-22T12:09:22.856Z")),
            ("2026-01-22T12:09:22Z", Some("2026-01-22T12:09:22.000Z")),
            ("2026-02-25T16:29:33.1Z", Some("2026-02-25T16:29:33.100Z")),
            // Offsets are legal RFC 3339.
            ("2026-03-01T00:30:00+01:00", Some("2026-02-28T23:30:00.000Z")),
            ("2026-03-01T00:30:00-0130", Some("2026-03-01T02:00:00.000Z")),
            ("2026-03-01T00:30:00+01", Some("2026-02-28T23:30:00.000Z")),
            // Without a zone it is UTC; the seconds may be missing.
            ("2026-01-22T12:09:22", Some("2026-01-22T12:09:22.000Z")),
            ("2026-01-22 12:09:22.5", Some("2026-01-22T12:09:22.500Z")),
            ("2026-01-22T12:09", Some("2026-01-22T12:09:00.000Z")),
            ("2026-01-22T12:09Z", Some("2026-01-22T12:09:00.000Z")),
            (" 2026-01-22T12:09:22Z\r\n", Some("2026-01-22T12:09:22.000Z")),
            // The fraction after the offset, and a `Z` after both.
            ("2026-01-22T12:09:22+0530123Z", Some("2026-01-22T06:39:22.000Z")),
            ("2026-01-22T12:09:22+05:30123Z", Some("2026-01-22T06:39:22.000Z")),
            // Leap days exist in 2000 and 2024, not in 2100 and 2026.
            ("2024-02-29T00:00:00Z", Some("2024-02-29T00:00:00.000Z")),
            ("2000-02-29T00:00:00Z", Some("2000-02-29T00:00:00.000Z")),
            ("2026-02-29T00:00:00Z", None),
            ("2100-02-29T00:00:00Z", None),
            // The ends of CTIM's range, and .NET's "never".
            ("1970-01-01T00:00:00Z", Some("1970-01-01T00:00:00.000Z")),
            ("2525-01-01T00:00:00Z", Some("2525-01-01T00:00:00.000Z")),
            ("1969-12-31T23:59:59Z", None),
            ("0001-01-01T00:00:00Z", None),
            ("1601-01-01T00:00:00Z", None),
            ("9999-12-31T23:59:59Z", None),
            // Not times.
            ("", None),
            ("2026-01-22", None),
            ("2026-01-22T12", None),
            ("2026-01-22T12:9:22Z", None),
            ("2026-01-22T12:09:22.Z", None),
            ("2026-01-22T12:09:22+0530xyzZ", None),
            ("2026-01-22T12:09:22+05304", None),
            ("2026-01-22T24:00:00Z", None),
            ("2026-13-22T12:00:00Z", None),
            ("2026-1-22T12:00:00ZZ", None),
            ("2026-01-22T12:09:22+009223372036854775807", None),
            ("2026-01-22T12:09:22+0099999999999999999999", None),
            ("+026-01-22T12:00:00Z", None),
            ("2026-01-22T12:00:00é", None),
            ("yesterday", None),
        ];
        for (text, expected) in rows {
            let read = Timestamp::parse(text).map(Timestamp::ctim);
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn reads_the_times_that_http_writes() {
        let rows = [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some("1994-11-06T08:49:37.000Z")),
            (" Tue, 29 Feb 2028 23:59:59 GMT ", Some("2028-02-29T23:59:59.000Z")),
            // The obsolete forms.
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some("1994-11-06T08:49:37.000Z")),
            ("Sun Nov  6 08:49:37 1994", Some("1994-11-06T08:49:37.000Z")),
            // Other zones, dates that do not exist, times that CTIM cannot hold.
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Mon, 06 Nov 1994 08:49:37 GMT", None),
            ("Tue, 01 Jan 2526 00:00:00 GMT", None),
            ("Sun, 31 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Foo 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT x", None),
            ("120", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let read = Timestamp::parse_http(text).map(Timestamp::ctim);
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn writes_times_as_http_does() {
        let rows = [
            ("1970-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("1994-11-06T08:49:37Z", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("2028-02-29T23:59:59.9Z", "Tue, 29 Feb 2028 23:59:59 GMT"),
            ("2525-01-01T00:00:00Z", "Mon, 01 Jan 2525 00:00:00 GMT"),
        ];
        for (text, expected) in rows {
            let time = Timestamp::parse(text).unwrap();
            assert_eq!(time.http(), expected);
            assert_eq!(
                Timestamp::parse_http(expected).unwrap().unix_seconds(),
                time.unix_seconds()
            );
        }
        let beyond = Timestamp::from_unix_seconds(i64::MAX);
        assert_eq!(beyond.http(), "Mon, 01 Jan 2525 00:00:00 GMT");
    }

    #[test]
    fn the_time_between_is_never_negative() {
        let (a, b) = (Timestamp::from_unix_seconds(10), Timestamp::from_unix_seconds(12));
        assert_eq!((b.since(a), a.since(b)), (Duration::from_secs(2), Duration::ZERO));
    }

    #[test]
    fn a_literal_for_graph_loses_no_digit() {
        let time = Timestamp::parse("2026-01-22T12:09:22.8566667Z").unwrap();
        assert_eq!(time.odata(), "2026-01-22T12:09:22.8566667Z");
        assert_eq!(time.to_string(), "2026-01-22 12:09:22 UTC");
    }

    #[test]
    fn every_day_of_ctims_time_is_written_as_it_was_read() {
        let mut day = Timestamp::from_unix_seconds(0);
        let mut previous = String::new();
        while day < LATEST {
            let text = day.ctim();
            assert_eq!(Timestamp::parse(&text), Some(day), "{text}");
            assert!(text > previous, "{text} after {previous}");
            previous = text;
            day = day.plus(Duration::from_secs(86_400));
        }
    }
}
