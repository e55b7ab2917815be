//! The secrets of one deployment: what license keys are derived from, what seals them, and what signs license files.
//!
//! They are made once and never change by themselves. Losing them loses every sealed license key and the ability to
//! sign files that shipped software trusts, so they belong in the backup beside the log. How they lie on disk is in
//! [`DeploymentKeys::create`]; this is the only place in keyledger that asks the system for randomness to make keys.

use std::fmt;

use data_encoding::HEXLOWER;
use ed25519_dalek::{SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

mod disk;

pub use disk::{KeyFiles, KeysError};

/// The key material of one deployment. Its `Debug` names the signing key and shows no secret; memory is wiped on drop.
#[derive(Clone)]
pub struct DeploymentKeys {
    derivation: Zeroizing<[u8; 32]>,
    sealing: Zeroizing<[u8; 32]>,
    signing: SigningKey,
}

/// What a secret is used for. Each use has a subkey of its own, so that no two uses ever meet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    /// From license id to license key.
    LicenseKey,
    /// From a license key to the hash that stands in the log.
    KeyHash,
    /// Encrypting license keys.
    Seal,
    /// Nonces of that encryption.
    SealNonce,
    /// The name of the sealing key.
    SealName,
}

impl Use {
    /// Part of every key ever derived: it must never change.
    fn label(self) -> &'static [u8] {
        match self {
            Self::LicenseKey => b"keyledger/license-key/1",
            Self::KeyHash => b"keyledger/key-hash/1",
            Self::Seal => b"keyledger/seal/1",
            Self::SealNonce => b"keyledger/seal-nonce/1",
            Self::SealName => b"keyledger/seal-name/1",
        }
    }
}

impl DeploymentKeys {
    /// New keys from the system's randomness, kept in memory only.
    ///
    /// # Errors
    ///
    /// [`KeysError::Random`] if the system has no randomness to give; nothing was made.
    pub fn generate() -> Result<Self, KeysError> {
        let derivation = disk::random_32()?;
        let sealing = disk::random_32()?;
        let signing = disk::random_32()?;
        Ok(Self::from_bytes(&derivation, &sealing, &signing))
    }

    /// Keys from their bytes: the derivation secret, the sealing secret, and the Ed25519 seed.
    pub fn from_bytes(derivation: &[u8; 32], sealing: &[u8; 32], signing: &[u8; 32]) -> Self {
        Self {
            derivation: Zeroizing::new(*derivation),
            sealing: Zeroizing::new(*sealing),
            signing: SigningKey::from_bytes(signing),
        }
    }

    /// The public half of the key that signs license files.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.signing.verifying_key()
    }

    /// The name of the signing key, as license files carry it. See [`key_id`].
    pub fn signing_key_id(&self) -> String {
        key_id(&self.verifying_key())
    }

    /// The name of the sealing key, as sealed keys carry it: 16 hex digits that tell nothing about the key.
    pub fn sealing_key_id(&self) -> String {
        let name = self.derive(Use::SealName, &[]);
        HEXLOWER.encode(&name[..8])
    }

    pub(crate) fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// HMAC-SHA256 of `parts` under the secret that serves `purpose`. Every part is preceded by its length, so that two
    /// lists of parts never read the same.
    pub(crate) fn derive(&self, purpose: Use, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let secret = match purpose {
            Use::LicenseKey | Use::KeyHash => &self.derivation,
            Use::Seal | Use::SealNonce | Use::SealName => &self.sealing,
        };
        let subkey = mac(secret.as_slice(), &[purpose.label()]);
        mac(subkey.as_slice(), parts)
    }
}

impl fmt::Debug for DeploymentKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeploymentKeys").field("signing_key_id", &self.signing_key_id()).finish_non_exhaustive()
    }
}

/// The short name of a public key: the first 8 bytes of SHA-256 of its 32 bytes, as 16 lower-case hex digits.
pub fn key_id(key: &VerifyingKey) -> String {
    HEXLOWER.encode(&Sha256::digest(key.as_bytes())[..8])
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> DeploymentKeys {
        DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32])
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", keys());
        assert!(shown.contains(&keys().signing_key_id()), "{shown}");
        for secret in ["01, 01", "0101", "[1, 1", "[2, 2", "[3, 3", "0303"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn each_use_has_a_key_of_its_own() {
        let uses = [Use::LicenseKey, Use::KeyHash, Use::Seal, Use::SealNonce, Use::SealName];
        let derived: std::collections::BTreeSet<_> = uses.iter().map(|&u| *keys().derive(u, &[b"x"])).collect();
        assert_eq!(derived.len(), uses.len());
    }

    #[test]
    fn moving_a_byte_between_parts_changes_the_result() {
        let keys = keys();
        assert_ne!(keys.derive(Use::Seal, &[b"ab", b"c"]), keys.derive(Use::Seal, &[b"a", b"bc"]));
    }

    #[test]
    fn generated_keys_differ() {
        let (a, b) = (DeploymentKeys::generate().unwrap(), DeploymentKeys::generate().unwrap());
        assert_ne!(a.signing_key_id(), b.signing_key_id());
        assert_ne!(a.sealing_key_id(), b.sealing_key_id());
    }

    #[test]
    fn key_ids_are_16_hex_digits_and_stay_the_same() {
        // Fixed values: shipped license files and sealed keys name their keys by these.
        assert_eq!(keys().signing_key_id(), "b62e867fa2f33afe");
        assert_eq!(keys().sealing_key_id(), "6d8b730991bed4b1");
    }
}
