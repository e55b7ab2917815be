//! The three repairs of a case: ask for another try, close it with a reason, name the license that meets it.
//!
//! Each records one operator's event. The event's id is derived from the case and from the request's
//! `Idempotency-Key`, or from what was asked and of which opening of the case, so that asking twice records once. Asking for
//! another try also lifts what the policy `left_by_other_system = "case"` holds: a person has decided.

use keyledger_projector::read::{self, CaseStatus};
use keyledger_schemas::event::{AttachRequested, CaseWaived, Event, ObligationWaived, RetryRequested};
use keyledger_schemas::ids::{CustomerId, ProviderName, PurchaseId, StreamId, UnitId};
use serde::Deserialize;
use utoipa::ToSchema;

use super::licenses::BUILTIN;
use super::record::{Recording, occasion};
use super::{Api, View};
use crate::access::{Caller, Role};
use crate::model::Repaired;
use crate::problem::{Fault, Problem};

/// Longest name, characters.
const NAME_MAX: usize = 200;

/// Longest reason or id, characters.
pub(super) const TEXT_MAX: usize = 2000;

/// The engines whose licenses a person may attach although they are not configured.
const ENGINES: [&str; 4] = ["cryptlex", "cryptolens", "keygen", "stub"];

/// The engine whose ids people write as `Id=…` and `globalId=…`.
const CRYPTOLENS: &str = "cryptolens";

/// The kind of case that says that an engine does not give a license which was adopted before it could be asked.
const NOT_ADOPTED: &str = "not_adopted";

/// The kinds of case that say that a unit is owed a license.
const OWED: [&str; 3] = ["no_key", "free_without_key", "not_extended"];

/// Asks for another try at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Who asks; without it, the token's name.
    #[serde(default)]
    pub name: Option<String>,
}

/// Closes a case without a license.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Waive {
    /// Who closes it.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// Why.
    #[schema(min_length = 1, max_length = 2000)]
    pub reason: String,
}

/// Names the license that meets the case's unit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// The license engine that holds it: a configured one, or one that keyledger knows. Not `builtin`. May be left out with
    /// `Id=…` and `globalId=…`, which are Cryptolens'.
    #[serde(default)]
    #[schema(max_length = 200, example = "cryptolens")]
    pub provider: String,
    /// The engine's own id for it; also `Id=88121` or `globalId=812345`, as Cryptolens shows them.
    #[schema(min_length = 1, max_length = 200, example = "88121")]
    pub provider_id: String,
    /// Why.
    #[schema(min_length = 1, max_length = 2000)]
    pub reason: String,
    /// Who attaches it; without it, the token's name.
    #[serde(default)]
    pub name: Option<String>,
}

/// One repair of a case, ready to be recorded.
struct Repair<'a> {
    case: &'a read::Case,
    actor: String,
    /// The sender's key, or what was asked in words that tell two requests apart.
    occasion: String,
    /// The sender gave a key: then a repeat must be the same in every part, its name too.
    keyed: bool,
    /// Why this cannot be done, unless it was recorded before.
    refusal: Option<String>,
    stream: StreamId,
    event: Event,
}

impl Api {
    /// Asks the issuer to try the case's unit again at once.
    ///
    /// # Errors
    ///
    /// [`Problem::NotFound`]; [`Problem::Conflict`] when the case is not open, not about a unit, or another try would
    /// change nothing;
    /// [`Problem::Forbidden`]; [`Problem::Invalid`]; [`Problem::IdempotencyMismatch`]; [`Problem::NotReady`].
    pub async fn retry(
        &self,
        view: &View,
        case: &str,
        request: &Retry,
        idempotency_key: Option<&str>,
        caller: &Caller,
    ) -> Result<Repaired, Problem> {
        caller.must_be(Role::Support)?;
        let mut faults = Vec::new();
        let actor = name_or(request.name.as_deref(), caller, &mut faults);
        refuse(faults)?;
        let case = self.case_row(view, case).await?;
        let unit = unit_of(&case, "tried again")?;
        // Another answer of the provider makes it another request; a double click does not.
        let keyed = idempotency_key.is_some();
        let occasion = occasion(idempotency_key, &format!("{}", case.attempts));
        let stream = unit.purchase.stream();
        let event = Event::RetryRequested(RetryRequested { unit });
        let refusal = nothing_to_try(&case);
        self.repaired(Repair { case: &case, actor, occasion, keyed, refusal, stream, event }).await
    }

