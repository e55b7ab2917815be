//! The test vectors of `docs/license-file.md`: `testdata/license-file/*.json`, for whoever writes a verifier.
//!
//! They are made here from a fixed key and committed. A missing one is written (and the test fails once), so that a
//! change of the format shows as a changed file; an existing one is never overwritten.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use keyledger_engine::file::{self, Invalid, Payload, State, VerifyingKeys};
use keyledger_engine::keys::DeploymentKeys;
use keyledger_schemas::ids::LicenseId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One vector, as its file holds it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Vector {
    about: String,
    public_key: String,
    now: Timestamp,
    file: String,
    expect: Expect,
}

/// What a verifier must answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expect {
    Valid { state: State, payload: Payload },
    Invalid(Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Error {
    Malformed,
    WrongVersion,
    UnknownKey,
    BadSignature,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/license-file")
}

/// The fixed test key. Its private half is public: trust it nowhere.
fn keys() -> DeploymentKeys {
    DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32])
}

fn other_keys() -> DeploymentKeys {
    DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[4; 32])
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn payload() -> Payload {
    Payload {
        expires_at: Some(at("2027-01-04T00:00:00Z")),
        features: ["export".to_owned(), "größe".to_owned()].into(),
        issued_at: at("2026-12-01T12:00:00Z"),
        key: "KL-…-9F4C".to_owned(),
        license: LicenseId(Uuid::from_u128(0x1234_5678_9abc_5def_8123_4567_89ab_cdef)),
        paid_until: Some(at("2027-01-01T00:00:00Z")),
        product: "pro".to_owned(),
        purchase: "default:-:live:sub_1".to_owned(),
        seats: 3,
    }
}

fn perpetual() -> Payload {
    Payload { expires_at: None, features: BTreeSet::new(), paid_until: None, seats: 1, ..payload() }
}

/// The symbol at `place` of the line that begins with `line`, replaced by another of the alphabet.
fn with_symbol_changed(file: &str, line: &str, place: usize) -> String {
    let start = file.find(line).unwrap() + place;
    let put = if &file[start..=start] == "A" { "B" } else { "A" };
    format!("{}{put}{}", &file[..start], &file[start + 1..])
}

/// The same file with `from` replaced by `to` in the payload, as a forger without the key would do it.
fn with_payload_edited(file: &str, from: &str, to: &str) -> String {
    let (head, rest) = file.split_once("\n\n").unwrap();
    let (body, _) = rest.split_once("\n-----END").unwrap();
    let json = BASE64URL_NOPAD.decode(body.replace('\n', "").as_bytes()).unwrap();
    let edited = String::from_utf8(json).unwrap().replace(from, to);
    format!("{head}\n\n{}\n-----END KEYLEDGER LICENSE-----\n", BASE64URL_NOPAD.encode(edited.as_bytes()))
}

