//! Readable license keys, derived from the license's id.
//!
//! `KL-` and seven groups of four symbols: 26 symbols carry the first 130 bits of HMAC-SHA256(derivation secret,
//! license id), two more check them. The symbols are Crockford's base32 alphabet, which has no `I`, `L`, `O` and `U`;
//! whoever types `O` or `l` for them is understood.
//!
//! The check part is a Reed-Solomon code over GF(32): any one or two wrong symbols are noticed, and with them every
//! pair of swapped symbols; of other mistakes all but one in 1024.

use std::fmt;

use data_encoding::HEXLOWER;
use keyledger_schemas::ids::LicenseId;
use keyledger_schemas::secret::Secret;
use zeroize::Zeroizing;

use crate::keys::{DeploymentKeys, Use};

/// What every key of ours begins with.
pub const PREFIX: &str = "KL";

/// Crockford's base32: <https://www.crockford.com/base32.html>.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Symbols that carry the key: 130 bits.
const DATA: usize = 26;

/// Symbols with the check part. A code of distance 3 over GF(32) may be 31 long.
const LENGTH: usize = DATA + 2;

const GROUP: usize = 4;

/// Longer text is no license key, however many spaces somebody put in.
const TYPED_BYTES_MAX: usize = 256;

/// A license key of the built-in engine. Shows itself only to [`LicenseKey::expose`]; `Debug` prints the masked form.
#[derive(Clone, PartialEq, Eq)]
pub struct LicenseKey(Zeroizing<String>);

/// Text that is not one of our license keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Too few or too many symbols.
    #[error("a license key has {LENGTH} letters and digits after `{PREFIX}-`")]
    Length,
    /// A symbol that no key contains.
    #[error("`{0}` is not in any license key")]
    Symbol(char),
    /// The check part does not fit: something was mistyped.
    #[error("the license key is mistyped: its check part does not fit")]
    Check,
}

impl LicenseKey {
    /// The key of `license`: always the same for the same deployment.
    pub fn derive(keys: &DeploymentKeys, license: LicenseId) -> Self {
        let bits = keys.derive(Use::LicenseKey, &[license.0.as_bytes()]);
        let mut symbols = Zeroizing::new([0; LENGTH]);
        for (index, symbol) in symbols[..DATA].iter_mut().enumerate() {
            *symbol = five_bits(bits.as_slice(), index * 5);
        }
        let check = check_part(&symbols[..DATA]);
        symbols[DATA..].copy_from_slice(&check);
        Self::of_symbols(&symbols)
    }

    /// Reads a key as people type it: in any case, with or without prefix, dashes and spaces, with `O` for `0` and `I`
    /// or `L` for `1`.
    ///
    /// # Errors
    ///
    /// [`BadKey`] says what is wrong, in words for the person who typed it.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        if text.len() > TYPED_BYTES_MAX {
            return Err(BadKey::Length);
        }
        let typed: Zeroizing<Vec<char>> = Zeroizing::new(text.chars().filter(|c| !is_separator(*c)).collect());
        let body = if typed.len() == LENGTH + PREFIX.len() { without_prefix(&typed)? } else { &typed[..] };
        if body.len() != LENGTH {
            return Err(BadKey::Length);
        }
        let mut symbols = Zeroizing::new([0; LENGTH]);
        for (symbol, &typed) in symbols.iter_mut().zip(body) {
            *symbol = symbol_of(typed).ok_or(BadKey::Symbol(typed))?;
        }
        if check_part(&symbols[..DATA]) != symbols[DATA..] {
            return Err(BadKey::Check);
        }
        Ok(Self::of_symbols(&symbols))
    }

    /// The key itself. Search for this word to find every use.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The key as a secret, for those who hand on keys of any engine.
    pub fn to_secret(&self) -> Secret {
        Secret::new(self.expose())
    }

    /// What stands in the log in place of the key. See [`hash`].
    pub fn hash(&self, keys: &DeploymentKeys) -> String {
        hash_of(keys, self.expose())
    }

    /// Its last four symbols.
    pub fn last4(&self) -> &str {
        &self.0[self.0.len() - GROUP..]
    }

    /// A form for screens and license files: `KL-…-9F4C`.
    pub fn masked(&self) -> String {
        format!("{PREFIX}-…-{}", self.last4())
    }

    fn of_symbols(symbols: &[u8; LENGTH]) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + LENGTH + LENGTH / GROUP));
        text.push_str(PREFIX);
        for (index, &symbol) in symbols.iter().enumerate() {
            if index % GROUP == 0 {
                text.push('-');
            }
            text.push(char::from(ALPHABET[usize::from(symbol)]));
        }
        Self(text)
    }
}

impl fmt::Debug for LicenseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// The hash under which a key of any engine stands in the log, 64 hex digits: HMAC-SHA256 under the derivation secret.
///
/// Keyed, because engines that we do not control may make keys short enough to be guessed, and a reader of the log must
/// not be able to try guesses. Our own keys are hashed in their one written form, so that a key typed sloppily hashes
/// alike; others without surrounding white space, as they are.
pub fn hash(keys: &DeploymentKeys, text: &str) -> String {
    match LicenseKey::parse(text) {
        Ok(key) => key.hash(keys),
        Err(_) => hash_of(keys, text.trim()),
    }
}

