//! Items of a subscription, and the periods that invoices, sessions and trials give them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyledger_schemas::ids::{InvoiceId, PriceId, SubscriptionItemId};
use keyledger_schemas::money::{Currency, Money};
use keyledger_schemas::settings::{Policy, TrialPolicy};
use keyledger_schemas::stripe::fact::{InvoiceLine, LineKind, PriceRef};
use keyledger_schemas::stripe::status::{PaymentStatus, SessionMode};

use super::money::MoneyBack;
use super::{Item, ItemKind, Period};
use crate::purchase::knowledge::{Invoice, ItemPeriod, Knowledge, Session};

pub(super) fn items(knowledge: &Knowledge, policy: &Policy, money: &MoneyBack<'_>) -> Vec<Item> {
    let names = Names::new(knowledge);
    let mut periods: BTreeMap<String, Vec<Period>> = BTreeMap::new();
    let mut prorations: BTreeMap<String, Vec<Period>> = BTreeMap::new();
    let mut paid_lines: BTreeMap<String, Vec<(&Invoice, &InvoiceLine)>> = BTreeMap::new();

    for source in paid_sources(knowledge) {
        let counts = money.counts_invoice(&source.id);
        let mut on_lines = BTreeSet::new();
        for line in source.invoice.into_iter().flat_map(|invoice| &invoice.lines) {
            let (LineKind::Subscription, Some(name), Some(end)) = (line.kind, names.of_line(line), line.period_end)
            else {
                continue;
            };
            let period = Period {
                start: line.period_start,
                end: Some(end),
                charged: source.total_minor > 0 && line.amount_minor > 0,
                amount: source.currency.map(|currency| Money::new(line.amount_minor, currency.clone())),
                counts,
                trial: false,
            };
            if let Some(invoice) = source.invoice {
                paid_lines.entry(name.clone()).or_default().push((invoice, line));
            }
            if !line.proration {
                on_lines.insert(name.clone());
                periods.entry(name).or_default().push(period);
            } else if line.amount_minor > 0 {
                prorations.entry(name).or_default().push(period);
            }
        }
        if source.is_whole() {
            continue;
        }
        for seen in seen_periods(knowledge, &source) {
            if on_lines.contains(seen.item.as_str()) {
                continue;
            }
            periods.entry(seen.item.as_str().to_owned()).or_default().push(Period {
                start: Some(seen.start),
                end: Some(seen.end),
                charged: source.total_minor > 0,
                amount: source.currency.map(|currency| Money::new(source.total_minor, currency.clone())),
                counts,
                trial: false,
            });
        }
    }
    for (name, adjusted) in prorations {
        periods.entry(name).or_insert(adjusted);
    }
    if policy.trial == TrialPolicy::Issue {
        for (item, end) in &knowledge.trials {
            let trial =
                Period { start: None, end: Some(*end), charged: false, amount: None, counts: true, trial: true };
            periods.entry(item.as_str().to_owned()).or_default().push(trial);
        }
    }
    periods
        .into_iter()
        .map(|(name, periods)| {
            let (price, quantity, metered_now) =
                sold(knowledge, &name, paid_lines.get(&name).map_or(&[], Vec::as_slice));
            let aliases = names.aliases(&name);
            let paid = paid_lines.get(&name).into_iter().flatten();
            let sold_lines = paid.filter(|(_, line)| !line.proration || line.amount_minor > 0);
            let sold_quantities = sold_lines.filter_map(|(_, line)| line.quantity);
            let seen = knowledge.quantities.get(name.as_str()).copied();
            let quantity_max = sold_quantities.chain(seen).fold(quantity, u64::max);
            let metered = metered_now || knowledge.metered.contains(name.as_str());
            Item { aliases, kind: ItemKind::Subscription, price, quantity, quantity_max, metered, periods, name }
        })
        .collect()
}

/// Price, quantity and whether usage is metered: from the snapshot that counts, else from the latest paid line.
fn sold(knowledge: &Knowledge, name: &str, paid: &[(&Invoice, &InvoiceLine)]) -> (Option<PriceRef>, u64, bool) {
    let current = knowledge.subscription.current();
    let item = current.and_then(|current| current.items.iter().find(|item| item.id.as_str() == name));
    if let Some(item) = item {
        return (item.price.clone(), item.quantity.unwrap_or(1), item.metered);
    }
    let latest = paid
        .iter()
        .filter(|(_, line)| !line.proration || line.amount_minor > 0)
        .max_by_key(|(invoice, line)| (!line.proration, line.period_end, invoice.created, &line.id));
    match latest {
        Some((_, line)) => (line.price.clone(), line.quantity.unwrap_or(1), line.metered),
        None => (None, 1, false),
    }
}

