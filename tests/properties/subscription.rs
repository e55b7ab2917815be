//! A subscription's life, as Stripe would tell it.
//!
//! What is not played, because by §8 of `docs/deciding.md` its end depends on what was known when a license was made:
//!
//! * a change from a mapped price to an unmapped one;
//! * a change between a price whose quantity means seats and one whose quantity means licenses;
//! * an item that leaves without ever having had a paid line that was shown;
//! * an item that is skipped or an add-on, and leaves while a default entry would make a license of it before its price is seen;
//! * another system's license on a subscription with several items, or with invoice items;
//! * a metered item whose number of seats is not fixed (see `plan.rs`).

use std::collections::{BTreeMap, BTreeSet};

use crate::model::catalog::{self, Many, Price};
use crate::model::history::{DAY, Happened, Invoice, Item, Line, Session, Subscription, What};

use crate::plan::{Deed, Heard, Pays, Prorate, Start, SubscriptionPlan};
use crate::world::{Taken, World};

/// A subscription while it is played.
pub struct Subscribing {
    world: World,
    default_entry: bool,
    now: Subscription,
    /// What the last event showed.
    shown: Option<Subscription>,
    /// Lines that wait for the next invoice.
    pending: Vec<Line>,
    /// The invoice that nobody has paid yet.
    open: Option<Invoice>,
    taken: Vec<Taken>,
    /// Items with a paid line that was shown.
    billed: BTreeSet<String>,
    /// Invoice items were sold on it.
    rides: bool,
    heard: Heard,
    checkout: bool,
}

impl Subscribing {
    /// All events of the subscription.
    pub fn play(mut world: World, plan: &SubscriptionPlan, default_entry: bool) -> Vec<Happened> {
        let items = plan.items.iter().map(|(price, quantity)| new_item(&mut world, *price, *quantity)).collect();
        let (start, end) = (world.now, month_after(world.now));
        let trial_end = (plan.start == Start::Trial).then_some(start + 14 * DAY);
        let now = Subscription {
            id: world.id("sub"),
            customer: world.id("cus"),
            status: match plan.start {
                Start::Trial => "trialing",
                Start::Paid | Start::Incomplete | Start::NeverPaid => "incomplete",
                Start::SendInvoice => "active",
            },
            items,
            start,
            end: trial_end.unwrap_or(end),
            metadata: BTreeMap::new(),
            cancel_at: None,
            cancel_at_period_end: false,
            ended_at: None,
            trial_end,
        };
        let mut subscribing = Self {
            world,
            default_entry,
            now,
            shown: None,
            pending: Vec::new(),
            open: None,
            taken: Vec::new(),
            billed: BTreeSet::new(),
            rides: false,
            heard: plan.heard,
            checkout: plan.checkout,
        };
        subscribing.start(plan);
        for step in &plan.steps {
            subscribing.world.now += step.pause;
            subscribing.deed(&step.deed);
        }
        subscribing.world.events
    }

    fn start(&mut self, plan: &SubscriptionPlan) {
        self.show("customer.subscription.created");
        let mut first = self.invoice(false);
        match plan.start {
            Start::Paid => {
                self.settle(first.clone(), false);
                self.now.status = "active";
                self.update();
            }
            Start::Trial => {
                first.total = 0;
                first.lines.iter_mut().for_each(|line| line.amount = 0);
                self.settle(first.clone(), false);
            }
            Start::Incomplete => {
                self.world.happen("invoice.payment_action_required", What::Invoice(first.clone()));
                self.world.now += 20 * 3600;
                self.settle(first.clone(), false);
                self.now.status = "active";
                self.update();
            }
            Start::NeverPaid => {
                self.world.happen("invoice.payment_failed", What::Invoice(first.clone()));
                self.world.now += 23 * 3600;
                self.now.status = "incomplete_expired";
                self.update();
            }
            Start::SendInvoice => {
                self.world.happen("invoice.finalized", What::Invoice(first.clone()));
                self.open = Some(first.clone());
            }
        }
        if plan.checkout && matches!(plan.start, Start::Paid | Start::Trial) {
            let session = Session {
                id: self.world.id("cs"),
                customer: Some(self.now.customer.clone()),
                mode: "subscription",
                status: "complete",
                payment_status: if plan.start == Start::Trial { "no_payment_required" } else { "paid" },
                subscription: Some(self.now.id.clone()),
                invoice: Some(first.id),
                intent: None,
                total: first.total,
                lines: None,
            };
            self.world.happen("checkout.session.completed", What::Session(session));
        }
    }

