//! Webhooks that are posted until each is acknowledged, and what was acknowledged when the power went.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;

use futures::future::join_all;
use reqwest::StatusCode;

use crate::support::client::Caller;
use crate::support::histories::History;

/// How many senders post at once.
const SENDERS: usize = 12;

struct Parcel {
    id: String,
    body: Vec<u8>,
}

/// What is still to be posted, and what was acknowledged.
#[derive(Default)]
pub struct Post {
    waiting: Mutex<VecDeque<Parcel>>,
    acknowledged: Mutex<BTreeMap<String, Parcel>>,
}

impl Post {
    /// Everything of `histories`, in order.
    pub fn of(histories: &[History]) -> Self {
        let parcels = histories.iter().flat_map(|history| {
            let pairs = history.events.iter().zip(&history.bodies);
            pairs.map(|(id, body)| Parcel { id: id.clone(), body: body.clone() })
        });
        Self { waiting: Mutex::new(parcels.collect()), ..Self::default() }
    }

    /// Posts until all is acknowledged, or nobody answers.
    pub async fn deliver(&self, caller: &Caller) {
        join_all((0..SENDERS).map(|_| self.send(caller))).await;
    }

    async fn send(&self, caller: &Caller) {
        while self.one(caller).await {}
    }

    /// Posts one. `false` when there is none, or nobody answers.
    pub async fn one(&self, caller: &Caller) -> bool {
        let Some(parcel) = self.waiting.lock().unwrap().pop_front() else { return false };
        match caller.try_post("default", &parcel.body).await {
            Ok(StatusCode::OK) => {
                self.acknowledged.lock().unwrap().insert(parcel.id.clone(), parcel);
                true
            }
            answer => {
                assert!(answer.is_err() || answer.is_ok_and(|status| status == StatusCode::SERVICE_UNAVAILABLE));
                self.waiting.lock().unwrap().push_back(parcel);
                false
            }
        }
    }

    /// What was acknowledged so far.
    pub fn acknowledged(&self) -> BTreeSet<String> {
        self.acknowledged.lock().unwrap().keys().cloned().collect()
    }

    /// The power went when only these were acknowledged. What was after that did not happen.
    pub fn back_to(&self, acknowledged: &BTreeSet<String>) {
        let mut all = self.acknowledged.lock().unwrap();
        let later: Vec<String> = all.keys().filter(|id| !acknowledged.contains(*id)).cloned().collect();
        self.waiting.lock().unwrap().extend(later.iter().filter_map(|id| all.remove(id)));
    }

    /// How many are still to be acknowledged.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().unwrap().len()
    }
}
