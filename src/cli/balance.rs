//! The two sets of books held against each other: what the issuer knows in its state beside the log, and what the views
//! show, which the projector made from the log alone.
//!
//! Purchase by purchase, so that it takes no more memory for more purchases; only what is open is held at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use keyledger_eventlog::log::EventLog;
use keyledger_issuer::Engines;
use keyledger_issuer::balance::{self, LicenseLine};
use keyledger_issuer::store::PURCHASES;
use keyledger_projector::read::{License, LicenseFilter, LicenseState, PAGE_MAX, PageRequest, Views, Within};
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::ids::{LicenseId, Mode, PurchaseId};

/// How many purchases are read at a time.
const PAGE: usize = 256;

/// After so many differences it looks no further: something is wrong throughout.
const DIFFERENCES_MAX: usize = 1000;

/// What to do about a difference: the log is right, and the views are made from it.
const NEXT: &str = "run `keyledger replay`";

/// An obligation that is open: its kind, and the unit or purchase.
type Open = (String, String);

/// Both sides.
pub struct Books<'a> {
    /// The log, and the issuer's state beside it.
    pub log: &'a Arc<dyn EventLog>,
    /// What the issuer can call: without an engine it owes nothing there.
    pub engines: &'a Engines,
    /// The views.
    pub views: &'a Views,
}

/// What came of holding them against each other.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// What is open by the views.
    pub open: usize,
    /// How many licenses were compared.
    pub licenses: usize,
    /// What does not agree, a sentence each.
    pub differences: BTreeSet<String>,
}

impl Balance {
    fn note(&mut self, what: impl Display, views: impl Display, issuer: impl Display) {
        self.differences.insert(format!("{what}: {views} in the views, {issuer} in the issuer's books; {NEXT}"));
    }

    fn is_full(&self) -> bool {
        self.differences.len() >= DIFFERENCES_MAX
    }
}

