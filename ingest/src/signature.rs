//! Stripe's webhook signature: a pure function of secret, header, body and now.
//!
//! The scheme is described at <https://docs.stripe.com/webhooks#verify-manually>. Everything works on the raw bytes:
//! nothing is decoded, trimmed or parsed before the signature has been checked over exactly what was received.

use std::fmt;
use std::time::Duration;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use keyledger_schemas::secret::Secret;
use sha2::Sha256;

/// The name of the header, in the lower case that HTTP libraries use.
pub const HEADER: &str = "stripe-signature";

/// How old a signature may be by default; Stripe's own libraries use the same.
pub const TOLERANCE: Duration = Duration::from_mins(5);

/// Longest header that is looked at. Stripe's have about 160 bytes, and one more `v1` for each secret being rolled.
pub const HEADER_BYTES_MAX: usize = 4096;

/// Most elements of a header that are looked at; bounds the comparisons a stranger can ask for.
pub const ELEMENTS_MAX: usize = 64;

/// Bytes of an HMAC-SHA256.
const MAC_BYTES: usize = 32;

/// A signing secret and the name it goes by in the log, so that a person can tell which one verified an event.
#[derive(Clone)]
pub struct NamedSecret {
    name: String,
    secret: Secret,
}

/// A secret of nothing but white space. Anyone could forge a signature made with an empty key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signing secret `{name}` is blank")]
pub struct BlankSecret {
    /// The name of the secret.
    pub name: String,
}

impl NamedSecret {
    /// Names a secret. The name must not tell anything of the secret.
    ///
    /// # Errors
    ///
    /// [`BlankSecret`]: refuse to start.
    pub fn new(name: impl Into<String>, secret: Secret) -> Result<Self, BlankSecret> {
        let name = name.into();
        if secret.is_blank() { Err(BlankSecret { name }) } else { Ok(Self { name, secret }) }
    }

    /// The name that is written beside the events it verified.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether both hold the same secret, whatever their names.
    pub(crate) fn is_same_secret(&self, other: &Self) -> bool {
        self.secret.expose() == other.secret.expose()
    }
}

impl fmt::Debug for NamedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a good signature tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The name of the secret that it was made with.
    pub secret: String,
    /// When this delivery was signed. Every attempt is signed anew: this is not the time of the event.
    pub signed_at: Timestamp,
}

/// Why a request is not taken for Stripe's. The messages quote nothing of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// There is no such header, or more than one.
    #[error("the request does not have exactly one signature header")]
    Missing,
    /// The header is too long, has too many elements, or is not plain text.
    #[error("the signature header is not of a shape that Stripe sends")]
    Malformed,
    /// No `t` element, or one that is not a time.
    #[error("the signature header has no usable timestamp")]
    NoTimestamp,
    /// No `v1` element with 64 lower-case hex digits. Other schemes never count.
    #[error("the signature header has no usable v1 signature")]
    NoSignature,
    /// No `v1` element was made over this body with a secret of this source.
    #[error("no signature matches a secret of this source")]
    NoMatch,
    /// Rightly signed, but longer ago than the tolerance: a replay, or a clock that is wrong.
    #[error("the signature is too old")]
    TooOld,
}

/// Checks that `body` was signed with one of `secrets`, at most `tolerance` before `now`.
///
/// Any `v1` element may match any secret, so that secrets can be rolled without a gap; every other scheme is ignored.
/// A timestamp ahead of `now` passes, as in Stripe's own libraries: it proves the secret all the same, and a machine
/// whose clock runs behind keeps taking events. A tolerance of zero switches the age check off.
///
/// # Errors
///
/// [`BadSignature`]: answer 400, keep nothing, and do not log the body.
pub fn verify(
    header: &[u8],
    body: &[u8],
    secrets: &[NamedSecret],
    now: Timestamp,
    tolerance: Duration,
) -> Result<Verified, BadSignature> {
    let header = Elements::parse(header)?;
    let secret = secrets
        .iter()
        .find(|secret| matches_any(&secret.secret, header.timestamp, body, &header.signatures))
        .ok_or(BadSignature::NoMatch)?;

    // The age is looked at last, so that only who holds the secret can learn that the age was what was wrong.
    let age_seconds = now.as_second().saturating_sub(header.signed_at.as_second());
    let tolerated_seconds = i64::try_from(tolerance.as_secs()).unwrap_or(i64::MAX);
    if tolerated_seconds > 0 && age_seconds > tolerated_seconds {
        return Err(BadSignature::TooOld);
    }
    Ok(Verified { secret: secret.name.clone(), signed_at: header.signed_at })
}

