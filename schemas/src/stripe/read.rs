//! stub
use super::fact::Fact;
/// The facts that a Stripe event states. Total.
pub fn facts(body: &[u8]) -> Vec<Fact> {
    let _ = body;
    Vec::new()
}
