//! License files: signed statements of what was bought, which verify without a network.
//!
//! The format is this project's own and meant to be read in any language that has Ed25519, base64url and JSON; it is
//! described, with pseudo code and test vectors, in `docs/license-file.md`. What is signed is the header's two values
//! and the payload's bytes as they stand in the file, so that a reader needs no canonical JSON.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::pkcs8::DecodePublicKey;
use ed25519_dalek::{Signature, Signer, VerifyingKey};
use jiff::Timestamp;
use keyledger_schemas::ids::LicenseId;
use serde::{Deserialize, Serialize};

use crate::keys::{DeploymentKeys, key_id};

mod armour;

use armour::Armour;

/// The version that this code writes and reads.
pub const VERSION: u32 = 1;

/// What a license file says. No names, no addresses, and of the key only what a screen may show.
///
/// The fields stand in alphabetical order, and so they are written; `None` is written as `null`. All of them must be there:
/// a payload that does not say when a license ends does not say that it never does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// When it stops working (paid until, plus grace); `None` for never.
    #[serde(deserialize_with = "Option::deserialize")]
    pub expires_at: Option<Timestamp>,
    /// Names of what was bought beside the product.
    pub features: BTreeSet<String>,
    /// When the file was made.
    pub issued_at: Timestamp,
    /// The license key, masked: `KL-…-9F4C`.
    pub key: String,
    /// The license.
    pub license: LicenseId,
    /// Until when it is paid; `None` for ever.
    #[serde(deserialize_with = "Option::deserialize")]
    pub paid_until: Option<Timestamp>,
    /// The product, as the seller's catalog names it.
    pub product: String,
    /// The purchase it was paid in, as keyledger names it: `source:account:mode:id`.
    pub purchase: String,
    /// How many machines or users; at least 1.
    pub seats: u32,
}

/// A payload whose signature is right, and how it stands at the time asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What the file says.
    pub payload: Payload,
    /// Which key signed it.
    pub key_id: String,
    /// How it stands. An expired license is still a genuine one.
    pub state: State,
}

/// How a genuine license stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Paid.
    Active,
    /// No longer paid, and still working.
    Grace,
    /// From `expires_at` on.
    Expired,
}

/// Why a file is not a genuine license. None of these goes away by asking again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is not in the format, or was cut.
    #[error("not a license file: {reason}")]
    Malformed {
        /// What is wrong first.
        reason: &'static str,
    },
    /// It is in a format that this code does not know.
    #[error("license file of format {found}, and this program reads format {VERSION}: update the program")]
    WrongVersion {
        /// The format it says it is in.
        found: u32,
    },
    /// It names a key that is not among those we trust.
    #[error("the license file was signed with the unknown key `{key_id}`")]
    UnknownKey {
        /// The key it names.
        key_id: String,
    },
    /// It was changed, or somebody else signed it.
    #[error("the license file's signature is wrong: it was changed, or forged")]
    BadSignature,
}

