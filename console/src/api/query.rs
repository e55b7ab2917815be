//! What a query in the boolean language finds: customers, licenses and cases for which it holds.
//!
//! A term that the views have an index for narrows what is looked at; where none does, the newest rows are looked at up
//! to a bound, and the answer says so. A field that nothing here has is an error that names it, never silence.

mod evidence;

use std::collections::{BTreeMap, HashMap};

use keyledger_engine::key;
use keyledger_projector::read::{
    self, AsOf, CaseFilter, CaseStatus, CustomerDetail, CustomerFilter, LicenseFilter, PAGE_MAX, PageRequest, Term,
    Views,
};
use keyledger_schemas::ids::Mode;

use super::search::{Hits, SHOWN_MAX};
use super::{Api, View};
use crate::model::Found;
use crate::problem::Problem;
use crate::search::parse::BadQuery;
use crate::search::query::{Condition, Flag, Query, TextField};
use evidence::{About, Evidence, Judge, Needs};

pub(super) use evidence::global_id;

/// How many rows of each kind are looked at where no term narrows them, newest first.
const LOOKED_AT_MAX: usize = 2_000;

/// A way to find rows by an index.
enum Narrow {
    /// By what a look-up names.
    Term(Term),
    /// Open cases of one kind.
    Cases(String),
}

/// What is to be judged: one row of each thing, by kind and id.
#[derive(Default)]
struct Rows {
    customers: BTreeMap<String, read::Customer>,
    licenses: BTreeMap<String, read::License>,
    cases: BTreeMap<String, read::Case>,
    more: bool,
}

impl Api {
    pub(super) async fn query(&self, view: &View, query: &Query) -> Result<Hits, Problem> {
        let kinds = applicable(query)?;
        if let (Mode::Live, Some(column)) = (view.within.mode, test_asked_at(query)) {
            return Err(BadQuery::at(column, "one mode is searched at a time: ask with `mode=test` instead").into());
        }
        let as_of = self.as_of(view).await?;
        let views = self.views().await?;
        let search = Reading { api: self, views: &views, view, as_of };
        let rows = match self.narrowed(query) {
            Some(narrows) => search.by(&narrows).await?,
            None => search.newest(&kinds).await?,
        };
        let judge = Judge { keys: &self.keys, mode: view.within.mode };
        let needs = Needs::of(query);
        let mut hits = Hits { more: rows.more, ..Hits::default() };
        let mut known = HashMap::new();
        for about in rows.all(&kinds) {
            let evidence = search.evidence(about, needs, &mut known).await?;
            if !judge.holds(query, &evidence) {
                continue;
            }
            let of_kind = hits.found.iter().filter(|found| found.kind == evidence.about.kind()).count();
            if of_kind == SHOWN_MAX {
                hits.more = true;
            } else {
                hits.found.insert(evidence.about.found());
            }
        }
        Ok(hits)
    }

    /// Indexed ways to everything for which the query can hold; `None` when there are none.
    fn narrowed(&self, query: &Query) -> Option<Vec<Narrow>> {
        match query {
            Query::Term(term) => self.narrow(&term.condition),
            Query::Not(_) => None,
            Query::Or(parts) => {
                let each: Option<Vec<_>> = parts.iter().map(|part| self.narrowed(part)).collect();
                each.map(|each| each.into_iter().flatten().collect())
            }
            Query::And(parts) => {
                let is_word =
                    |part: &&Query| matches!(part, Query::Term(term) if matches!(term.condition, Condition::Word(_)));
                let exact = parts.iter().filter(|part| !is_word(part)).find_map(|part| self.narrowed(part));
                // Only the beginning of a name is indexed, so any of the words may be it.
                let words = || {
                    parts.iter().filter(is_word).filter_map(|part| self.narrowed(part)).flatten().collect::<Vec<_>>()
                };
                exact.or_else(|| Some(words()).filter(|words| !words.is_empty()))
            }
        }
    }

