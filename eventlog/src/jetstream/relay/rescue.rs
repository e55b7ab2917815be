//! A mirror that is not what the log holds: whatever it alone has is appended to the log before the mirror is made anew.

use futures::StreamExt;
use keyledger_schemas::envelope::{Hash, IdReuse, NewEvent, Position, Recorded};
use keyledger_schemas::event::MirrorFault;

use super::{Relay, Trouble};
use crate::jetstream::message::{DecodeError, Decoded, Stub};
use crate::jetstream::mirror::Slot;
use crate::lease::Lease;
use crate::log::{Append, Placed};

/// Events appended at once, and their bytes, though one is always allowed.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Ids named to a person at most.
const NAMED_MAX: usize = 10;

/// What became of the mirror's events from one position on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rescued {
    first: Position,
    last: Position,
    /// Events that the log lacked and has now.
    appended: usize,
    /// What cannot be taken into the log: of which the mirror has only the id, which is damaged, or whose id the log has
    /// with other content.
    lost: Vec<String>,
}

impl Rescued {
    /// Whether nothing would be lost with the mirror.
    pub(super) fn is_complete(&self) -> bool {
        self.lost.is_empty()
    }

    /// What a person should know.
    pub(super) fn describe(&self, fault: MirrorFault, stream: &str) -> String {
        let Self { first, appended, lost, .. } = self;
        let what = match fault {
            MirrorFault::Holes => format!("messages are missing in the mirror from position {first} on"),
            MirrorFault::CannotImport => format!("the mirror has more than the log from position {first} on"),
            MirrorFault::OtherBytes | MirrorFault::Foreign | MirrorFault::UnsafeSettings => {
                format!("the mirror holds another history than the log from position {first} on")
            }
        };
        let rescued = match appended {
            0 => String::new(),
            appended => format!("; {appended} events that only it had were appended to the log"),
        };
        if lost.is_empty() {
            return format!(
                "{what}{rescued}; it is made anew as soon as the stream is gone, by itself where keyledger may remove \
                 it, else after `nats stream rm {stream}`"
            );
        }
        let (count, named) = (lost.len(), lost[..lost.len().min(NAMED_MAX)].join(", "));
        format!(
            "{what}{rescued}; {count} of its messages cannot be taken into the log ({named}): look at them with \
             `nats stream get {stream}`, have Stripe send again what is Stripe's, then `nats stream rm {stream}`"
        )
    }
}

impl Relay {
    /// Appends to the log what it lacks of the mirror's events from `first` to `last`.
    pub(super) async fn rescue(&mut self, first: Position, last: Position, lease: &Lease) -> Result<Rescued, Trouble> {
        if let Some(rescued) = self.rescued.as_ref().filter(|it| (it.first, it.last) == (first, last)) {
            return Ok(rescued.clone());
        }
        let mut rescued = Rescued { first, last, ..Rescued::default() };
        let mirror = self.mirror.clone();
        let mut slots = std::pin::pin!(mirror.read(first..=last));
        let mut lacking = Lacking::default();
        while let Some(slot) = slots.next().await {
            match slot? {
                (_, Slot::Event(Decoded::Whole(event))) => match self.log.find(&event.id).await? {
                    None => lacking.push(*event),
                    Some(ours) if is_same(&ours, event.content_hash) => {}
                    Some(_) => rescued.lost.push(other_than_ours(&event)),
                },
                (position, Slot::Event(Decoded::Elsewhere(stub))) => {
                    if !self.holds(&stub).await? {
                        let id = stub.id.map_or_else(|| "one without an id".to_owned(), |id| id.to_string());
                        rescued.lost.push(format!("{id} at {position}, without data"));
                    }
                }
                (position, Slot::Broken(DecodeError::Damaged { .. })) => {
                    rescued.lost.push(format!("an unreadable one at {position}"));
                }
                // Nothing is there, or what no relay wrote.
                (_, Slot::Missing | Slot::Broken(DecodeError::NotOurs)) => {}
            }
            if lacking.is_full() {
                self.append_lacking(&mut lacking, &mut rescued, lease).await?;
            }
        }
        self.append_lacking(&mut lacking, &mut rescued, lease).await?;
        tracing::warn!("{} events that only the mirror had were appended to the log", rescued.appended);
        self.rescued = Some(rescued.clone());
        Ok(rescued)
    }

    /// Appends what the log lacked a moment ago, many at once: whoever reads a purchase's facts anew finds beside them
    /// what was decided then, and does not decide again.
    async fn append_lacking(&self, lacking: &mut Lacking, rescued: &mut Rescued, lease: &Lease) -> Result<(), Trouble> {
        let events = std::mem::take(lacking).events;
        if events.is_empty() {
            return Ok(());
        }
        let offered = events.iter().map(offer).collect();
        let append = Append { events: offered, expected: None, state: vec![lease.fence()] };
        let placed = self.log.append(append).await?;
        for (event, place) in events.iter().zip(placed) {
            match place {
                Placed::Appended(_) => rescued.appended += 1,
                // Someone was first, a moment ago.
                Placed::Duplicate(position) => {
                    let ours = self.log.at(position).await?;
                    if !ours.is_some_and(|ours| is_same(&ours, event.content_hash)) {
                        rescued.lost.push(other_than_ours(event));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the log has the event of a message that carries no data.
    async fn holds(&self, stub: &Stub) -> Result<bool, Trouble> {
        match &stub.id {
            Some(id) => Ok(self.log.find(id).await?.is_some_and(|ours| is_same(&ours, stub.content_hash))),
            None => Ok(self.log.chain_at(stub.position).await? == Some(stub.chain)),
        }
    }
}

/// Events that the log lacks, to be appended together.
#[derive(Default)]
struct Lacking {
    events: Vec<Recorded>,
    bytes: usize,
}

impl Lacking {
    fn push(&mut self, event: Recorded) {
        self.bytes += event.data.len();
        self.events.push(event);
    }

    fn is_full(&self) -> bool {
        self.events.len() >= BATCH || self.bytes >= BATCH_BYTES
    }
}

/// The event as it is appended: with another position, version and time of record.
fn offer(event: &Recorded) -> NewEvent {
    NewEvent {
        id: event.id.clone(),
        kind: event.kind.clone(),
        scope: event.scope.clone(),
        stream: event.stream.clone(),
        occurred_at: event.occurred_at,
        causation_id: event.causation_id.clone(),
        correlation_id: event.correlation_id.clone(),
        schema_version: event.schema_version,
        actor: event.actor.clone(),
        partition: event.partition,
        delivery: event.delivery.clone(),
        data: event.data.clone(),
        on_reuse: IdReuse::FirstWins,
    }
}

fn other_than_ours(event: &Recorded) -> String {
    format!("{} at {}, other than the log's", event.id, event.position)
}

/// Whether the log's event stands for the mirror's of the same id. Our own ids are derived from what an event is about,
/// so two histories may use one for two events. Of Stripe's, and of what a relay says, the first wins.
fn is_same(ours: &Recorded, content_hash: Hash) -> bool {
    ours.is_stripe() || ours.kind.starts_with("mirror.") || ours.content_hash == content_hash
}