/// A public key that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("not an Ed25519 public key in PEM (BEGIN PUBLIC KEY)")]
pub struct BadPublicKey(#[source] ed25519_dalek::pkcs8::spki::Error);

/// The public keys whose license files are genuine, by their ids; several, so that a signing key can be replaced.
#[derive(Clone, Debug, Default)]
pub struct VerifyingKeys(BTreeMap<String, VerifyingKey>);

impl VerifyingKeys {
    /// The public key of this deployment.
    pub fn of(keys: &DeploymentKeys) -> Self {
        let mut trusted = Self::default();
        trusted.insert(keys.verifying_key());
        trusted
    }

    /// Trusts one more key.
    pub fn insert(&mut self, key: VerifyingKey) {
        self.0.insert(key_id(&key), key);
    }

    /// Trusts one more key, given as SPKI PEM (`license-signing.pub.pem`).
    ///
    /// # Errors
    ///
    /// [`BadPublicKey`].
    pub fn insert_pem(&mut self, pem: &str) -> Result<(), BadPublicKey> {
        self.insert(VerifyingKey::from_public_key_pem(pem).map_err(BadPublicKey)?);
        Ok(())
    }
}

impl Payload {
    /// The bytes that are signed for it: compact JSON, fields in alphabetical order, times in whole seconds of UTC.
    fn to_json(&self) -> Vec<u8> {
        let whole = Self {
            expires_at: self.expires_at.map(whole_second),
            issued_at: whole_second(self.issued_at),
            paid_until: self.paid_until.map(whole_second),
            ..self.clone()
        };
        #[expect(clippy::expect_used, reason = "text, numbers and times are JSON")]
        serde_json::to_vec(&whole).expect("text, numbers and times are JSON")
    }

    fn state(&self, now: Timestamp) -> State {
        if self.expires_at.is_some_and(|at| now >= at) {
            State::Expired
        } else if self.paid_until.is_some_and(|at| now >= at) {
            State::Grace
        } else {
            State::Active
        }
    }
}

/// Writes the license file that says `payload`. The same payload gives the same file.
pub fn sign(keys: &DeploymentKeys, payload: &Payload) -> String {
    let payload = payload.to_json();
    let key_id = keys.signing_key_id();
    let signature = keys.signing().sign(&signed_bytes(VERSION, &key_id, &payload));
    Armour { version: VERSION, key_id, signature: signature.to_bytes(), payload }.to_string()
}

/// Reads a license file and checks its signature. Reads no clock: the file is judged at `now`.
///
/// # Errors
///
/// [`Invalid`]. That the license has expired is no error but a [`State`].
pub fn verify(text: &str, trusted: &VerifyingKeys, now: Timestamp) -> Result<Verified, Invalid> {
    let armour = Armour::parse(text)?;
    let Some(key) = trusted.0.get(&armour.key_id) else {
        return Err(Invalid::UnknownKey { key_id: armour.key_id });
    };
    let signed = signed_bytes(armour.version, &armour.key_id, &armour.payload);
    // Strict: what passes here passes in every other implementation of Ed25519 too.
    key.verify_strict(&signed, &Signature::from_bytes(&armour.signature)).map_err(|_| Invalid::BadSignature)?;
    let payload: Payload = serde_json::from_slice(&armour.payload)
        .map_err(|_| Invalid::Malformed { reason: "the payload is not what this format says" })?;
    let state = payload.state(now);
    Ok(Verified { payload, key_id: armour.key_id, state })
}

/// What the signature is over. The first line keeps signatures made for anything else from passing here.
fn signed_bytes(version: u32, key_id: &str, payload: &[u8]) -> Vec<u8> {
    [format!("keyledger license {version} {key_id}\n").as_bytes(), payload].concat()
}

/// Rounded toward 1970: a license never works longer than what was asked to be signed.
fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Decodes base64url without padding, strictly: one text per value.
fn base64url(text: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn keys() -> DeploymentKeys {
        DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32])
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn payload() -> Payload {
        Payload {
            expires_at: Some(at("2027-01-04T00:00:00Z")),
            features: ["export".to_owned()].into(),
            issued_at: at("2026-12-01T12:00:00Z"),
            key: "KL-…-9F4C".to_owned(),
            license: LicenseId(Uuid::from_u128(7)),
            paid_until: Some(at("2027-01-01T00:00:00Z")),
            product: "pro".to_owned(),
            purchase: "default:-:live:sub_1".to_owned(),
            seats: 3,
        }
    }

    fn verify_at(now: &str, text: &str) -> Result<Verified, Invalid> {
        verify(text, &VerifyingKeys::of(&keys()), at(now))
    }

    fn resigned(payload: &str, version: u32) -> String {
        let (keys, payload) = (keys(), payload.as_bytes().to_vec());
        let signature = keys.signing().sign(&signed_bytes(version, &keys.signing_key_id(), &payload)).to_bytes();
        Armour { version, key_id: keys.signing_key_id(), signature, payload }.to_string()
    }

    #[test]
    fn a_license_file_says_what_was_signed_and_how_it_stands() {
        let file = sign(&keys(), &payload());
        for (now, state) in [
            ("2026-11-01T00:00:00Z", State::Active),
            ("2026-12-31T23:59:59Z", State::Active),
            ("2027-01-01T00:00:00Z", State::Grace),
            ("2027-01-03T23:59:59Z", State::Grace),
            ("2027-01-04T00:00:00Z", State::Expired),
        ] {
            let expected = Verified { payload: payload(), key_id: keys().signing_key_id(), state };
            assert_eq!(verify_at(now, &file), Ok(expected), "{now}");
        }
    }

    #[test]
    fn a_perpetual_license_never_expires() {
        let file = sign(&keys(), &Payload { expires_at: None, paid_until: None, ..payload() });
        assert_eq!(verify_at("9999-01-01T00:00:00Z", &file).unwrap().state, State::Active);
    }

    #[test]
    fn the_payload_is_compact_json_in_alphabetical_order_and_whole_seconds() {
        let precise = Payload { issued_at: at("2026-12-01T12:00:00.987654321Z"), ..payload() };
        let json = String::from_utf8(precise.to_json()).unwrap();
        assert_eq!(json, String::from_utf8(payload().to_json()).unwrap());
        let value: BTreeMap<String, serde_json::Value> = serde_json::from_str(&json).unwrap();
        assert_eq!(json, serde_json::to_string(&value).unwrap());
        assert!(json.contains(r#""issued_at":"2026-12-01T12:00:00Z""#), "{json}");
    }

    #[test]
    fn every_changed_byte_of_the_payload_or_signature_is_noticed() {
        let file = sign(&keys(), &payload());
        let armour = Armour::parse(&file).unwrap();
        for index in 0..armour.payload.len() {
            let mut changed = armour.clone();
            changed.payload[index] ^= 1;
            assert_eq!(verify_at("2026-12-02T00:00:00Z", &changed.to_string()), Err(Invalid::BadSignature), "{index}");
        }
        for index in 0..armour.signature.len() {
            let mut changed = armour.clone();
            changed.signature[index] ^= 1;
            assert_eq!(verify_at("2026-12-02T00:00:00Z", &changed.to_string()), Err(Invalid::BadSignature), "{index}");
        }
    }

    #[test]
    fn a_file_of_another_deployment_is_signed_with_an_unknown_key() {
        let other = DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[9; 32]);
        let file = sign(&other, &payload());
        let unknown = Invalid::UnknownKey { key_id: other.signing_key_id() };
        assert_eq!(verify_at("2026-12-02T00:00:00Z", &file), Err(unknown));
        let claimed = file.replace(&other.signing_key_id(), &keys().signing_key_id());
        assert_eq!(verify_at("2026-12-02T00:00:00Z", &claimed), Err(Invalid::BadSignature));
    }

    #[test]
    fn several_keys_can_be_trusted_and_read_from_pem() {
        let other = DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[9; 32]);
        let mut trusted = VerifyingKeys::of(&keys());
        trusted.insert_pem(&other.public_key_pem()).unwrap();
        for keys in [keys(), other] {
            verify(&sign(&keys, &payload()), &trusted, at("2026-12-02T00:00:00Z")).unwrap();
        }
        assert!(trusted.insert_pem("-----BEGIN PUBLIC KEY-----").is_err());
    }

    #[test]
    fn another_format_is_told_apart_from_a_forged_one() {
        let json = String::from_utf8(payload().to_json()).unwrap();
        let found = verify_at("2026-12-02T00:00:00Z", &resigned(&json, 2));
        assert_eq!(found, Err(Invalid::WrongVersion { found: 2 }));
        let relabelled = sign(&keys(), &payload()).replace("Format: 1", "Format: 2");
        assert_eq!(verify_at("2026-12-02T00:00:00Z", &relabelled), Err(Invalid::WrongVersion { found: 2 }));
    }

    #[test]
    fn fields_added_later_are_passed_over_and_missing_ones_are_not() {
        let json = String::from_utf8(payload().to_json()).unwrap();
        let more = json.replacen('{', r#"{"added":{"x":[1]},"#, 1);
        assert_eq!(verify_at("2026-12-02T00:00:00Z", &resigned(&more, 1)).unwrap().payload, payload());
        let fields: BTreeMap<String, serde_json::Value> = serde_json::from_str(&json).unwrap();
        for missing in fields.keys() {
            let fewer = json.replace(&format!("\"{missing}\":"), "\"another\":");
            let verdict = verify_at("2026-12-02T00:00:00Z", &resigned(&fewer, 1));
            assert!(matches!(verdict, Err(Invalid::Malformed { .. })), "{missing}");
        }
    }

    fn any_time() -> impl Strategy<Value = Timestamp> {
        (0..4_000_000_000_i64).prop_map(|second| Timestamp::from_second(second).unwrap())
    }

    fn any_payload() -> impl Strategy<Value = Payload> {
        let times = (proptest::option::of(any_time()), any_time(), proptest::option::of(any_time()));
        let texts = ("\\PC{0,20}", "\\PC{0,40}", "\\PC{0,60}", proptest::collection::btree_set("\\PC{0,20}", 0..5));
        (times, texts, any::<u128>(), 1..=u32::MAX).prop_map(|(times, texts, license, seats)| Payload {
            expires_at: times.0,
            features: texts.3,
            issued_at: times.1,
            key: texts.0,
            license: LicenseId(Uuid::from_u128(license)),
            paid_until: times.2,
            product: texts.1,
            purchase: texts.2,
            seats,
        })
    }

    proptest! {
        #[test]
        fn whatever_is_signed_verifies_as_it_was(payload in any_payload(), now in any_time()) {
            let verified = verify(&sign(&keys(), &payload), &VerifyingKeys::of(&keys()), now).unwrap();
            prop_assert_eq!(verified.payload, payload);
        }

        #[test]
        fn arbitrary_text_is_answered_without_panic(text in ".{0,400}") {
            prop_assert!(verify_at("2026-12-02T00:00:00Z", &text).is_err());
        }

        #[test]
        fn a_file_with_one_character_changed_says_the_same_or_nothing(place: prop::sample::Index, put in "[ -~\\n]") {
            let file = sign(&keys(), &payload());
            let place = place.index(file.len());
            let changed = format!("{}{put}{}", &file[..place], &file[place + 1..]);
            if let Ok(verified) = verify_at("2026-12-02T00:00:00Z", &changed) {
                prop_assert_eq!(verified.payload, payload());
            }
        }
    }
}