impl Books<'_> {
    /// Compares everything.
    ///
    /// # Errors
    ///
    /// When the log or the views cannot be read.
    pub async fn compare(&self) -> anyhow::Result<Balance> {
        let cases = self.open_cases().await?;
        let mut balance = Balance { open: cases.len(), ..Balance::default() };
        let issuer = balance::open_obligations(self.log, self.engines).await.context("reading the issuer's books")?;
        let issuer = issuer.into_iter().map(|open| (open.kind.as_str().to_owned(), open.subject)).collect();
        compare_open(&mut balance, &cases, &issuer);
        self.compare_purchases(&mut balance, cases).await?;
        self.find_unknown_purchases(&mut balance).await?;
        Ok(balance)
    }

    /// The open cases about units, and about purchases whose items are unknown.
    async fn open_cases(&self) -> anyhow::Result<BTreeSet<Open>> {
        let mut cases = BTreeSet::new();
        for within in modes() {
            let open = self.views.open_obligations(&within).await.context("reading the views")?;
            cases.extend(open.into_iter().map(|open| (open.kind, open.subject)));
        }
        Ok(cases)
    }

    /// For each purchase of the issuer's: its licenses on both sides, and its units against their cases.
    async fn compare_purchases(&self, balance: &mut Balance, mut without_unit: BTreeSet<Open>) -> anyhow::Result<()> {
        let mut after = String::new();
        while !balance.is_full() {
            let purchases = self.log.state_scan(PURCHASES, "", &after, PAGE).await?;
            let Some(last) = purchases.last() else { break };
            let (lines, _) = balance::licenses(self.log, &after, PAGE).await.context("reading the issuer's books")?;
            let mut issued = BTreeMap::<PurchaseId, Vec<LicenseLine>>::new();
            for line in lines {
                issued.entry(line.unit.purchase.clone()).or_default().push(line);
            }
            for row in &purchases {
                let purchase: PurchaseId =
                    row.key.parse().with_context(|| format!("reading the purchase {}", row.key))?;
                let issued = issued.remove(&purchase).unwrap_or_default();
                balance.licenses += issued.len();
                compare_licenses(balance, &issued, &self.shown(&purchase).await?);
                for open in self.open_units(&purchase).await? {
                    if !without_unit.remove(&open) {
                        let (kind, unit) = open;
                        balance.differences.insert(format!("{unit} {kind}: no open case in the views; {NEXT}"));
                    }
                }
            }
            after = last.key.clone();
        }
        if !balance.is_full() {
            // A purchase has no unit while its items are unknown.
            for (kind, unit) in without_unit.iter().filter(|(_, subject)| subject.contains('/')) {
                balance.differences.insert(format!(
                    "{unit} {kind}: an open case in the views about a unit that is not open there; {NEXT}"
                ));
            }
        }
        Ok(())
    }

    /// The units of a purchase that the views hold open.
    async fn open_units(&self, purchase: &PurchaseId) -> anyhow::Result<Vec<Open>> {
        let units = self.views.obligations(purchase).await.context("reading the views")?;
        Ok(units.into_iter().filter_map(|unit| Some((unit.open?, unit.unit.to_string()))).collect())
    }

    /// The licenses that the views show for a purchase. Units that never had one are listed there too.
    async fn shown(&self, purchase: &PurchaseId) -> anyhow::Result<Vec<License>> {
        let within = Within { mode: purchase.scope.mode, source: Some(purchase.scope.source.clone()) };
        let filter = LicenseFilter { purchase: Some(purchase.object.clone()), ..LicenseFilter::default() };
        let mut shown = Vec::new();
        let mut request = PageRequest { limit: PAGE_MAX, after: None };
        loop {
            let now = SystemClock.now();
            let page = self.views.licenses(&within, &filter, now, &request).await.context("reading the views")?;
            // Another account may have an object of the same name.
            shown.extend(page.data.into_iter().filter(|license| license.purchase == *purchase));
            if page.next.is_none() {
                return Ok(shown);
            }
            request.after = page.next;
        }
    }

    /// Licenses that the views show for purchases that the issuer has never heard of.
    async fn find_unknown_purchases(&self, balance: &mut Balance) -> anyhow::Result<()> {
        for within in modes() {
            let mut request = PageRequest { limit: PAGE_MAX, after: None };
            while !balance.is_full() {
                let (filter, now) = (LicenseFilter::default(), SystemClock.now());
                let page = self.views.licenses(&within, &filter, now, &request).await.context("reading the views")?;
                let purchases: BTreeSet<&PurchaseId> = page.data.iter().map(|license| &license.purchase).collect();
                for purchase in purchases {
                    if self.log.state(PURCHASES, &purchase.to_string()).await?.is_none() {
                        balance.note(purchase, "licenses", "no such purchase");
                    }
                }
                request.after = page.next;
                if request.after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn modes() -> [Within; 2] {
    [Mode::Live, Mode::Test].map(|mode| Within { mode, source: None })
}

fn compare_open(balance: &mut Balance, views: &BTreeSet<Open>, issuer: &BTreeSet<Open>) {
    for (kind, subject) in views.difference(issuer) {
        balance.note(format!("{subject} {kind}"), "open", "not open");
    }
    for (kind, subject) in issuer.difference(views) {
        balance.note(format!("{subject} {kind}"), "not open", "open");
    }
}

/// Compares the licenses of one purchase, both ways.
fn compare_licenses(balance: &mut Balance, issued: &[LicenseLine], shown: &[License]) {
    let mut shown: BTreeMap<LicenseId, &License> = shown.iter().map(|license| (license.id, license)).collect();
    for line in issued {
        match shown.remove(&line.license) {
            Some(license) => compare_license(balance, line, license),
            None => balance.note(format!("{} license", line.unit), "none", line.license),
        }
    }
    for license in shown.values() {
        // Without an engine it was stopped before it was made, and is listed only to say so.
        let works = !matches!(license.state, LicenseState::Suspended | LicenseState::Revoked);
        if license.provider.is_some() || works {
            balance.note(format!("{} license", license.unit), license.id, "none");
        }
    }
}

fn compare_license(balance: &mut Balance, line: &LicenseLine, license: &License) {
    let unit = &line.unit;
    let mut field = |name: &str, views: &dyn Display, issuer: &dyn Display| {
        let (views, issuer) = (views.to_string(), issuer.to_string());
        if views != issuer {
            balance.note(format!("{unit} {name}"), views, issuer);
        }
    };
    let provider = license.provider.as_ref().map_or("none", |provider| provider.as_str());
    field("unit", &license.unit, &line.unit);
    field("generation", &license.generation, &line.generation);
    field("provider", &provider, &line.provider);
    field("provider id", &license.provider_id.as_deref().unwrap_or("none"), &line.provider_id);
    field("standing", &standing(line, license), &line.standing);
    // Of a revoked license the views do not show what it was like before.
    if line.standing != "revoked" && license.state != LicenseState::Revoked {
        field("paid until", &date(license.paid_until), &date(line.paid_until));
        field("expires at", &date(license.expires_at), &date(line.expires_at));
        field("seats", &license.seats.map_or("none".to_owned(), |seats| seats.to_string()), &line.seats);
    }
}

/// What the views say of a license apart from the clock.
fn standing(line: &LicenseLine, license: &License) -> &'static str {
    match license.state {
        LicenseState::Revoked => "revoked",
        LicenseState::Suspended => "suspended",
        // An engine that does not look at the clock was told to block it. To a reader that is only expired.
        LicenseState::Expired if line.standing == "suspended" => "suspended",
        LicenseState::Active | LicenseState::Grace | LicenseState::Expired => "active",
    }
}

fn date(date: Option<Timestamp>) -> String {
    date.map_or_else(|| "never".to_owned(), |date| date.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use keyledger_schemas::ids::ProviderName;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn line() -> LicenseLine {
        let purchase: PurchaseId = "default:-:live:sub_1".parse().unwrap();
        let unit = purchase.unit("si_1", 1);
        LicenseLine {
            license: unit.license(1),
            unit,
            generation: 1,
            provider: ProviderName::from("builtin"),
            provider_id: "kl_1".to_owned(),
            standing: "active",
            paid_until: Some(at("2026-01-01T00:00:00Z")),
            expires_at: Some(at("2026-01-04T00:00:00Z")),
            seats: 5,
        }
    }

    fn license() -> License {
        let line = line();
        License {
            id: line.license,
            purchase: line.unit.purchase.clone(),
            unit: line.unit,
            generation: 1,
            customer: None,
            state: LicenseState::Active,
            reason: None,
            seats: Some(5),
            features: BTreeSet::new(),
            paid_until: line.paid_until,
            expires_at: line.expires_at,
            perpetual: false,
            provider: Some(line.provider),
            provider_id: Some(line.provider_id),
            also: BTreeMap::new(),
            product: None,
            origin: "made".to_owned(),
            issued_at: None,
            key: None,
        }
    }

    fn differences(issued: &[LicenseLine], shown: &[License]) -> Vec<String> {
        let mut balance = Balance::default();
        compare_licenses(&mut balance, issued, shown);
        balance.differences.into_iter().collect()
    }

    #[test]
    fn licenses_that_agree_have_no_differences() {
        for state in [LicenseState::Active, LicenseState::Grace, LicenseState::Expired] {
            assert_eq!(differences(&[line()], &[License { state, ..license() }]), Vec::<String>::new());
        }
    }

    #[test]
    fn a_difference_names_the_unit_the_field_both_values_and_what_to_do() {
        assert_eq!(
            differences(&[line()], &[License { seats: Some(99), ..license() }]),
            ["default:-:live:sub_1/si_1/1 seats: 99 in the views, 5 in the issuer's books; run `keyledger replay`"]
        );
    }

    #[test]
    fn every_field_is_compared() {
        let other = line().unit.purchase.unit("si_1", 2);
        for (name, changed) in [
            ("unit", License { unit: other, ..license() }),
            ("generation", License { generation: 2, ..license() }),
            ("provider", License { provider: Some(ProviderName::from("stub")), ..license() }),
            ("provider id", License { provider_id: None, ..license() }),
            ("standing", License { state: LicenseState::Suspended, ..license() }),
            ("standing", License { state: LicenseState::Revoked, ..license() }),
            ("paid until", License { paid_until: None, ..license() }),
            ("expires at", License { expires_at: Some(at("2026-01-05T00:00:00Z")), ..license() }),
            ("seats", License { seats: None, ..license() }),
        ] {
            let found = differences(&[line()], &[changed]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(&format!("/1 {name}: ")), "{found:?}");
        }
    }

    #[test]
    fn a_license_that_one_side_alone_has_is_named() {
        assert!(differences(&[line()], &[])[0].contains("license: none in the views"));
        assert!(differences(&[], &[license()])[0].contains("none in the issuer's books"));
    }

    #[test]
    fn a_unit_that_was_stopped_before_its_license_was_made_is_listed_as_stopped_alone() {
        let listed = License { state: LicenseState::Revoked, provider: None, provider_id: None, ..license() };
        assert_eq!(differences(&[], std::slice::from_ref(&listed)), Vec::<String>::new());
        assert_eq!(differences(&[], &[License { state: LicenseState::Active, ..listed }]).len(), 1);
    }

    #[test]
    fn a_revoked_license_is_compared_by_who_and_where_it_is_alone() {
        let line = LicenseLine { standing: "revoked", ..line() };
        let shown =
            License { state: LicenseState::Revoked, paid_until: None, expires_at: None, seats: None, ..license() };
        assert_eq!(differences(&[line], &[shown]), Vec::<String>::new());
    }

    #[test]
    fn a_license_that_was_blocked_at_its_expiry_is_only_expired_to_a_reader() {
        let line = LicenseLine { standing: "suspended", ..line() };
        let expired = License { state: LicenseState::Expired, ..license() };
        assert_eq!(differences(std::slice::from_ref(&line), &[expired]), Vec::<String>::new());
        assert_eq!(differences(&[line], &[license()]).len(), 1);
    }

    #[test]
    fn what_one_side_alone_holds_open_is_named() {
        let open = BTreeSet::from([("no_key".to_owned(), "default:-:live:sub_1/si_1/1".to_owned())]);
        for (views, issuer, says) in [
            (&open, &BTreeSet::new(), "no_key: open in the views"),
            (&BTreeSet::new(), &open, "no_key: not open in the views"),
        ] {
            let mut balance = Balance::default();
            compare_open(&mut balance, views, issuer);
            assert!(balance.differences.first().unwrap().contains(says), "{balance:?}");
            compare_open(&mut balance, &open, &open);
            assert_eq!(balance.differences.len(), 1);
        }
    }
}
