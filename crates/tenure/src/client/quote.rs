//! Quoted strings as Go writes and reads them (`strconv.Quote`, `strconv.Unquote`): keys and values in the
//! `fields` format and in transactions typed by hand.

use std::fmt::Write;

/// `bytes` between double quotes: printable characters as they are, everything else escaped.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::with_capacity(bytes.len() + 2);
    quoted.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_escaped(&mut quoted, c));
        chunk.invalid().iter().for_each(|&byte| push_number(&mut quoted, 'x', 2, byte.into()));
    }
    quoted.push('"');
    quoted
}

fn push_escaped(quoted: &mut String, c: char) {
    match c {
        '"' => quoted.push_str("\\\""),
        '\\' => quoted.push_str("\\\\"),
        '\x07' => quoted.push_str("\\a"),
        '\x08' => quoted.push_str("\\b"),
        '\x0c' => quoted.push_str("\\f"),
        '\n' => quoted.push_str("\\n"),
        '\r' => quoted.push_str("\\r"),
        '\t' => quoted.push_str("\\t"),
        '\x0b' => quoted.push_str("\\v"),
        c if c < ' ' || c == '\x7f' => push_number(quoted, 'x', 2, c.into()),
        c if is_printable(c) => quoted.push(c),
        c if c as u32 <= 0xffff => push_number(quoted, 'u', 4, c.into()),
        c => push_number(quoted, 'U', 8, c.into()),
    }
}

fn push_number(quoted: &mut String, kind: char, digits: usize, number: u32) {
    write!(quoted, "\\{kind}{number:0digits$x}").expect("a String takes everything");
}

/// The standard library does not show its table of printable characters, but its debug format uses it. (A
/// mark that combines with the character before it is escaped only at the start: hence the letter.)
fn is_printable(c: char) -> bool {
    let text = String::from_iter(['a', c]);
    text.escape_debug().eq(text.chars()) || c == '\''
}

/// Reads a quoted string from the start of `text`: its bytes, and what follows the closing quote.
pub(crate) fn unquote_prefix(text: &str) -> Option<(Vec<u8>, &str)> {
    let mut rest = text.strip_prefix('"')?.chars();
    let mut bytes = Vec::new();
    loop {
        match rest.next()? {
            '"' => return Some((bytes, rest.as_str())),
            '\\' => rest = unescape(rest.as_str(), &mut bytes)?.chars(),
            c => push_char(&mut bytes, c),
        }
    }
}

/// Reads what follows a backslash; answers with what follows that.
fn unescape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let kind = text.chars().next()?;
    let rest = &text[kind.len_utf8()..];
    let simple = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '"' => b'"',
        'x' => u8::try_from(number(rest, 2, 16)?).ok()?,
        '0'..='7' => u8::try_from(number(text, 3, 8)?).ok()?,
        'u' | 'U' => {
            let digits = if kind == 'u' { 4 } else { 8 };
            push_char(bytes, char::from_u32(number(rest, digits, 16)?)?);
            return rest.get(digits..);
        }
        _ => return None,
    };
    bytes.push(simple);
    match kind {
        'x' => rest.get(2..),
        '0'..='7' => text.get(3..),
        _ => Some(rest),
    }
}

/// The number that the first `digits` characters write.
fn number(text: &str, digits: usize, radix: u32) -> Option<u32> {
    let digits = text.get(..digits)?;
    // `from_str_radix` would take a sign.
    digits.chars().all(|c| c.is_digit(radix)).then(|| u32::from_str_radix(digits, radix).ok())?
}

fn push_char(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_go_quotes_them() {
        // The right side was printed by Go's %q.
        for (bytes, quoted) in [
            (&b"foo"[..], r#""foo""#),
            (b"", r#""""#),
            (b"a\x00\"\\\x7f\xff\xe2\x82\xac\n", "\"a\\x00\\\"\\\\\\x7f\\xff€\\n\""),
            ("tab\tbell\x07 'x'".as_bytes(), r#""tab\tbell\a 'x'""#),
            ("\u{85}\u{a0}\u{ad}".as_bytes(), r#""\u0085\u00a0\u00ad""#),
            ("é e\u{301} 日本 \u{3000}".as_bytes(), "\"é e\u{301} 日本 \\u3000\""),
            ("😀\u{e0001}\u{feff}".as_bytes(), r#""😀\U000e0001\ufeff""#),
        ] {
            assert_eq!(quote(bytes), quoted);
        }
    }

    #[test]
    fn what_was_quoted_reads_back() {
        let all_bytes: Vec<u8> = (0..=255).collect();
        for bytes in [&all_bytes[..], "é\u{301}\u{ad}\u{e0001}\u{10ffff}".as_bytes(), b""] {
            let text = format!("{} rest", quote(bytes));
            assert_eq!(unquote_prefix(&text), Some((bytes.to_vec(), " rest")));
        }
    }

    #[test]
    fn escapes_are_read_as_go_reads_them() {
        for (text, bytes) in [
            (r#""\x41\101\u00e9\U0001F600""#, "AAé😀".as_bytes()),
            (r#""\a\b\f\n\r\t\v\\\"""#, b"\x07\x08\x0c\n\r\t\x0b\\\""),
        ] {
            assert_eq!(unquote_prefix(text), Some((bytes.to_vec(), "")));
        }
        for wrong in ["", "a", "\"a", r#""\"#, r#""\x4""#, r#""\400""#, r#""\ud800""#, r#""\q""#, r#""\x+1""#]
        {
            assert_eq!(unquote_prefix(wrong), None, "{wrong}");
        }
        assert_eq!(unquote_prefix("\"\\é\""), None);
    }
}
