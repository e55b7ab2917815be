//! What is known of one row, and whether a query holds for it. Pure.

use std::ops::RangeBounds;
use std::sync::Arc;

use jiff::Timestamp;
use keyledger_engine::key;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_projector::read::{
    self, CaseStatus, CustomerDetail, LicenseState, Obligation, Payment, SubscriptionDetail,
};
use keyledger_schemas::ids::{Mode, PurchaseId};
use keyledger_schemas::money::Money;

use crate::search::query::{Condition, Flag, NumberField, Query, TextField, TimeField};

/// The row itself.
pub enum About {
    Customer(Box<read::Customer>),
    License(Box<read::License>),
    Case(Box<read::Case>),
}

/// The row and what was read beside it.
pub struct Evidence {
    pub about: About,
    pub customer: Option<Arc<CustomerDetail>>,
    pub subscription: Option<SubscriptionDetail>,
    pub payments: Vec<Payment>,
    pub obligations: Vec<Obligation>,
    pub cases: Vec<read::Case>,
}

/// What must be read beside the rows.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one more look-up, and they are independent")]
pub struct Needs {
    pub customer: bool,
    pub subscription: bool,
    pub payments: bool,
    pub obligations: bool,
    pub cases: bool,
}

/// What a judgement needs beside the evidence.
pub struct Judge<'a> {
    pub keys: &'a DeploymentKeys,
    pub mode: Mode,
}

const ALL: &[&str] = &["customer", "license", "case"];
const LICENSE: &[&str] = &["license"];
const CASE: &[&str] = &["case"];
const SALE: &[&str] = &["license", "case"];

/// The kinds of row that have what a condition asks about, or why none has.
pub fn kinds_with(condition: &Condition) -> Result<&'static [&'static str], String> {
    let none = |what: &str| Err(format!("the views do not hold {what} yet"));
    match condition {
        Condition::Text { field: TextField::Key, contains: true, .. } => {
            Err("a key is compared whole, or by its end, with `=`".to_owned())
        }
        Condition::Text { field, .. } => match field {
            TextField::Id
            | TextField::Email
            | TextField::Name
            | TextField::Customer
            | TextField::CustomerId
            | TextField::CryptolensCustomer
            | TextField::CustomerEmail => Ok(ALL),
            TextField::GlobalId
            | TextField::ProviderId
            | TextField::CryptolensKey
            | TextField::CryptolensGlobalKey
            | TextField::Key
            | TextField::Product
            | TextField::Provider
            | TextField::State => Ok(LICENSE),
            TextField::Plan
            | TextField::Price
            | TextField::Status
            | TextField::Sub
            | TextField::Invoice
            | TextField::Charge
            | TextField::Currency => Ok(SALE),
            TextField::Actor | TextField::Case => Ok(CASE),
            TextField::Company => none("companies"),
            TextField::Country => none("countries"),
            TextField::Note | TextField::Notes => none("notes"),
        },
        Condition::Metadata { .. } | Condition::Word(_) => Ok(ALL),
        Condition::Amount { .. } | Condition::Time { field: TimeField::Created, .. } => Ok(SALE),
        Condition::Number { field: NumberField::Seats, .. }
        | Condition::Time { field: TimeField::Expires | TimeField::PaidUntil, .. } => Ok(LICENSE),
        Condition::Flag(flag) => match flag {
            Flag::NoKey | Flag::Surplus => Ok(CASE),
            Flag::Grace => Ok(LICENSE),
            Flag::Disputed | Flag::Refunded | Flag::HasCase => Ok(SALE),
            Flag::Test => Ok(ALL),
            Flag::Undelivered => none("deliveries"),
            Flag::HasDevice | Flag::HasOffline => none("devices"),
        },
    }
}

