//! The built-in engine, which computes and holds nothing.

use std::sync::Arc;
use std::time::Duration;

use keyledger_engine::keys::DeploymentKeys;
use keyledger_issuer::provider::Provider;
use keyledger_issuer::provider::builtin::Builtin;
use keyledger_sandbox::faults::Fault;

use crate::contract::{Call, Hand, Seen, SeenPerson, Subject};

struct Own;

impl Subject for Own {
    const WIRE: bool = false;
    const ATOMIC: bool = true;
    const ADOPTS: bool = false;
    const KNOWS_PRODUCTS: bool = false;
    const SETTING: &'static str = "";

    async fn start() -> Self {
        Self
    }

    async fn restart(&mut self) {}

    async fn stop(&mut self) {}

    fn provider(&self, _timeout: Duration) -> Arc<dyn Provider> {
        Arc::new(Builtin::new(Arc::new(DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32]))))
    }

    fn product(&self) -> String {
        "pro".to_owned()
    }

    fn other_product(&self) -> String {
        "basic".to_owned()
    }

    fn features(&self) -> [&'static str; 2] {
        ["export", "sync"]
    }

    async fn misbehave(&self, _call: Call, _fault: Fault) {}

    async fn mix(&self, _faults: &[(f64, Fault)]) {}

    async fn lag(&self, _lag: Duration) {}

    async fn expire_token(&self) {}

    async fn calls(&self) -> u64 {
        0
    }

    async fn held(&self) -> Vec<Seen> {
        Vec::new()
    }

    /// The same id always gives the same license: however often it is asked, there is one.
    async fn creates(&self, _reference: &str) -> u64 {
        1
    }

    async fn people(&self) -> Vec<SeenPerson> {
        Vec::new()
    }

    async fn make_by_hand(&self, _hand: &Hand) -> String {
        String::new()
    }
}

crate::every_case!(Own);