/// The last four letters or digits of a key of any engine; fewer than 12 show none, since four would be too much of it.
pub fn last4(text: &str) -> String {
    let symbols: Zeroizing<Vec<char>> = Zeroizing::new(text.chars().filter(|c| c.is_alphanumeric()).collect());
    if symbols.len() < 12 { String::new() } else { symbols[symbols.len() - 4..].iter().collect() }
}

fn hash_of(keys: &DeploymentKeys, text: &str) -> String {
    HEXLOWER.encode(keys.derive(Use::KeyHash, &[text.as_bytes()]).as_slice())
}

/// Spaces, and the dashes that mail programs and word processors make of `-`.
fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '-' | '_' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ad}' | '\u{200b}' | '\u{feff}')
}

fn without_prefix(typed: &[char]) -> Result<&[char], BadKey> {
    let (prefix, body) = typed.split_at(PREFIX.len());
    let fits = matches!(prefix, ['K' | 'k', 'L' | 'l' | 'I' | 'i' | '1']);
    if fits { Ok(body) } else { Err(BadKey::Length) }
}

fn symbol_of(typed: char) -> Option<u8> {
    let typed = match typed.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let place = ALPHABET.iter().position(|&symbol| char::from(symbol) == typed)?;
    u8::try_from(place).ok()
}

/// The five bits of `bytes` from bit `start` on.
fn five_bits(bytes: &[u8], start: usize) -> u8 {
    let pair = u16::from_be_bytes([bytes[start / 8], bytes[start / 8 + 1]]);
    ((pair >> (11 - start % 8)) & 31) as u8
}

/// The remainder of `data`, read as a polynomial over GF(32), times x² modulo (x + 1)(x + a), where a = 2 generates the
/// field. The generator has the roots a⁰ and a¹, hence distance 3.
fn check_part(data: &[u8]) -> [u8; 2] {
    let mut remainder = [0; 2];
    for &symbol in data {
        let feedback = symbol ^ remainder[0];
        // (x + 1)(x + 2) = x² + 3x + 2.
        remainder = [remainder[1] ^ times(feedback, 3), times(feedback, 2)];
    }
    remainder
}

