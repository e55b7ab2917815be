//! License files: whatever text arrives, only what the deployment's key has signed is a license, and it says what was signed.
//!
//! The input is read as a file, and also as a payload that the harness signs, so that a fuzzer, which cannot sign, gets
//! past the signature. The harness writes and reads the format by itself, as `docs/license-file.md` describes it.

use std::collections::BTreeSet;

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signer, SigningKey};
use jiff::Timestamp;
use keyledger_engine::file::{Invalid, Payload, State, VerifyingKeys, sign, verify};
use keyledger_engine::keys::DeploymentKeys;
use keyledger_schemas::ids::LicenseId;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

const SIGNING: [u8; 32] = [3; 32];
/// The name of the key that [`SIGNING`] makes.
const KEY_ID: &str = "b62e867fa2f33afe";

const BEGIN: &str = "-----BEGIN KEYLEDGER LICENSE-----";
const END: &str = "-----END KEYLEDGER LICENSE-----";

/// The fields of a payload, all of which must be there.
const FIELDS: [&str; 9] =
    ["expires_at", "features", "issued_at", "key", "license", "paid_until", "product", "purchase", "seats"];

/// How many bits of a signed file are turned, one at a time.
const FLIPS: usize = 6;

/// Reads any text as a license file, and signs any payload.
pub fn license_file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    check(&text);

    let signed = armoured(data);
    if check(&signed) {
        no_flipped_bit_is_accepted(&signed, data);
    } else {
        no_flipped_bit_is_accepted(&what_is_signed_verifies(data), data);
    }
}

/// Holds the verdict on a file against a naive one. True if it is genuine.
fn check(text: &str) -> bool {
    let verdict = verify(text, &trusted(), at(1_785_402_950));
    assert_eq!(verdict, verify(text, &trusted(), at(1_785_402_950)), "the same is judged alike");
    assert_eq!(verify(text, &VerifyingKeys::default(), at(0)).ok(), None, "where nobody is trusted nothing is genuine");
    let Ok(verified) = verdict else {
        assert!(!verdict.unwrap_err().to_string().is_empty());
        return false;
    };
    assert_eq!(verified.key_id, KEY_ID);
    let payload = naive(text).unwrap_or_else(|| panic!("accepted, and naively nothing to accept: {text}"));
    check_payload(&payload, &verified.payload);
    for now in [Timestamp::MIN, at(0), at(1_785_402_950), at(4_000_000_000), Timestamp::MAX] {
        let state = verify(text, &trusted(), now).unwrap().state;
        assert_eq!(state, naive_state(&verified.payload, now));
    }

    // What was accepted is signed again, in whole seconds, and that file says the same for ever.
    let again = sign(&keys(), &verified.payload);
    let reread = verify(&again, &trusted(), at(0)).unwrap().payload;
    assert_eq!(reread, whole_seconds(verified.payload));
    assert_eq!(sign(&keys(), &reread), again);
    for arrived in [again.replace('\n', " \t\r\n"), format!("Hello,\n\n{again}\nRegards"), again.trim().to_owned()] {
        assert_eq!(verify(&arrived, &trusted(), at(0)).unwrap().payload, reread);
    }
    true
}

/// What the input says, and as many fields as it has bytes for, as a license; and that license's file.
fn what_is_signed_verifies(data: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(data).into();
    let number =
        |place: usize| u32::from_be_bytes([digest[place], digest[place + 1], digest[place + 2], digest[place + 3]]);
    let text = String::from_utf8_lossy(&data[..data.len().min(512)]);
    let payload = Payload {
        expires_at: (digest[0].is_multiple_of(2)).then(|| at(number(0).into())),
        features: text.split(' ').take(usize::from(digest[1] % 8)).map(str::to_owned).collect(),
        issued_at: at(number(4).into()),
        key: "KL-…-9F4C".to_owned(),
        license: LicenseId(Uuid::from_u128(number(8).into())),
        paid_until: (digest[2].is_multiple_of(2)).then(|| at(number(12).into())),
        product: text.chars().rev().collect(),
        purchase: text.clone().into_owned(),
        seats: number(16).max(1),
    };
    let file = sign(&keys(), &payload);
    assert_eq!(verify(&file, &trusted(), at(0)).unwrap().payload, payload);
    let other = DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &digest);
    let mut others = VerifyingKeys::default();
    others.insert(other.verifying_key());
    assert_eq!(verify(&file, &others, at(0)), Err(Invalid::UnknownKey { key_id: KEY_ID.to_owned() }));
    file
}

