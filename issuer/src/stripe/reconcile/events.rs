//! The list of events: what Stripe says that happened in the last 30 days.

use futures::FutureExt;
use jiff::Timestamp;
use keyledger_schemas::envelope::Delivery;
use keyledger_schemas::stripe::Header;
use keyledger_schemas::stripe::record::event_of;
use serde_json::value::RawValue;

use super::{Missing, ReconcileError, Run, Step, patiently};
use crate::stripe::client::unreadable;

const PATH: &str = "/v1/events";

impl Run<'_> {
    /// Looks at all events, or at those that some endpoint did not take.
    pub(super) async fn events(&mut self, step: Step, now: Timestamp) -> Result<(), ReconcileError> {
        let mut query = vec![("created[gte]", self.options.since.as_second().max(0).to_string())];
        if step == Step::Undelivered {
            query.push(("delivery_success", "false".to_owned()));
        }
        let (mut after, mut looked) = (None::<String>, 0);
        loop {
            let page = patiently(|| self.client.page_after(PATH, &query, after.as_deref()).boxed()).await?;
            let mut events = Vec::new();
            let mut back_to = None;
            for raw in &page.elements {
                looked += 1;
                let (event, at) = self.lacking(raw, step, now).await?;
                events.extend(event);
                back_to = at.or(back_to);
            }
            // Oldest first, as they would have come.
            events.reverse();
            self.report.events_appended += self.append(events).await?;
            self.tell(step, looked, back_to);
            after = page.cursor()?;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// The event to append for an element of the list, if the log lacks it; and when it was made.
    async fn lacking(
        &mut self,
        raw: &RawValue,
        step: Step,
        now: Timestamp,
    ) -> Result<(Option<keyledger_schemas::envelope::NewEvent>, Option<Timestamp>), ReconcileError> {
        let bytes = raw.get().as_bytes();
        let mut header = Header::read(bytes).map_err(|error| unreadable(error.reason))?;
        // Asked for an account, Stripe shows that account's events, whether or not they name it.
        header.account = header.account.or_else(|| self.account.clone());
        let (id, created) = (header.id.as_str().to_owned(), header.created);
        if step == Step::Events {
            self.report.events_seen += 1;
        }
        if header.mode != self.source.mode {
            return Err(ReconcileError::OtherMode {
                source_name: self.source.name.clone(),
                shown: header.mode,
                wanted: self.source.mode,
            });
        }
        if self.handled.contains(&id) {
            return Ok((None, created));
        }
        let event = event_of(&self.source.name, header, Delivery::reconciled(now), bytes.to_vec());
        if self.known.has(&event.id, &event.stream).await?
            || self.known.has_elsewhere(&event.id, &self.source.name, &self.source.others).await?
        {
            return Ok((None, created));
        }
        self.handled.insert(id.clone());
        self.report.events_missing += 1;
        let account = event.scope.account.clone();
        self.found(Missing { account, kind: event.kind.clone(), id, at: created.unwrap_or(now) });
        Ok((Some(event), created))
    }
}
