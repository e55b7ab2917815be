//! What a search finds. A bare token is looked up as everything it may mean; a query is evaluated in [`super::query`].

use std::collections::{BTreeMap, BTreeSet};

use keyledger_engine::key;
use keyledger_projector::read::{
    CaseFilter, CustomerFilter, Hit, LicenseFilter, PAGE_MAX, PageRequest, SubscriptionFilter, Term,
};
use keyledger_schemas::envelope::Recorded;
use keyledger_schemas::ids::{CaseId, LicenseId};
use uuid::Uuid;

use super::query::global_id;
use super::{Api, View};
use crate::model::{Found, FoundGroup, SearchResults};
use crate::problem::Problem;
use crate::search::shape::{Lookup, StripeKind, TypedKey};
use crate::search::{self, Search};

/// Most things of one kind in an answer.
pub(super) const SHOWN_MAX: usize = 50;

/// How many rows are looked at where there is no index, newest first.
pub(super) const LOOKED_AT_MAX: usize = 5_000;

/// The metadata key by which Cryptolens's integration names its customer.
const CRYPTOLENS_CUSTOMER: &str = "skm_customer_id";

/// What was found, and whether there may be more.
#[derive(Debug, Default)]
pub(super) struct Hits {
    pub(super) found: BTreeSet<Found>,
    pub(super) more: bool,
}

impl Api {
    /// Searches by anything: an id, an address, a key or the end of one, an invoice number, a name, or a query.
    ///
    /// # Errors
    ///
    /// [`Problem::Invalid`] points at the column of a query that cannot be read or answered; [`Problem::NotReady`].
    pub async fn search(&self, view: &View, text: &str) -> Result<SearchResults, Problem> {
        self.source_is_known(view).await?;
        let now = view.at.unwrap_or_else(|| self.clock.now());
        match search::read(text, now)? {
            Search::Lookups(lookups) => {
                let mut hits = Hits::default();
                let mut exact = None;
                for lookup in &lookups {
                    let found = self.look_up(view, lookup).await?;
                    if is_exact(lookup) && found.found.len() == 1 {
                        exact = found.found.first().cloned();
                    }
                    hits.more |= found.more;
                    hits.found.extend(found.found);
                }
                let meaning = lookups.iter().map(|lookup| lookup.meaning().to_owned()).collect();
                Ok(results(meaning, exact, hits))
            }
            Search::Query(query) => Ok(results(vec!["query".to_owned()], None, self.query(view, &query).await?)),
        }
    }

    async fn look_up(&self, view: &View, lookup: &Lookup) -> Result<Hits, Problem> {
        let terms = match lookup {
            Lookup::Stripe { kind: StripeKind::Event, id } => return Ok(events(self.stripe_events(view, id).await?)),
            Lookup::Event(id) => return self.event_named(view, id).await,
            Lookup::Stripe { id, .. } => vec![Term::StripeId(id.clone())],
            Lookup::Email(email) => vec![Term::Email(email.clone())],
            Lookup::Key(typed) => vec![Term::KeyHash(key::hash(&self.keys, typed.expose()))],
            Lookup::KeyTail(tail) => return self.key_tail(view, tail).await,
            Lookup::CryptolensId { id, product } => return self.cryptolens(view, id, false, product.as_deref()).await,
            Lookup::CryptolensGlobalId(id) => return self.cryptolens(view, id, true, None).await,
            Lookup::ProviderId(id) => vec![Term::ProviderId(id.clone())],
            Lookup::CryptolensCustomer(id) => return self.cryptolens_customer(view, id).await,
            Lookup::Uuid(uuid) => return self.uuid(view, *uuid).await,
            Lookup::Case(uuid) => return self.case_named(view, CaseId(*uuid)).await,
            Lookup::InvoiceNumber(number) => vec![Term::InvoiceNumber(number.clone())],
            Lookup::Name(name) => vec![Term::NamePrefix(name.clone())],
        };
        let hits = self.views().await?.search(&view.within, &terms).await?;
        Ok(Hits { more: hits.len() >= SHOWN_MAX, found: hits.into_iter().map(Found::from).collect() })
    }

