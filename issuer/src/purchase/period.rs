//! Which periods a purchase's items have, and whether their money is still there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyledger_schemas::ids::{InvoiceId, LineId, PriceId, SessionId, SubscriptionItemId};
use keyledger_schemas::money::{Currency, Money};
use keyledger_schemas::settings::{MoneyGone, Policy, TrialPolicy};
use keyledger_schemas::stripe::fact::{InvoiceLine, LineKind, ObjectRef, PriceRef};
use keyledger_schemas::stripe::status::{DisputeStatus, SessionMode};

use super::knowledge::{Invoice, Knowledge, Session};

/// A period of an item, before its mapping's term is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// Where it starts: a term counts from here.
    pub start: Timestamp,
    /// Where it ends; `None` for sales without a period.
    pub end: Option<Timestamp>,
    /// Money was taken for it.
    pub charged: bool,
    /// What was paid for it.
    pub amount: Option<Money>,
    /// The money is still there.
    pub counts: bool,
    /// It is a trial, which ends when it ends, whatever the sale's term.
    pub trial: bool,
}

/// What kind of sale an item is: it decides which catalog entries may match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// An item of the subscription.
    Subscription,
    /// A line of a session's one-off sale.
    OneOff,
    /// An invoice item, or a line of an invoice without a session: sold only where mapped explicitly.
    Explicit,
}

/// One sold thing, with everything that bears on it.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name before aliases: `si_…`, a price id, a line id, or an index.
    pub name: String,
    /// Other names it has been known by.
    pub aliases: BTreeSet<String>,
    /// What kind of sale it is.
    pub kind: ItemKind,
    /// What it sells, where known.
    pub price: Option<PriceRef>,
    /// How many.
    pub quantity: u64,
    /// The greatest quantity it ever had: units beyond today's are stopped, not forgotten.
    pub quantity_max: u64,
    /// Usage is billed afterward.
    pub metered: bool,
    /// Its periods, counting or not.
    pub periods: Vec<Period>,
}

/// The items of a purchase that have any period.
pub fn items(knowledge: &Knowledge, policy: &Policy) -> Vec<Item> {
    let money = MoneyBack::new(knowledge, policy);
    let mut items = if knowledge.is_one_off() {
        one_off_items(knowledge, &money)
    } else {
        let mut items = subscription_items(knowledge, policy, &money);
        items.extend(invoice_items(knowledge, &money));
        items
    };
    items.retain(|item| !item.periods.is_empty());
    items
}

/// Whether money was taken (`Some(true)`), or a sale settled without money (`Some(false)`), of which nothing tells what was
/// sold. `None` when everything paid has items.
pub fn sold_unseen(knowledge: &Knowledge) -> Option<bool> {
    if knowledge.is_one_off() || !items(knowledge, &Policy::default()).is_empty() {
        return None;
    }
    let unread = |source: &PaidSource<'_>| {
        let whole = source.invoice.is_some_and(|invoice| !invoice.lines.is_empty() && !invoice.lines_truncated);
        !whole && seen_periods(knowledge, source).next().is_none()
    };
    paid_sources(knowledge).filter(unread).map(|source| source.total_minor > 0).max()
}

/// A paid invoice of a subscription purchase, as seen itself or as named by a paid session.
struct PaidSource<'k> {
    id: InvoiceId,
    invoice: Option<&'k Invoice>,
    date: Option<Timestamp>,
    total_minor: i64,
    currency: Option<&'k Currency>,
}

fn paid_sources(knowledge: &Knowledge) -> impl Iterator<Item = PaidSource<'_>> {
    let proven =
        |session: &Session| session.mode == SessionMode::Subscription && session.payment_status.as_str() == "paid";
    let sessions: BTreeMap<InvoiceId, &Session> = knowledge
        .sessions
        .iter()
        .filter(|(_, session)| proven(session))
        .map(|(id, session)| (session.invoice.clone().unwrap_or_else(|| unnamed_invoice(id)), session))
        .collect();
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

/// A paid session that names no invoice stands for one.
fn unnamed_invoice(session: &SessionId) -> InvoiceId {
    InvoiceId::new(session.as_str())
}

/// The item periods seen that contain the source's date.
fn seen_periods<'k>(
    knowledge: &'k Knowledge,
    source: &PaidSource<'_>,
) -> impl Iterator<Item = &'k super::knowledge::ItemPeriod> + use<'k> {
    let date = source.date;
    knowledge.item_periods.iter().filter(move |seen| date.is_some_and(|date| seen.start <= date && date < seen.end))
}

/// The names of subscription items, and which item an unnamed line belongs to.
struct Names {
    items_of_price: BTreeMap<PriceId, BTreeSet<SubscriptionItemId>>,
}

