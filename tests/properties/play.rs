//! Plays a plan: what Stripe would say while the seller and the buyers do as planned.

use crate::model::catalog::{PRICES, Price};
use crate::model::history::{Charge, DAY, Happened, Invoice, Line, Second, Session, What};

use crate::plan::{After, Billed, CheckoutPlan, Heard, InvoicePlan, Plan, Sale, Settles};
use crate::subscription::Subscribing;
use crate::world::{BEGINNING, Taken, World};

/// The history of a plan, in the order in which it happened.
pub fn play(plan: &Plan) -> Vec<Happened> {
    let mut history = Vec::new();
    for (index, sale) in plan.sales.iter().enumerate() {
        history.extend(match sale {
            Sale::Subscription(subscription) => {
                let start = BEGINNING + subscription.start_day * DAY;
                let events = Subscribing::play(World::new(index, start), subscription, plan.rules.default_entry);
                heard(subscription.heard, start, events)
            }
            Sale::Checkout(checkout) => check_out(World::new(index, BEGINNING + checkout.start_day * DAY), checkout),
            Sale::Invoice(invoice) => bill(World::new(index, BEGINNING + invoice.start_day * DAY), invoice),
        });
    }
    if plan.noise {
        history.extend(noise(World::new(99, BEGINNING)));
    }
    history.sort_by_key(|happened| happened.at);
    history
}

/// What of it the seller's endpoint is subscribed to.
fn heard(heard: Heard, start: Second, events: Vec<Happened>) -> Vec<Happened> {
    let wanted = |what: &What| match heard {
        Heard::Everything => true,
        Heard::SessionAlone => matches!(what, What::Session(_)),
        Heard::SessionAndSubscription => matches!(what, What::Session(_) | What::Subscription { .. }),
        Heard::SessionAndLater => match what {
            What::Session(_) => true,
            What::Subscription { now, .. } => now.start > start,
            _ => false,
        },
    };
    events.into_iter().filter(|happened| wanted(&happened.what)).collect()
}

/// The catalogue, a customer, and a charge that sells nothing.
fn noise(mut world: World) -> Vec<Happened> {
    for price in PRICES {
        world.happen("product.created", What::Product { id: price.product });
        world.happen("price.created", What::Price { id: price.id, product: price.product });
    }
    let customer = world.id("cus");
    world.happen("customer.created", What::Customer { id: customer });
    let (id, intent) = (world.id("ch"), world.id("pi"));
    let bare = Charge { id, intent, invoice: None, paid: true, amount: 777, refunded: 0 };
    world.happen("charge.succeeded", What::Charge(bare));
    world.events
}

fn lines_of(world: &mut World, prefix: &str, sold: &[(Price, u64)], free: bool) -> Vec<Line> {
    let now = world.now;
    let line = |(price, quantity): &(Price, u64)| Line {
        id: world.id(prefix),
        item: None,
        price: price.id,
        amount: if free { 0 } else { price.amount * i64::try_from(*quantity).unwrap() },
        quantity: Some(*quantity),
        start: now,
        end: now,
        proration: false,
    };
    sold.iter().map(line).collect()
}

fn check_out(mut world: World, plan: &CheckoutPlan) -> Vec<Happened> {
    let free = plan.settles == Settles::NothingDue;
    let sold: Vec<_> = plan.lines.iter().map(|(price, quantity)| (*price, (*quantity).max(1))).collect();
    let lines = lines_of(&mut world, "li", &sold, free);
    let total = lines.iter().map(|line| line.amount).sum();
    let (id, intent, charge) = (world.id("cs"), world.id("pi"), world.id("ch"));
    let mut invoice = (plan.billed != Billed::No && !(free && plan.billed == Billed::ByIntent)).then(|| Invoice {
        id: world.id("in"),
        customer: "cus_guest".to_owned(),
        subscription: None,
        status: "open",
        created: world.now,
        paid_at: None,
        total,
        out_of_band: false,
        lines: lines.iter().map(|line| Line { id: line.id.replace("li_", "il_"), ..line.clone() }).collect(),
        truncated: false,
        metadata: std::collections::BTreeMap::new(),
        intent: None,
        charge: None,
    });
    let mut session = Session {
        id,
        customer: None,
        mode: "payment",
        status: "complete",
        payment_status: "unpaid",
        subscription: None,
        invoice: invoice
            .as_ref()
            .filter(|_| matches!(plan.billed, Billed::Named | Billed::Unheard))
            .map(|invoice| invoice.id.clone()),
        intent: (!free && plan.settles != Settles::Expires).then(|| intent.clone()),
        total,
        lines: plan.lines_shown.then_some(lines),
    };
    let kind = match plan.settles {
        Settles::Expires => {
            (session.status, session.invoice) = ("expired", None);
            world.happen("checkout.session.expired", What::Session(session));
            return world.events;
        }
        Settles::AtOnce | Settles::NothingDue => "checkout.session.completed",
        Settles::Later | Settles::Fails => {
            world.happen("checkout.session.completed", What::Session(session.clone()));
            world.now += 3 * DAY;
            if plan.settles == Settles::Fails {
                world.happen("checkout.session.async_payment_failed", What::Session(session));
                return world.events;
            }
            "checkout.session.async_payment_succeeded"
        }
    };
    session.payment_status = if free { "no_payment_required" } else { "paid" };
    if !free {
        world.charge(&intent, &charge, invoice.as_ref().map(|invoice| &invoice.id), total);
    }
    world.happen(kind, What::Session(session));
    if plan.billed == Billed::Unheard {
        return world.events;
    }
    if let Some(invoice) = &mut invoice {
        (invoice.status, invoice.paid_at) = ("paid", Some(world.now));
        if !free {
            (invoice.intent, invoice.charge) = (Some(intent.clone()), Some(charge.clone()));
            let what = What::InvoicePayment { invoice: invoice.id.clone(), intent: intent.clone() };
            world.happen("invoice_payment.paid", what);
        }
        world.happen("invoice.paid", What::Invoice(invoice.clone()));
    }
    if !free {
        let invoice = invoice.map(|invoice| invoice.id);
        let taken = Taken { intent, charge, invoice, amount: total, refunded: 0, disputed: false };
        afterward(&mut world, taken, &plan.after);
    }
    world.events
}

fn bill(mut world: World, plan: &InvoicePlan) -> Vec<Happened> {
    let lines = lines_of(&mut world, "il", &plan.lines, false);
    let mut invoice = Invoice {
        id: world.id("in"),
        customer: world.id("cus"),
        subscription: None,
        status: "open",
        created: world.now,
        paid_at: None,
        total: if plan.free { 0 } else { lines.iter().map(|line| line.amount).sum() },
        out_of_band: false,
        lines,
        truncated: false,
        metadata: std::collections::BTreeMap::new(),
        intent: None,
        charge: None,
    };
    world.happen("invoice.finalized", What::Invoice(invoice.clone()));
    if plan.paid {
        world.now += 3600;
        world.pay(&mut invoice, false);
    }
    if let (Some(intent), Some(charge)) = (invoice.intent, invoice.charge) {
        let taken =
            Taken { intent, charge, invoice: Some(invoice.id), amount: invoice.total, refunded: 0, disputed: false };
        afterward(&mut world, taken, &plan.after);
    }
    world.events
}

fn afterward(world: &mut World, mut taken: Taken, after: &[After]) {
    for deed in after {
        world.now += DAY;
        match deed {
            After::Refund { percent, outcome } => taken.refund(world, *percent, outcome),
            After::Dispute { percent, statuses } => taken.dispute(world, *percent, statuses),
        }
    }
}