/// The header that Stripe would send with `body` at `timestamp`, for demos and tests.
pub fn sign(secret: &Secret, body: &[u8], timestamp: Timestamp) -> String {
    let seconds = timestamp.as_second().to_string();
    let signature = mac(secret, &seconds, body).finalize().into_bytes();
    format!("t={seconds},v1={}", HEXLOWER.encode(&signature))
}

/// What is used of a header.
#[derive(Debug)]
struct Elements<'a> {
    /// The digits as received: they are part of what was signed.
    timestamp: &'a str,
    signed_at: Timestamp,
    /// Every well-formed `v1`, never empty.
    signatures: Vec<[u8; MAC_BYTES]>,
}

impl<'a> Elements<'a> {
    fn parse(header: &'a [u8]) -> Result<Self, BadSignature> {
        if header.len() > HEADER_BYTES_MAX || !header.is_ascii() {
            return Err(BadSignature::Malformed);
        }
        let header = std::str::from_utf8(header).map_err(|_| BadSignature::Malformed)?;
        if header.split(',').count() > ELEMENTS_MAX {
            return Err(BadSignature::Malformed);
        }
        let mut timestamp = None;
        let mut signatures = Vec::new();
        for (key, value) in header.split(',').filter_map(|element| element.split_once('=')) {
            match key {
                // Stripe sends one. Should there be more, one has to be chosen: the first.
                "t" if timestamp.is_none() => timestamp = Some(value),
                "v1" => signatures.extend(signature_of(value)),
                _ => {}
            }
        }
        let timestamp = timestamp.ok_or(BadSignature::NoTimestamp)?;
        let signed_at = time_of(timestamp).ok_or(BadSignature::NoTimestamp)?;
        if signatures.is_empty() {
            return Err(BadSignature::NoSignature);
        }
        Ok(Self { timestamp, signed_at, signatures })
    }
}

/// The instant that decimal digits name. Signs and spaces, which `parse` would take, are not digits.
fn time_of(digits: &str) -> Option<Timestamp> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Timestamp::from_second(digits.parse().ok()?).ok()
}

fn signature_of(hex: &str) -> Option<[u8; MAC_BYTES]> {
    if hex.len() != 2 * MAC_BYTES {
        return None;
    }
    HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()
}

fn matches_any(secret: &Secret, timestamp: &str, body: &[u8], signatures: &[[u8; MAC_BYTES]]) -> bool {
    // A blank secret cannot be constructed here; should one ever be, it must not let everyone in.
    if secret.is_blank() {
        return false;
    }
    let mac = mac(secret, timestamp, body);
    signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
}

