//! The calls that errands come to, and what their answers mean. Each may be repeated.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_eventlog::state::StateWrite;
use keyledger_schemas::envelope::{IdReuse, NewEvent, derived_id, partition_of};
use keyledger_schemas::event::{
    CustomerSynced, Event, FetchRefused, MetadataRefused, MetadataWritten, ReconcileCompleted,
};
use keyledger_schemas::ids::{CustomerId, EventId, Mode, ProviderName, Scope, StreamId};
use tracing::{info, warn};

use super::Source;
use super::errand::{Errand, Row, Task};
use super::look::{Look, effects_stream};
use super::write_back::idempotency_key;
use crate::customer;
use crate::desk::WorkError;
use crate::provider::{CallError, ProviderError};
use crate::stripe::client::{Client, Holder, StripeError, Want};
use crate::stripe::other_mode;
use crate::stripe::reconcile::{self, reconcile};

/// How soon an errand is looked at again that an engine has no room for.
const CROWDED: Duration = Duration::from_secs(1);

/// What an errand came to.
pub(crate) enum Outcome {
    /// It is done, or never will be: these events say so. `after` is the one that must be read before it is looked at again.
    Done { events: Vec<NewEvent>, state: Vec<StateWrite>, after: Option<EventId> },
    /// It failed, and is tried again.
    Failed { asked: Option<Duration>, replayed: bool },
    /// Nobody was asked.
    Postponed(Duration),
}

/// Calls Stripe and the engines.
pub(crate) struct Calls {
    /// Where state is read, and the sources that can be asked.
    pub look: Arc<Look>,
    /// How long one call to an engine may take.
    pub call_timeout: Duration,
}

impl Calls {
    /// Does what the errand says. Its outcome is still to be recorded.
    pub async fn perform(&self, row: &Row, errand: &Errand, now: Timestamp) -> Result<Outcome, WorkError> {
        Ok(match &errand.task {
            Task::Write { scope, object, values, round } => {
                let key = idempotency_key(object, values, *round, row.fresh);
                self.write(scope, object, values, key, errand.cause.as_ref(), now).await
            }
            Task::Fetch { scope, want } => self.fetch(scope, want, errand.cause.as_ref(), now).await,
            Task::Sync { scope, customer, provider, id } => self.sync(scope, customer, provider, id, now).await?,
            Task::Reconcile { source, since } => match self.look.stripe.sources.get(source) {
                Some(source) => self.reconcile(source, *since, now).await,
                None => Outcome::Done { events: Vec::new(), state: Vec::new(), after: None },
            },
        })
    }

    fn client(&self, scope: &Scope) -> Option<Client> {
        let source = self.look.stripe.sources.get(&scope.source)?;
        Some(source.stripe.client.of(scope.account.as_ref()))
    }

    async fn write(
        &self,
        scope: &Scope,
        object: &str,
        values: &BTreeMap<String, String>,
        key: String,
        cause: Option<&EventId>,
        now: Timestamp,
    ) -> Outcome {
        let Some(client) = self.client(scope) else { return Outcome::Postponed(CROWDED) };
        let holder = if object.starts_with("sub_") {
            Holder::Subscription(object.into())
        } else {
            Holder::Customer(object.into())
        };
        let event = match client.write_metadata(&holder, values, &key).await {
            Ok(_) => {
                info!(object.id = object, "metadata written to {object}");
                Event::MetadataWritten(MetadataWritten {
                    object: object.to_owned(),
                    values: values.clone(),
                    idempotency_key: key.clone(),
                })
            }
            Err(error) => match refusal(&error) {
                Some(reason) => {
                    warn!(object.id = object, reason, "Stripe does not take metadata for {object}");
                    let (object, values) = (object.to_owned(), values.clone());
                    Event::MetadataRefused(MetadataRefused { object, values, reason })
                }
                None => return failed(&error, object),
            },
        };
        let id = derived_id(&format!("{scope}:{key}"), event.kind(), object);
        let own = own(&event, id, scope, effects_stream(scope, object), object, cause, now);
        Outcome::Done { events: vec![own], state: Vec::new(), after: None }
    }

    async fn fetch(&self, scope: &Scope, want: &Want, cause: Option<&EventId>, now: Timestamp) -> Outcome {
        let Some(client) = self.client(scope) else { return Outcome::Postponed(CROWDED) };
        let shown = match client.fetch(want).await {
            Ok(fetched) => match fetched.objects().into_iter().find_map(|object| other_mode(object, scope.mode)) {
                None => Ok(fetched),
                Some(shown) => Err(wrong_mode(shown, scope.mode)),
            },
            Err(error) => match refusal(&error) {
                Some(reason) => Err(reason),
                None => return failed(&error, want.about()),
            },
        };
        let event = match shown {
            Ok(fetched) => fetched.event(scope, cause),
            Err(reason) => {
                let path = want.path();
                warn!(path, reason, "Stripe does not show what is missing");
                let event = Event::FetchRefused(FetchRefused { path: path.clone(), reason });
                let id = derived_id(&format!("fetch:{scope}:{path}"), event.kind(), &now.to_string());
                own(&event, id, scope, effects_stream(scope, want.about()), want.about(), cause, now)
            }
        };
        // Looked at again: an answer may ask for more, and what was refused is asked for another day.
        let after = Some(event.id.clone());
        Outcome::Done { events: vec![event], state: Vec::new(), after }
    }

