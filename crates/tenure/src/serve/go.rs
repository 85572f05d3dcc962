//! Values as Go's `flag` and `strconv` read them, since that is who reads etcd's flags.

/// `strconv.ParseBool`.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// `strconv.ParseUint` with base 0: decimal, `0x`, `0o`, `0b`, a leading `0` for octal, underscores between digits.
pub(crate) fn unsigned(text: &str, bits: u32) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let has_prefix = digits.len() < lower.len();
    let is_separated =
        !digits.ends_with('_') && !digits.contains("__") && (has_prefix || !digits.starts_with('_'));
    let plain = digits.replace('_', "");
    // Rust would take a sign.
    if !is_separated || !plain.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    u64::from_str_radix(&plain, radix).ok().filter(|&value| bits >= 64 || value >> bits == 0)
}

/// `strconv.ParseInt` with base 0 and 64 bits.
pub(crate) fn signed(text: &str) -> Option<i64> {
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let value = i128::from(unsigned(digits, 64)?);
    i64::try_from(if is_negative { -value } else { value }).ok()
}

/// `time.ParseDuration`, in nanoseconds: `1h30m`, `1.5s`, `-5ms`, `0`.
pub(crate) fn duration_ns(text: &str) -> Option<i64> {
    const UNITS: [(&str, i128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let unsigned_text = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned_text == "0" {
        return Some(0);
    }
    let mut rest = unsigned_text;
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()?.into() };
        // More digits than these are less than a nanosecond of an hour.
        let digits = &fraction[..fraction.len().min(18)];
        let part: i128 = if digits.is_empty() { 0 } else { digits.parse::<i64>().ok()?.into() };
        total += whole * unit_ns + part * unit_ns / 10_i128.pow(digits.len() as u32);
        rest = after;
    }
    let total = if text.starts_with('-') { -total } else { total };
    if unsigned_text.is_empty() { None } else { i64::try_from(total).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_the_twelve_words_of_go() {
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(boolean(text), Some(true), "{text}");
        }
        for text in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(boolean(text), Some(false), "{text}");
        }
        for text in ["", "yes", "on", "tRUE", " true", "2"] {
            assert_eq!(boolean(text), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_have_gos_prefixes_and_underscores() {
        for (text, value) in [
            ("0", 0),
            ("100", 100),
            ("0x64", 100),
            ("0X64", 100),
            ("0b11", 3),
            ("0o17", 15),
            ("017", 15),
            ("1_000", 1000),
            ("0x_ff", 255),
            ("0_7", 7),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(unsigned(text, 64), Some(value), "{text}");
        }
        for text in [
            "",
            "-1",
            "+1",
            "1.5",
            "1e3",
            "08",
            "_1",
            "1_",
            "1__0",
            "0x",
            "0b2",
            "x",
            " 1",
            "18446744073709551616",
        ] {
            assert_eq!(unsigned(text, 64), None, "{text:?}");
        }
        assert_eq!(unsigned("4294967295", 32), Some(u64::from(u32::MAX)));
        assert_eq!(unsigned("4294967296", 32), None);
        for (text, value) in [("-1", -1), ("+1", 1), ("-0x10", -16), ("-9223372036854775808", i64::MIN)] {
            assert_eq!(signed(text), Some(value), "{text}");
        }
        for text in ["", "-", "--1", "9223372036854775808", "-9223372036854775809"] {
            assert_eq!(signed(text), None, "{text:?}");
        }
    }

    #[test]
    fn durations_have_units_but_for_zero() {
        for (text, ns) in [
            ("0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("-5ms", -5_000_000),
            ("+1h0m30s", 3_630_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("100µs", 100_000),
            ("100μs", 100_000),
            ("0.000000001s", 1),
        ] {
            assert_eq!(duration_ns(text), Some(ns), "{text}");
        }
        for text in ["", "5", "s", ".s", "5 s", "5d", "1.2.3s", "5s3", "-", "--5s", "99999999999h"] {
            assert_eq!(duration_ns(text), None, "{text:?}");
        }
    }
}
