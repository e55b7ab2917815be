//! The projector's side: the views of a log, and what they say of every unit.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyledger_eventlog::consumer::{Consumer, Options};
use keyledger_eventlog::tail::SqlTail;
use keyledger_projector::Projector;
use keyledger_projector::read::{
    License, LicenseFilter, LicenseState, Obligation, PAGE_MAX, PageRequest, Views, Within,
};
use keyledger_schemas::ids::PurchaseId;
use keyledger_test_servers::Postgres;

use crate::bench::Bench;
use crate::model::expected::{self, Standing, Unit, Until};

/// The views of a whole log, in a file that is gone afterward, or on a server.
pub struct Books {
    views: Views,
    _directory: tempfile::TempDir,
}

impl Books {
    /// Folds the log of `bench`, so many events at a time.
    pub async fn of(bench: &Bench, batch: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("views.db").display());
        Self::at(&url, directory, bench, batch).await
    }

    /// The same in a fresh database of a server.
    pub async fn on(server: &Postgres, bench: &Bench, batch: usize) -> Self {
        server.psql("drop database if exists books with (force)");
        server.psql("create database books");
        Self::at(&server.url_of("books"), tempfile::tempdir().unwrap(), bench, batch).await
    }

    async fn at(url: &str, directory: tempfile::TempDir, bench: &Bench, batch: usize) -> Self {
        let projector = Projector::open(url).await.unwrap();
        let tail = SqlTail::new(bench.log.clone());
        let options = Options { batch, ..Options::default() };
        Consumer::new(projector, std::sync::Arc::new(tail), options).run_until_idle().await.unwrap();
        Self { views: Views::open_read(url).await.unwrap(), _directory: directory }
    }

    /// Everything in the views that differs from what is expected.
    pub async fn differences(&self, expected: &[expected::Purchase], now: Timestamp) -> Vec<String> {
        let mut found = Vec::new();
        let mut listed = self.licenses(now).await;
        for (purchase, id) in
            expected.iter().flat_map(|purchase| purchase.names.iter().map(move |name| (purchase, name)))
        {
            let id = PurchaseId::new(Bench::scope(), id);
            let obligations = self.views.obligations(&id).await.unwrap();
            // A one-off sale goes by one of its names.
            if obligations.is_empty() && (purchase.names.len() > 1 || purchase.units.is_empty()) {
                continue;
            }
            found.extend(
                obligations_differ(&purchase.units, &obligations).into_iter().map(|what| format!("{id}: {what}")),
            );
            for ((item, number), unit) in &purchase.units {
                let licenses = listed.remove(&id.unit(item.as_str(), *number).to_string()).unwrap_or_default();
                found.extend(license_differs(unit, &licenses, now).map(|what| format!("{id}/{item}/{number}: {what}")));
            }
        }
        found.extend(listed.into_iter().map(|(unit, licenses)| format!("{unit}: listed for nobody: {licenses:?}")));
        found
    }

    /// What a reader sees of every unit, as far as it may not depend on the order of arrival: neither which license it is,
    /// nor what a license that does not work was last set to.
    pub async fn endings(&self, bench: &Bench) -> BTreeMap<String, String> {
        let listed = self.licenses(bench.now()).await;
        let mut endings = BTreeMap::new();
        for purchase in bench.purchases().await.into_values() {
            for unit in self.views.obligations(&purchase.id).await.unwrap() {
                let name = unit.unit.to_string();
                let newest =
                    listed.get(&name).and_then(|licenses| licenses.iter().max_by_key(|license| license.generation));
                let shown = newest.map_or_else(
                    || "()".to_owned(),
                    |license| match license.state {
                        LicenseState::Revoked | LicenseState::Suspended => format!("({:?})", license.state),
                        LicenseState::Active | LicenseState::Grace | LicenseState::Expired => {
                            let License { state, seats, paid_until, expires_at, perpetual, .. } = license;
                            format!("({state:?}, {seats:?}, {paid_until:?}, {expires_at:?}, {perpetual})")
                        }
                    },
                );
                let Obligation { paid_until, for_ever, charged, standing, open, .. } = unit;
                endings.insert(name, format!("{paid_until:?} {for_ever} {charged} {standing} {open:?} {shown}"));
            }
        }
        endings
    }

    /// Kind and subject of every open obligation.
    pub async fn open(&self) -> BTreeSet<(String, String)> {
        let open = self.views.open_obligations(&Within::default()).await.unwrap();
        open.into_iter().map(|open| (open.kind, open.subject)).collect()
    }

    /// All licenses that are listed, by unit.
    async fn licenses(&self, now: Timestamp) -> BTreeMap<String, Vec<License>> {
        let mut listed: BTreeMap<String, Vec<License>> = BTreeMap::new();
        let mut request = PageRequest { limit: PAGE_MAX, after: None };
        loop {
            let page = self.views.licenses(&Within::default(), &LicenseFilter::default(), now, &request).await.unwrap();
            for license in page.data {
                listed.entry(license.unit.to_string()).or_default().push(license);
            }
            match page.next {
                Some(next) => request.after = Some(next),
                None => return listed,
            }
        }
    }
}

