//! The log as it is: pages of it, one event, its stored bytes.

use keyledger_projector::read::{PageRequest, Within};
use keyledger_schemas::envelope::{Position, Recorded};
use keyledger_schemas::ids::{EventId, Scope, StreamId};

use super::{Api, View};
use crate::model::{Event, Page};
use crate::problem::Problem;

/// How many events are read at a time.
const CHUNK: usize = 500;

/// How many events one answer looks through. A page of a rare type may be short, or empty, and still have a `next`.
const LOOKED_THROUGH_MAX: usize = 20_000;

/// At how many places of the log it is asked which ids Stripe's events have.
const PLACES: u64 = 64;

/// How many events are read at each place.
const EACH_PLACE: usize = 16;

/// Which events. Terms are joined by *and*.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Of this type, or of every type that begins so when it ends in `.` or `*`.
    pub kind: Option<String>,
    /// Of this stream.
    pub stream: Option<String>,
}

impl EventQuery {
    fn wants(&self, event: &Recorded, within: &Within) -> bool {
        let prefix =
            |kind: &str| kind.strip_suffix('*').or_else(|| kind.ends_with('.').then_some(kind)).map(str::to_owned);
        let kind_fits = self.kind.as_deref().is_none_or(|kind| match prefix(kind) {
            Some(prefix) => event.kind.starts_with(&prefix),
            None => event.kind == kind,
        });
        kind_fits
            && self.stream.as_deref().is_none_or(|stream| event.stream.as_str() == stream)
            && is_in(&event.scope, within)
    }
}

fn is_in(scope: &Scope, within: &Within) -> bool {
    scope.mode == within.mode && within.source.as_ref().is_none_or(|source| scope.source == *source)
}

impl Api {
    /// A page of the log in order, without data. `after` is a position.
    ///
    /// # Errors
    ///
    /// [`Problem::Invalid`] for an `after` that is no position; [`Problem::NotReady`] when the log cannot be reached.
    pub async fn events(&self, view: &View, query: &EventQuery, page: &PageRequest) -> Result<Page<Event>, Problem> {
        self.source_is_known(view).await?;
        let mut after = position(page.after.as_deref())?;
        let mut version = 0;
        let limit = page.rows() as usize;
        let mut data: Vec<Event> = Vec::with_capacity(limit);
        let mut looked_through = 0;
        loop {
            let chunk = match &query.stream {
                None => self.log.read_after(after, CHUNK).await?,
                Some(stream) => self.log.read_stream(&StreamId::new(stream), version, CHUNK).await?,
            };
            // A page may be short of its limit; only an empty one is the end.
            let is_last = chunk.is_empty();
            looked_through += chunk.len();
            for event in chunk {
                version = event.version;
                // A stream is read from its start: its events before `after` were on earlier pages.
                if event.position <= after || !query.wants(&event, &view.within) {
                    after = after.max(event.position);
                    continue;
                }
                if data.len() == limit {
                    return Ok(Page { data, next: Some(after.to_string()) });
                }
                after = event.position;
                data.push(Event::from(event));
            }
            if is_last {
                return Ok(Page { data, next: None });
            }
            if looked_through >= LOOKED_THROUGH_MAX && query.stream.is_none() {
                return Ok(Page { data, next: Some(after.to_string()) });
            }
        }
    }

    /// One event with its data read as JSON.
    ///
    /// # Errors
    ///
    /// [`Problem::NotFound`], [`Problem::NotReady`].
    pub async fn event(&self, view: &View, id: &str) -> Result<Event, Problem> {
        Ok(Event::with_data(self.recorded(view, id).await?))
    }

    /// One event with its stored bytes.
    ///
    /// # Errors
    ///
    /// [`Problem::NotFound`], [`Problem::NotReady`].
    pub async fn recorded(&self, view: &View, id: &str) -> Result<Recorded, Problem> {
        let found = self.log.find(&EventId::new(id)).await?;
        found.filter(|event| is_in(&event.scope, &view.within)).ok_or_else(|| Problem::not_found("event", id))
    }

    /// The renderings of one Stripe event, by its bare `evt_…`.
    ///
    /// The log finds whole ids only, and these name the scope and the API version. So the scopes and versions that
    /// occur are read at places spread over the log and at its end, and each possible id is looked up.
    pub(super) async fn stripe_events(&self, view: &View, evt: &str) -> Result<Vec<Recorded>, Problem> {
        let mut found: Vec<Recorded> = Vec::new();
        for (scope, version) in self.renderings(view).await? {
            if let Some(event) = self.log.find(&EventId::new(format!("{scope}:{evt}:{version}"))).await? {
                found.push(event);
            }
        }
        Ok(found)
    }

    /// Which scopes deliver, in which API versions.
    async fn renderings(&self, view: &View) -> Result<std::collections::BTreeSet<(String, String)>, Problem> {
        let head = self.log.head().await?.position;
        let mut seen = std::collections::BTreeSet::new();
        let step = (head / PLACES).max(EACH_PLACE as u64);
        let mut places: Vec<Position> = (0..PLACES).map(|place| place * step).filter(|place| *place < head).collect();
        places.push(head.saturating_sub(EACH_PLACE as u64));
        for place in places {
            for event in self.log.read_after(place, EACH_PLACE).await? {
                if event.is_stripe() && is_in(&event.scope, &view.within) {
                    seen.extend(rendering(&event));
                }
            }
        }
        Ok(seen)
    }
}

/// Scope and API version of a Stripe event's id, `source:account:mode:evt_…:version`.
fn rendering(event: &Recorded) -> Option<(String, String)> {
    let scope = event.scope.key();
    let rest = event.id.as_str().strip_prefix(&scope)?.strip_prefix(':')?;
    let (_, version) = rest.split_once(':')?;
    Some((scope, version.to_owned()))
}

fn position(after: Option<&str>) -> Result<Position, Problem> {
    let Some(text) = after else { return Ok(0) };
    text.parse().map_err(|_| Problem::parameter("after", "must be a position, or `next` of the page before"))
}
