//! Durations as Go writes them, because etcdctl's options do: `5s`, `1m30s`, `1.5h`, `300ms`.

use std::time::Duration;

const UNITS_S: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Reads a duration that is not negative.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let wrong = || format!("expected a duration such as 5s, 300ms or 1m30s, not {text:?}");
    let mut rest = text;
    let mut total_s = 0.0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let (_, unit_s) = UNITS_S.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total_s += number * unit_s;
        rest = after;
    }
    if text.is_empty() { Err(wrong()) } else { Duration::try_from_secs_f64(total_s).map_err(|_| wrong()) }
}

/// A duration as Go writes it: `1m30s`, `1.5s`, `2.345ms`, `12µs`.
pub(crate) fn text(duration: Duration) -> String {
    let (secs, ns) = (duration.as_secs(), u64::from(duration.subsec_nanos()));
    let in_unit = |whole: u64, rest: u64, digits: usize, unit: &str| {
        let fraction = format!("{rest:0digits$}");
        match fraction.trim_end_matches('0') {
            "" => format!("{whole}{unit}"),
            fraction => format!("{whole}.{fraction}{unit}"),
        }
    };
    match (secs, ns) {
        (0, 0) => "0s".to_owned(),
        (0, ns) if ns < 1_000 => format!("{ns}ns"),
        (0, ns) if ns < 1_000_000 => in_unit(ns / 1_000, ns % 1_000, 3, "µs"),
        (0, ns) => in_unit(ns / 1_000_000, ns % 1_000_000, 6, "ms"),
        (secs, ns) => {
            let (hours, minutes) = (secs / 3600, secs / 60 % 60);
            let seconds = in_unit(secs % 60, ns, 9, "s");
            match (hours, minutes) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (ns, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (2_345_678, "2.345678ms"),
            (20_000_000, "20ms"),
            (1_000_000_000, "1s"),
            (5_000_500_000, "5.0005s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(text(Duration::from_nanos(ns)), expected);
        }
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, ms) in [
            ("0", 0),
            ("5s", 5_000),
            ("300ms", 300),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("2000us", 2),
            ("2000µs", 2),
            ("1h0m0s", 3_600_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "s", "5 s", "-5s", "5d", "1.2.3s", "99999999999999999999h", "5s3"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
