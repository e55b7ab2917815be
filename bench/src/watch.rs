//! When events of one kind are readable in a log: seen from another process, by looking every half millisecond.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::open::{self, Options};
use keyledger_schemas::clock::SystemClock;
use keyledger_schemas::envelope::Position;
use tokio::sync::{mpsc, oneshot};

/// How often the log is looked at. It takes about a tenth of a processor.
const EVERY: Duration = Duration::from_micros(500);

/// How long nothing of the kind may come.
const PATIENCE: Duration = Duration::from_mins(1);

/// Events read at once.
const PAGE: usize = 256;

/// An event that was seen.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// The customer, as [`crate::template::Template::render`] numbered it.
    pub customer: usize,
    /// When it was seen.
    pub at: Instant,
}

/// Watches a log for events of one kind, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    sights: mpsc::UnboundedReceiver<Result<Sight>>,
    _stop: oneshot::Sender<()>,
}

impl Watch {
    /// From the end of the log on.
    ///
    /// # Errors
    ///
    /// When the log cannot be opened.
    pub async fn of(log: &str, kind: &'static str) -> Result<Self> {
        let url = log.to_owned();
        let (seen, sights) = mpsc::unbounded_channel();
        let (opened, ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        thread::spawn(move || {
            let watching = async {
                let log = open::open(&url, Arc::new(SystemClock), Options::default()).await?;
                let head = log.head().await?.position;
                let _ = opened.send(());
                follow(&*log, head, kind, &seen, stopped).await?;
                log.close().await;
                anyhow::Ok(())
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Err(error) = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(watching)) {
                // Whoever waits is told; nobody does once it is dropped.
                let _ = seen.send(Err(error));
            }
        });
        let mut watch = Self { sights, _stop: stop };
        if ready.await.is_err() {
            watch.next().await?;
            bail!("the watching thread died");
        }
        Ok(watch)
    }

    /// The next one that is seen.
    ///
    /// # Errors
    ///
    /// When the log cannot be read, or none comes for a long time.
    pub async fn next(&mut self) -> Result<Sight> {
        let next = tokio::time::timeout(PATIENCE, self.sights.recv()).await;
        next.context("what is waited for does not come")?.context("the watching thread died")?
    }

    /// When each of the next `count` customers was seen.
    ///
    /// # Errors
    ///
    /// As [`Watch::next`].
    pub async fn next_each(&mut self, count: usize) -> Result<HashMap<usize, Instant>> {
        let mut seen = HashMap::with_capacity(count);
        while seen.len() < count {
            let Sight { customer, at } = self.next().await?;
            seen.insert(customer, at);
        }
        Ok(seen)
    }
}

async fn follow(
    log: &dyn EventLog,
    mut after: Position,
    kind: &str,
    seen: &mpsc::UnboundedSender<Result<Sight>>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<()> {
    while matches!(stopped.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
        let page = log.read_after(after, PAGE).await?;
        let at = Instant::now();
        for event in &page {
            after = event.position;
            if event.kind == kind {
                let number = event.stream.as_str().rsplit_once('x').and_then(|(_, number)| number.parse().ok());
                let customer = number.with_context(|| format!("whose is {}", event.stream))?;
                if seen.send(Ok(Sight { customer, at })).is_err() {
                    return Ok(());
                }
            }
        }
        if page.is_empty() {
            // A timer of the runtime would round it up to a millisecond.
            thread::sleep(EVERY);
        }
    }
    Ok(())
}
