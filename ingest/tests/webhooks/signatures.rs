//! All of the recorded signature vectors, whose verdicts were checked against Stripe's own libraries.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_ingest::signature::{self, NamedSecret};
use keyledger_schemas::secret::Secret;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    payload: String,
    header: String,
    secrets: Vec<String>,
    now: i64,
    tolerance: u64,
    required: String,
}

impl Vector {
    fn is_accepted(&self, body: &[u8]) -> bool {
        // A secret that cannot be configured cannot verify anything.
        let Ok(secrets) = self
            .secrets
            .iter()
            .map(|secret| NamedSecret::new("secret", Secret::new(secret.as_str())))
            .collect::<Result<Vec<_>, _>>()
        else {
            return false;
        };
        let now = Timestamp::from_second(self.now).unwrap();
        signature::verify(self.header.as_bytes(), body, &secrets, now, Duration::from_secs(self.tolerance)).is_ok()
    }
}

#[test]
fn every_recorded_vector_has_the_required_verdict() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/testdata/stripe/signatures");
    let vectors = std::fs::read_to_string(folder.join("vectors.json")).unwrap();
    let Vectors { vectors } = serde_json::from_str(&vectors).unwrap();
    assert_eq!(vectors.len(), 36);
    for vector in vectors {
        let body = std::fs::read(folder.join(&vector.payload)).unwrap();
        let is_accepted = vector.is_accepted(&body);
        match vector.required.as_str() {
            "accept" => assert!(is_accepted, "{} must be accepted", vector.name),
            "reject" => assert!(!is_accepted, "{} must be rejected", vector.name),
            // Stripe never sends these; below is what we do.
            either => assert_eq!(either, "either", "{}", vector.name),
        }
        match vector.name.as_str() {
            "future_one_day" => assert!(is_accepted, "as in Stripe's libraries"),
            "uppercase_hex" | "space_after_comma" => assert!(!is_accepted, "as in Stripe's libraries"),
            _ => {}
        }
    }
}
