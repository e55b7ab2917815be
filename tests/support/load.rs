//! Deliveries that are kept up until each is answered with 2xx, as Stripe does, and a record of what was answered so.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use reqwest::StatusCode;

use super::client::{Caller, Webhooks};
use super::histories::History;
use super::random::Random;

/// One event to deliver.
#[derive(Debug)]
struct Parcel {
    id: String,
    body: Vec<u8>,
}

/// What is still to be delivered, and what was.
#[derive(Debug, Default)]
pub struct Load {
    waiting: Mutex<VecDeque<Parcel>>,
    released: Mutex<VecDeque<Parcel>>,
    taken: Mutex<BTreeSet<String>>,
    refused: AtomicUsize,
}

impl Load {
    /// Everything of `histories`, loosely in order: neighbours overtake each other.
    pub fn of(histories: &[History], seed: u64) -> Self {
        let parcels = histories.iter().flat_map(|history| {
            let pairs = history.events.iter().zip(&history.bodies);
            pairs.map(|(id, body)| Parcel { id: id.clone(), body: body.clone() })
        });
        let mut parcels: Vec<Parcel> = parcels.collect();
        let mut random = Random::new(seed);
        parcels.chunks_mut(12).for_each(|near| random.shuffle(near));
        Self { waiting: Mutex::new(parcels.into()), ..Self::default() }
    }

    /// Lets `count` more be delivered.
    pub fn release(&self, count: usize) {
        let mut waiting = self.waiting.lock().unwrap();
        let count = count.min(waiting.len());
        self.released.lock().unwrap().extend(waiting.drain(..count));
    }

    /// Lets all be delivered.
    pub fn release_all(&self) {
        self.release(usize::MAX);
    }

    /// Delivers what is released with `at_once` senders, until all is taken or nobody answers.
    pub async fn deliver(&self, webhooks: &impl Webhooks, at_once: usize) {
        join_all((0..at_once).map(|_| self.send(webhooks))).await;
    }

    async fn send(&self, webhooks: &impl Webhooks) {
        loop {
            let Some(parcel) = self.released.lock().unwrap().pop_front() else { return };
            match webhooks.post("default", &parcel.body).await {
                Ok(StatusCode::OK) => {
                    self.taken.lock().unwrap().insert(parcel.id);
                }
                // Stopping, or gone. Stripe would come again.
                Ok(StatusCode::SERVICE_UNAVAILABLE) | Err(_) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    self.released.lock().unwrap().push_back(parcel);
                    return;
                }
                Ok(status) => panic!("{} was answered with {status}", parcel.id),
            }
        }
    }

    /// Whether everything was answered with 2xx.
    pub fn is_done(&self) -> bool {
        self.waiting.lock().unwrap().is_empty() && self.released.lock().unwrap().is_empty()
    }

    /// How many were answered with 2xx so far.
    pub fn taken(&self) -> usize {
        self.taken.lock().unwrap().len()
    }

    /// How often one was refused, or nobody answered.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Everything that was answered with 2xx is in the log.
    pub async fn is_kept(&self, caller: &Caller) {
        let rows = caller.list("/events?type=stripe.*").await;
        self.is_among(rows.iter().filter_map(|row| row["id"].as_str()));
    }

    /// Everything that was answered with 2xx is among events with these ids.
    pub fn is_among<'a>(&self, ids: impl Iterator<Item = &'a str>) {
        let kept: BTreeSet<String> = ids.filter_map(bare_id).collect();
        let taken = self.taken.lock().unwrap();
        let lost: Vec<_> = taken.difference(&kept).collect();
        assert!(lost.is_empty(), "{} events were answered with 2xx and are not in the log: {lost:?}", lost.len());
    }
}

/// The `evt_…` in the id of a Stripe event in the log.
fn bare_id(id: &str) -> Option<String> {
    id.split(':').find(|part| part.starts_with("evt_")).map(str::to_owned)
}
