//! Objects that are about money and belong to no purchase yet: which of them a person must know of (docs/deciding.md §1).

use keyledger_schemas::ids::Scope;
use keyledger_schemas::mapping;
use keyledger_schemas::money::Money;
use keyledger_schemas::settings::DecidingSettings;
use keyledger_schemas::stripe::fact::InvoiceLine;

use crate::derive::Catalog;
use crate::facts::{Object, ObjectFacts};

/// Something that waits for its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What it waits for.
    pub detail: &'static str,
    /// How much money.
    pub amount: Option<Money>,
    /// Whose.
    pub customer: Option<String>,
}

/// What is to be said of an object, if it waits and a person must know. `refunds_minor` is what the known refunds of a
/// charge come to.
pub fn waiting(
    object: &Object,
    refunds_minor: i64,
    scope: &Scope,
    catalog: &Catalog,
    settings: &DecidingSettings,
) -> Option<Waiting> {
    let summary = object.facts.summary();
    let (detail, minor) = if let ObjectFacts::Charge(charge) = &object.facts {
        // What its refunds show waits with them.
        let beyond = charge.refunded_minor.saturating_sub(refunds_minor);
        let waits = object.purchase.is_none() && beyond > 0;
        (waits.then_some("money of it was refunded, and it belongs to no known sale")?, Some(beyond))
    } else {
        (waits_for(object, scope, catalog, settings)?, summary.amount_minor)
    };
    let amount = minor.zip(summary.currency).map(|(minor, currency)| Money::new(minor, currency));
    Some(Waiting { detail, amount, customer: summary.customer })
}

/// A paid invoice may be anything that is billed with Stripe: only what the catalog names by its price or product is
/// known to be a license sale.
fn waits_for(object: &Object, scope: &Scope, catalog: &Catalog, settings: &DecidingSettings) -> Option<&'static str> {
    if object.purchase.is_some() {
        return None;
    }
    match &object.facts {
        ObjectFacts::Refund(_) | ObjectFacts::Dispute(_) => Some("its payment belongs to no known sale"),
        ObjectFacts::Invoice(invoice) => {
            let waits = invoice.paid && invoice.is_one_off() && settings.issues(&scope.source, scope.mode);
            let sells = || invoice.all_lines().iter().any(|line| is_named(line, catalog, settings));
            (waits && sells()).then_some("it is paid, and the payment that paid it is not known")
        }
        ObjectFacts::Subscription(_) | ObjectFacts::Session(_) | ObjectFacts::Intent | ObjectFacts::Charge(_) => None,
    }
}

/// Whether settings or metadata say of the line's price or product that it is a license.
fn is_named(line: &InvoiceLine, catalog: &Catalog, settings: &DecidingSettings) -> bool {
    let Some(price) = line.price.as_ref().filter(|_| line.amount_minor >= 0) else { return false };
    let product = price.product.as_ref().or_else(|| catalog.product_of(&price.id));
    let of_price = Some(&price.metadata).filter(|metadata| !metadata.is_empty());
    let sale = mapping::Sale {
        metadata: [
            None,
            None,
            of_price.or_else(|| catalog.price_metadata(&price.id)),
            product.and_then(|product| catalog.product_metadata(product)),
        ],
        price: Some(&price.id),
        product,
        allow_default: false,
    };
    // Metadata that cannot be used still says that it is one.
    !matches!(mapping::resolve(settings, &sale), Ok(None))
}