impl Names {
    fn new(knowledge: &Knowledge) -> Self {
        let mut items_of_price: BTreeMap<PriceId, BTreeSet<SubscriptionItemId>> = BTreeMap::new();
        let mut pair = |price: Option<&PriceRef>, item: &SubscriptionItemId| {
            if let Some(price) = price {
                items_of_price.entry(price.id.clone()).or_default().insert(item.clone());
            }
        };
        for item in knowledge.subscription.current().into_iter().flat_map(|current| &current.items) {
            pair(item.price.as_ref(), &item.id);
        }
        for line in subscription_lines(knowledge).map(|(_, line)| line) {
            if let Some(item) = &line.item {
                pair(line.price.as_ref(), item);
            }
        }
        Self { items_of_price }
    }

    fn of_line(&self, line: &InvoiceLine) -> Option<String> {
        if let Some(item) = &line.item {
            return Some(item.as_str().to_owned());
        }
        let price = &line.price.as_ref()?.id;
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

fn subscription_items(knowledge: &Knowledge, policy: &Policy, money: &MoneyBack<'_>) -> Vec<Item> {
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
                start: line.period_start.unwrap_or(end),
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
        let whole = source.invoice.is_some_and(|invoice| !invoice.lines.is_empty() && !invoice.lines_truncated);
        if whole {
            continue;
        }
        for seen in seen_periods(knowledge, &source) {
            if on_lines.contains(seen.item.as_str()) {
                continue;
            }
            periods.entry(seen.item.as_str().to_owned()).or_default().push(Period {
                start: seen.start,
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
                Period { start: *end, end: Some(*end), charged: false, amount: None, counts: true, trial: true };
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

/// Invoice items on a subscription's invoices: each sold once, by its own line.
fn invoice_items(knowledge: &Knowledge, money: &MoneyBack<'_>) -> Vec<Item> {
    let paid = knowledge.invoices.iter().filter(|(_, invoice)| invoice.paid);
    paid.flat_map(|(id, invoice)| {
        let counts = money.counts_invoice(id);
        invoice
            .lines
            .iter()
            .filter(|line| line.kind == LineKind::InvoiceItem && !line.proration && line.amount_minor >= 0)
            .map(move |line| line_item(&line.id, line, invoice, counts))
    })
    .collect()
}

fn line_item(name: &LineId, line: &InvoiceLine, invoice: &Invoice, counts: bool) -> Item {
    let start = invoice.paid_at.or(invoice.created).unwrap_or(Timestamp::UNIX_EPOCH);
    Item {
        name: name.as_str().to_owned(),
        aliases: BTreeSet::new(),
        kind: ItemKind::Explicit,
        price: line.price.clone(),
        quantity: line.quantity.unwrap_or(1),
        quantity_max: line.quantity.unwrap_or(1),
        metered: false,
        periods: vec![Period {
            start,
            end: None,
            charged: invoice.total_minor > 0 && line.amount_minor > 0,
            amount: Some(Money::new(line.amount_minor, invoice.currency.clone())),
            counts,
            trial: false,
        }],
    }
}

/// The lines of a one-off sale in order, or the session itself while they are unknown.
fn one_off_items(knowledge: &Knowledge, money: &MoneyBack<'_>) -> Vec<Item> {
    let counts = money.counts_whole();
    let settled = knowledge
        .sessions
        .values()
        .filter(|session| session.mode == SessionMode::Payment && session.settles())
        .min_by_key(|session| session.settled_at);
    let paid = knowledge.invoices.values().filter(|invoice| invoice.paid).min_by_key(|invoice| invoice.paid_at);
    let has_session = knowledge.sessions.values().any(|session| session.mode == SessionMode::Payment);
    let start = match (settled.and_then(|session| session.settled_at), paid.and_then(|invoice| invoice.paid_at)) {
        (Some(a), Some(b)) => a.min(b),
        (Some(at), None) | (None, Some(at)) => at,
        (None, None) => return Vec::new(),
    };
    let total_minor =
        settled.map_or(0, |session| session.total_minor).max(paid.map_or(0, |invoice| invoice.total_minor));
    let currency = settled.and_then(|s| s.currency.clone()).or_else(|| paid.map(|invoice| invoice.currency.clone()));
    let kind = if has_session { ItemKind::OneOff } else { ItemKind::Explicit };
    let item = |index: usize, price: Option<PriceRef>, quantity: Option<u64>, amount_minor: i64| Item {
        name: index.to_string(),
        aliases: BTreeSet::new(),
        kind,
        price,
        quantity: quantity.unwrap_or(1),
        quantity_max: quantity.unwrap_or(1),
        metered: false,
        periods: vec![Period {
            start,
            end: None,
            charged: total_minor > 0 && amount_minor > 0,
            amount: currency.clone().map(|currency| Money::new(amount_minor, currency)),
            counts,
            trial: false,
        }],
    };
    if let Some(lines) = settled.and_then(|session| session.lines.as_ref()) {
        let sold = lines.iter().enumerate().filter(|(_, line)| line.amount_minor >= 0);
        return sold.map(|(i, line)| item(i, line.price.clone(), line.quantity, line.amount_minor)).collect();
    }
    if let Some(invoice) = paid.filter(|invoice| !invoice.lines.is_empty()) {
        let sold = invoice.lines.iter().enumerate().filter(|(_, line)| line.amount_minor >= 0);
        return sold.map(|(i, line)| item(i, line.price.clone(), line.quantity, line.amount_minor)).collect();
    }
    if settled.is_some() { vec![item(0, None, None, total_minor)] } else { Vec::new() }
}

/// What was given back, by what it was paid for.
struct MoneyBack<'k> {
    knowledge: &'k Knowledge,
    /// Refunds and lost disputes, by payment.
    by_payment: BTreeMap<ObjectRef, i64>,
}

impl<'k> MoneyBack<'k> {
    fn new(knowledge: &'k Knowledge, policy: &Policy) -> Self {
        let mut by_payment: BTreeMap<ObjectRef, i64> = BTreeMap::new();
        if policy.refund_full == MoneyGone::Revoke {
            for (payment, refunded) in refunded(knowledge) {
                *by_payment.entry(payment).or_default() += refunded;
            }
        }
        if policy.dispute_lost == MoneyGone::Revoke {
            for dispute in knowledge.disputes.values().filter(|dispute| dispute.status == DisputeStatus::Lost) {
                if let Some(object) = &dispute.payment {
                    *by_payment.entry(knowledge.payment_of(object)).or_default() += dispute.amount_minor;
                }
            }
        }
        Self { knowledge, by_payment }
    }

    /// Whether an invoice's money is still there.
    fn counts_invoice(&self, id: &InvoiceId) -> bool {
        let invoice = self.knowledge.invoices.get(id);
        let session =
            self.knowledge.sessions.iter().find(|(session_id, session)| {
                session.invoice.as_ref() == Some(id) || unnamed_invoice(session_id) == *id
            });
        let paid = match invoice.filter(|invoice| invoice.paid) {
            Some(invoice) => invoice.amount_paid_minor,
            None => session.map_or(0, |(_, session)| session.total_minor),
        };
        let parent = ObjectRef::Invoice(id.clone());
        let refunded = self
            .by_payment
            .iter()
            .filter(|(payment, _)| self.belongs(payment, &parent))
            .map(|(_, refunded)| refunded)
            .sum();
        still_there(paid, refunded)
    }

    /// Whether the money of a one-off sale is still there: all its payments are one.
    fn counts_whole(&self) -> bool {
        let sessions = self.knowledge.sessions.values().map(|session| session.total_minor);
        let invoices = self.knowledge.invoices.values().map(|invoice| invoice.amount_paid_minor);
        let paid = sessions.chain(invoices).max().unwrap_or(0);
        still_there(paid, self.by_payment.values().sum())
    }

    /// Whether the payment, or a charge of it, is linked to `parent`.
    fn belongs(&self, payment: &ObjectRef, parent: &ObjectRef) -> bool {
        let linked = |object: &ObjectRef| self.knowledge.parents(object).any(|found| found == parent);
        linked(payment) || self.knowledge.links.iter().any(|link| link.parent == *payment && linked(&link.child))
    }
}

/// A period counts unless everything that was paid went back.
fn still_there(paid_minor: i64, refunded_minor: i64) -> bool {
    paid_minor <= 0 || refunded_minor < paid_minor
}

/// Refunds by payment: the sum of refunds that did not come to nothing, or what the charge says, whichever is more.
fn refunded(knowledge: &Knowledge) -> BTreeMap<ObjectRef, i64> {
    let mut sums: BTreeMap<ObjectRef, (i64, i64, i64)> = BTreeMap::new();
    for refund in knowledge.refunds.values() {
        let Some(object) = &refund.payment else { continue };
        let (kept, failed, _) = sums.entry(knowledge.payment_of(object)).or_default();
        let sum = if refund.status.came_to_nothing() { failed } else { kept };
        *sum = sum.saturating_add(refund.amount_minor);
    }
    for (id, charge) in &knowledge.charges {
        let (_, _, said) = sums.entry(knowledge.payment_of(&ObjectRef::Charge(id.clone()))).or_default();
        *said = said.saturating_add(charge.refunded_minor);
    }
    sums.into_iter().map(|(payment, (kept, failed, said))| (payment, kept.max(said - failed).max(0))).collect()
}
