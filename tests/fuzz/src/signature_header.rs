//! `Stripe-Signature`: whatever a stranger writes into it, only who holds a secret gets in.
//!
//! The first line of the input is the header, the rest is the body. `{1}` and `{2}` in the header stand for the signature
//! that the first and the second secret make for the header's time and this body, so that a fuzzer, which cannot make
//! one, gets past the check of it.

use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use keyledger_ingest::signature::{BadSignature, NamedSecret, TOLERANCE, Verified, sign, verify};
use keyledger_schemas::secret::Secret;
use sha2::{Digest, Sha256};

const NOW: i64 = 1_785_402_950;
const TOLERANCE_S: i64 = 300;

/// The secrets by their names.
const SECRETS: [(&str, &str); 2] = [("first", "whsec_1f2e3d4c5b6a"), ("second", "whsec_a6b5c4d3e2f1")];

/// Holds the verdict on any header and body against a naive one, and what we sign ourselves against changes of it.
pub fn signature_header(data: &[u8]) {
    let (header, body) = halves(data);
    let header = with_signatures(header, body);
    let verdict = check(&header, body, &SECRETS);
    assert_eq!(verdict, check(&header, body, &SECRETS), "the same is judged alike");
    match (&verdict, naive(&header, body)) {
        (Ok(verified), Some((secret, seconds))) => {
            assert_eq!((verified.secret.as_str(), verified.signed_at.as_second()), (SECRETS[secret].0, seconds));
        }
        (Err(_), None) => {}
        (verdict, naive) => panic!("{verdict:?}, and naively {naive:?}"),
    }
    assert!(check(&header, body, &[]).is_err(), "without a secret nobody gets in");
    without_age(&header, body, &verdict);
    what_we_sign_verifies(&header, body);
}

/// Without a tolerance age alone does not matter.
fn without_age(header: &[u8], body: &[u8], verdict: &Result<Verified, BadSignature>) {
    let ageless = verify(header, body, &named(&SECRETS), now(), Duration::ZERO);
    match verdict {
        Err(BadSignature::TooOld) => assert!(ageless.is_ok()),
        other => assert_eq!(&ageless, other),
    }
}

/// A header that we make for this body verifies, also with other elements after it; with anything changed it does not.
fn what_we_sign_verifies(elements: &[u8], body: &[u8]) {
    let [first, second] = SECRETS;
    let ours = sign(&Secret::new(first.1), body, now());
    let verified = check(ours.as_bytes(), body, &SECRETS).unwrap();
    assert_eq!((verified.secret.as_str(), verified.signed_at), (first.0, now()));
    assert_eq!(check(ours.as_bytes(), body, &[second]), Err(BadSignature::NoMatch));

    let mut longer = body.to_vec();
    longer.push(b' ');
    assert_eq!(check(ours.as_bytes(), &longer, &SECRETS), Err(BadSignature::NoMatch));
    if let Some((place, byte)) = body.len().checked_sub(1).map(|last| (last / 2, body[last])) {
        let mut changed = body.to_vec();
        changed[place] ^= 1 << (byte % 8);
        assert_eq!(check(ours.as_bytes(), &changed, &SECRETS), Err(BadSignature::NoMatch));
    }

    let old = sign(&Secret::new(first.1), body, Timestamp::from_second(NOW - TOLERANCE_S - 1).unwrap());
    assert_eq!(check(old.as_bytes(), body, &SECRETS), Err(BadSignature::TooOld));

    // What stands after a good time and signature can neither add to them nor take from them, within the bounds.
    let more = [ours.as_bytes(), b",", elements].concat();
    if is_within_bounds(&more) {
        assert!(check(&more, body, &[first]).is_ok());
    }
}

fn check(header: &[u8], body: &[u8], secrets: &[(&str, &str)]) -> Result<Verified, BadSignature> {
    verify(header, body, &named(secrets), now(), TOLERANCE)
}

fn named(secrets: &[(&str, &str)]) -> Vec<NamedSecret> {
    secrets.iter().map(|(name, secret)| NamedSecret::new(*name, Secret::new(*secret)).unwrap()).collect()
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// The first line, and what follows it.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[]),
    }
}

/// The header with each `{1}` and `{2}` replaced by the signature of that secret.
fn with_signatures(header: &[u8], body: &[u8]) -> Vec<u8> {
    let time = elements(header).into_iter().find(|(key, _)| *key == b"t").map(|(_, value)| value).unwrap_or_default();
    let mut signed = Vec::new();
    let mut rest = header;
    while let Some((&byte, after)) = rest.split_first() {
        if let [b'{', number @ (b'1' | b'2'), b'}', after @ ..] = rest {
            let (_, secret) = SECRETS[usize::from(number - b'1')];
            signed.extend(HEXLOWER.encode(&hmac(secret, time, body)).into_bytes());
            rest = after;
        } else {
            signed.push(byte);
            rest = after;
        }
    }
    signed
}

/// Which secret signed it and when, if one did: the rules of the module's doc, written down as simply as can be.
fn naive(header: &[u8], body: &[u8]) -> Option<(usize, i64)> {
    if !is_within_bounds(header) {
        return None;
    }
    let elements = elements(header);
    let (_, time) = elements.iter().find(|(key, _)| *key == b"t")?;
    let mut seconds: i64 = 0;
    for digit in *time {
        if !digit.is_ascii_digit() {
            return None;
        }
        seconds = seconds.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
    }
    if time.is_empty() || seconds > Timestamp::MAX.as_second() || NOW - seconds > TOLERANCE_S {
        return None;
    }
    let signed_by = |(_, secret): &(&str, &str)| {
        let expected = HEXLOWER.encode(&hmac(secret, time, body));
        elements.iter().any(|(key, value)| *key == b"v1" && *value == expected.as_bytes())
    };
    SECRETS.iter().position(signed_by).map(|secret| (secret, seconds))
}

fn is_within_bounds(header: &[u8]) -> bool {
    header.len() <= 4096 && header.is_ascii() && header.split(|&byte| byte == b',').count() <= 64
}

/// Keys and values.
fn elements(header: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut elements = Vec::new();
    for element in header.split(|&byte| byte == b',') {
        if let Some(end) = element.iter().position(|&byte| byte == b'=') {
            elements.push((&element[..end], &element[end + 1..]));
        }
    }
    elements
}

/// HMAC-SHA256 (RFC 2104) of the time, a full stop and the body, from the hash alone.
fn hmac(secret: &str, time: &[u8], body: &[u8]) -> [u8; 32] {
    let mut key = [0; 64];
    key[..secret.len()].copy_from_slice(secret.as_bytes());
    let inner = Sha256::digest([&key.map(|byte| byte ^ 0x36), time, b".", body].concat());
    Sha256::digest([&key.map(|byte| byte ^ 0x5c)[..], &inner].concat()).into()
}