    /// A price or a product sells to many: it narrows too little to be looked up.
    fn narrow(&self, condition: &Condition) -> Option<Vec<Narrow>> {
        let one = |term| Some(vec![Narrow::Term(term)]);
        match condition {
            Condition::Word(word) => one(Term::NamePrefix(word.clone())),
            Condition::Flag(Flag::NoKey) => Some(vec![Narrow::Cases("no_key".to_owned())]),
            Condition::Flag(Flag::Surplus) => Some(vec![Narrow::Cases("surplus_key".to_owned())]),
            Condition::Text { field, contains: false, text } => match field {
                TextField::Email | TextField::CustomerEmail => one(Term::Email(text.clone())),
                TextField::Sub | TextField::Charge => one(Term::StripeId(text.clone())),
                TextField::Invoice => Some(vec![
                    Narrow::Term(Term::StripeId(text.clone())),
                    Narrow::Term(Term::InvoiceNumber(text.clone())),
                ]),
                TextField::Customer | TextField::CustomerId if text.starts_with("cus_") => {
                    one(Term::StripeId(text.clone()))
                }
                TextField::GlobalId
                | TextField::ProviderId
                | TextField::CryptolensKey
                | TextField::CryptolensGlobalKey => one(Term::ProviderId(text.clone())),
                TextField::Id => {
                    let uuid = text.parse().ok().map(|uuid| Narrow::Term(Term::Uuid(uuid)));
                    let others = [Term::ProviderId(text.clone()), Term::StripeId(text.clone())].map(Narrow::Term);
                    Some(others.into_iter().chain(uuid).collect())
                }
                TextField::Key => Some(vec![
                    Narrow::Term(Term::KeyHash(key::hash(&self.keys, text))),
                    Narrow::Term(Term::KeyLast4(evidence::last_four(text))),
                ]),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Which kinds of thing have every field that the query names.
fn applicable(query: &Query) -> Result<Vec<&'static str>, BadQuery> {
    let mut kinds = vec!["customer", "license", "case"];
    for term in query.terms() {
        let has = evidence::kinds_with(&term.condition).map_err(|reason| BadQuery::at(term.column, reason))?;
        kinds.retain(|kind| has.contains(kind));
        if kinds.is_empty() {
            return Err(BadQuery::at(term.column, "nothing has this together with what stands before it"));
        }
    }
    Ok(kinds)
}

/// Where the query asks for test mode. That something is *not* in test mode may be asked anywhere.
fn test_asked_at(query: &Query) -> Option<usize> {
    match query {
        Query::And(parts) | Query::Or(parts) => parts.iter().find_map(test_asked_at),
        Query::Not(_) => None,
        Query::Term(term) => (term.condition == Condition::Flag(Flag::Test)).then_some(term.column),
    }
}

impl Rows {
    fn all(self, kinds: &[&str]) -> Vec<About> {
        let customers = self.customers.into_values().map(|customer| About::Customer(Box::new(customer)));
        let licenses = self.licenses.into_values().map(|license| About::License(Box::new(license)));
        let cases = self.cases.into_values().map(|case| About::Case(Box::new(case)));
        let all = customers.chain(licenses).chain(cases);
        all.filter(|about| kinds.contains(&about.kind())).collect()
    }

    fn add_licenses(&mut self, licenses: Vec<read::License>) {
        self.licenses.extend(licenses.into_iter().map(|license| (license.id.to_string(), license)));
    }

    fn add_cases(&mut self, cases: Vec<read::Case>) {
        self.cases.extend(cases.into_iter().map(|case| (case.id.to_string(), case)));
    }

    fn add_customer(&mut self, customer: read::Customer) {
        self.customers.insert(format!("{}/{}", customer.source, customer.id), customer);
    }
}

/// One query's access to the views.
struct Reading<'a> {
    api: &'a Api,
    views: &'a Views,
    view: &'a View,
    as_of: AsOf,
}

type Known = HashMap<String, Option<std::sync::Arc<CustomerDetail>>>;

impl Reading<'_> {
    /// Everything that the indexed ways lead to.
    async fn by(&self, narrows: &[Narrow]) -> Result<Rows, Problem> {
        let mut rows = Rows::default();
        for narrow in narrows {
            match narrow {
                Narrow::Cases(kind) => {
                    let filter = CaseFilter {
                        kind: Some(kind.clone()),
                        status: Some(CaseStatus::Open),
                        ..CaseFilter::default()
                    };
                    self.pages_of_cases(&filter, &mut rows).await?;
                }
                Narrow::Term(term) => {
                    let hits = self.views.search(&self.view.within, std::slice::from_ref(term)).await?;
                    rows.more |= hits.len() >= SHOWN_MAX;
                    for hit in hits {
                        self.hangs_on(&hit, &mut rows).await?;
                    }
                }
            }
        }
        Ok(rows)
    }

    /// What hangs on something found: its customer, and the licenses and cases of its purchase.
    async fn hangs_on(&self, hit: &read::Hit, rows: &mut Rows) -> Result<(), Problem> {
        let page = PageRequest { limit: PAGE_MAX, after: None };
        if let Some(customer) = hit.customer.as_deref()
            && let Some(detail) = self.views.customer(&self.view.within, customer, self.as_of).await?
        {
            rows.add_customer(detail.customer);
            if hit.kind == "customer" {
                rows.add_licenses(detail.licenses);
                rows.add_cases(detail.cases);
            }
        }
        if let Some(purchase) = &hit.purchase {
            let licenses = LicenseFilter { purchase: Some(purchase.clone()), ..LicenseFilter::default() };
            rows.add_licenses(self.views.licenses(&self.view.within, &licenses, self.as_of.at, &page).await?.data);
            let cases = CaseFilter { purchase: Some(purchase.clone()), ..CaseFilter::default() };
            rows.add_cases(self.views.cases(&self.view.within, &cases, self.as_of, &page).await?.data);
        } else if hit.kind == "case" {
            rows.add_cases(vec![self.api.case_row(self.view, &hit.id).await?]);
        }
        Ok(())
    }

    /// The newest rows of each kind, up to the bound.
    async fn newest(&self, kinds: &[&str]) -> Result<Rows, Problem> {
        let mut rows = Rows::default();
        if kinds.contains(&"case") {
            self.pages_of_cases(&CaseFilter::default(), &mut rows).await?;
        }
        let mut page = PageRequest { limit: PAGE_MAX, after: None };
        while kinds.contains(&"license") {
            let read = self.views.licenses(&self.view.within, &LicenseFilter::default(), self.as_of.at, &page).await?;
            rows.add_licenses(read.data);
            page.after = read.next;
            if page.after.is_none() || rows.licenses.len() >= LOOKED_AT_MAX {
                break;
            }
        }
        rows.more |= page.after.is_some();
        page.after = None;
        while kinds.contains(&"customer") {
            let read = self.views.customers(&self.view.within, &CustomerFilter::default(), &page).await?;
            for customer in read.data {
                rows.add_customer(customer);
            }
            page.after = read.next;
            if page.after.is_none() || rows.customers.len() >= LOOKED_AT_MAX {
                break;
            }
        }
        rows.more |= page.after.is_some();
        Ok(rows)
    }

    async fn pages_of_cases(&self, filter: &CaseFilter, rows: &mut Rows) -> Result<(), Problem> {
        let mut page = PageRequest { limit: PAGE_MAX, after: None };
        loop {
            let read = self.views.cases(&self.view.within, filter, self.as_of, &page).await?;
            rows.add_cases(read.data);
            page.after = read.next;
            if page.after.is_none() || rows.cases.len() >= LOOKED_AT_MAX {
                rows.more |= page.after.is_some();
                return Ok(());
            }
        }
    }

    /// Reads what the query needs to know about one row.
    async fn evidence(&self, about: About, needs: Needs, known: &mut Known) -> Result<Evidence, Problem> {
        let mut evidence = Evidence::of(about);
        let within = &self.view.within;
        if needs.customer
            && let Some(id) = evidence.about.customer()
        {
            if !known.contains_key(&id) {
                let detail = self.views.customer(within, &id, self.as_of).await?;
                known.insert(id.clone(), detail.map(std::sync::Arc::new));
            }
            evidence.customer = known.get(&id).cloned().flatten();
        }
        let Some(purchase) = evidence.about.purchase() else { return Ok(evidence) };
        if needs.subscription && purchase.object.starts_with("sub_") {
            evidence.subscription = self.views.subscription(within, &purchase.object, self.as_of).await?;
        }
        if needs.payments {
            evidence.payments = self.views.payments_of_purchase(&purchase).await?;
        }
        if needs.obligations {
            evidence.obligations = self.views.obligations(&purchase).await?;
        }
        if needs.cases {
            let filter =
                CaseFilter { purchase: Some(purchase.object), status: Some(CaseStatus::Open), ..CaseFilter::default() };
            let page = PageRequest { limit: PAGE_MAX, after: None };
            evidence.cases = self.views.cases(within, &filter, self.as_of, &page).await?.data;
        }
        Ok(evidence)
    }
}

impl About {
    fn found(&self) -> Found {
        match self {
            Self::Customer(customer) => Found::from((**customer).clone()),
            Self::License(license) => Found::from((**license).clone()),
            Self::Case(case) => Found::from((**case).clone()),
        }
    }
}