    /// Closes the case with a name and a reason. Money for later periods opens a unit's case again.
    ///
    /// # Errors
    ///
    /// As [`Api::retry`].
    pub async fn waive(
        &self,
        view: &View,
        case: &str,
        request: &Waive,
        idempotency_key: Option<&str>,
        caller: &Caller,
    ) -> Result<Repaired, Problem> {
        caller.must_be(Role::Operator)?;
        let mut faults = Vec::new();
        let actor = text("/name", &request.name, NAME_MAX, &mut faults);
        let reason = text("/reason", &request.reason, TEXT_MAX, &mut faults);
        refuse(faults)?;
        let case = self.case_row(view, case).await?;
        let keyed = idempotency_key.is_some();
        let occasion = occasion(idempotency_key, &format!("{actor}\n{reason}"));
        let owed = case.unit.clone().filter(|_| OWED.contains(&case.kind.as_str()));
        let (stream, event) = if let Some(unit) = owed {
            let through = self.paid_until(&unit).await?;
            (unit.purchase.stream(), Event::ObligationWaived(ObligationWaived { unit, through, reason }))
        } else {
            let about = case.purchase.as_ref().map(PurchaseId::stream);
            let stream = about.unwrap_or_else(|| StreamId::new(format!("case:{}", case.id)));
            (stream, Event::CaseWaived(CaseWaived { case: case.id, kind: case.kind.clone(), reason }))
        };
        self.repaired(Repair { case: &case, actor, occasion, keyed, refusal: None, stream, event }).await
    }

    /// Names the license that meets the case's unit.
    ///
    /// # Errors
    ///
    /// As [`Api::retry`].
    pub async fn attach(
        &self,
        view: &View,
        case: &str,
        request: &Attach,
        idempotency_key: Option<&str>,
        caller: &Caller,
    ) -> Result<Repaired, Problem> {
        caller.must_be(Role::Operator)?;
        let mut faults = Vec::new();
        let actor = name_or(request.name.as_deref(), caller, &mut faults);
        let (provider, provider_id) = named(request.provider.trim(), request.provider_id.trim())
            .unwrap_or_else(|| (request.provider.clone(), request.provider_id.clone()));
        let provider = text("/provider", &provider, NAME_MAX, &mut faults);
        let provider_id = text("/provider_id", &provider_id, NAME_MAX, &mut faults);
        if provider_id.contains(char::is_whitespace) {
            faults.push(Fault::pointer("/provider_id", "must be one id, as the engine shows it"));
        }
        let reason = text("/reason", &request.reason, TEXT_MAX, &mut faults);
        if provider != BUILTIN && !provider.is_empty() {
            let mut known = self.configured_providers().await?;
            known.remove(BUILTIN);
            known.extend(ENGINES.map(str::to_owned));
            if !known.contains(&provider) {
                let known = known.into_iter().collect::<Vec<_>>().join(", ");
                faults.push(Fault::pointer("/provider", format!("is no license engine; known are {known}")));
            }
        }
        refuse(faults)?;
        let case = self.case_row(view, case).await?;
        let unit = unit_of(&case, "met by a license")?;
        if !OWED.contains(&case.kind.as_str()) {
            return Err(Problem::Conflict(format!("a case of kind `{}` is not about a missing license", case.kind)));
        }
        // A license of ours belongs to the unit that it was made for, and there is none elsewhere.
        if provider == BUILTIN {
            let reason = "keyledger itself makes the licenses of `builtin`, so there is none to attach; retry the case";
            return Err(Problem::Conflict(reason.to_owned()));
        }
        let keyed = idempotency_key.is_some();
        // What the engine refused may be mended there and named again in the same words.
        let content = format!("{provider}\n{provider_id}\n{reason}\n{actor}\n{}", case.attempts);
        let occasion = occasion(idempotency_key, &content);
        let stream = unit.purchase.stream();
        let provider = ProviderName::new(provider);
        let event = Event::AttachRequested(AttachRequested { unit, provider, provider_id, reason });
        self.repaired(Repair { case: &case, actor, occasion, keyed, refusal: None, stream, event }).await
    }