fn obligations_differ(expected: &BTreeMap<(String, u32), Unit>, obligations: &[Obligation]) -> Vec<String> {
    let told = |unit: &Unit| format!("{:?} charged={} {:?}", unit.until, unit.charged, unit.standing).to_lowercase();
    let until = |obligation: &Obligation| match obligation.paid_until {
        Some(at) => Until::At(at.as_second()),
        None if obligation.for_ever => Until::Forever,
        None => Until::Nothing,
    };
    let shown = |obligation: &Obligation| {
        format!("{:?} charged={} {}", until(obligation), obligation.charged, obligation.standing).to_lowercase()
    };
    let expected: BTreeMap<_, _> = expected.iter().map(|(name, unit)| (name.clone(), told(unit))).collect();
    let key = |obligation: &Obligation| (obligation.unit.item.clone(), obligation.unit.number);
    let obligations: BTreeMap<_, _> = obligations.iter().map(|shown_one| (key(shown_one), shown(shown_one))).collect();
    let names: BTreeSet<_> = expected.keys().chain(obligations.keys()).collect();
    let differ = names.into_iter().filter(|name| expected.get(name) != obligations.get(name));
    differ.map(|name| format!("{name:?}: views {:?}, model {:?}", obligations.get(name), expected.get(name))).collect()
}

/// The newest license of a unit is listed in the state that a reader should see.
fn license_differs(unit: &Unit, licenses: &[License], now: Timestamp) -> Option<String> {
    let newest = licenses.iter().max_by_key(|license| license.generation);
    let standing = licenses.iter().filter(|license| license.state != LicenseState::Revoked).count();
    if standing > 1 {
        return Some(format!("{standing} licenses are listed as not revoked"));
    }
    let Some(newest) = newest else {
        let listed = unit.is_licensed() || unit.standing != Standing::Active;
        return listed.then(|| format!("nothing is listed for {unit:?}"));
    };
    if unit.open_case().is_some() {
        return Some(format!("listed, although it has no key: {newest:?}"));
    }
    let reached = |at: Option<i64>| at.is_some_and(|at| at <= now.as_second());
    let until = if let Until::At(at) = unit.until { Some(at) } else { None };
    let state = match unit.standing {
        Standing::Revoked => LicenseState::Revoked,
        Standing::Suspended => LicenseState::Suspended,
        // The terms of an adopted license without a mapping are not compared.
        Standing::Active if unit.meaning.is_none() => newest.state,
        Standing::Active if reached(unit.expires) => LicenseState::Expired,
        Standing::Active if reached(until) => LicenseState::Grace,
        Standing::Active => LicenseState::Active,
    };
    (newest.state != state).then(|| format!("listed as {:?} instead of {state:?}: {newest:?} {unit:?}", newest.state))
}
