//! Texts with slots: what differs from customer to customer is cut out of a text once, and filled in for each of them.

use std::fmt::Write as _;

use anyhow::Result;
use jiff::Timestamp;
use keyledger_schemas::ids::UnitId;
use uuid::Uuid;

/// What an id begins with when each customer needs one of its own. Prices and products are shared.
const OWN: [&str; 14] =
    ["evt_", "sub_", "in_", "cus_", "si_", "ch_", "pi_", "cs_live_", "il_", "inpay_", "re_", "dp_", "ii_", "txn_"];

/// Ids are longer than this; words such as `in_progress` are not.
const ID_BYTES_MIN: usize = 16;

/// Every time of the stories lies between these, and no other number does: 2026-01-01 to 2029-01-01.
const TOLD: std::ops::Range<i64> = 1_767_225_600..1_861_920_000;

/// What stands behind these is each customer's own.
const OWN_WORDS: [&str; 2] = ["Jenny Rosen", "\"number\": \""];

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// The same for everybody.
    Text(String),
    /// `x` and the customer's number.
    Number,
    /// A time, in seconds since 1970.
    Second(i64),
    /// A time, as our own events write it.
    Time(i64),
    /// One of the ids that are made of others.
    Derived(usize),
    /// A sealed license key.
    Key { license: usize, event: usize },
}

/// A text with slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots(Vec<Piece>);

/// What fills the slots for one customer.
pub trait Filling {
    /// The customer's number.
    fn number(&self) -> usize;
    /// How many seconds later than in the story.
    fn later(&self) -> i64;
    /// An id that is made of others.
    fn derived(&self, index: usize) -> Uuid;
    /// The JSON of a license's key, sealed for an event.
    fn key(&self, license: usize, event: usize) -> String;
}

/// The ids that occur in a story and are made of others: of licenses, and of events of ours.
#[derive(Clone, Debug, Default)]
pub struct Derived(Vec<(Uuid, Origin)>);

/// What an id is made of.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A license: of its unit, in this generation.
    License { unit: Slots, generation: u32 },
    /// An event: here of its id in the story, and the customer.
    Event,
}

impl Derived {
    /// Notes the license of a unit.
    pub fn license(&mut self, unit: &UnitId, generation: u32) {
        let id = unit.license(generation).0;
        if self.0.iter().all(|(known, _)| *known != id) {
            let unit = Slots::of(&unit.to_string(), self);
            self.0.push((id, Origin::License { unit, generation }));
        }
    }

    /// The place of an id. One that is no license's is an event's.
    pub fn index_of(&mut self, id: Uuid) -> usize {
        self.0.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
            self.0.push((id, Origin::Event));
            self.0.len() - 1
        })
    }

    /// An id in the story, and what it is made of.
    pub fn get(&self, index: usize) -> Option<&(Uuid, Origin)> {
        self.0.get(index)
    }
}

impl Slots {
    /// Cuts out of a text all that is one customer's own.
    pub fn of(text: &str, derived: &mut Derived) -> Self {
        let mut slots = Self::default();
        let mut at = 0;
        while at < text.len() {
            at += slots.take(&text[at..], derived);
        }
        slots
    }

    /// The same, where the text holds the JSON of a sealed key.
    pub fn with_key(text: &str, key: &str, license: usize, event: usize, derived: &mut Derived) -> Self {
        let Some((before, after)) = text.split_once(key) else { return Self::of(text, derived) };
        let mut slots = Self::of(before, derived);
        slots.0.push(Piece::Key { license, event });
        slots.0.extend(Self::of(after, derived).0);
        slots
    }

    /// The text of one customer.
    pub fn fill(&self, with: &impl Filling) -> Result<String> {
        let mut text = String::with_capacity(self.0.len() * 32);
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Number => write!(text, "x{}", with.number())?,
                Piece::Second(second) => write!(text, "{}", second + with.later())?,
                Piece::Time(second) => write!(text, "{}", Timestamp::from_second(second + with.later())?)?,
                Piece::Derived(index) => write!(text, "{}", with.derived(*index))?,
                Piece::Key { license, event } => text.push_str(&with.key(*license, *event)),
            }
        }
        Ok(text)
    }

    /// Takes what the text begins with, and says how many bytes that was.
    fn take(&mut self, text: &str, derived: &mut Derived) -> usize {
        if let Some(id) = text.get(..36).and_then(|id| Uuid::try_parse(id).ok()) {
            self.0.push(Piece::Derived(derived.index_of(id)));
            return 36;
        }
        if let Some(at) = text.get(..20).filter(|text| text.ends_with('Z')).and_then(|at| at.parse::<Timestamp>().ok())
            && TOLD.contains(&at.as_second())
        {
            self.0.push(Piece::Time(at.as_second()));
            return 20;
        }
        if let Some(word) = OWN_WORDS.iter().find(|word| text.starts_with(**word)) {
            self.text(word);
            self.0.push(Piece::Number);
            return word.len();
        }
        let word = text.len() - text.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len();
        if word == 0 {
            if text.starts_with("@example.com") {
                self.0.push(Piece::Number);
            }
            let one = text.chars().next().map_or(1, char::len_utf8);
            self.text(&text[..one]);
            return one;
        }
        let word = &text[..word];
        match word.parse::<i64>() {
            Ok(second) if word.len() == 10 && TOLD.contains(&second) => self.0.push(Piece::Second(second)),
            _ => self.text(word),
        }
        if word.len() >= ID_BYTES_MIN && OWN.iter().any(|prefix| word.starts_with(prefix)) {
            self.0.push(Piece::Number);
        }
        word.len()
    }

    fn text(&mut self, more: &str) {
        match self.0.last_mut() {
            Some(Piece::Text(text)) => text.push_str(more),
            _ => self.0.push(Piece::Text(more.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Seventh;

    impl Filling for Seventh {
        fn number(&self) -> usize {
            7
        }

        fn later(&self) -> i64 {
            100
        }

        fn derived(&self, index: usize) -> Uuid {
            Uuid::from_u128(index as u128)
        }

        fn key(&self, license: usize, event: usize) -> String {
            format!("{license}/{event}")
        }
    }

    #[test]
    fn what_is_a_customers_own_is_filled_in() {
        let text = r#"{"id": "sub_1w95DJB7WZ01zgkWKk3BnmFz", "price": "price_1PgafmB7WZ01zgkW6dKueIc5", "created": 1785402942,
            "until": "2026-08-30T09:15:42Z", "amount": 2000, "email": "jenny@example.com", "number": "7FE1103-0001",
            "license": "6f0f24d4-6e29-5d7e-a3a4-6f6b1f0f3d33", "status": "in_progress", "key": KEY}"#;
        let mut derived = Derived::default();
        let slots = Slots::with_key(text, "KEY", 0, 5, &mut derived);
        let expected = r#"{"id": "sub_1w95DJB7WZ01zgkWKk3BnmFzx7", "price": "price_1PgafmB7WZ01zgkW6dKueIc5", "created": 1785403042,
            "until": "2026-08-30T09:17:22Z", "amount": 2000, "email": "jennyx7@example.com", "number": "x77FE1103-0001",
            "license": "00000000-0000-0000-0000-000000000000", "status": "in_progress", "key": 0/5}"#;
        assert_eq!(slots.fill(&Seventh).unwrap(), expected);
    }
}