fn vectors() -> Vec<(&'static str, Vector)> {
    let good = file::sign(&keys(), &payload());
    let valid = |state, payload| Expect::Valid { state, payload };
    let vector = |about: &str, now: &str, file: String, expect| Vector {
        about: about.to_owned(),
        public_key: keys().public_key_pem(),
        now: at(now),
        file,
        expect,
    };
    let bad = |about: &str, file: String, error| vector(about, "2026-12-15T00:00:00Z", file, Expect::Invalid(error));
    vec![
        ("active", vector("paid", "2026-12-15T00:00:00Z", good.clone(), valid(State::Active, payload()))),
        ("grace", vector("from paid_until on", "2027-01-01T00:00:00Z", good.clone(), valid(State::Grace, payload()))),
        (
            "expired",
            vector(
                "from expires_at on; still genuine",
                "2027-01-04T00:00:00Z",
                good.clone(),
                valid(State::Expired, payload()),
            ),
        ),
        (
            "perpetual",
            vector(
                "no expiry, no features",
                "2099-01-01T00:00:00Z",
                file::sign(&keys(), &perpetual()),
                valid(State::Active, perpetual()),
            ),
        ),
        (
            "mailed",
            vector(
                "text around the block, CRLF, white space at line ends",
                "2026-12-15T00:00:00Z",
                format!("Hello,\n\n{good}\nRegards\n").replace('\n', " \r\n"),
                valid(State::Active, payload()),
            ),
        ),
        (
            "seats-raised",
            bad(
                "the payload was edited",
                with_payload_edited(&good, r#""seats":3"#, r#""seats":9"#),
                Error::BadSignature,
            ),
        ),
        (
            "expiry-moved",
            bad("the payload was edited", with_payload_edited(&good, "2027-01-04", "2037-01-04"), Error::BadSignature),
        ),
        (
            "signature-changed",
            bad(
                "one symbol of the signature differs",
                with_symbol_changed(&good, "Signature: ", 20),
                Error::BadSignature,
            ),
        ),
        (
            "signature-of-another-file",
            bad(
                "a genuine signature, of another payload",
                {
                    let (head, _) = good.split_once("\n\n").unwrap();
                    let other = file::sign(&keys(), &perpetual());
                    let (_, body) = other.split_once("\n\n").unwrap();
                    format!("{head}\n\n{body}")
                },
                Error::BadSignature,
            ),
        ),
        (
            "other-key",
            bad("signed by a key that is not trusted", file::sign(&other_keys(), &payload()), Error::UnknownKey),
        ),
        (
            "other-key-claiming-ours",
            bad(
                "signed by another key under the name of the trusted one",
                file::sign(&other_keys(), &payload()).replace(&other_keys().signing_key_id(), &keys().signing_key_id()),
                Error::BadSignature,
            ),
        ),
        ("format-2", bad("a format of the future", good.replace("Format: 1", "Format: 2"), Error::WrongVersion)),
        ("cut", bad("the end is missing", good[..good.len() - 60].to_owned(), Error::Malformed)),
        ("two-blocks", bad("which of the two counts is unclear", format!("{good}{good}"), Error::Malformed)),
        ("no-signature", bad("the signature line is missing", without_line(&good, "Signature"), Error::Malformed)),
        ("padded", bad("base64url has no padding here", good.replacen("\n\n", "==\n\n", 1), Error::Malformed)),
        (
            "loose-bits",
            bad(
                "the signature's last symbol has bits set that belong to no byte",
                with_loose_bits(&good),
                Error::Malformed,
            ),
        ),
    ]
}

fn without_line(file: &str, start: &str) -> String {
    file.lines().filter(|line| !line.starts_with(start)).flat_map(|line| [line, "\n"]).collect()
}

/// 64 bytes are 85 symbols and 2 bits; the last symbol's other 4 bits must be 0.
fn with_loose_bits(file: &str) -> String {
    let (head, body) = file.split_once("\n\n").unwrap();
    let last = head.chars().last().unwrap();
    let loose = char::from_u32(u32::from(last) + 1).unwrap();
    format!("{}{loose}\n\n{body}", &head[..head.len() - 1])
}

#[test]
fn committed_vectors_are_what_this_code_makes() {
    let mut written = Vec::new();
    let mut names = BTreeSet::new();
    for (name, vector) in vectors() {
        let path = folder().join(format!("{name}.json"));
        names.insert(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&vector).unwrap() + "\n";
        if let Ok(committed) = fs::read_to_string(&path) {
            assert_eq!(committed, text, "{name} differs: delete it to have it made anew");
        } else {
            fs::create_dir_all(folder()).unwrap();
            fs::write(&path, text).unwrap();
            written.push(name);
        }
    }
    assert!(written.is_empty(), "made {written:?}: look at them, then commit them");
    let found: BTreeSet<_> =
        fs::read_dir(folder()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, names, "a vector that nothing makes");
}

#[test]
fn every_committed_vector_is_answered_as_it_expects() {
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let vector: Vector = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let mut trusted = VerifyingKeys::default();
        trusted.insert_pem(&vector.public_key).unwrap();
        let answer = match file::verify(&vector.file, &trusted, vector.now) {
            Ok(verified) => Expect::Valid { state: verified.state, payload: verified.payload },
            Err(Invalid::Malformed { .. }) => Expect::Invalid(Error::Malformed),
            Err(Invalid::WrongVersion { .. }) => Expect::Invalid(Error::WrongVersion),
            Err(Invalid::UnknownKey { .. }) => Expect::Invalid(Error::UnknownKey),
            Err(Invalid::BadSignature) => Expect::Invalid(Error::BadSignature),
        };
        assert_eq!(answer, vector.expect, "{}", path.display());
    }
}