    async fn sync(
        &self,
        scope: &Scope,
        customer: &CustomerId,
        provider: &ProviderName,
        id: &str,
        now: Timestamp,
    ) -> Result<Outcome, WorkError> {
        let desk = &self.look.desk;
        let Some((mut row, revision)) = customer::load(&*desk.log, scope, customer.as_str()).await? else {
            return Ok(Outcome::Done { events: Vec::new(), state: Vec::new(), after: None });
        };
        let Some(seen) = row.sight().map(str::to_owned) else {
            return Ok(Outcome::Done { events: Vec::new(), state: Vec::new(), after: None });
        };
        let Some(_place) = desk.engines.place(provider) else { return Ok(Outcome::Postponed(CROWDED)) };
        let engine = desk.engines.get(provider);
        let person = row.person(customer.as_str(), provider, &customer::Contact::default());
        let answer = tokio::time::timeout(self.call_timeout, engine.update_customer(id, &person)).await;
        let refused = match answer {
            Ok(Ok(())) => None,
            Ok(Err(ProviderError::Refused { reason })) => Some(reason),
            Ok(Err(ProviderError::Unavailable { retry_after, .. })) => {
                return Ok(Outcome::Failed { asked: retry_after, replayed: false });
            }
            Ok(Err(ProviderError::Indeterminate { .. })) | Err(_) => {
                return Ok(Outcome::Failed { asked: None, replayed: false });
            }
        };
        let synced = CustomerSynced {
            provider: provider.clone(),
            customer: customer.as_str().to_owned(),
            provider_customer_id: id.to_owned(),
            seen,
            refused,
        };
        row.synced(&synced);
        let cause = format!("sync:{scope}:{customer}:{provider}:{id}:{}:{revision}", synced.seen);
        let event = Event::CustomerSynced(synced);
        let event_id = derived_id(&cause, event.kind(), customer.as_str());
        let stream = customer::stream(scope, customer.as_str());
        let own = own(&event, event_id, scope, stream, customer.as_str(), None, now);
        let state = vec![customer::write(scope, customer.as_str(), &row, revision, now)];
        Ok(Outcome::Done { events: vec![own], state, after: None })
    }

    async fn reconcile(&self, source: &Source, since: Timestamp, now: Timestamp) -> Outcome {
        let desk = &self.look.desk;
        let options = reconcile::Options { since, apply: true, ..reconcile::Options::default() };
        let name = &source.stripe.name;
        let report = match reconcile(&*desk.log, &*desk.clock, &source.stripe, &options, &mut |_| {}).await {
            Ok(report) => report,
            Err(error) => {
                warn!(source.name = %name, error = &error as &dyn std::error::Error,
                    "cannot compare the log with Stripe; trying again");
                return Outcome::Failed { asked: None, replayed: false };
            }
        };
        let scope = Scope::new(name.clone(), source.mode());
        let event = Event::ReconcileCompleted(ReconcileCompleted {
            since,
            events_seen: report.events_seen,
            events_appended: report.events_appended,
            objects_seen: report.objects_seen,
            objects_appended: report.objects_appended,
        });
        let id = derived_id(&format!("reconcile:{scope}:{since}"), event.kind(), &now.to_string());
        let stream = StreamId::new(format!("reconcile:{name}"));
        let own = own(&event, id, &scope, stream, name.as_str(), None, now);
        Outcome::Done { events: vec![own], state: Vec::new(), after: None }
    }
}

/// What is said of an answer that is of the other mode.
fn wrong_mode(shown: Mode, wanted: Mode) -> String {
    format!("the API key shows {shown} objects, and the source is for {wanted}: check the key")
}

/// Why Stripe will not do it, if that is what the error says.
fn refusal(error: &StripeError) -> Option<String> {
    match error {
        StripeError::Unavailable { .. } => None,
        StripeError::Refused { status, code, .. } => {
            let code = code.as_deref().map(|code| format!(": {code}")).unwrap_or_default();
            Some(format!("status {status}{code}"))
        }
    }
}

fn failed(error: &StripeError, object: &str) -> Outcome {
    warn!(object.id = object, error = error as &dyn std::error::Error, "Stripe did not do it; trying again later");
    match error {
        StripeError::Unavailable { retry_after, source } => {
            let replayed = matches!(source, CallError::Status { status } if *status >= 500);
            Outcome::Failed { asked: *retry_after, replayed }
        }
        StripeError::Refused { .. } => Outcome::Failed { asked: None, replayed: true },
    }
}

fn own(
    event: &Event,
    id: EventId,
    scope: &Scope,
    stream: StreamId,
    object: &str,
    cause: Option<&EventId>,
    now: Timestamp,
) -> NewEvent {
    NewEvent {
        id,
        kind: event.kind().to_owned(),
        scope: scope.clone(),
        stream,
        occurred_at: now,
        causation_id: cause.cloned(),
        correlation_id: cause.cloned(),
        schema_version: 1,
        actor: None,
        partition: partition_of(object),
        delivery: None,
        data: event.encode(),
        on_reuse: IdReuse::Refused,
    }
}
