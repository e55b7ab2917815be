//! An engine that misbehaves in every way that is not final.

use serde_json::{Value, json};

use super::stub::Stub;

/// Everything but refusals, which wait for a person.
pub fn faults() -> Value {
    let fault = |operation: &str, probability: f64, fault: Value| json!({"operation": operation, "probability": probability, "fault": fault});
    json!({
        "mix": {"seed": 20_261_120, "faults": [
            fault("create", 0.06, json!({"kind": "commit_then_hang"})),
            fault("create", 0.06, json!({"kind": "commit_then_drop"})),
            fault("create", 0.05, json!({"kind": "commit_then_fail", "status": 500})),
            fault("create", 0.04, json!({"kind": "commit_then_garble"})),
            // Longer than the caller waits, and shorter than what it allows for afterwards.
            fault("create", 0.04, json!({"kind": "slow", "delay_ms": 550})),
            fault("change", 0.06, json!({"kind": "commit_then_drop"})),
            fault("any", 0.03, json!({"kind": "drop"})),
            fault("any", 0.03, json!({"kind": "fail", "status": 503})),
            fault("any", 0.03, json!({"kind": "fail", "status": 429, "retry_after_s": 1})),
            fault("any", 0.04, json!({"kind": "slow", "delay_ms": 120})),
        ]},
        "search": {"lag_ms": 300, "matching": "contains"},
    })
}

/// Each kind of fault happened at least once, or the test proves little: those that lose an answer to a create.
pub async fn all_happened(stub: &Stub) {
    let stats = stub.stats().await;
    for fault in ["commit_then_hang", "commit_then_drop", "commit_then_fail", "commit_then_garble"] {
        assert!(stats["calls"]["create"][fault].as_u64() > Some(0), "no create had a {fault}: {stats:#}");
    }
    for fault in ["slow", "drop", "fail"] {
        let happened = stats["calls"].as_object().unwrap().values().any(|endings| endings[fault].is_u64());
        assert!(happened, "there was no {fault}: {stats:#}");
    }
}