/// Whether money was taken (`Some(true)`), or a sale settled without money (`Some(false)`), of which nothing tells what was
/// sold. `None` when everything paid has items, or its money is gone.
pub fn sold_unseen(knowledge: &Knowledge, policy: &Policy) -> Option<bool> {
    let money = MoneyBack::new(knowledge, policy);
    if knowledge.is_one_off() || items(knowledge, policy, &money).iter().any(|item| !item.periods.is_empty()) {
        return None;
    }
    let unread = |source: &PaidSource<'_>| !source.is_whole() && money.counts_invoice(&source.id);
    let sources = paid_sources(knowledge).filter(unread).map(|source| source.total_minor > 0);
    let unnamed = proofs(knowledge).filter(|session| session.invoice.is_none()).map(|session| session.total_minor > 0);
    sources.chain(unnamed).max()
}

/// A paid invoice of a subscription purchase, as seen itself or as named by a paid session.
struct PaidSource<'k> {
    id: InvoiceId,
    invoice: Option<&'k Invoice>,
    date: Option<Timestamp>,
    total_minor: i64,
    currency: Option<&'k Currency>,
}

/// Paid subscription-mode sessions: each is proof that the invoice it names is paid.
fn proofs(knowledge: &Knowledge) -> impl Iterator<Item = &Session> {
    knowledge
        .sessions
        .values()
        .filter(|session| session.mode == SessionMode::Subscription && session.payment_status == PaymentStatus::Paid)
}

impl PaidSource<'_> {
    /// Whether the invoice shows all that was sold.
    fn is_whole(&self) -> bool {
        self.invoice.is_some_and(|invoice| !invoice.lines.is_empty() && !invoice.lines_truncated)
    }
}

fn paid_sources(knowledge: &Knowledge) -> impl Iterator<Item = PaidSource<'_>> {
    let sessions: BTreeMap<InvoiceId, &Session> =
        proofs(knowledge).filter_map(|session| Some((session.invoice.clone()?, session))).collect();
    let mut ids: BTreeSet<InvoiceId> = sessions.keys().cloned().collect();
    ids.extend(knowledge.invoices.iter().filter(|(_, invoice)| invoice.paid).map(|(id, _)| id.clone()));
    ids.into_iter().map(move |id| {
        let invoice = knowledge.invoices.get(&id);
        let session = sessions.get(&id).copied();
        PaidSource {
            invoice,
            date: invoice.and_then(|invoice| invoice.created).or(session.and_then(|session| session.settled_at)),
            total_minor: match (invoice, session) {
                (Some(invoice), _) => invoice.total_minor,
                (None, Some(session)) => session.total_minor,
                (None, None) => 0,
            },
            currency: invoice
                .map(|invoice| &invoice.currency)
                .or(session.and_then(|session| session.currency.as_ref())),
            id,
        }
    })
}

/// The item periods seen that contain the source's date.
fn seen_periods<'k>(
    knowledge: &'k Knowledge,
    source: &PaidSource<'_>,
) -> impl Iterator<Item = &'k ItemPeriod> + use<'k> {
    let date = source.date;
    knowledge.item_periods.iter().filter(move |seen| date.is_some_and(|date| seen.start <= date && date < seen.end))
}

/// The names of subscription items, and which item an unnamed line belongs to.
struct Names {
    items_of_price: BTreeMap<PriceId, BTreeSet<SubscriptionItemId>>,
    /// The least item known: a line that says nothing belongs to it.
    least: Option<SubscriptionItemId>,
}

impl Names {
    fn new(knowledge: &Knowledge) -> Self {
        let mut items_of_price: BTreeMap<PriceId, BTreeSet<SubscriptionItemId>> = BTreeMap::new();
        let mut known = BTreeSet::new();
        for (item, price) in &knowledge.sold {
            known.insert(item.clone());
            if let Some(price) = price {
                items_of_price.entry(price.clone()).or_default().insert(item.clone());
            }
        }
        for line in subscription_lines(knowledge).map(|(_, line)| line) {
            let Some(item) = &line.item else { continue };
            known.insert(item.clone());
            if let Some(price) = &line.price {
                items_of_price.entry(price.id.clone()).or_default().insert(item.clone());
            }
        }
        Self { items_of_price, least: known.pop_first() }
    }

    fn of_line(&self, line: &InvoiceLine) -> Option<String> {
        if let Some(item) = &line.item {
            return Some(item.as_str().to_owned());
        }
        let Some(price) = line.price.as_ref().map(|price| &price.id) else {
            return self.least.as_ref().map(|item| item.as_str().to_owned());
        };
        let named = self.items_of_price.get(price).and_then(BTreeSet::first);
        Some(named.map_or_else(|| price.as_str().to_owned(), |item| item.as_str().to_owned()))
    }

    fn aliases(&self, item: &str) -> BTreeSet<String> {
        self.items_of_price
            .iter()
            .filter(|(_, items)| items.first().is_some_and(|first| first.as_str() == item))
            .map(|(price, _)| price.as_str().to_owned())
            .collect()
    }
}

/// Subscription lines of every invoice known, paid or not: they name items.
fn subscription_lines(knowledge: &Knowledge) -> impl Iterator<Item = (&InvoiceId, &InvoiceLine)> {
    knowledge
        .invoices
        .iter()
        .flat_map(|(id, invoice)| invoice.lines.iter().map(move |line| (id, line)))
        .filter(|(_, line)| line.kind == LineKind::Subscription)
}
