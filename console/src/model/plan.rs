//! What would repair a case: ordered steps with reasons, and what became of each.

use serde::Serialize;
use utoipa::ToSchema;

/// What would repair some cases, in the order to do it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Plan {
    /// The steps; those of one case follow each other.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Step {
    /// The case.
    #[schema(example = "kl_cas_5d41402abc4b5a71b2c3d4e5f6071829")]
    pub case: String,
    /// The case's kind.
    #[schema(example = "no_key")]
    pub kind: String,
    /// What the case is about: a unit, a purchase, or an object.
    pub about: String,
    /// What to do.
    pub action: StepAction,
    /// Who does it.
    pub by: Doer,
    /// Why.
    pub reason: String,
    /// How a person does it, where there is a command for it.
    pub command: Option<String>,
    /// The license engine, where a license is attached.
    pub provider: Option<String>,
    /// The engine's id for that license.
    pub provider_id: Option<String>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepAction {
    /// Ask the license engine again.
    Retry,
    /// Make a license although another system was to make one.
    Issue,
    /// Attach the license that Stripe names.
    Attach,
    /// Say in the catalog what a price means.
    MapPrice,
    /// Mend what is named.
    Mend,
    /// Ask Stripe for what is missing.
    Reconcile,
    /// Wait: it goes on by itself.
    Wait,
    /// Close the case with a reason.
    Waive,
}

/// Who does a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Doer {
    /// It is safe to be done at once, and to be done again.
    Keyledger,
    /// A person must decide, or do something elsewhere.
    Person,
    /// Nobody need do anything.
    Nobody,
}

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Applied {
    /// The case.
    pub case: String,
    /// What was to be done.
    pub action: StepAction,
    /// What became of it.
    pub outcome: Outcome,
    /// The event that records it.
    pub event: Option<String>,
    /// Why it was left, where it was.
    pub detail: Option<String>,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was recorded now.
    Recorded,
    /// It was recorded before; nothing was written now.
    Repeated,
    /// It is left to a person, to time, or cannot be done any more.
    Left,
}