impl Needs {
    pub fn of(query: &Query) -> Self {
        let mut needs = Self::default();
        for term in query.terms() {
            match &term.condition {
                Condition::Word(_) => needs.customer = true,
                Condition::Metadata { .. } => (needs.customer, needs.subscription) = (true, true),
                Condition::Amount { .. } | Condition::Flag(Flag::Refunded) => needs.payments = true,
                Condition::Flag(Flag::Disputed | Flag::HasCase) => needs.cases = true,
                Condition::Text { field, .. } => match field {
                    TextField::Email
                    | TextField::CustomerEmail
                    | TextField::Name
                    | TextField::Customer
                    | TextField::CryptolensCustomer
                    | TextField::CustomerId => needs.customer = true,
                    TextField::Status => needs.subscription = true,
                    TextField::Invoice | TextField::Charge | TextField::Currency => needs.payments = true,
                    TextField::Price | TextField::Plan => needs.obligations = true,
                    _ => {}
                },
                Condition::Number { .. } | Condition::Time { .. } | Condition::Flag(_) => {}
            }
        }
        needs
    }
}

impl About {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Customer(_) => "customer",
            Self::License(_) => "license",
            Self::Case(_) => "case",
        }
    }

    pub fn customer(&self) -> Option<String> {
        match self {
            Self::Customer(customer) => Some(customer.id.to_string()),
            Self::License(license) => license.customer.as_ref().map(ToString::to_string),
            Self::Case(case) => case.customer.as_ref().map(ToString::to_string),
        }
    }

    pub fn purchase(&self) -> Option<PurchaseId> {
        match self {
            Self::Customer(_) => None,
            Self::License(license) => Some(license.purchase.clone()),
            Self::Case(case) => case.purchase.clone(),
        }
    }

    fn license(&self) -> Option<&read::License> {
        match self {
            Self::License(license) => Some(license),
            Self::Customer(_) | Self::Case(_) => None,
        }
    }

    fn case(&self) -> Option<&read::Case> {
        match self {
            Self::Case(case) => Some(case),
            Self::Customer(_) | Self::License(_) => None,
        }
    }
}

impl Evidence {
    pub fn of(about: About) -> Self {
        Self {
            about,
            customer: None,
            subscription: None,
            payments: Vec::new(),
            obligations: Vec::new(),
            cases: Vec::new(),
        }
    }

    fn customer_row(&self) -> Option<&read::Customer> {
        match &self.about {
            About::Customer(customer) => Some(customer),
            About::License(_) | About::Case(_) => self.customer.as_deref().map(|detail| &detail.customer),
        }
    }

    /// Every value of a text field; several where the thing has several.
    fn texts(&self, field: TextField) -> Vec<String> {
        let (license, case, customer) = (self.about.license(), self.about.case(), self.customer_row());
        let payments =
            |kind: &str| self.payments.iter().filter(move |payment| payment.kind == kind).cloned().collect::<Vec<_>>();
        let mut texts: Vec<Option<String>> = match field {
            TextField::Id => vec![
                license.map(|license| license.id.to_string()),
                license.and_then(|license| license.provider_id.clone()),
                case.map(|case| case.id.to_string()),
                case.map(|case| case.id.0.to_string()),
                self.about.purchase().map(|purchase| purchase.object),
                customer.filter(|_| matches!(self.about, About::Customer(_))).map(|customer| customer.id.to_string()),
            ],
            TextField::GlobalId | TextField::CryptolensGlobalKey => vec![license.and_then(global_id)],
            TextField::CryptolensKey => {
                let ours = license.filter(|license| is_at_cryptolens(license));
                vec![ours.and_then(|license| license.provider_id.clone())]
            }
            TextField::ProviderId => {
                let names = |license: &read::License| license.also.values().cloned().map(Some).collect::<Vec<_>>();
                let own = license.map(|license| license.provider_id.clone());
                own.into_iter().chain(license.into_iter().flat_map(names)).collect()
            }
            TextField::Email | TextField::CustomerEmail => vec![customer.and_then(|customer| customer.email.clone())],
            TextField::Name => vec![customer.and_then(|customer| customer.name.clone())],
            TextField::Product => vec![license.and_then(|license| license.product.clone())],
            TextField::Provider => vec![license.and_then(|license| license.provider.as_ref().map(ToString::to_string))],
            TextField::State => vec![license.map(|license| license.state.as_str().to_owned())],
            TextField::Status => vec![
                license.map(|license| license.state.as_str().to_owned()),
                case.map(|case| case.status.as_str().to_owned()),
                self.subscription.as_ref().and_then(|detail| detail.subscription.status.clone()),
            ],
            TextField::Customer | TextField::CustomerId => {
                [self.about.customer()].into_iter().chain(self.at_cryptolens().map(Some)).collect()
            }
            TextField::CryptolensCustomer => self.at_cryptolens().map(Some).collect(),
            TextField::Sub => vec![self.about.purchase().map(|purchase| purchase.object)],
            TextField::Invoice => {
                payments("invoice").into_iter().flat_map(|paid| [Some(paid.id), paid.number]).collect()
            }
            TextField::Charge => payments("charge").into_iter().map(|paid| Some(paid.id)).collect(),
            TextField::Plan | TextField::Price => self.obligations.iter().map(|owed| owed.price.clone()).collect(),
            TextField::Currency => self.amounts().iter().map(|money| Some(money.currency.to_string())).collect(),
            TextField::Case => vec![case.map(|case| case.kind.clone())],
            TextField::Actor => vec![case.and_then(|case| case.waived_by.clone())],
            TextField::Key | TextField::Company | TextField::Country | TextField::Note | TextField::Notes => Vec::new(),
        };
        texts.drain(..).flatten().collect()
    }