/// Some bits of a genuine file, chosen by the input. The last line feed is white space after the file.
fn no_flipped_bit_is_accepted(file: &str, data: &[u8]) {
    let digest = Sha256::digest([data, b"flips"].concat());
    for place in digest.chunks_exact(4).take(FLIPS) {
        let place = usize::try_from(u32::from_be_bytes(place.try_into().unwrap())).unwrap();
        let place = place % (file.trim_end().len() * 8);
        let mut changed = file.as_bytes().to_vec();
        changed[place / 8] ^= 1 << (place % 8);
        if let Ok(changed) = String::from_utf8(changed) {
            assert!(verify(&changed, &trusted(), at(0)).is_err(), "bit {place} of\n{file}");
        }
    }
}

/// Signs any bytes as if they were a payload.
fn armoured(payload: &[u8]) -> String {
    let message = [format!("keyledger license 1 {KEY_ID}\n").as_bytes(), payload].concat();
    let signature = BASE64URL_NOPAD.encode(&SigningKey::from_bytes(&SIGNING).sign(&message).to_bytes());
    let payload = BASE64URL_NOPAD.encode(payload);
    let lines: Vec<&str> = payload.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("{BEGIN}\nFormat: 1\nKey: {KEY_ID}\nSignature: {signature}\n\n{}\n{END}\n", lines.join("\n"))
}

/// The payload of a genuine file, read by the letter of the format. Signatures of Ed25519 are always the same, so that
/// a genuine one is the one that we would make.
fn naive(text: &str) -> Option<Vec<u8>> {
    let lines: Vec<&str> = text.split('\n').map(str::trim_end).collect();
    let begins: Vec<usize> = (0..lines.len()).filter(|&line| lines[line] == BEGIN).collect();
    let ends: Vec<usize> = (0..lines.len()).filter(|&line| lines[line] == END).collect();
    let (&[begin], &[end]) = (&begins[..], &ends[..]) else { return None };
    let block = lines.get(begin + 1..end)?;
    let [format, key, signature, blank, payload @ ..] = block else { return None };
    if *format != "Format: 1" || *key != format!("Key: {KEY_ID}") || !blank.is_empty() {
        return None;
    }
    let payload = base64url(&payload.concat())?;
    let message = [format!("keyledger license 1 {KEY_ID}\n").as_bytes(), &payload].concat();
    let expected = SigningKey::from_bytes(&SIGNING).sign(&message).to_bytes();
    (base64url(signature.strip_prefix("Signature: ")?)? == expected).then_some(payload)
}

/// RFC 4648 §5 without padding, bit by bit.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for symbol in text.bytes() {
        let value = alphabet.iter().position(|&it| it == symbol)?;
        bits = (bits << 6) | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    (count < 6 && bits == 0).then_some(bytes)
}

/// An accepted payload has every field of the format, and says in each what was read from it.
fn check_payload(json: &[u8], payload: &Payload) {
    let value: Value = serde_json::from_slice(json).unwrap();
    for field in FIELDS {
        assert!(value.get(field).is_some(), "`{field}` is missing");
    }
    let time = |field: &str| match &value[field] {
        Value::Null => None,
        Value::String(text) => Some(text.parse::<Timestamp>().unwrap()),
        other => panic!("{other} is no time"),
    };
    let texts = |value: &Value| value.as_str().unwrap().to_owned();
    let features: BTreeSet<String> = value["features"].as_array().unwrap().iter().map(texts).collect();
    let said = Payload {
        expires_at: time("expires_at"),
        features,
        issued_at: time("issued_at").unwrap(),
        key: texts(&value["key"]),
        license: LicenseId(texts(&value["license"]).parse().unwrap()),
        paid_until: time("paid_until"),
        product: texts(&value["product"]),
        purchase: texts(&value["purchase"]),
        seats: value["seats"].as_u64().unwrap().try_into().unwrap(),
    };
    assert_eq!(&said, payload);
}

fn naive_state(payload: &Payload, now: Timestamp) -> State {
    match (payload.expires_at, payload.paid_until) {
        (Some(expires_at), _) if expires_at <= now => State::Expired,
        (_, Some(paid_until)) if paid_until <= now => State::Grace,
        _ => State::Active,
    }
}

fn whole_seconds(payload: Payload) -> Payload {
    let whole = |time: Timestamp| at(time.as_second());
    Payload {
        expires_at: payload.expires_at.map(whole),
        issued_at: whole(payload.issued_at),
        paid_until: payload.paid_until.map(whole),
        ..payload
    }
}

fn keys() -> DeploymentKeys {
    DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &SIGNING)
}

fn trusted() -> VerifyingKeys {
    VerifyingKeys::of(&keys())
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}