    /// Records the repair, or finds that it was recorded before: then the case may be closed by now, and that is fine.
    async fn repaired(&self, repair: Repair<'_>) -> Result<Repaired, Problem> {
        let Repair { case, actor, occasion, keyed, refusal, stream, event } = repair;
        let is_open = case.status == CaseStatus::Open;
        let closed = (!is_open).then(|| format!("the case is {}, not open", case.status.as_str()));
        let about = case.customer.as_ref().map(CustomerId::as_str).or(case.stripe_id.as_deref());
        let recording = Recording {
            cause: format!("case\n{}\n{}\n{occasion}", case.id, case.opened_position),
            subject: case.subject.clone(),
            scope: case.scope.clone(),
            stream,
            about: about.unwrap_or(&case.subject).to_owned(),
            actor,
            keyed,
            already: None,
            refusal: closed.or(refusal),
            event,
        };
        Ok(Repaired::of_case(case.id, self.record(recording).await?))
    }
}

/// The license that somebody means by `Id=88121` or `globalId=812345`, as Cryptolens shows them. A plain id is left as it is.
fn named(provider: &str, id: &str) -> Option<(String, String)> {
    let (name, number) = id.split_once('=')?;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let is_meant = provider.is_empty() || provider == CRYPTOLENS;
    let named = match name.to_ascii_lowercase().as_str() {
        "id" | "skm_key_id" => number.to_owned(),
        "globalid" | "skm_key_globalid" => format!("globalId={number}"),
        _ => return None,
    };
    (is_number && is_meant).then(|| (CRYPTOLENS.to_owned(), named))
}

/// Why another try would change nothing, where that is known.
fn nothing_to_try(case: &read::Case) -> Option<String> {
    if !OWED.contains(&case.kind.as_str()) && case.kind != NOT_ADOPTED {
        return Some(format!("a case of kind `{}` waits for a person: there is nothing to try again", case.kind));
    }
    let reason = match case.cause.as_deref()? {
        "unmapped_price" => "nothing maps what was bought to a license: add a [[catalog]] entry and restart keyledger",
        "lines_unknown" => {
            "what the session sold is not known: add metadata that names it, or a default [[catalog]] entry and restart \
             keyledger"
        }
        _ => return None,
    };
    Some(reason.to_owned())
}

fn unit_of(case: &read::Case, done: &str) -> Result<UnitId, Problem> {
    let none = || Problem::Conflict(format!("this case is not about one unit, so there is nothing to be {done}"));
    case.unit.clone().ok_or_else(none)
}

pub(super) fn name_or(name: Option<&str>, caller: &Caller, faults: &mut Vec<Fault>) -> String {
    name.map_or_else(|| caller.name.clone(), |name| text("/name", name, NAME_MAX, faults))
}

/// Text that a person wrote, trimmed. It stays in the log for ever, so it must say something and be of one line's kind.
pub(super) fn text(pointer: &str, text: &str, max: usize, faults: &mut Vec<Fault>) -> String {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 || length > max {
        faults.push(Fault::pointer(pointer, format!("must have 1 to {max} characters")));
    } else if text.chars().any(|c| c.is_control() && c != '\n') {
        faults.push(Fault::pointer(pointer, "must be plain text"));
    }
    text.to_owned()
}

pub(super) fn refuse(faults: Vec<Fault>) -> Result<(), Problem> {
    if faults.is_empty() { Ok(()) } else { Err(Problem::Invalid(faults)) }
}