    fn deed(&mut self, deed: &Deed) {
        match deed {
            Deed::Refund { nth, percent, outcome } => {
                if let Some(taken) = self.taken.get_mut(*nth) {
                    taken.refund(&mut self.world, *percent, outcome);
                }
            }
            Deed::Dispute { nth, percent, statuses } => {
                if let Some(taken) = self.taken.get_mut(*nth) {
                    taken.dispute(&mut self.world, *percent, statuses);
                }
            }
            Deed::PayOpen => self.pay_open(),
            _ if self.is_over() => {}
            Deed::Renew { pays, hides } => self.renew(*pays, *hides),
            Deed::SetQuantity { item, quantity, prorate } => self.set_quantity(*item, *quantity, *prorate),
            Deed::SetPrice { item, price, prorate } => self.set_price(*item, *price, *prorate),
            Deed::AddItem { price, quantity } => self.add_item(*price, *quantity),
            Deed::RemoveItem { item } => self.remove_item(*item),
            Deed::GoUnpaid => self.go("customer.subscription.updated", "unpaid"),
            Deed::Pause => self.go("customer.subscription.paused", "paused"),
            Deed::Resume => self.go("customer.subscription.resumed", "active"),
            Deed::UnknownStatus => self.go("customer.subscription.updated", "hibernating"),
            Deed::CancelAtPeriodEnd => {
                (self.now.cancel_at_period_end, self.now.cancel_at) = (true, Some(self.now.end));
                self.update();
            }
            Deed::CancelAt { days } => {
                self.now.cancel_at = Some(self.now.end + days * DAY);
                self.update();
            }
            Deed::UndoCancel => {
                (self.now.cancel_at_period_end, self.now.cancel_at) = (false, None);
                self.update();
            }
            Deed::CancelNow => {
                (self.now.status, self.now.ended_at) = ("canceled", Some(self.world.now));
                self.show("customer.subscription.deleted");
            }
            Deed::InvoiceItem { price, amount } => {
                if !price.metered && !self.now.metadata.contains_key("skm_key_id") {
                    self.rides = true;
                    let line = self.line(None, price.id, *amount, Some(1), false);
                    self.pending.push(line);
                }
            }
            Deed::SetMetadata { key, value } => {
                if *key != "skm_key_id" || (self.now.items.len() == 1 && !self.rides) {
                    self.now.metadata.insert(key, (*value).to_owned());
                    self.update();
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.now.ended_at.is_some() || self.now.status == "incomplete_expired"
    }

    /// An event shows the subscription as it is.
    fn show(&mut self, kind: &'static str) {
        let shown = self.shown.replace(self.now.clone());
        let before = shown.filter(|_| !kind.ends_with(".created") && !kind.ends_with(".deleted"));
        self.world.happen(kind, What::Subscription { now: self.now.clone(), before });
    }

    fn update(&mut self) {
        self.show("customer.subscription.updated");
    }

    fn go(&mut self, kind: &'static str, status: &'static str) {
        if self.now.status != status {
            self.now.status = status;
            self.show(kind);
        }
    }

    /// An invoice over all items, and over what was pending, dated now.
    fn invoice(&mut self, renewal: bool) -> Invoice {
        let mut lines = Vec::new();
        for item in self.now.items.clone() {
            let price = catalog::price(item.price);
            match item.quantity {
                Some(quantity) => {
                    let amount = price.amount * i64::try_from(quantity).unwrap();
                    lines.push(self.line(Some(item.id), price.id, amount, Some(quantity), false));
                }
                // Measured usage is billed afterward.
                None if renewal => {
                    let mut line = self.line(Some(item.id), price.id, price.amount * 3, Some(3), false);
                    (line.start, line.end) = (self.now.start - 30 * DAY, self.now.start);
                    lines.push(line);
                }
                // Where a session is heard of before the invoice, every item counts as billed by it (§4c).
                None if self.checkout => lines.push(self.line(Some(item.id), price.id, 0, Some(0), false)),
                None => {}
            }
        }
        lines.append(&mut self.pending);
        self.invoice_of(lines)
    }

    fn invoice_of(&mut self, lines: Vec<Line>) -> Invoice {
        Invoice {
            id: self.world.id("in"),
            customer: self.now.customer.clone(),
            subscription: Some(self.now.id.clone()),
            status: "open",
            created: self.world.now,
            paid_at: None,
            total: lines.iter().map(|line| line.amount).sum(),
            out_of_band: false,
            lines,
            truncated: false,
            metadata: self.now.metadata.clone(),
            intent: None,
            charge: None,
        }
    }

    fn line(
        &mut self,
        item: Option<String>,
        price: &'static str,
        amount: i64,
        quantity: Option<u64>,
        proration: bool,
    ) -> Line {
        let start = if proration { self.world.now } else { self.now.start };
        Line { id: self.world.id("il"), item, price, amount, quantity, start, end: self.now.end, proration }
    }

    /// Money comes for an invoice of this subscription.
    fn settle(&mut self, mut invoice: Invoice, out_of_band: bool) {
        self.world.pay(&mut invoice, out_of_band);
        let shown = invoice.lines.iter().filter(|line| !line.proration || line.amount > 0);
        self.billed.extend(shown.filter_map(|line| line.item.clone()));
        if let (Some(intent), Some(charge)) = (invoice.intent, invoice.charge) {
            let (amount, invoice) = (invoice.total, Some(invoice.id));
            self.taken.push(Taken { intent, charge, invoice, amount, refunded: 0, disputed: false });
        }
    }

    fn renew(&mut self, pays: Pays, hides: bool) {
        self.world.now = self.world.now.max(self.now.end);
        (self.now.start, self.now.end) = (self.now.end, month_after(self.now.end));
        self.now.status = "active";
        self.update();
        let mut invoice = self.invoice(true);
        if hides {
            invoice.lines.pop();
            invoice.truncated = true;
        }
        if pays == Pays::Free {
            invoice.total = 0;
        }
        self.world.now += 3600;
        match pays {
            Pays::AtOnce | Pays::Free => self.settle(invoice, false),
            Pays::OutOfBand => self.settle(invoice, true),
            Pays::Late(_) | Pays::Fails => {
                self.world.happen("invoice.payment_failed", What::Invoice(invoice.clone()));
                self.go("customer.subscription.updated", "past_due");
                self.open = Some(invoice);
            }
        }
        if let Pays::Late(days) = pays {
            self.world.now += days * DAY;
            self.pay_open();
        }
    }

    fn pay_open(&mut self) {
        let Some(invoice) = self.open.take() else { return };
        self.settle(invoice, false);
        if matches!(self.now.status, "past_due" | "unpaid") {
            self.go("customer.subscription.updated", "active");
        }
    }

    fn set_quantity(&mut self, index: usize, quantity: u64, prorate: Prorate) {
        let Some(item) = self.now.items.get_mut(index) else { return };
        let Some(old) = item.quantity.filter(|old| *old != quantity) else { return };
        item.quantity = Some(quantity);
        let item = item.clone();
        self.update();
        self.prorate(&item.id, (item.price, old), (item.price, quantity), prorate);
    }

    fn set_price(&mut self, index: usize, price: Price, prorate: Prorate) {
        let Some(item) = self.now.items.get(index) else { return };
        let Some(quantity) = item.quantity else { return };
        let old = catalog::price(item.price);
        if old == price || price.metered || !self.may_follow(old, price) {
            return;
        }
        let id = item.id.clone();
        self.now.items[index].price = price.id;
        self.update();
        self.prorate(&id, (old.id, quantity), (price.id, quantity), prorate);
    }

    /// See the module's documentation.
    fn may_follow(&self, old: Price, new: Price) -> bool {
        let kind = |price: Price| match price.own.or(price.of_product) {
            Some(meaning) => Some(meaning.units == Many::Quantity),
            None => self.default_entry.then_some(false),
        };
        let mended = kind(old).is_none();
        mended || kind(old) == kind(new)
    }

    fn prorate(&mut self, id: &str, old: (&'static str, u64), new: (&'static str, u64), prorate: Prorate) {
        let half = |(price, quantity): (&str, u64)| catalog::price(price).amount * i64::try_from(quantity).unwrap() / 2;
        let credit = self.line(Some(id.to_owned()), old.0, -half(old), Some(old.1), true);
        let debit = self.line(Some(id.to_owned()), new.0, half(new), Some(new.1), true);
        match prorate {
            Prorate::Never => {}
            Prorate::Later => self.pending.extend([credit, debit]),
            Prorate::Now => {
                let invoice = self.invoice_of(vec![credit, debit]);
                self.settle(invoice, false);
            }
        }
    }

    fn add_item(&mut self, price: Price, quantity: u64) {
        let adopted = self.now.metadata.contains_key("skm_key_id");
        if self.now.items.len() > 2 || adopted {
            return;
        }
        let item = new_item(&mut self.world, price, quantity);
        self.now.items.push(item.clone());
        self.update();
        if let Some(quantity) = item.quantity {
            let amount = price.amount * i64::try_from(quantity).unwrap() / 2;
            let line = self.line(Some(item.id), price.id, amount, Some(quantity), true);
            let invoice = self.invoice_of(vec![line]);
            self.settle(invoice, false);
        }
    }

    fn remove_item(&mut self, index: usize) {
        let Some(item) = self.now.items.get(index) else { return };
        let guessed = self.default_entry && catalog::price(item.price).beside.is_some();
        if self.heard == Heard::Everything && self.now.items.len() > 1 && self.billed.contains(&item.id) && !guessed {
            self.now.items.remove(index);
            self.update();
        }
    }
}

fn new_item(world: &mut World, price: Price, quantity: u64) -> Item {
    Item { id: world.id("si"), price: price.id, quantity: (!price.metered).then_some(quantity) }
}

fn month_after(start: i64) -> i64 {
    start + 30 * DAY
}