    /// Who the customer is at Cryptolens: as their metadata says, and as we found or made them there.
    fn at_cryptolens(&self) -> impl Iterator<Item = String> {
        let named = self.customer_row().and_then(|customer| customer.metadata.get("skm_customer_id").cloned());
        let linked = self.customer.iter().flat_map(|detail| &detail.provider_customers);
        let linked = linked.filter(|linked| linked.provider.as_str() == CRYPTOLENS).map(|linked| linked.id.clone());
        named.into_iter().chain(linked)
    }

    fn amounts(&self) -> Vec<Money> {
        match &self.about {
            About::Case(case) => case.amount.iter().cloned().collect(),
            About::Customer(_) | About::License(_) => {
                let sold = self.payments.iter().filter(|paid| paid.kind == "invoice" || paid.kind == "session");
                sold.filter_map(|paid| paid.amount.clone()).collect()
            }
        }
    }

    fn metadata(&self, name: &str) -> Vec<&str> {
        let customer = self.customer_row().and_then(|customer| customer.metadata.get(name));
        let subscription = self.subscription.as_ref().and_then(|detail| detail.subscription.metadata.get(name));
        customer.into_iter().chain(subscription).map(String::as_str).collect()
    }

    fn time(&self, field: TimeField) -> Option<Timestamp> {
        match (&self.about, field) {
            (About::License(license), TimeField::Created) => license.issued_at,
            (About::License(license), TimeField::Expires) => license.expires_at,
            (About::License(license), TimeField::PaidUntil) => license.paid_until,
            (About::Case(case), TimeField::Created) => Some(case.opened_at),
            (About::Case(_) | About::Customer(_), _) => None,
        }
    }

    fn has(&self, flag: Flag, mode: Mode) -> bool {
        let is_open = |case: &read::Case, kind: &str| case.status == CaseStatus::Open && case.kind == kind;
        let case = self.about.case();
        match flag {
            Flag::NoKey => case.is_some_and(|case| is_open(case, "no_key")),
            Flag::Surplus => case.is_some_and(|case| is_open(case, "surplus_key")),
            Flag::Disputed => self.cases.iter().chain(case).any(|case| is_open(case, "disputed")),
            Flag::HasCase => !self.cases.is_empty() || case.is_some_and(|case| case.status == CaseStatus::Open),
            Flag::Grace => self.about.license().is_some_and(|license| license.state == LicenseState::Grace),
            Flag::Refunded => self.payments.iter().any(|payment| payment.kind == "refund"),
            Flag::Test => mode == Mode::Test,
            Flag::Undelivered | Flag::HasDevice | Flag::HasOffline => false,
        }
    }
}

