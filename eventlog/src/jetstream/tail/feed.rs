//! The task that keeps a durable consumer on the mirror, and puts what it delivers into the window.
//!
//! The consumer acknowledges only what its reader is past, so its floor on the server is the reader's checkpoint, and the
//! lag that `nats consumer info` shows is the real one. Everything else about it is a hint: it may be deleted, deliver
//! again, or share its messages with another process, and its reader skips nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull::{Config, Stream};
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use futures::StreamExt;
use keyledger_schemas::envelope::{Position, Recorded};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::window::Window;
use crate::consumer::delay;
use crate::jetstream::SUBJECTS;
use crate::jetstream::judgement::Judgement;
use crate::jetstream::message::{Decoded, decode};
use crate::jetstream::mirror::{Look, Mirror};

/// Messages asked for at once.
const BATCH: usize = 128;

/// How long a request for messages stands, and how often the server says that it still does. Twice that in silence, and
/// it is asked anew.
const EXPIRES: Duration = Duration::from_secs(20);
const HEARTBEAT: Duration = Duration::from_secs(3);

/// How often the server is told how far the reader is.
const ACK_EVERY: Duration = Duration::from_millis(250);

/// How long the server waits before it delivers again what the reader is not past.
const ACK_WAIT: Duration = Duration::from_mins(1);

/// Delivered and not acknowledged at most, over all processes that share the consumer.
const ACK_PENDING_MAX: i64 = 20_000;

/// A message this near to the reader's position says that the mirror keeps up.
const NEAR: u64 = 256;

/// The bytes asked for at once, or two of the largest messages.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// How long to wait after the first, second, … trouble in a row; the last repeats.
const DELAYS: &[Duration] =
    &[Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What the task and the reader share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    window: Mutex<Window>,
    /// The position after which the reader wants events.
    after: AtomicU64,
    /// Whether the consumer is there.
    up: AtomicBool,
    /// Whether the log had to be asked for what the mirror owed, and the mirror has not come near since.
    silent: AtomicBool,
    /// Something arrived, or the consumer came or went.
    pub(super) arrived: Notify,
    /// There may be room again.
    drained: Notify,
}

impl Shared {
    pub(super) fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    pub(super) fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    /// Takes what has arrived right after `after`, at most `limit`.
    pub(super) fn take(&self, after: Position, limit: usize) -> Vec<Recorded> {
        let run = self.window().take(after, limit);
        if !run.is_empty() {
            self.drained.notify_one();
        }
        run
    }

    /// Drops what has arrived.
    pub(super) fn clear(&self) {
        self.window().clear();
        self.drained.notify_one();
    }

    /// Notes where the reader stands.
    pub(super) fn stand_at(&self, after: Position) {
        self.after.store(after, Ordering::Relaxed);
        self.window().forget_until(after);
        self.drained.notify_one();
    }

    fn after(&self) -> Position {
        self.after.load(Ordering::Relaxed)
    }

    fn set_up(&self, up: bool) {
        if self.up.swap(up, Ordering::Relaxed) != up {
            self.arrived.notify_one();
        }
    }
}

/// The task, which ends with this.
#[derive(Debug)]
pub(super) struct Feed(JoinHandle<()>);

