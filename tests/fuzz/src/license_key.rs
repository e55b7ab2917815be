//! License keys as people type them: any text is judged, and what is taken for a key is one by a second reckoning too.

use keyledger_engine::key::{LicenseKey, hash, last4};
use keyledger_engine::keys::DeploymentKeys;
use keyledger_schemas::ids::LicenseId;
use sha2::{Digest, Sha256};
use uuid::Uuid;

const ALPHABET: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Symbols of a key, the two of the check part included.
const SYMBOLS: usize = 28;

/// What mail and word processors put between the groups.
const SEPARATORS: [&str; 8] = ["-", "", " ", "_", "\u{2013}", "\u{a0}", "\u{ad}", " - "];

/// Reads any text as a key, with its own check part and with the right one, and makes a key and types it sloppily.
pub fn license_key(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    check(&text);
    check(&with_check_part(&text));
    check_derived(data);
}

/// Holds the verdict on a text against a naive one.
fn check(text: &str) {
    let keys = keys();
    let parsed = LicenseKey::parse(text);
    let hashed = hash(&keys, text);
    assert_eq!(hashed.len(), 64);
    let end = last4(text);
    assert!(end.is_empty() || end.chars().count() == 4);
    assert_eq!(parsed.as_ref().ok().map(LicenseKey::expose), naive(text).as_deref(), "{text:?}");
    let Ok(key) = parsed else { return };

    assert_eq!(LicenseKey::parse(key.expose()).as_ref(), Ok(&key), "a key reads back");
    assert_eq!(hash(&keys, key.expose()), hashed, "a key hashes alike however it is typed");
    assert_eq!((key.hash(&keys), key.last4().to_owned()), (hashed, last4(key.expose())));
    let shown = format!("{key:?}");
    assert_eq!(shown, key.masked());
    assert!(shown.starts_with("KL-…-") && shown.chars().count() == 9, "{shown}");
    every_mistake_in_one_or_two_symbols_is_noticed(&key);
}

/// A wrong symbol at every place, and the wrong order of every two.
fn every_mistake_in_one_or_two_symbols_is_noticed(key: &LicenseKey) {
    let right: Vec<char> = key.expose()[2..].chars().filter(|symbol| *symbol != '-').collect();
    let refused = |typed: &[char]| LicenseKey::parse(&typed.iter().collect::<String>()).is_err();
    for place in 0..SYMBOLS {
        let next = (place + 1) % SYMBOLS;
        let mut wrong = right.clone();
        wrong[place] = ALPHABET.chars().cycle().skip_while(|symbol| *symbol != right[place]).nth(1 + place).unwrap();
        assert!(refused(&wrong), "{wrong:?}");
        let mut swapped = right.clone();
        swapped.swap(place, next);
        assert!(swapped == right || refused(&swapped), "{swapped:?}");
        assert!(refused(&[&right[..place], &right[place + 1..]].concat()), "one is missing");
    }
}

/// The key of a license, typed with the separators, the case and the look-alikes that the input chooses.
fn check_derived(data: &[u8]) {
    let digest: [u8; 32] = Sha256::digest(data).into();
    let license = LicenseId(Uuid::from_slice(&digest[..16]).unwrap());
    let key = LicenseKey::derive(&keys(), license);
    assert_eq!(key, LicenseKey::derive(&keys(), license));
    let mut typed = String::new();
    for (index, symbol) in key.expose().chars().enumerate() {
        let choice = usize::from(*data.get(index).unwrap_or(&0));
        let look_alike = match symbol {
            '0' => 'O',
            '1' => ['I', 'L'][choice / 4 % 2],
            other => other,
        };
        match symbol {
            '-' => typed.push_str(SEPARATORS[choice % SEPARATORS.len()]),
            _ if choice % 4 == 0 => typed.push(symbol),
            _ if choice % 4 == 1 => typed.push(look_alike),
            _ if choice % 4 == 2 => typed.push(symbol.to_ascii_lowercase()),
            _ => typed.push(look_alike.to_ascii_lowercase()),
        }
    }
    assert_eq!(LicenseKey::parse(&typed), Ok(key), "{typed:?}");
    check(&typed);
}

/// The first 26 symbols of the text, and the check part that makes a key of them.
fn with_check_part(text: &str) -> String {
    let data: Vec<u8> = text.chars().filter_map(value).take(SYMBOLS - 2).collect();
    let symbol = |value: u8| char::from(ALPHABET.as_bytes()[usize::from(value)]);
    for first in 0..32 {
        for second in 0..32 {
            let word = [&data[..], &[first, second]].concat();
            if is_codeword(&word) {
                return word.into_iter().map(symbol).collect();
            }
        }
    }
    unreachable!("each 26 symbols have a check part");
}

/// The key as it is written, if the text is one: every symbol has a value, and the polynomial of all has its two roots.
fn naive(text: &str) -> Option<String> {
    if text.len() > 256 {
        return None;
    }
    let is_separator = |c: char| c.is_whitespace() || "-_\u{2212}\u{ad}\u{200b}\u{feff}".contains(c) || is_dash(c);
    let typed: Vec<char> = text.chars().filter(|c| !is_separator(*c)).collect();
    let symbols = match &typed[..] {
        [k, l, symbols @ ..] if symbols.len() == SYMBOLS && "Kk".contains(*k) && "Ll1Ii".contains(*l) => symbols,
        symbols if symbols.len() == SYMBOLS => symbols,
        _ => return None,
    };
    let values = symbols.iter().map(|symbol| value(*symbol)).collect::<Option<Vec<u8>>>()?;
    if !is_codeword(&values) {
        return None;
    }
    let mut written = "KL".to_owned();
    for group in values.chunks(4) {
        written.push('-');
        written.extend(group.iter().map(|value| char::from(ALPHABET.as_bytes()[usize::from(*value)])));
    }
    Some(written)
}

/// The dashes from hyphen to horizontal bar.
fn is_dash(c: char) -> bool {
    ('\u{2010}'..='\u{2015}').contains(&c)
}

fn value(typed: char) -> Option<u8> {
    let symbol = match typed.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    ALPHABET.find(symbol).and_then(|value| u8::try_from(value).ok())
}

/// Whether the polynomial with these coefficients is zero at 1 and at 2, in GF(32) modulo x⁵ + x² + 1.
fn is_codeword(values: &[u8]) -> bool {
    let at_one = values.iter().fold(0, |sum, value| sum ^ value);
    let at_two = values.iter().fold(0, |sum, value| twice(sum) ^ value);
    at_one == 0 && at_two == 0
}

fn twice(value: u8) -> u8 {
    if value & 16 == 0 { value << 1 } else { (value << 1) ^ 0b10_0101 }
}

fn keys() -> DeploymentKeys {
    DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32])
}
