//! Webhooks at a steady rate, each delivered again until it is answered with 200, as Stripe does; some twice. Beside them
//! people who look at pages.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep};

use super::random::Random;
use super::sales::{Parcel, Purchase, Sales};
use crate::load::{Connection, webhook};
use crate::pages::Api;
use crate::service::Service;

/// Webhooks a second, and how many are on their way at once.
const RATE: u32 = 40;
const SENDERS: usize = 8;

/// When one that was not taken comes again, in milliseconds. Stripe takes longer.
const AGAIN_MS: std::ops::Range<u64> = 500..4_000;

/// Of so many that were taken one comes again all the same.
const DOUBLED: usize = 50;

/// After each page that was looked at.
const READ_EVERY: Duration = Duration::from_millis(200);

/// What people look at.
const PAGES: [&str; 6] = [
    "/status",
    "/subscriptions?limit=50",
    "/customers?limit=50",
    "/licenses?limit=50",
    "/cases?limit=50",
    "/search?q=status:active",
];

/// How long what was sent may stay untaken once a service is there.
const PATIENCE: Duration = Duration::from_mins(2);

/// What is delivered, and what was taken.
pub struct Load {
    shared: Arc<Mutex<Shared>>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    sales: Sales,
    random: Random,
    wants_new: bool,
    /// The last one that there was; a service that is gone refuses.
    service: Option<Addresses>,
    fresh: VecDeque<Parcel>,
    again: VecDeque<(Instant, Parcel)>,
    on_their_way: usize,
    counts: Counts,
    taken: BTreeSet<String>,
    broken: Option<anyhow::Error>,
}

#[derive(Clone)]
struct Addresses {
    ingest: String,
    api: Arc<Api>,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Deliveries that nobody answered, or not with 200.
    pub refused: usize,
    /// Deliveries of what was taken before.
    pub doubled: usize,
    /// Pages that were shown.
    pub pages: usize,
}

impl Load {
    /// Webhooks begin to come, for nobody yet.
    ///
    /// # Errors
    ///
    /// When the fixtures are not there.
    pub fn begin(seed: u64) -> Result<Self> {
        let shared = Arc::new(Mutex::new(Shared {
            sales: Sales::new(Random::new(seed))?,
            random: Random::new(seed + 1),
            wants_new: true,
            service: None,
            fresh: VecDeque::new(),
            again: VecDeque::new(),
            on_their_way: 0,
            counts: Counts::default(),
            taken: BTreeSet::new(),
            broken: None,
        }));
        let mut tasks = vec![tokio::spawn(sell(shared.clone())), tokio::spawn(look(shared.clone()))];
        tasks.extend((0..SENDERS).map(|_| tokio::spawn(deliver(shared.clone()))));
        Ok(Self { shared, tasks })
    }

    /// There is a service to deliver to.
    ///
    /// # Errors
    ///
    /// When it has no addresses.
    pub fn open(&self, service: &Service) -> Result<()> {
        let ingest = service.address("ingest")?;
        let ingest = ingest.strip_prefix("http://").context("no http address")?.to_owned();
        lock(&self.shared).service = Some(Addresses { ingest, api: Arc::new(Api::of(service)?) });
        Ok(())
    }

    /// No new customers; those who are in the middle of something go on.
    pub fn no_more(&self) {
        lock(&self.shared).wants_new = false;
    }

    /// Waits until everything was taken.
    ///
    /// # Errors
    ///
    /// When it is not, or something was refused for good.
    pub async fn drained(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            {
                let mut shared = lock(&self.shared);
                shared.is_well()?;
                let waiting = shared.fresh.len() + shared.again.len() + shared.on_their_way;
                if waiting == 0 && shared.sales.is_over() {
                    return Ok(());
                }
                if began.elapsed() > PATIENCE {
                    bail!("{waiting} webhooks are not taken");
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Nothing was refused for good so far.
    ///
    /// # Errors
    ///
    /// When something was.
    pub fn is_well(&self) -> Result<()> {
        lock(&self.shared).is_well()
    }

    /// The ids of events that were answered with 200.
    pub fn taken(&self) -> BTreeSet<String> {
        lock(&self.shared).taken.clone()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        lock(&self.shared).counts
    }

    /// Everything that was bought.
    pub fn purchases(&self) -> Vec<Purchase> {
        lock(&self.shared).sales.purchases().to_vec()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn is_well(&mut self) -> Result<()> {
        self.broken.take().map_or(Ok(()), Err)
    }

    /// What is to be delivered next, if anything is due.
    fn due(&mut self) -> Option<Parcel> {
        let now = Instant::now();
        let due = self.again.iter().position(|(at, _)| *at <= now);
        let next = match due {
            Some(index) => self.again.remove(index).map(|(_, parcel)| parcel),
            None => self.fresh.pop_front(),
        };
        self.on_their_way += usize::from(next.is_some());
        next
    }

    /// What became of a delivery.
    fn ended(&mut self, parcel: Parcel, answer: &Result<u16>) {
        self.on_their_way -= 1;
        let again = Instant::now() + self.random.millis(AGAIN_MS);
        match answer {
            Ok(200) => {
                if !self.taken.insert(parcel.id.clone()) {
                    self.counts.doubled += 1;
                } else if self.random.below(DOUBLED) == 0 {
                    self.again.push_back((again, parcel));
                }
            }
            // Stopping, or gone.
            Ok(503) | Err(_) => {
                self.counts.refused += 1;
                self.again.push_back((again, parcel));
            }
            Ok(status) => {
                self.broken = Some(anyhow::anyhow!("{} was answered with {status}", parcel.id));
            }
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Customers do something, at a steady rate.
async fn sell(shared: Arc<Mutex<Shared>>) {
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    loop {
        ticks.tick().await;
        let mut shared = lock(&shared);
        let wants_new = shared.wants_new;
        match shared.sales.next(wants_new) {
            Ok(Some(parcel)) => shared.fresh.push_back(parcel),
            Ok(None) => {}
            Err(error) => shared.broken = Some(error),
        }
    }
}

/// Delivers what is due, over one connection as long as it holds.
async fn deliver(shared: Arc<Mutex<Shared>>) {
    let mut connection: Option<(String, Connection)> = None;
    loop {
        let next = {
            let mut shared = lock(&shared);
            let service = shared.service.clone();
            service.and_then(|service| Some((service.ingest, shared.due()?)))
        };
        let Some((address, parcel)) = next else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let answer = async {
            let mut open = match connection.take() {
                Some((to, open)) if to == address => open,
                _ => Connection::open(&address).await?,
            };
            let status = open.exchange(&webhook(&parcel.body)).await?;
            connection = Some((address, open));
            anyhow::Ok(status)
        }
        .await;
        lock(&shared).ended(parcel, &answer);
    }
}

/// Looks at one page after the other.
async fn look(shared: Arc<Mutex<Shared>>) {
    for page in PAGES.iter().cycle() {
        sleep(READ_EVERY).await;
        let api = lock(&shared).service.as_ref().map(|service| service.api.clone());
        // While nobody is there, there is nothing to see.
        if let Some(api) = api
            && api.get(page).await.is_ok()
        {
            lock(&shared).counts.pages += 1;
        }
    }
}