impl Feed {
    /// Keeps the consumer `name` on `mirror`, for as long as this is held.
    pub(super) fn start(mirror: Mirror, name: String, shared: Arc<Shared>) -> Self {
        Self(tokio::spawn(run(mirror, name, shared)))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(mirror: Mirror, name: String, shared: Arc<Shared>) {
    let mut troubles = 0;
    loop {
        let Err(error) = deliver(&mirror, &name, &shared).await;
        if shared.is_up() {
            troubles = 0;
        }
        troubles += 1;
        shared.set_up(false);
        tracing::debug!(error = &*error, consumer.name = name, "the consumer on the mirror is made or asked again");
        tokio::time::sleep(delay(DELAYS, troubles)).await;
    }
}

/// Never ends by itself.
enum Never {}

async fn deliver(mirror: &Mirror, name: &str, shared: &Shared) -> Result<Never, Error> {
    if !mirror.client().is_connected() {
        return Err(mirror.client().trouble().into());
    }
    match mirror.look().await? {
        Look::Here(Judgement::Ours { .. } | Judgement::Holes { .. } | Judgement::Unsafe { .. }) => {}
        Look::Here(Judgement::Foreign { reason }) => return Err(reason.into()),
        Look::Gone => return Err("there is no mirror".into()),
    }
    let consumer = consumer(mirror, name, shared.after()).await?;
    let bytes = BATCH_BYTES.max(mirror.client().max_payload().saturating_mul(2));
    let messages = consumer.stream().max_messages_per_batch(BATCH).max_bytes_per_batch(bytes);
    let mut messages = messages.expires(EXPIRES).heartbeat(HEARTBEAT).messages().await?;
    shared.set_up(true);
    let mut acks = Acks::default();
    let mut tick = tokio::time::interval(ACK_EVERY);
    loop {
        tokio::select! {
            message = next(&mut messages, shared) => take(&message?, shared, &mut acks),
            _ = tick.tick() => acks.send(mirror, shared.after()).await?,
        }
    }
}

/// The next message, once there is room for it.
async fn next(messages: &mut Stream, shared: &Shared) -> Result<Message, Error> {
    while shared.window().is_full() {
        shared.drained.notified().await;
    }
    Ok(messages.next().await.ok_or("the consumer's messages ended")??)
}

/// Puts a message into the window, unless the reader is past it.
fn take(message: &Message, shared: &Shared, acks: &mut Acks) {
    let Ok(position) = message.info().map(|info| info.stream_sequence) else { return };
    if let Some(reply) = message.reply.clone() {
        acks.0.insert(position, reply);
    }
    if position.saturating_add(NEAR) > shared.after() {
        shared.set_silent(false);
    }
    if position <= shared.after() {
        return;
    }
    let headers = message.headers.clone().unwrap_or_default();
    match decode(&headers, &message.payload) {
        Ok(Decoded::Whole(event)) if event.position == position => shared.window().push(*event),
        // A gap, which the reader fills from the log.
        Ok(_) | Err(_) => {}
    }
    shared.arrived.notify_one();
}

/// The durable consumer, made where the reader stands if it is not there.
async fn consumer(mirror: &Mirror, name: &str, after: Position) -> Result<Consumer<Config>, Error> {
    let context = &mirror.client().context;
    if let Ok(found) = context.get_consumer_from_stream(name, mirror.stream()).await {
        return Ok(found);
    }
    let config = Config {
        durable_name: Some(name.to_owned()),
        description: Some(format!("{name} reads here, and the log where this has gaps")),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after.saturating_add(1) },
        ack_policy: AckPolicy::All,
        ack_wait: ACK_WAIT,
        max_ack_pending: ACK_PENDING_MAX,
        max_deliver: -1,
        filter_subject: SUBJECTS.to_owned(),
        ..Config::default()
    };
    Ok(context.create_consumer_on_stream(config, mirror.stream()).await?)
}

/// Where to acknowledge what was delivered. Acknowledging one acknowledges all before it.
#[derive(Debug, Default)]
struct Acks(BTreeMap<Position, Subject>);

impl Acks {
    /// Acknowledges what a reader that stands at `after` is past.
    async fn send(&mut self, mirror: &Mirror, after: Position) -> Result<(), Error> {
        let rest = self.0.split_off(&after.saturating_add(1));
        let past = std::mem::replace(&mut self.0, rest);
        if let Some((_, reply)) = past.into_iter().next_back() {
            mirror.client().nats().publish(reply, "+ACK".into()).await?;
        }
        Ok(())
    }
}
