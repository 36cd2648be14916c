//! Parses and formats times.

use std::time::{Duration, SystemTime};

use jiff::{
    Span, Timestamp,
    civil::{Date, DateTime},
    tz::TimeZone,
};

use crate::Failure;

/// Parses a time: a span from now (`90d`, `1y 6mo`, `12h`); a day, which stands for its beginning in UTC; or a point
/// in time with its zone.
pub(crate) fn from_now(text: &str) -> Result<SystemTime, Failure> {
    if let Ok(point) = text.parse::<Timestamp>() {
        return SystemTime::try_from(point).map_err(|_| wrong(text));
    }
    if is_day(text) {
        let day: Date = text.parse().map_err(|_| wrong(text))?;
        let start = day.to_zoned_datetime(TimeZone::UTC).ok();
        return start.and_then(|start| SystemTime::try_from(start.timestamp()).ok()).ok_or_else(|| too_late(text));
    }
    if text.starts_with("9999-12-31") {
        return Err(too_late(text));
    }
    // A date and a time without a zone must not be read as a day, which would drop the hours silently.
    if text.parse::<DateTime>().is_ok() && text.contains(':') {
        return Err(Failure::Usage(format!(
            "{text:?} has no time zone; write {text}Z for UTC, or the offset, like {text}+01:00"
        )));
    }
    let now = Timestamp::now().to_zoned_datetime(TimeZone::UTC);
    let then = now.checked_add(span(text)?).map_err(|_| too_late(text))?;
    SystemTime::try_from(then.timestamp()).map_err(|_| wrong(text))
}

/// Parses when something ends: a time, or `never`.
pub(crate) fn end(text: &str) -> Result<Option<SystemTime>, Failure> {
    if text == "never" { Ok(None) } else { from_now(text).map(Some) }
}

/// Formats when a key ends.
pub(crate) fn ends(end: Option<SystemTime>) -> String {
    end.map_or("never expires".to_owned(), |end| format!("expires {}", shown(Some(end))))
}

/// Whether the text is `YYYY-MM-DD`. Other notations of a day are not accepted.
fn is_day(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

fn too_late(text: &str) -> Failure {
    Failure::Usage(format!("{text:?} is out of range; omit --expires for a key that never expires"))
}

/// Parses a span such as `365d`, and returns the time that long ago.
pub(crate) fn ago(text: &str) -> Result<SystemTime, Failure> {
    let now = Timestamp::now().to_zoned_datetime(TimeZone::UTC);
    let then = now.checked_sub(span(text)?).map_err(|_| wrong(text))?;
    SystemTime::try_from(then.timestamp()).map_err(|_| wrong(text))
}

/// Parses a span such as `24h`.
pub(crate) fn length(text: &str) -> Result<Duration, Failure> {
    let since = ago(text)?;
    Ok(SystemTime::now().duration_since(since).unwrap_or_default())
}

fn span(text: &str) -> Result<Span, Failure> {
    let span: Span = text.parse().map_err(|_| wrong(text))?;
    if span.is_negative() { Err(wrong(text)) } else { Ok(span) }
}

fn wrong(text: &str) -> Failure {
    Failure::Usage(format!("{text:?} is not a time; expected 90d, 12h, 1y, 2027-01-01 or 2027-01-01T12:00:00Z"))
}

/// Formats a time for a table, to the second.
pub(crate) fn shown(time: Option<SystemTime>) -> String {
    match time.map(Timestamp::try_from) {
        None => "-".to_owned(),
        Some(Ok(time)) => time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Some(Err(_)) => "?".to_owned(),
    }
}

/// Formats a time for JSON.
pub(crate) fn json(time: SystemTime) -> String {
    Timestamp::try_from(time).map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let day = Duration::from_secs(86_400);
        let (now, ninety) = (SystemTime::now(), from_now("90d").unwrap());
        let off = ninety.duration_since(now).unwrap();
        assert!(off >= 90 * day - Duration::from_secs(1) && off < 90 * day + Duration::from_secs(60));
        assert_eq!(shown(Some(from_now("2027-01-01").unwrap())), "2027-01-01 00:00:00Z");
        assert_eq!(shown(Some(from_now("2027-01-01T12:00:00+02:00").unwrap())), "2027-01-01 10:00:00Z");
        let day_long = length("24h").unwrap();
        assert!(day_long >= day && day_long < day + Duration::from_secs(60), "{day_long:?}");
        for wrong in [
            "",
            "soon",
            "-3d",
            "90",
            "2027-13-01",
            "99999999999y",
            "20270101",
            "2027-W01-1",
            "2027-01",
            " 2027-01-01",
            "2027-01-01 ",
            "2027-02-30",
            "2027-01-01T",
            "never",
        ] {
            assert!(from_now(wrong).is_err(), "{wrong}");
        }
        for (text, expected) in [
            ("2027-01-01T18:00:00", "write 2027-01-01T18:00:00Z"),
            ("2027-01-01 18:00", "has no time zone"),
            ("2027-01-01T18:00", "has no time zone"),
            ("9999-12-31", "omit --expires"),
            ("9999-12-31T23:59:59Z", "omit --expires"),
            ("9000y", "omit --expires"),
        ] {
            let error = from_now(text).unwrap_err().message().unwrap();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
