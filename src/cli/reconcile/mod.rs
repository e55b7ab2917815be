//! `keyledger reconcile`: the log held against Stripe, and license engines against what was paid for.

mod compare;
mod provider;
mod stripe;

use super::Context;
use super::args::{Reconcile, ReconcileVerb};
use crate::output::Exit;

/// Compares with Stripe, or with license engines.
///
/// # Errors
///
/// When the log or the views cannot be read, or who is asked does not answer.
pub async fn run(context: &Context, reconcile: &Reconcile) -> anyhow::Result<Exit> {
    match &reconcile.verb {
        None => Box::pin(stripe::run(context, &reconcile.stripe)).await,
        Some(ReconcileVerb::Provider(wanted)) => Box::pin(provider::run(context, wanted)).await,
    }
}