    async fn event_named(&self, view: &View, id: &str) -> Result<Hits, Problem> {
        match self.recorded(view, id).await {
            Ok(event) => Ok(events(vec![event])),
            Err(Problem::NotFound { .. }) => Ok(Hits::default()),
            Err(problem) => Err(problem),
        }
    }

    /// A license, a case, a license of another engine, or an event of ours.
    async fn uuid(&self, view: &View, uuid: Uuid) -> Result<Hits, Problem> {
        let mut hits = self.event_named(view, &uuid.to_string()).await?;
        let found = self.views().await?.search(&view.within, &[Term::Uuid(uuid)]).await?;
        let (cases, others): (Vec<Hit>, Vec<Hit>) = found.into_iter().partition(|hit| hit.kind == "case");
        hits.found.extend(others.into_iter().map(Found::from));
        hits.found.extend(self.cases_found(view, cases).await?);
        Ok(hits)
    }

    async fn case_named(&self, view: &View, id: CaseId) -> Result<Hits, Problem> {
        let hits = self.views().await?.search(&view.within, &[Term::Uuid(id.0)]).await?;
        let cases = hits.into_iter().filter(|hit| hit.kind == "case").collect();
        Ok(Hits { found: self.cases_found(view, cases).await?, more: false })
    }

    /// Cases with where they stand. One that is none yet at that time is left out.
    async fn cases_found(&self, view: &View, hits: Vec<Hit>) -> Result<BTreeSet<Found>, Problem> {
        let mut found = BTreeSet::new();
        for hit in hits {
            match self.case_row(view, &hit.id).await {
                Ok(case) => found.insert(Found::from(case)),
                Err(Problem::NotFound { .. }) => continue,
                Err(problem) => return Err(problem),
            };
        }
        Ok(found)
    }

    /// Only the last four symbols are indexed; with more typed, the keys that end in those four are opened and compared.
    async fn key_tail(&self, view: &View, tail: &TypedKey) -> Result<Hits, Problem> {
        let tail = tail.expose();
        let last4 = tail.get(tail.len().saturating_sub(4)..).unwrap_or(tail);
        let hits = self.views().await?.search(&view.within, &[Term::KeyLast4(last4.to_owned())]).await?;
        let more = hits.len() >= SHOWN_MAX;
        let mut found = BTreeSet::new();
        for hit in hits {
            if tail.len() == last4.len() || self.key_ends_in(view, &hit, tail).await? {
                found.insert(Found::from(hit));
            }
        }
        Ok(Hits { found, more })
    }

