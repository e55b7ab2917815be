//! The seller's world while a history is made up: the clock, ids, and how money moves.

use crate::model::history::{Charge, Dispute, Happened, Invoice, Refund, Second, What};

/// Where histories begin: 2026-03-01, so that most of what is sold is over before the tests' clock, and some is not.
pub const BEGINNING: Second = 1_772_323_200;

/// One sale's part of the world.
pub struct World {
    pub events: Vec<Happened>,
    pub now: Second,
    /// Tells the ids of this sale from those of others.
    sale: usize,
    made: u32,
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(sale: usize, now: Second) -> Self {
        Self { events: Vec::new(), now, sale, made: 0 }
    }

    /// A new id with that prefix. Its order says nothing about time, as with Stripe's.
    pub fn id(&mut self, prefix: &str) -> String {
        self.made += 1;
        let scrambled = self.made.wrapping_add(7).wrapping_mul(2_654_435_761);
        format!("{prefix}_{scrambled:08x}x{}", self.sale)
    }

    /// Something happens now.
    pub fn happen(&mut self, kind: &'static str, what: What) {
        let event = self.id("evt");
        self.events.push(Happened { event, at: self.now, kind, what });
    }

    /// Money comes for an invoice.
    pub fn pay(&mut self, invoice: &mut Invoice, out_of_band: bool) {
        invoice.status = "paid";
        invoice.paid_at = Some(self.now);
        invoice.out_of_band = out_of_band;
        if invoice.total > 0 && !out_of_band {
            let (intent, charge) = (self.id("pi"), self.id("ch"));
            invoice.intent = Some(intent.clone());
            invoice.charge = Some(charge.clone());
            self.charge(&intent, &charge, Some(&invoice.id), invoice.total);
        }
        self.happen("invoice.paid", What::Invoice(invoice.clone()));
        if let Some(intent) = invoice.intent.clone() {
            self.happen("invoice_payment.paid", What::InvoicePayment { invoice: invoice.id.clone(), intent });
        }
        self.happen("invoice.payment_succeeded", What::Invoice(invoice.clone()));
    }

    /// A charge succeeds.
    pub fn charge(&mut self, intent: &str, charge: &str, invoice: Option<&String>, amount: i64) {
        let what = Charge {
            id: charge.to_owned(),
            intent: intent.to_owned(),
            invoice: invoice.cloned(),
            paid: true,
            amount,
            refunded: 0,
        };
        self.happen("charge.succeeded", What::Charge(what));
        let what = What::Intent { id: intent.to_owned(), charge: charge.to_owned(), invoice: invoice.cloned() };
        self.happen("payment_intent.succeeded", what);
    }
}

/// Money that came, and what became of it.
#[derive(Clone, Debug)]
pub struct Taken {
    pub intent: String,
    pub charge: String,
    pub invoice: Option<String>,
    pub amount: i64,
    pub refunded: i64,
    pub disputed: bool,
}

impl Taken {
    /// Part of it, or all, goes back; or is tried to.
    pub fn refund(&mut self, world: &mut World, percent: i64, outcome: &'static str) {
        let amount = (self.amount * percent / 100).min(self.amount - self.refunded);
        if amount <= 0 || self.disputed {
            return;
        }
        let refund = Refund {
            id: world.id("re"),
            charge: self.charge.clone(),
            intent: self.intent.clone(),
            amount,
            status: if outcome == "succeeded" { "succeeded" } else { "pending" },
        };
        world.happen("refund.created", What::Refund(refund.clone()));
        self.refunded += amount;
        world.happen("charge.refunded", What::Charge(self.seen()));
        match outcome {
            "failed" | "canceled" => {
                world.now += 3600;
                self.refunded -= amount;
                world.happen("refund.updated", What::Refund(Refund { status: outcome, ..refund }));
            }
            _ => {}
        }
    }

    /// The buyer's bank wants it back.
    pub fn dispute(&mut self, world: &mut World, percent: i64, statuses: &[&'static str]) {
        if self.disputed {
            return;
        }
        self.disputed = true;
        let id = world.id("dp");
        for (nth, status) in statuses.iter().enumerate() {
            let dispute = Dispute {
                id: id.clone(),
                charge: self.charge.clone(),
                intent: self.intent.clone(),
                amount: self.amount * percent / 100,
                status,
            };
            let kind = if nth == 0 { "charge.dispute.created" } else { "charge.dispute.updated" };
            world.happen(kind, What::Dispute(dispute));
            world.now += 5 * 3600;
        }
    }

    fn seen(&self) -> Charge {
        Charge {
            id: self.charge.clone(),
            intent: self.intent.clone(),
            invoice: self.invoice.clone(),
            paid: true,
            amount: self.amount,
            refunded: self.refunded,
        }
    }
}