impl Judge<'_> {
    /// Whether the query holds.
    pub fn holds(&self, query: &Query, evidence: &Evidence) -> bool {
        match query {
            Query::And(parts) => parts.iter().all(|part| self.holds(part, evidence)),
            Query::Or(parts) => parts.iter().any(|part| self.holds(part, evidence)),
            Query::Not(part) => !self.holds(part, evidence),
            Query::Term(term) => self.condition(&term.condition, evidence),
        }
    }

    fn condition(&self, condition: &Condition, evidence: &Evidence) -> bool {
        match condition {
            Condition::Text { field: TextField::Key, text, .. } => self.key(text, evidence),
            Condition::Text { field, contains, text } => {
                evidence.texts(*field).iter().any(|known| same(known, text, *contains))
            }
            Condition::Metadata { key, contains, text } => {
                evidence.metadata(key).iter().any(|known| same(known, text, *contains))
            }
            Condition::Number { field: NumberField::Seats, within } => {
                let seats = evidence.about.license().and_then(|license| license.seats);
                seats.is_some_and(|seats| within.contains(&i64::from(seats)))
            }
            Condition::Amount { within } => {
                evidence.amounts().iter().filter_map(thousandths).any(|amount| within.contains(&amount))
            }
            Condition::Time { field, from, before } => evidence
                .time(*field)
                .is_some_and(|time| from.is_none_or(|from| time >= from) && before.is_none_or(|before| time < before)),
            Condition::Flag(flag) => evidence.has(*flag, self.mode),
            Condition::Word(word) => begins(evidence, word),
        }
    }

    fn key(&self, text: &str, evidence: &Evidence) -> bool {
        let Some(known) = evidence.about.license().and_then(|license| license.key.as_ref()) else { return false };
        let symbols = text.chars().filter(char::is_ascii_alphanumeric).count();
        // Fewer symbols than a key has are the end of one; more than four are looked for as a bare token.
        known.hash == key::hash(self.keys, text) || (symbols == 4 && known.last4.eq_ignore_ascii_case(&last_four(text)))
    }
}

/// The engine that has two ids for each license.
const CRYPTOLENS: &str = "cryptolens";

fn is_at_cryptolens(license: &read::License) -> bool {
    license.provider.as_ref().is_some_and(|provider| provider.as_str() == CRYPTOLENS)
}

/// The account-wide id of a license. One that Cryptolens was never asked about has the id that named it, whichever that was.
pub fn global_id(license: &read::License) -> Option<String> {
    let known = license.also.get("globalId").cloned();
    known.or_else(|| license.provider_id.clone().filter(|_| is_at_cryptolens(license)))
}

/// The last four letters and digits, in upper case.
pub fn last_four(text: &str) -> String {
    let symbols: Vec<char> = text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect();
    symbols[symbols.len().saturating_sub(4)..].iter().collect()
}

fn same(known: &str, text: &str, contains: bool) -> bool {
    let (known, text) = (known.to_lowercase(), text.to_lowercase());
    if contains { known.contains(&text) } else { known == text }
}

/// Whether a name or a product, or any word in one, begins so.
fn begins(evidence: &Evidence, word: &str) -> bool {
    let texts = evidence.texts(TextField::Name).into_iter().chain(evidence.texts(TextField::Product));
    texts
        .map(|text| text.to_lowercase())
        .any(|text| text.starts_with(word) || text.split_whitespace().any(|part| part.starts_with(word)))
}

/// An amount in thousandths of the major unit; `None` beyond what fits.
fn thousandths(money: &Money) -> Option<i64> {
    let factor = 10_i64.pow(3_u32.saturating_sub(money.currency.decimals()));
    money.amount_minor.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use keyledger_schemas::money::Currency;

    use super::*;

    #[test]
    fn amounts_compare_in_major_units_of_their_currency() {
        assert_eq!(thousandths(&Money::new(4900, Currency::new("eur"))), Some(49_000));
        assert_eq!(thousandths(&Money::new(4900, Currency::new("jpy"))), Some(4_900_000));
        assert_eq!(thousandths(&Money::new(1500, Currency::new("kwd"))), Some(1_500));
        assert_eq!(thousandths(&Money::new(i64::MAX, Currency::new("jpy"))), None);
    }

    #[test]
    fn the_last_four_ignore_dashes_and_case() {
        assert_eq!(last_four("kl-…-9f4c"), "9F4C");
        assert_eq!(last_four("9-f4"), "9F4");
        assert_eq!(last_four(""), "");
    }
}
