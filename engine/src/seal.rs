//! License keys inside events, readable with the deployment's sealing key only.
//!
//! XChaCha20-Poly1305. The nonce is derived from event id and key, so that the same cause always seals to the same
//! bytes and an event can be written twice; different keys, or the same key in different events, get nonces of their
//! own. The event id is authenticated: a sealed key moved to another event does not open.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use data_encoding::BASE64URL_NOPAD;
use keyledger_schemas::event::SealedKey;
use keyledger_schemas::ids::EventId;
use keyledger_schemas::secret::Secret;
use zeroize::Zeroizing;

use crate::key;
use crate::keys::{DeploymentKeys, Use};

const NONCE_BYTES: usize = 24;

/// Authenticated beside the event id, so that nothing sealed for another purpose opens here.
const CONTEXT: &[u8] = b"keyledger sealed license key 1\n";

/// Why a sealed key does not open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was sealed by other deployment keys.
    #[error(
        "sealed with the key `{key_id}`, and this deployment has `{ours}`: restore the key files it was sealed with"
    )]
    OtherKey {
        /// The key that sealed it.
        key_id: String,
        /// The key we have.
        ours: String,
    },
    /// It is not the form that [`seal`] writes.
    #[error("not a sealed license key")]
    Malformed,
    /// It was changed, or belongs to another event.
    #[error("the sealed license key was changed or belongs to another event")]
    Tampered,
}

/// Seals the key `text`, of whatever engine, for the event `event`.
#[expect(clippy::missing_panics_doc, reason = "it does not panic")]
pub fn seal(keys: &DeploymentKeys, event: &EventId, text: &Secret) -> SealedKey {
    let plain = text.expose().as_bytes();
    let derived = keys.derive(Use::SealNonce, &[event.as_str().as_bytes(), plain]);
    let mut nonce = [0; NONCE_BYTES];
    nonce.copy_from_slice(&derived[..NONCE_BYTES]);
    #[expect(clippy::expect_used, reason = "the cipher fails above 256 GiB only")]
    let sealed = cipher(keys)
        .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &context(event) })
        .expect("a license key is shorter than 256 GiB");
    SealedKey {
        sealed: BASE64URL_NOPAD.encode(&[nonce.as_slice(), &sealed].concat()),
        key_id: keys.sealing_key_id(),
        hash: key::hash(keys, text.expose()),
        last4: key::last4(text.expose()),
    }
}

/// Opens a key that [`seal`] sealed for the same event.
///
/// # Errors
///
/// [`OpenError`]; none of them goes away by asking again.
pub fn open(keys: &DeploymentKeys, event: &EventId, sealed: &SealedKey) -> Result<Secret, OpenError> {
    let ours = keys.sealing_key_id();
    if sealed.key_id != ours {
        return Err(OpenError::OtherKey { key_id: sealed.key_id.clone(), ours });
    }
    let bytes = BASE64URL_NOPAD.decode(sealed.sealed.as_bytes()).map_err(|_| OpenError::Malformed)?;
    let (nonce, body) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::Malformed)?;
    let plain = cipher(keys)
        .decrypt(&XNonce::from(*nonce), Payload { msg: body, aad: &context(event) })
        .map(Zeroizing::new)
        .map_err(|_| OpenError::Tampered)?;
    let text = std::str::from_utf8(&plain).map_err(|_| OpenError::Malformed)?;
    Ok(Secret::new(text))
}

fn cipher(keys: &DeploymentKeys) -> XChaCha20Poly1305 {
    let key = keys.derive(Use::Seal, &[]);
    XChaCha20Poly1305::new((&*key).into())
}

fn context(event: &EventId) -> Vec<u8> {
    [CONTEXT, event.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> DeploymentKeys {
        DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32])
    }

    fn event() -> EventId {
        EventId::from("e1")
    }

    #[test]
    fn a_sealed_key_opens_again_and_does_not_show() {
        let key = Secret::new("KL-ABCD-EFGH-9F4C");
        let sealed = seal(&keys(), &event(), &key);
        assert_eq!(open(&keys(), &event(), &sealed).unwrap().expose(), key.expose());
        assert_eq!(sealed.last4, "9F4C");
        assert_eq!(sealed.hash.len(), 64);
        assert!(!serde_json::to_string(&sealed).unwrap().contains("ABCD"));
    }

    #[test]
    fn the_same_cause_seals_to_the_same_bytes_and_another_does_not() {
        let seal = |event: &str, key: &str| seal(&keys(), &EventId::from(event), &Secret::new(key)).sealed;
        assert_eq!(seal("e1", "K"), seal("e1", "K"));
        let nonce = |sealed: String| sealed[..32].to_owned();
        assert_ne!(nonce(seal("e1", "K")), nonce(seal("e2", "K")));
        assert_ne!(nonce(seal("e1", "K")), nonce(seal("e1", "L")));
    }

    #[test]
    fn bytes_sealed_long_ago_still_open() {
        // A fixed value: the log keeps sealed keys for ever.
        let sealed = seal(&keys(), &event(), &Secret::new("KL-ABCD-EFGH-9F4C"));
        assert_eq!(sealed.sealed, "N5GAzgePWOdw0-f_gHPVozYZujMFw379G75PoO-qMOfXk2TSamSzXQ_b3KnB-mb8R6hLg_tYrKr0");
    }

    #[test]
    fn a_sealed_key_does_not_open_in_another_event_or_deployment() {
        let sealed = seal(&keys(), &event(), &Secret::new("K"));
        assert_eq!(open(&keys(), &EventId::from("e2"), &sealed).unwrap_err(), OpenError::Tampered);
        let other = DeploymentKeys::from_bytes(&[1; 32], &[9; 32], &[3; 32]);
        assert!(matches!(open(&other, &event(), &sealed), Err(OpenError::OtherKey { .. })));
        let forged = SealedKey { key_id: other.sealing_key_id(), ..sealed };
        assert_eq!(open(&other, &event(), &forged).unwrap_err(), OpenError::Tampered);
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let sealed = seal(&keys(), &event(), &Secret::new("KL-ABCD"));
        let bytes = BASE64URL_NOPAD.decode(sealed.sealed.as_bytes()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = SealedKey { sealed: BASE64URL_NOPAD.encode(&changed), ..sealed.clone() };
            assert_eq!(open(&keys(), &event(), &changed).unwrap_err(), OpenError::Tampered, "bit {bit}");
        }
    }

    #[test]
    fn what_seal_never_writes_is_malformed() {
        let good = seal(&keys(), &event(), &Secret::new("K"));
        for bad in ["", "AAAA", "not base64!", &format!("{}=", good.sealed)] {
            let sealed = SealedKey { sealed: bad.to_owned(), ..good.clone() };
            assert_eq!(open(&keys(), &event(), &sealed).unwrap_err(), OpenError::Malformed, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_opens_to_itself(id in "\\PC{1,60}", text in "\\PC{0,200}") {
            let id = EventId::new(id);
            let sealed = seal(&keys(), &id, &Secret::new(&*text));
            let opened = open(&keys(), &id, &sealed).unwrap();
            prop_assert_eq!(opened.expose(), text);
        }

        #[test]
        fn arbitrary_text_is_answered_without_panic(text in ".{0,200}") {
            let sealed = SealedKey {
                sealed: text, key_id: keys().sealing_key_id(), hash: String::new(), last4: String::new(),
            };
            prop_assert!(open(&keys(), &event(), &sealed).is_err());
        }
    }
}
