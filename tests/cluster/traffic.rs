//! [`Traffic`]: webhooks that keep coming while a test does something else; and sales that a test waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Webhooks that are delivered in the background, each until it is taken.
#[derive(Debug)]
pub struct Traffic {
    /// What is delivered, and what was taken.
    pub load: Arc<Load>,
    /// Where to.
    pub entrance: Arc<Entrance>,
    hurried: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Traffic {
    /// Delivers one more after each `pause`, and what was refused again.
    pub fn begin(load: Load, entrance: Entrance, pause: Duration) -> Self {
        let (load, entrance, hurried) = (Arc::new(load), Arc::new(entrance), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn(deliver(load.clone(), entrance.clone(), hurried.clone(), pause));
        Self { load, entrance, hurried, task }
    }

    /// Waits until `count` more were taken.
    pub async fn flows(&self, count: usize) {
        let enough = self.load.taken() + count;
        until("traffic", PATIENCE, async || {
            let taken = self.load.taken();
            if taken >= enough { Ok(()) } else { Err(format!("{taken} of {enough} were taken")) }
        })
        .await;
    }

    /// Delivers the rest as fast as it is taken, and ends.
    pub async fn end(self) -> Arc<Load> {
        assert!(!self.load.is_done(), "there was no traffic left at the end");
        self.hurried.store(true, Ordering::Relaxed);
        tokio::time::timeout(PATIENCE, self.task).await.expect("the traffic is not taken").unwrap();
        self.load
    }
}

async fn deliver(load: Arc<Load>, entrance: Arc<Entrance>, hurried: Arc<AtomicBool>, pause: Duration) {
    while !load.is_done() {
        if hurried.load(Ordering::Relaxed) {
            load.release_all();
        } else {
            load.release(1);
        }
        load.deliver(&*entrance, SENDERS).await;
        tokio::time::sleep(pause).await;
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
