//! What a shop's customers do, without end: subscriptions that are renewed, tried out, changed, cancelled and refunded, and
//! one-off sales; each in several webhooks, many customers at once.

use std::fs;

use anyhow::{Context, Result, bail};

use super::random::Random;
use crate::template::{Template, events};

const VERSION: &str = "2024-06-20";

/// Customers who are in the middle of something.
const AT_ONCE: usize = 24;

/// The prices of the fixtures, and what they are called where the faulty engine sells.
pub const PRICES: [(&str, &str); 2] = [
    ("price_1PgafmB7WZ01zgkW6dKueIc5", "price_1PgafmB7WZ01zgkWfaultyPro"),
    ("price_1XEGOXB7WZ01zgkWOWJLQFlA", "price_1XEGOXB7WZ01zgkWfaultyTeam"),
];

/// What a purchase comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its one license works, with so many seats.
    Paid(u64),
    /// The money went back, and the license with it.
    Refunded,
    /// It was cancelled, and the license ends by itself.
    Cancelled,
}

/// Steps of a story, and what they come to.
struct Kind {
    folder: &'static str,
    steps: &'static [u32],
    end: End,
}

const KINDS: [Kind; 6] = [
    Kind { folder: "a_subscription_lifecycle", steps: &[2, 5, 7, 18], end: End::Paid(1) },
    Kind { folder: "b_one_off_payment", steps: &[1, 3, 4], end: End::Paid(1) },
    Kind { folder: "c_trial_then_paid", steps: &[2, 5, 14], end: End::Paid(1) },
    Kind { folder: "d_upgrade_quantity_proration", steps: &[2, 7, 12, 17, 20, 26], end: End::Paid(3) },
    Kind { folder: "e_full_refund", steps: &[2, 5, 6, 7, 12], end: End::Refunded },
    Kind { folder: "m_portal_cancel_flexible", steps: &[2, 5, 7, 12, 14], end: End::Cancelled },
];

/// A webhook to deliver.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// The event's id.
    pub id: String,
    /// Its body.
    pub body: Vec<u8>,
}

/// A purchase that was begun.
#[derive(Clone, Debug)]
pub struct Purchase {
    /// As Stripe names it.
    pub id: String,
    /// What it comes to.
    pub end: End,
    /// Whether the faulty engine makes its license.
    pub is_faulty: bool,
}

/// Sales without end.
#[derive(Debug)]
pub struct Sales {
    /// By kind, at either engine.
    templates: Vec<[Vec<Template>; 2]>,
    random: Random,
    /// Customers who are in the middle of something: their webhooks in reverse.
    open: Vec<Vec<Parcel>>,
    begun: Vec<Purchase>,
}

impl Sales {
    /// Nobody has bought anything yet.
    ///
    /// # Errors
    ///
    /// When the fixtures are not there.
    pub fn new(random: Random) -> Result<Self> {
        let templates = KINDS.iter().map(templates).collect::<Result<_>>()?;
        Ok(Self { templates, random, open: Vec::new(), begun: Vec::new() })
    }

    /// The next webhook: of a new customer, or of one who is in the middle of something; `None` when all have come to an end
    /// and no new ones are wanted.
    ///
    /// # Errors
    ///
    /// When a fixture is not as expected.
    pub fn next(&mut self, wants_new: bool) -> Result<Option<Parcel>> {
        while wants_new && self.open.len() < AT_ONCE {
            let parcels = self.begin()?;
            self.open.push(parcels);
        }
        if self.open.is_empty() {
            return Ok(None);
        }
        let whose = self.random.below(self.open.len());
        let next = self.open[whose].pop();
        if self.open[whose].is_empty() {
            self.open.swap_remove(whose);
        }
        Ok(next)
    }

    /// Whether nobody is in the middle of something.
    pub fn is_over(&self) -> bool {
        self.open.is_empty()
    }

    /// Everything that was bought.
    pub fn purchases(&self) -> &[Purchase] {
        &self.begun
    }

    fn begin(&mut self) -> Result<Vec<Parcel>> {
        let number = self.begun.len();
        let kind = number % KINDS.len();
        let is_faulty = number / KINDS.len() % 2 == 1;
        let mut parcels = Vec::new();
        let mut purchase = None;
        for template in &self.templates[kind][usize::from(is_faulty)] {
            let body = template.render(number);
            let event: serde_json::Value = serde_json::from_slice(&body)?;
            let object = &event["data"]["object"];
            if object["object"] == "subscription" || object["object"] == "checkout.session" {
                purchase = object["id"].as_str().map(str::to_owned);
            }
            parcels.push(Parcel { id: event["id"].as_str().context("an event without an id")?.to_owned(), body });
        }
        let id = purchase.context("a story without a purchase")?;
        self.begun.push(Purchase { id, end: KINDS[kind].end, is_faulty: is_faulty && sells_by_price(&KINDS[kind]) });
        // Neighbours overtake each other.
        if self.random.below(3) == 0 {
            let first = self.random.below(parcels.len() - 1);
            parcels.swap(first, first + 1);
        }
        parcels.reverse();
        Ok(parcels)
    }
}

/// A payment-mode session does not say what was bought.
fn sells_by_price(kind: &Kind) -> bool {
    !kind.folder.starts_with("b_")
}

/// The webhooks of a kind, with the prices of either engine.
fn templates(kind: &Kind) -> Result<[Vec<Template>; 2]> {
    let mut reliable = Vec::new();
    for step in kind.steps {
        reliable.push(Template::fixture(&file(kind.folder, *step)?)?);
    }
    let faulty = |template: &Template| PRICES.iter().fold(template.clone(), |it, (from, to)| it.replace(from, to));
    let faulty = reliable.iter().map(faulty).collect();
    Ok([reliable, faulty])
}

/// The file of one step of a story.
fn file(folder: &str, step: u32) -> Result<String> {
    let story = folder.split('_').next().unwrap_or_default();
    let ending = format!(".{VERSION}.{story}{step:02}.json");
    for file in fs::read_dir(events().join(folder))? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if name.ends_with(&ending) {
            return Ok(format!("{folder}/{name}"));
        }
    }
    bail!("no fixture {folder}/*{ending}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_webhook_is_another_event_and_no_purchase_is_left_half_done() {
        let mut sales = Sales::new(Random::new(1)).unwrap();
        let mut ids = BTreeSet::new();
        for number in 0.. {
            let Some(parcel) = sales.next(number < 500).unwrap() else { break };
            assert!(ids.insert(parcel.id), "each event comes once");
        }
        let purchases: BTreeSet<_> = sales.purchases().iter().map(|it| it.id.clone()).collect();
        assert_eq!(purchases.len(), sales.purchases().len());
        let steps: usize = (0..purchases.len()).map(|number| KINDS[number % KINDS.len()].steps.len()).sum();
        assert_eq!(ids.len(), steps);
    }
}
