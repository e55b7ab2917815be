//! Stripe's JSON: any bytes are read into a header and facts, always the same ones, however the JSON is written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use keyledger_schemas::envelope::{Delivery, PARTITIONS};
use keyledger_schemas::ids::SourceName;
use keyledger_schemas::stripe::fact::Fact;
use keyledger_schemas::stripe::fetched::Fetched;
use keyledger_schemas::stripe::record::event_of;
use keyledger_schemas::stripe::{Header, Thin, facts, news, thin};
use serde_json::Value;
use serde_json::value::RawValue;

/// Everything that is read from a body.
#[derive(Debug, PartialEq)]
struct Reading {
    /// Or why there is none.
    header: Result<Header, String>,
    facts: Vec<Fact>,
    thin: Option<Thin>,
}

/// Reads any bytes, and the same JSON written in other ways, and holds the readings against each other.
pub fn stripe_reader(data: &[u8]) {
    let reading = read(data);
    assert_eq!(reading, read(data), "the same bytes are read alike");
    check_facts(&reading);
    if let Ok(header) = &reading.header {
        check_event(header, data);
    }
    check_answer(data);

    let Some(text) = std::str::from_utf8(data).ok().filter(|text| serde_json::from_str::<Value>(text).is_ok()) else {
        assert_eq!((&reading.facts[..], &reading.thin), (&[][..], &None), "what is no JSON states nothing");
        return;
    };
    for style in [Style::Compact, Style::Reversed, Style::Spacious] {
        let mut written = String::new();
        write(text, style, &mut written);
        assert_eq!(read(written.as_bytes()), reading, "{style:?}: {written}");
    }
}

fn read(body: &[u8]) -> Reading {
    let header = Header::read(body).map_err(|error| error.to_string());
    Reading { header, facts: facts(body), thin: thin(body) }
}

fn check_facts(reading: &Reading) {
    let facts = &reading.facts;
    let written = serde_json::to_vec(facts).unwrap();
    assert_eq!(&serde_json::from_slice::<Vec<Fact>>(&written).unwrap(), facts, "facts read back as they were written");
    assert!(!news(facts, facts), "what is known is no news");
    for fact in facts {
        if let Fact::Linked(link) = fact {
            for id in [link.child.id(), link.parent.id()] {
                let is_sane = !id.is_empty() && id.len() <= 255 && !id.contains([':', '/', ' ', '\n', '\0']);
                assert!(is_sane, "{id:?} becomes part of our keys");
            }
            assert_eq!(facts.iter().filter(|other| *other == fact).count(), 1, "a link is stated once");
        }
    }
    if reading.thin.is_some() {
        assert!(facts.is_empty(), "a thin event shows no object");
    }
}

/// The event for the log holds the body as it is, under a name that keys, subjects and message headers can carry.
fn check_event(header: &Header, body: &[u8]) {
    let delivery = Delivery::reconciled(Timestamp::UNIX_EPOCH);
    let event = event_of(&SourceName::default(), header.clone(), delivery, body.to_vec());
    assert_eq!(event.data, body);
    assert!(event.partition < PARTITIONS);
    assert!(event.kind.starts_with("stripe.") && event.kind.split('.').all(|token| !token.is_empty()));
    let is_name = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control());
    assert!(is_name(event.id.as_str()) && event.id.as_str().is_ascii(), "{}", event.id);
    assert!(is_name(event.stream.as_str()) && is_name(&event.kind), "{} {}", event.stream, event.kind);
    assert_eq!(event.id.as_str().split(':').count(), 5, "{}", event.id);
}

/// An answer of Stripe's is kept and read back as it was.
fn check_answer(body: &[u8]) {
    let Some(fetched) = Fetched::decode(body) else { return };
    let encoded = fetched.encode();
    assert_eq!(Fetched::decode(&encoded).as_ref(), Some(&fetched));
    assert_eq!(facts(&encoded), facts(body));
}

/// Ways to write the same JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// Without blanks, the fields of each object in order.
    Compact,
    /// The fields of each object in the opposite order.
    Reversed,
    /// With blanks wherever they may be, and every character of a text escaped.
    Spacious,
}

/// Writes what `json` says in another way. Numbers stay as they are, and of a field that is there twice the last counts.
fn write(json: &str, style: Style, out: &mut String) {
    let blank = if style == Style::Spacious { " \t\r\n" } else { "" };
    let json = json.trim();
    out.push_str(blank);
    match json.as_bytes().first() {
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap();
            let mut fields: Vec<_> = fields.into_iter().collect();
            if style == Style::Reversed {
                fields.reverse();
            }
            out.push('{');
            for (index, (name, value)) in fields.into_iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                out.push_str(blank);
                write_text(&name, style, out);
                out.push_str(blank);
                out.push(':');
                write(value.get(), style, out);
            }
            out.push('}');
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(json).unwrap();
            out.push('[');
            for (index, element) in elements.into_iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write(element.get(), style, out);
            }
            out.push(']');
        }
        Some(b'"') => write_text(&serde_json::from_str::<String>(json).unwrap(), style, out),
        _ => out.push_str(json),
    }
    out.push_str(blank);
}

fn write_text(text: &str, style: Style, out: &mut String) {
    if style != Style::Spacious {
        out.push_str(&serde_json::to_string(text).unwrap());
        return;
    }
    out.push('"');
    for unit in text.encode_utf16() {
        // Writing to a string does not fail.
        let _ = write!(out, "\\u{unit:04x}");
    }
    out.push('"');
}
