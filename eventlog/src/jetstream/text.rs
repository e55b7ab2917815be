//! Text as a header's value, and back: percent-encoded as the CloudEvents HTTP binding says.

use std::fmt::Write as _;

/// `text` in printable ASCII: a space, `"`, `%` and every byte outside `!`…`~` becomes `%XX`. Nothing that could end a
/// header survives.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'%' => push_escaped(&mut encoded, byte),
            b'!'..=b'~' => encoded.push(char::from(byte)),
            _ => push_escaped(&mut encoded, byte),
        }
    }
    encoded
}

fn push_escaped(encoded: &mut String, byte: u8) {
    // Writing into a string cannot fail.
    let _ = write!(encoded, "%{byte:02X}");
}

/// The text that [`encode`] was given; `None` when the value is not one of its.
pub(super) fn decode(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_end_a_header_is_escaped() {
        assert_eq!(encode("a b\r\nNats-Rollup: all"), "a%20b%0D%0ANats-Rollup:%20all");
        assert_eq!(encode("Zoë \"50%\""), "Zo%C3%AB%20%2250%25%22");
        assert_eq!(encode("in_1/si_2:live"), "in_1/si_2:live");
    }

    #[test]
    fn broken_escapes_are_refused() {
        for broken in ["%", "%2", "%zz", "%+1", "%FF"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn every_text_reads_back(text in ".*") {
            let encoded = encode(&text);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(decode(&encoded), Some(text));
        }
    }
}