/// The key is the whole secret as text, `whsec_` included; the message is the digits, a full stop and the body.
fn mac(secret: &Secret, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of every length");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_785_402_950;

    fn named(secret: &str) -> NamedSecret {
        NamedSecret::new(format!("name of {secret}"), Secret::new(secret)).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn verified(header: &str, secrets: &[NamedSecret]) -> Result<Verified, BadSignature> {
        verify(header.as_bytes(), b"{}", secrets, at(NOW), TOLERANCE)
    }

    #[test]
    fn what_we_sign_verifies_under_the_name_of_its_secret() {
        let header = sign(&Secret::new("whsec_b"), b"{}", at(NOW - 7));
        let verified = verified(&header, &[named("whsec_a"), named("whsec_b")]).unwrap();
        assert_eq!(verified, Verified { secret: "name of whsec_b".to_owned(), signed_at: at(NOW - 7) });
    }

    #[test]
    fn each_fault_has_its_own_reason() {
        let good = sign(&Secret::new("whsec_a"), b"{}", at(NOW));
        let old = sign(&Secret::new("whsec_a"), b"{}", at(NOW - 301));
        let digest = good.split_once("v1=").unwrap().1;
        for (header, reason) in [
            (String::new(), BadSignature::NoTimestamp),
            (format!("v1={digest}"), BadSignature::NoTimestamp),
            (format!("t=,v1={digest}"), BadSignature::NoTimestamp),
            (format!("t=+{NOW},v1={digest}"), BadSignature::NoTimestamp),
            (format!("t=9223372036854775807,v1={digest}"), BadSignature::NoTimestamp),
            (format!("t={NOW}"), BadSignature::NoSignature),
            (format!("t={NOW},v0={digest}"), BadSignature::NoSignature),
            (format!("t={NOW},v1={}", digest.to_uppercase()), BadSignature::NoSignature),
            (format!("t={},v1={digest}", NOW - 1), BadSignature::NoMatch),
            (old, BadSignature::TooOld),
            (format!("{good},é=1"), BadSignature::Malformed),
            (format!("{good}{}", ",v0=1".repeat(ELEMENTS_MAX)), BadSignature::Malformed),
            (format!("{good},v0={}", "0".repeat(HEADER_BYTES_MAX)), BadSignature::Malformed),
        ] {
            assert_eq!(verified(&header, &[named("whsec_a")]), Err(reason), "{header}");
        }
    }

    #[test]
    fn without_secrets_nothing_verifies() {
        let header = sign(&Secret::new("whsec_a"), b"{}", at(NOW));
        assert_eq!(verified(&header, &[]), Err(BadSignature::NoMatch));
    }

    #[test]
    fn a_wrong_signature_with_an_old_timestamp_does_not_learn_that_it_is_old() {
        let header = sign(&Secret::new("whsec_wrong"), b"{}", at(NOW - 100_000));
        assert_eq!(verified(&header, &[named("whsec_a")]), Err(BadSignature::NoMatch));
    }

    #[test]
    fn a_blank_secret_is_refused_when_it_is_named() {
        for blank in ["", "  ", "\n"] {
            assert!(NamedSecret::new("secret-1", Secret::new(blank)).is_err(), "{blank:?}");
        }
    }

    #[test]
    fn a_named_secret_shows_its_name_alone() {
        let shown = format!("{:?}", NamedSecret::new("secret-1", Secret::new("whsec_hidden")).unwrap());
        assert!(shown.contains("secret-1") && !shown.contains("hidden"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_verify(header: Vec<u8>, body: Vec<u8>, now in -1_000_000_i64..4_000_000_000) {
            prop_assert!(verify(&header, &body, &[named("whsec_a")], at(now), TOLERANCE).is_err());
        }

        #[test]
        fn headers_that_look_right_neither_panic_nor_verify(
            header in "((t|v0|v1|v2| t)=[0-9a-f+. -]{0,70},?){0,70}",
        ) {
            prop_assert!(verified(&header, &[named("whsec_a")]).is_err());
        }

        #[test]
        fn any_signed_body_verifies_and_any_changed_byte_does_not(
            body in proptest::collection::vec(any::<u8>(), 1..200),
            index: prop::sample::Index,
            flip in 1_u8..,
            secret in "whsec_[a-zA-Z0-9]{8,40}",
            elsewhere in "[a-z]{1,3}[02-9]=[0-9a-f]{0,64}",
        ) {
            let header = sign(&Secret::new(secret.as_str()), &body, at(NOW));
            let header = format!("{elsewhere},{header},{elsewhere}");
            let secrets = [named(&secret)];
            prop_assert!(verify(header.as_bytes(), &body, &secrets, at(NOW), TOLERANCE).is_ok());
            let mut changed = body;
            let index = index.index(changed.len());
            changed[index] ^= flip;
            prop_assert_eq!(
                verify(header.as_bytes(), &changed, &secrets, at(NOW), TOLERANCE),
                Err(BadSignature::NoMatch)
            );
        }
    }
}
