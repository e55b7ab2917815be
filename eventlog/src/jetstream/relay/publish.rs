//! Publishing what the mirror lacks, many messages at a time, for as long as all goes well.
//!
//! Every message says which position must be the last one before it, so whatever is lost, late or doubled on the way is
//! refused by the server and never stored out of place. On the first answer that is not the expected one, or that does
//! not come in time, everything on its way is forgotten and the stream is asked where it stands: a message may still
//! arrive after that, and then it is either the next one or refused.

use std::collections::VecDeque;

use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::message::PublishMessage;
use futures::FutureExt;
use futures::future::BoxFuture;
use keyledger_schemas::envelope::{Position, Recorded};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Next, Relay, State, Trouble, report};
use crate::jetstream::judgement::Judgement;
use crate::jetstream::message::{Encoded, encode};
use crate::jetstream::mirror::Look;
use crate::lease::Lease;
use crate::log::Head;

/// Events read from the log at once.
const PAGE: usize = 256;

/// Data from this size on may be compressed, which takes a thread for a while.
const LARGE: usize = 256 * 1024;

/// What is on its way, in the order of the log.
struct Flight {
    position: Position,
    bytes: usize,
    deadline: Instant,
    ack: BoxFuture<'static, Result<(), Trouble>>,
}

/// How far the mirror is, and what it has been sent.
struct Run {
    /// The end of what was sent.
    sent: Head,
    /// The last position that the server acknowledged.
    acked: Position,
    /// Read, and not sent.
    ready: VecDeque<Recorded>,
    flights: VecDeque<Flight>,
    bytes: usize,
    /// When the stream was last looked at.
    looked: Instant,
    /// The log's end when this began. Once that is in the mirror it is well again, and the log is told if it must be.
    well_at: Option<Position>,
}

impl Relay {
    /// Publishes what comes after `after`, the mirror's end, and what is appended from then on.
    pub(super) async fn follow(
        &mut self,
        after: Head,
        lease: &Lease,
        shutdown: &CancellationToken,
    ) -> Result<Next, Trouble> {
        self.be(State::Following);
        self.rescued = None;
        self.remove_after = None;
        let head = self.log.head().await?;
        let mut run = Run {
            sent: after,
            acked: after.position,
            ready: VecDeque::new(),
            flights: VecDeque::new(),
            bytes: 0,
            looked: Instant::now(),
            well_at: Some(head.position),
        };
        let mut wake = self.log.wake();
        loop {
            if shutdown.is_cancelled() {
                return self.finish(run).await;
            }
            wake.borrow_and_update();
            if run.ready.is_empty() {
                run.ready = self.log.read_after(run.sent.position, PAGE).await?.into();
            }
            let is_at_end = run.ready.is_empty();
            if !self.send(&mut run).await? {
                // The log is another one than a moment ago.
                return Ok(Next::Now);
            }
            if run.well_at.is_some_and(|position| position <= run.acked) {
                run.well_at = None;
                let stream = self.mirror.stream();
                report::mended(&*self.log, lease, stream, run.acked, self.clock.now()).await?;
            }
            if run.looked.elapsed() >= self.options.look_every {
                run.looked = Instant::now();
                if !self.is_still_right(run.acked, run.sent).await? {
                    return Ok(Next::Now);
                }
            }
            self.wait(&mut run, is_at_end, &mut wake, shutdown).await?;
        }
    }

    /// Sends what is ready, as far as the limits go. `false` when an event does not hang on the one before.
    async fn send(&self, run: &mut Run) -> Result<bool, Trouble> {
        let max_payload = self.mirror.client().max_payload();
        while run.flights.len() < self.options.in_flight
            && (run.bytes < self.options.in_flight_bytes || run.flights.is_empty())
            && let Some(event) = run.ready.pop_front()
        {
            if event.position != run.sent.position + 1 || event.chain != event.chain_after(&run.sent.chain) {
                return Ok(false);
            }
            let head = Head { position: event.position, chain: event.chain };
            let encoded = encode_apart(event, max_payload).await?;
            let bytes = encoded.payload.len();
            let ack = self.publish(head.position, encoded).await?;
            let deadline = Instant::now() + self.options.ack_timeout;
            run.flights.push_back(Flight { position: head.position, bytes, deadline, ack });
            run.bytes += bytes;
            run.sent = head;
        }
        Ok(true)
    }

