//! [`Traffic`]: webhooks that keep coming while a test does something else; and sales that a test waits for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::StatusCode;
use tokio::task::JoinHandle;

use crate::entrance::Entrance;
use crate::support::client::Caller;
use crate::support::histories::History;
use crate::support::load::Load;
use crate::support::wait::{PATIENCE, until};

/// How many senders post at once.
const SENDERS: usize = 4;

/// After each webhook.
const PAUSE: Duration = Duration::from_millis(20);

/// Webhooks that are delivered in the background, each until it is taken.
#[derive(Debug)]
pub struct Traffic {
    /// What is delivered, and what was taken.
    pub load: Arc<Load>,
    /// Where to.
    pub entrance: Arc<Entrance>,
    allowed: Arc<Mutex<Allowed>>,
    task: JoinHandle<()>,
}

/// How many webhooks may be on their way.
#[derive(Debug, Default)]
struct Allowed {
    /// From the beginning.
    total: usize,
    /// Of them, not yet sent.
    waiting: usize,
    /// Whether all may, without a pause.
    all: bool,
}

impl Traffic {
    /// Nothing is delivered yet.
    pub fn begin(load: Load, entrance: Entrance) -> Self {
        let (load, entrance, allowed) = (Arc::new(load), Arc::new(entrance), Arc::<Mutex<Allowed>>::default());
        let task = tokio::spawn(deliver(load.clone(), entrance.clone(), allowed.clone()));
        Self { load, entrance, allowed, task }
    }

    /// Delivers `count` more, one after the other, while the caller does something else.
    pub fn allow(&self, count: usize) {
        let mut allowed = self.allowed.lock().unwrap();
        allowed.total += count;
        allowed.waiting += count;
    }

    /// Waits until all that was allowed is taken.
    pub async fn flows(&self) {
        let total = self.allowed.lock().unwrap().total;
        until("traffic", PATIENCE, async || {
            let taken = self.load.taken();
            if taken >= total { Ok(()) } else { Err(format!("{taken} of {total} were taken")) }
        })
        .await;
    }

    /// Delivers the rest as fast as it is taken, and ends.
    pub async fn end(self) -> Arc<Load> {
        self.allowed.lock().unwrap().all = true;
        tokio::time::timeout(PATIENCE, self.task).await.expect("the traffic is not taken").unwrap();
        self.load
    }
}

async fn deliver(load: Arc<Load>, entrance: Arc<Entrance>, allowed: Arc<Mutex<Allowed>>) {
    while !load.is_done() {
        {
            let mut allowed = allowed.lock().unwrap();
            if allowed.all {
                load.release_all();
            } else if allowed.waiting > 0 {
                allowed.waiting -= 1;
                load.release(1);
            }
        }
        // What was refused is delivered again.
        load.deliver(&*entrance, SENDERS).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Posts an event until it is taken.
pub async fn taken_in_the_end(caller: &Caller, body: &[u8]) {
    until("webhooks are taken", PATIENCE, async || {
        let status = caller.try_post("default", body).await.unwrap();
        if status == StatusCode::OK { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

/// Posts these histories, each event of which must be taken, and waits until all is done that they lead to.
pub async fn sell(caller: &Caller, histories: &[History]) {
    for history in histories {
        caller.post_together("default", &history.bodies, SENDERS).await;
    }
    caller.caught_up().await;
}