/// Multiplication in GF(32) modulo x⁵ + x² + 1.
fn times(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        b >>= 1;
        a <<= 1;
        if a & 32 != 0 {
            a ^= 0b10_0101;
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn keys() -> DeploymentKeys {
        DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32])
    }

    fn key(number: u128) -> LicenseKey {
        LicenseKey::derive(&keys(), LicenseId(Uuid::from_u128(number)))
    }

    /// The 28 symbols without prefix and dashes.
    fn symbols(key: &LicenseKey) -> Vec<char> {
        key.expose()[PREFIX.len()..].chars().filter(|&c| c != '-').collect()
    }

    fn parse(symbols: &[char]) -> Result<LicenseKey, BadKey> {
        LicenseKey::parse(&symbols.iter().collect::<String>())
    }

    #[test]
    fn a_license_has_the_same_key_for_ever() {
        // A fixed value: every key ever issued is derived like this.
        assert_eq!(key(1).expose(), "KL-588A-BJKP-GZ1A-7PYZ-6723-RWC4-Q6S3");
    }

    #[test]
    fn licenses_and_deployments_have_different_keys() {
        let other = DeploymentKeys::from_bytes(&[9; 32], &[2; 32], &[3; 32]);
        assert_ne!(key(1), key(2));
        assert_ne!(key(1), LicenseKey::derive(&other, LicenseId(Uuid::from_u128(1))));
    }

    #[test]
    fn every_single_substitution_is_noticed() {
        for number in 0..8 {
            let right = symbols(&key(number));
            for place in 0..LENGTH {
                for &symbol in ALPHABET {
                    let mut typed = right.clone();
                    typed[place] = char::from(symbol);
                    let expected = if typed == right { Ok(key(number)) } else { Err(BadKey::Check) };
                    assert_eq!(parse(&typed), expected, "{typed:?}");
                }
            }
        }
    }

    #[test]
    fn every_transposition_is_noticed_adjacent_or_not() {
        for number in 0..64 {
            let right = symbols(&key(number));
            for a in 0..LENGTH {
                for b in a + 1..LENGTH {
                    let mut typed = right.clone();
                    typed.swap(a, b);
                    assert_eq!(parse(&typed).is_ok(), typed == right, "{a} {b} {typed:?}");
                }
            }
        }
    }

    #[test]
    fn every_swap_of_unequal_neighbours_is_noticed_whatever_they_are() {
        // The code is linear: a mistake is noticed, or not, by the difference alone. So all pairs of values at all
        // places on the zero key cover every key.
        for place in 0..LENGTH - 1 {
            for a in 0..32_u8 {
                for b in 0..32_u8 {
                    let mut difference = [0; LENGTH];
                    difference[place] = a ^ b;
                    difference[place + 1] = a ^ b;
                    let noticed = check_part(&difference[..DATA]) != difference[DATA..];
                    assert_eq!(noticed, a != b, "{place} {a} {b}");
                }
            }
        }
    }

    #[test]
    fn any_two_wrong_symbols_are_noticed() {
        for a in 0..LENGTH {
            for b in a + 1..LENGTH {
                for x in 1..32_u8 {
                    for y in 1..32_u8 {
                        let mut difference = [0; LENGTH];
                        (difference[a], difference[b]) = (x, y);
                        assert_ne!(check_part(&difference[..DATA]), difference[DATA..], "{a} {b} {x} {y}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_key_typed_sloppily_is_understood() {
        // One that contains both 0 and 1, so that look-alikes are really tried.
        let key = (0..100).map(key).find(|key| symbols(key).contains(&'0') && symbols(key).contains(&'1')).unwrap();
        let text = key.expose();
        let bare = text.replace('-', "");
        for typed in [
            text.to_lowercase(),
            format!("  {text}\r\n"),
            text.replace('-', " - "),
            text.replace('-', "–"),
            bare.clone(),
            bare[PREFIX.len()..].to_owned(),
            text.replace('0', "O"),
            text.replace('0', "o"),
            text.replace('1', "I"),
            text.replace('1', "l"),
            text.replace("KL-", "K1-"),
            text.chars().flat_map(|c| [c, ' ']).collect(),
        ] {
            assert_eq!(LicenseKey::parse(&typed), Ok(key.clone()), "{typed}");
        }
    }

    #[test]
    fn what_is_no_key_is_told_why() {
        let text = key(1).expose().to_owned();
        assert_eq!(LicenseKey::parse(""), Err(BadKey::Length));
        assert_eq!(LicenseKey::parse(&text[..text.len() - 1]), Err(BadKey::Length));
        assert_eq!(LicenseKey::parse(&format!("{text}0")), Err(BadKey::Length));
        assert_eq!(LicenseKey::parse(&text.replacen("KL", "XY", 1)), Err(BadKey::Length));
        assert_eq!(LicenseKey::parse(&format!("{}U", &text[..text.len() - 1])), Err(BadKey::Symbol('U')));
        assert_eq!(LicenseKey::parse(&" ".repeat(100_000)), Err(BadKey::Length));
    }

    #[test]
    fn keys_have_no_look_alikes_and_28_symbols_in_groups_of_four() {
        for number in 0..200 {
            let key = key(number);
            let groups: Vec<&str> = key.expose().split('-').collect();
            assert_eq!(groups[0], "KL");
            assert_eq!(groups.len(), 8);
            assert!(groups[1..].iter().all(|group| group.len() == 4 && !group.contains(['I', 'L', 'O', 'U'])));
        }
    }

    #[test]
    fn all_130_bits_vary() {
        for place in 0..DATA {
            let seen: BTreeSet<char> = (0..1000).map(|number| symbols(&key(number))[place]).collect();
            assert_eq!(seen.len(), 32, "{place}");
        }
    }

    #[test]
    fn debug_and_masked_show_the_last_four_only() {
        let key = key(1);
        assert_eq!(format!("{key:?}"), format!("KL-…-{}", key.last4()));
        assert_eq!(key.masked(), format!("KL-…-{}", &key.expose()[key.expose().len() - 4..]));
    }

    #[test]
    fn the_hash_is_the_same_however_the_key_is_typed_and_secret_to_the_deployment() {
        let keys = keys();
        let key = key(1);
        assert_eq!(hash(&keys, key.expose()), key.hash(&keys));
        assert_eq!(hash(&keys, &key.expose().to_lowercase().replace('-', " ")), key.hash(&keys));
        assert_eq!(hash(&keys, " ABCDE-FGHIJ \n"), hash(&keys, "ABCDE-FGHIJ"));
        let other = DeploymentKeys::from_bytes(&[9; 32], &[2; 32], &[3; 32]);
        assert_ne!(key.hash(&other), key.hash(&keys));
    }

    #[test]
    fn the_last_four_of_a_short_key_stay_hidden() {
        assert_eq!(last4("ABCDE-FGHIJ-KLMNO"), "LMNO");
        assert_eq!(last4(key(1).expose()), key(1).last4());
        assert_eq!(last4("ABC-1234"), "");
        assert_eq!(last4(""), "");
    }

    proptest! {
        #[test]
        fn every_key_reads_back(number: u128) {
            let key = key(number);
            prop_assert_eq!(LicenseKey::parse(key.expose()), Ok(key));
        }

        #[test]
        fn arbitrary_text_is_answered_without_panic(text in ".{0,300}") {
            let _ = LicenseKey::parse(&text);
            let _ = hash(&keys(), &text);
            let _ = last4(&text);
        }

        #[test]
        fn what_reads_back_is_written_in_one_way(text in "[A-Z0-9 -]{28,40}") {
            if let Ok(key) = LicenseKey::parse(&text) {
                prop_assert_eq!(LicenseKey::parse(key.expose()), Ok(key));
            }
        }
    }
}
