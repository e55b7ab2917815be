//! The armour around a license file: what survives mail, chat and text editors.
//!
//! Text around the block, line endings, and white space at the ends of lines do not matter; everything else does.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;

use super::{Invalid, base64url};

const BEGIN: &str = "-----BEGIN KEYLEDGER LICENSE-----";
const END: &str = "-----END KEYLEDGER LICENSE-----";

/// Symbols of the payload per line.
const LINE: usize = 64;

/// A license file is about 600 bytes; mail around it may be more.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// The parts of a license file, decoded and not yet trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Armour {
    pub version: u32,
    pub key_id: String,
    pub signature: [u8; 64],
    pub payload: Vec<u8>,
}

impl Armour {
    /// Takes a file apart. Of a version that we do not know, no more is read than the version.
    pub(super) fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > FILE_BYTES_MAX {
            return Err(malformed("it is longer than 64 KiB"));
        }
        let mut lines = block(text)?.into_iter();
        let format = field(lines.next(), "Format: ").ok_or(malformed("the line `Format: 1` is missing"))?;
        let version = number(format).ok_or(malformed("the format is not a number"))?;
        if version != super::VERSION {
            return Err(Invalid::WrongVersion { found: version });
        }
        let key_id = field(lines.next(), "Key: ").ok_or(malformed("the line `Key: …` is missing"))?;
        let hex = key_id.len() == 16 && key_id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !hex {
            return Err(malformed("the key id is not 16 hex digits"));
        }
        let signature = field(lines.next(), "Signature: ").ok_or(malformed("the line `Signature: …` is missing"))?;
        let signature = base64url(signature)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(malformed("the signature is not 64 bytes of base64url"))?;
        if lines.next() != Some("") {
            return Err(malformed("the blank line before the payload is missing"));
        }
        let payload = base64url(&lines.collect::<String>()).ok_or(malformed("the payload is not base64url"))?;
        Ok(Self { version, key_id: key_id.to_owned(), signature, payload })
    }
}

impl fmt::Display for Armour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{BEGIN}")?;
        writeln!(f, "Format: {}", self.version)?;
        writeln!(f, "Key: {}", self.key_id)?;
        writeln!(f, "Signature: {}", BASE64URL_NOPAD.encode(&self.signature))?;
        writeln!(f)?;
        let payload = BASE64URL_NOPAD.encode(&self.payload);
        let mut rest = payload.as_str();
        while !rest.is_empty() {
            let (line, next) = rest.split_at(rest.len().min(LINE));
            writeln!(f, "{line}")?;
            rest = next;
        }
        writeln!(f, "{END}")
    }
}

/// The lines between the one pair of armour lines.
fn block(text: &str) -> Result<Vec<&str>, Invalid> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let places = |wanted| lines.iter().enumerate().filter(move |(_, line)| **line == wanted).map(|(place, _)| place);
    let (mut begins, mut ends) = (places(BEGIN), places(END));
    let (Some(begin), None) = (begins.next(), begins.next()) else {
        return Err(malformed("it does not have exactly one BEGIN line"));
    };
    let (Some(end), None) = (ends.next(), ends.next()) else {
        return Err(malformed("it does not have exactly one END line"));
    };
    if begin > end {
        return Err(malformed("its END line comes before its BEGIN line"));
    }
    Ok(lines[begin + 1..end].to_vec())
}

fn field<'a>(line: Option<&'a str>, name: &str) -> Option<&'a str> {
    line?.strip_prefix(name)
}

/// A number written in one way: no sign, no leading zero.
fn number(text: &str) -> Option<u32> {
    let parsed: u32 = text.parse().ok()?;
    (parsed.to_string() == text).then_some(parsed)
}

fn malformed(reason: &'static str) -> Invalid {
    Invalid::Malformed { reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn armour() -> Armour {
        Armour { version: 1, key_id: "0123456789abcdef".to_owned(), signature: [7; 64], payload: vec![9; 100] }
    }

    #[track_caller]
    fn refused(text: &str, part: &str) {
        match Armour::parse(text) {
            Err(Invalid::Malformed { reason }) => assert!(reason.contains(part), "{reason}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn mail_around_it_and_other_line_endings_do_not_matter() {
        let text = armour().to_string();
        for arrived in [
            text.clone(),
            text.replace('\n', "\r\n"),
            text.replace('\n', "  \t\n"),
            format!("Hello,\n\nhere it is:\n{text}\nRegards\n"),
            text.trim_end().to_owned(),
        ] {
            assert_eq!(Armour::parse(&arrived), Ok(armour()), "{arrived}");
        }
    }

    #[test]
    fn each_missing_or_doubled_part_is_named() {
        let text = armour().to_string();
        let without = |start: &str| -> String {
            text.lines().filter(|line| !line.starts_with(start)).flat_map(|line| [line, "\n"]).collect()
        };
        refused("", "BEGIN");
        refused(&format!("{text}{text}"), "BEGIN");
        refused(&without("-----BEGIN"), "BEGIN");
        refused(&without("-----END"), "END");
        refused(&format!("{END}\n{BEGIN}\n"), "END");
        refused(&without("Format"), "Format");
        refused(&without("Key"), "Key");
        refused(&without("Signature"), "Signature");
        refused(&text.replace("\n\n", "\n"), "blank");
        refused(&text.replace("Format: 1", "Format: 01"), "number");
        refused(&text.replace("Format: 1", "Format: one"), "number");
        refused(&text.replace("Key: 0", "Key: X"), "hex");
        refused(&text.replace("Key: 0", "Key: "), "hex");
        refused(&text.replace("Signature: B", "Signature: "), "signature");
        refused(&text.replace("\n\n", "\n\n*"), "payload");
        refused(&"x".repeat(FILE_BYTES_MAX + 1), "64 KiB");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(payload: Vec<u8>, signature in prop::collection::vec(any::<u8>(), 64)) {
            let armour = Armour { payload, signature: signature.try_into().unwrap(), ..armour() };
            prop_assert_eq!(Armour::parse(&armour.to_string()), Ok(armour));
        }

        #[test]
        fn arbitrary_lines_inside_the_armour_are_answered_without_panic(inside in "(.{0,40}\n){0,8}") {
            let _ = Armour::parse(&format!("{BEGIN}\nFormat: 1\n{inside}\n{END}\n"));
        }
    }
}