    async fn publish(
        &self,
        position: Position,
        encoded: Encoded,
    ) -> Result<BoxFuture<'static, Result<(), Trouble>>, Trouble> {
        let client = self.mirror.client();
        if !client.is_connected() {
            return Err(Trouble::Publish("the connection is lost".to_owned()));
        }
        let message = PublishMessage::build()
            .payload(encoded.payload)
            .headers(encoded.headers)
            .expected_stream(self.mirror.stream());
        let sent = client.context.send_publish(encoded.subject, message).await;
        let ack = sent.map_err(|error| Trouble::Publish(error.to_string()))?;
        Ok(acknowledged(ack, self.mirror.stream().to_owned(), position).boxed())
    }

    /// Waits until there is something to do: an answer of the server, a place on the way, or more in the log.
    async fn wait(
        &self,
        run: &mut Run,
        is_at_end: bool,
        wake: &mut watch::Receiver<Position>,
        shutdown: &CancellationToken,
    ) -> Result<(), Trouble> {
        let Run { flights, .. } = run;
        let poll = async {
            if is_at_end {
                tokio::select! {
                    () = tokio::time::sleep(self.options.poll) => {}
                    Ok(()) = wake.changed() => {}
                }
            } else {
                std::future::pending::<()>().await;
            }
        };
        let acked = async {
            match flights.front_mut() {
                Some(flight) => tokio::time::timeout_at(flight.deadline, &mut flight.ack)
                    .await
                    .unwrap_or_else(|_| Err(Trouble::Publish("it did not come in time".to_owned()))),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = acked => answer?,
            () = poll => return Ok(()),
            () = shutdown.cancelled() => return Ok(()),
        }
        take(run);
        // Those that have been answered meanwhile, without waiting.
        while let Some(flight) = run.flights.front_mut()
            && let Some(answer) = (&mut flight.ack).now_or_never()
        {
            answer?;
            take(run);
        }
        let log = (*wake.borrow()).max(run.sent.position);
        self.see(run.acked, log);
        Ok(())
    }

    /// Whether the stream is still ours and holds what was acknowledged, and the log what was sent.
    async fn is_still_right(&self, acked: Position, sent: Head) -> Result<bool, Trouble> {
        let look = self.mirror.look().await?;
        let is_ours = matches!(look, Look::Here(Judgement::Ours { last }) if last >= acked);
        Ok(is_ours && self.log.chain_at(sent.position).await? == Some(sent.chain))
    }

    /// Waits for what is on its way, and then no longer.
    async fn finish(&self, mut run: Run) -> Result<Next, Trouble> {
        while let Some(flight) = run.flights.front_mut() {
            let answer = tokio::time::timeout_at(flight.deadline, &mut flight.ack).await;
            answer.unwrap_or_else(|_| Err(Trouble::Publish("it did not come in time".to_owned())))?;
            take(&mut run);
        }
        self.see(run.acked, run.sent.position);
        Ok(Next::Now)
    }
}

/// The first on its way has arrived.
fn take(run: &mut Run) {
    if let Some(flight) = run.flights.pop_front() {
        run.bytes -= flight.bytes;
        run.acked = flight.position;
    }
}

/// Encodes `event`; one that may take long, on a thread for such work.
async fn encode_apart(event: Recorded, max_payload: usize) -> Result<Encoded, Trouble> {
    if event.data.len() < LARGE.min(max_payload / 2) {
        return Ok(encode(&event, max_payload));
    }
    let encoding = tokio::task::spawn_blocking(move || encode(&event, max_payload));
    encoding.await.map_err(|error| Trouble::Publish(error.to_string()))
}

/// Ends when the server has stored the message at its position, now or before. Servers answer a message that they have
/// with its place or with an error, depending on version and replicas; what is not the expected place is looked into.
async fn acknowledged(ack: PublishAckFuture, stream: String, position: Position) -> Result<(), Trouble> {
    let answer = ack.await.map_err(|error| Trouble::Publish(error.to_string()))?;
    if answer.sequence != position || answer.stream != stream {
        let (at, of) = (answer.sequence, answer.stream);
        return Err(Trouble::Publish(format!("position {position} of `{stream}` was stored at {at} of `{of}`")));
    }
    Ok(())
}