    async fn key_ends_in(&self, view: &View, hit: &Hit, tail: &str) -> Result<bool, Problem> {
        let license = self.license_row(view, &hit.id).await?;
        let Some(key) = self.open(&license).await? else { return Ok(false) };
        let symbols = key.expose().chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase());
        Ok(symbols.rev().zip(tail.chars().rev()).filter(|(ours, typed)| ours == typed).count() == tail.len())
    }

    /// Cryptolens counts ids per product, so several licenses may have one. A license that nobody paid for is no row of
    /// its own: the case that names it is found.
    async fn cryptolens(&self, view: &View, id: &str, is_global: bool, product: Option<&str>) -> Result<Hits, Problem> {
        let views = self.views().await?;
        let mut found = BTreeSet::new();
        for hit in views.search(&view.within, &[Term::ProviderId(id.to_owned())]).await? {
            let filter = LicenseFilter { id: hit.id.parse::<LicenseId>().ok(), ..LicenseFilter::default() };
            let at = view.at.unwrap_or_else(|| self.clock.now());
            let one = PageRequest { limit: 1, after: None };
            let license = views.licenses(&view.within, &filter, at, &one).await?.data.pop();
            let Some(license) = license else { continue };
            let is_held = license.provider.as_ref().is_some_and(|provider| provider.as_str() == "cryptolens");
            let named = if is_global { global_id(&license) } else { license.provider_id.clone() };
            if named.as_deref() != Some(id) {
                continue;
            }
            // An adopted license may not show its product: then any may be it.
            let fits = product.is_none_or(|product| license.product.as_deref().is_none_or(|held| held == product));
            if is_held && fits {
                let product = license.product.map(|product| format!("cryptolens product {product}"));
                found.insert(Found { label: product.or_else(|| hit.label.clone()), ..Found::from(hit) });
            }
        }
        let more = self.surplus(view, &format!("/cryptolens/{id}"), &mut found).await?;
        Ok(Hits { found, more })
    }

    /// Adds the cases of surplus licenses whose subject ends so. Says whether there are more cases than were looked at.
    async fn surplus(&self, view: &View, ending: &str, found: &mut BTreeSet<Found>) -> Result<bool, Problem> {
        let (views, as_of) = (self.views().await?, self.as_of(view).await?);
        let filter = CaseFilter { kind: Some("surplus_key".to_owned()), ..CaseFilter::default() };
        let mut page = PageRequest { limit: PAGE_MAX, after: None };
        for _ in 0..LOOKED_AT_MAX / page.limit as usize {
            let rows = views.cases(&view.within, &filter, as_of, &page).await?;
            found.extend(rows.data.into_iter().filter(|case| case.subject.ends_with(ending)).map(Found::from));
            page.after = rows.next;
            if page.after.is_none() {
                break;
            }
        }
        Ok(page.after.is_some())
    }

    /// A customer that we found or made there is indexed. Else the id stands in the metadata of the customer or of the
    /// subscription; neither is indexed.
    async fn cryptolens_customer(&self, view: &View, id: &str) -> Result<Hits, Problem> {
        let views = self.views().await?;
        let mut hits = Hits::default();
        for hit in views.search(&view.within, &[Term::ProviderCustomer(id.to_owned())]).await? {
            let known = views.customer(&view.within, &hit.id, self.as_of(view).await?).await?;
            hits.found.insert(known.map_or_else(|| Found::from(hit), |detail| Found::from(detail.customer)));
        }
        let mut page = PageRequest { limit: PAGE_MAX, after: None };
        for _ in 0..LOOKED_AT_MAX / page.limit as usize {
            let rows = views.customers(&view.within, &CustomerFilter::default(), &page).await?;
            let named =
                rows.data.into_iter().filter(|row| row.metadata.get(CRYPTOLENS_CUSTOMER).is_some_and(|of| of == id));
            hits.found.extend(named.map(Found::from));
            page.after = rows.next;
            if page.after.is_none() {
                break;
            }
        }
        hits.more |= page.after.is_some();
        page.after = None;
        for _ in 0..LOOKED_AT_MAX / page.limit as usize {
            let rows = views.subscriptions(&view.within, &SubscriptionFilter::default(), &page).await?;
            let named =
                rows.data.into_iter().filter(|row| row.metadata.get(CRYPTOLENS_CUSTOMER).is_some_and(|of| of == id));
            hits.found.extend(named.map(Found::from));
            page.after = rows.next;
            if page.after.is_none() {
                break;
            }
        }
        hits.more |= page.after.is_some();
        Ok(hits)
    }
}

fn events(events: Vec<Recorded>) -> Hits {
    let found = events.into_iter().map(|event| Found {
        kind: "event".to_owned(),
        url: Found::url_of("event", event.id.as_str(), event.scope.mode),
        id: event.id.to_string(),
        source: event.scope.source.to_string(),
        mode: event.scope.mode.to_string(),
        purchase: None,
        customer: None,
        label: Some(event.kind),
        status: None,
    });
    Hits { found: found.collect(), more: false }
}

/// Whether the token names one thing, rather than the end or the beginning of several, or a person.
fn is_exact(lookup: &Lookup) -> bool {
    match lookup {
        Lookup::Stripe { .. }
        | Lookup::Event(_)
        | Lookup::Key(_)
        | Lookup::CryptolensId { .. }
        | Lookup::CryptolensGlobalId(_)
        | Lookup::CryptolensCustomer(_)
        | Lookup::ProviderId(_)
        | Lookup::Uuid(_)
        | Lookup::Case(_)
        | Lookup::InvoiceNumber(_) => true,
        Lookup::Email(_) | Lookup::KeyTail(_) | Lookup::Name(_) => false,
    }
}

fn results(meaning: Vec<String>, exact: Option<Found>, hits: Hits) -> SearchResults {
    let mut by_kind: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    for found in hits.found {
        by_kind.entry(found.kind.clone()).or_default().push(found);
    }
    let groups = by_kind.into_iter().map(|(kind, hits)| FoundGroup { kind, count: hits.len(), hits });
    SearchResults { meaning, exact, groups: groups.collect(), more: hits.more }
}
