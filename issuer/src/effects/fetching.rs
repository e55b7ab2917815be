//! What events do not carry and must be asked for: pure.
//!
//! | what is missing | what is asked for | after a delay |
//! | --- | --- | --- |
//! | lines of a one-off session | the session with all its lines | where an invoice may bring them |
//! | further lines of a paid invoice | the invoice with all its lines | |
//! | the invoice that a paid session names | the invoice | yes |
//! | a subscription that was paid for and never seen | the subscription | yes |
//! | the address of a customer who was never seen, where an engine needs one | the customer | yes |
//! | metadata of a price or product that is mapped nowhere | the price, the product | |
//! | what a refund, a dispute or a refunded charge belongs to | charge, invoice payments, sessions, invoice | yes |
//! | the object of a thin event | the object | yes |
//!
//! Each once: reads are few (500 for each transaction, and at least 10 000 a month), and the answer is in the log. What was
//! refused is asked for again a day later, as long as it is missing: the key may have been the wrong one.

use keyledger_schemas::ids::{PriceId, ProductId};
use keyledger_schemas::mapping;
use keyledger_schemas::stripe::fact::{Fact, ObjectRef};
use keyledger_schemas::stripe::status::SessionMode;

use crate::purchase::Purchase;
use crate::purchase::desired::{self, Context, Unmapped};
use crate::purchase::knowledge::{Knowledge, Session};
use crate::store::Node;
use crate::stripe::client::Want;

/// Kinds of objects that a thin event may be about and that say something here, in Stripe's words.
const READ: [&str; 12] = [
    "checkout.session",
    "invoice",
    "subscription",
    "charge",
    "payment_intent",
    "invoice_payment",
    "refund",
    "dispute",
    "customer",
    "price",
    "plan",
    "product",
];

/// Something to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What.
    pub want: Want,
    /// It may come by itself.
    pub may_come: bool,
}

impl Missing {
    fn now(want: Want) -> Self {
        Self { want, may_come: false }
    }

    fn later(want: Want) -> Self {
        Self { want, may_come: true }
    }
}

/// What is missing to know what a purchase is owed. Whether it was asked for before is not looked at, nor whether a price,
/// a product or a customer was seen without saying what is needed.
pub fn of_purchase(purchase: &Purchase, context: &Context) -> Vec<Missing> {
    let knowledge = &purchase.knowledge;
    let mut missing = lines(knowledge);
    let paid =
        knowledge.invoices.values().any(|invoice| invoice.paid) || knowledge.sessions.values().any(Session::settles);
    let seen = knowledge.subscription.current().is_some() || knowledge.subscription.skipped().is_some();
    if purchase.id.object.starts_with("sub_") && paid && !seen {
        missing.push(Missing::later(Want::Subscription(purchase.id.object.as_str().into())));
    }
    missing.extend(catalogue(purchase, context));
    missing.extend(address(purchase, context));
    missing
}

/// The customer of a unit that waits for an address.
fn address(purchase: &Purchase, context: &Context) -> Option<Missing> {
    let customer = purchase.knowledge.customer.as_ref().filter(|customer| customer.as_str().starts_with("cus_"))?;
    let known = context.has_address || purchase.knowledge.contacts.email.is_some();
    let waits = |desired: &desired::Desired| {
        let unit = purchase.unit(&desired.unit.item, desired.unit.number);
        let needs = desired.mapping.as_ref().is_ok_and(|mapping| mapping::needs_email(&mapping.provider));
        needs && unit.is_none_or(|unit| unit.licenses.is_empty())
    };
    let waits = !known && desired::units(purchase, context).iter().any(|(desired, _)| waits(desired));
    waits.then(|| Missing::later(Want::Customer(customer.clone())))
}

/// Lines of what was paid.
fn lines(knowledge: &Knowledge) -> Vec<Missing> {
    let mut missing = Vec::new();
    let invoice_shows = knowledge.invoices.values().any(|invoice| invoice.paid && !invoice.lines.is_empty());
    for (id, session) in knowledge.sessions.iter().filter(|(_, session)| session.settles()) {
        match (&session.mode, &session.invoice) {
            (SessionMode::Payment, invoice) if session.lines.is_none() && !invoice_shows => {
                missing.push(Missing { want: Want::Session(id.clone()), may_come: invoice.is_some() });
            }
            (SessionMode::Subscription, Some(invoice)) if !knowledge.invoices.contains_key(invoice) => {
                missing.push(Missing::later(Want::Invoice(invoice.clone())));
            }
            _ => {}
        }
    }
    for (id, invoice) in knowledge.invoices.iter().filter(|(_, invoice)| invoice.paid) {
        if invoice.lines_truncated {
            missing.push(Missing::now(Want::Invoice(id.clone())));
        } else if invoice.lines.is_empty() {
            missing.push(Missing::later(Want::Invoice(id.clone())));
        }
    }
    missing
}

/// Prices and products of units that have no license because nothing maps them: their metadata may.
fn catalogue(purchase: &Purchase, context: &Context) -> Vec<Missing> {
    let waits = |desired: &desired::Desired| {
        let unit = purchase.unit(&desired.unit.item, desired.unit.number);
        desired.mapping == Err(Unmapped::NoEntry) && unit.is_none_or(|unit| unit.licenses.is_empty())
    };
    if !desired::units(purchase, context).iter().any(|(desired, _)| waits(desired)) {
        return Vec::new();
    }
    let wanted = desired::prices(purchase).into_iter().flat_map(|(price, product)| {
        let known = context.catalogue.prices.get(&price);
        let product = product.or_else(|| known.and_then(|(product, _)| product.clone()));
        of_price(price, product)
    });
    wanted.collect()
}

fn of_price(price: PriceId, product: Option<ProductId>) -> Vec<Missing> {
    let product = product.map(|product| Missing::now(Want::Product(product)));
    [Missing::now(Want::Price(price))].into_iter().chain(product).collect()
}

/// Whether money went back, or is disputed, for something that belongs to no sale yet.
pub fn waits_for_sale(node: &Node) -> bool {
    let gives_back = |fact: &Fact| match fact {
        Fact::RefundSeen(_) | Fact::DisputeSeen(_) => true,
        Fact::ChargeSeen(charge) => charge.refunded_minor > 0,
        _ => false,
    };
    node.purchase.is_none() && node.waiting.iter().any(gives_back)
}

/// What may say to which sale a payment belongs, best first: `ends` are the objects that the walk from it ended at.
pub fn of_ends(ends: &[ObjectRef]) -> Vec<Missing> {
    let wants = ends.iter().flat_map(|end| match end {
        ObjectRef::Charge(id) => vec![Want::Charge(id.clone())],
        ObjectRef::PaymentIntent(id) => vec![Want::PaymentsOfIntent(id.clone()), Want::SessionsOfIntent(id.clone())],
        ObjectRef::Invoice(id) => vec![Want::Invoice(id.clone())],
        ObjectRef::Session(id) => vec![Want::Session(id.clone())],
        ObjectRef::Subscription(_) => Vec::new(),
    });
    wants.map(Missing::later).collect()
}

/// What a thin event is about, where that says something here.
pub fn of_thin(kind: &str, url: &str) -> Option<Missing> {
    (READ.contains(&kind) && url.starts_with("/v1/")).then(|| Missing::later(Want::Related(url.to_owned())))
}
