//! [`Entrance`]: several ingests behind one client, which tries the next when one does not answer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::StatusCode;

use crate::support::client::{Caller, Webhooks};

/// The doors in turn, as a load balancer has them.
#[derive(Debug)]
pub struct Entrance {
    doors: Mutex<Vec<Caller>>,
    turn: AtomicUsize,
}

impl Entrance {
    /// To these ingests.
    pub fn new(addresses: impl Iterator<Item = String>) -> Self {
        let doors = addresses.map(|address| Caller::new(&address, "")).collect();
        Self { doors: Mutex::new(doors), turn: AtomicUsize::new(0) }
    }

    /// A door more.
    pub fn open(&self, address: &str) {
        self.doors.lock().unwrap().push(Caller::new(address, ""));
    }

    /// A door less.
    pub fn close(&self, address: &str) {
        self.doors.lock().unwrap().retain(|door| door.ingest != address);
    }

    /// All doors, another one first each time.
    fn in_turn(&self) -> Vec<Caller> {
        let mut doors = self.doors.lock().unwrap().clone();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % doors.len().max(1);
        doors.rotate_left(turn);
        doors
    }
}

impl Webhooks for Entrance {
    /// The first answer that there is, whatever it says.
    async fn post(&self, source: &str, body: &[u8]) -> reqwest::Result<StatusCode> {
        let doors = self.in_turn();
        let (last, others) = doors.split_last().expect("no ingest is up");
        for door in others {
            if let Ok(status) = door.try_post(source, body).await {
                return Ok(status);
            }
        }
        last.try_post(source, body).await
    }
}
