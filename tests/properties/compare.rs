//! Compares what the issuer did with what the model expects, and its books with both.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyledger_issuer::purchase::desired::PaidUntil;
use keyledger_issuer::purchase::state::{License, Purchase, Standing as Stored, Unit as Kept};
use keyledger_schemas::event::LicenseTerms;

use crate::bench::{Bench, Wanted};
use crate::model::expected::{self, Standing, Unit, Until};
use crate::views::Books;

/// Everything that differs, in words; nothing when all agree.
pub async fn differences(bench: &Bench, books: Option<&Books>, expected: &[expected::Purchase]) -> Vec<String> {
    let mut found = Vec::new();
    let purchases = bench.purchases().await;
    let mut known = BTreeSet::new();
    let mut cases = BTreeSet::new();
    for wanted in expected {
        let ours: Vec<_> = purchases.values().filter(|purchase| wanted.names.contains(&purchase.id.object)).collect();
        known.extend(wanted.names.iter().cloned());
        let [purchase] = ours[..] else {
            if !ours.is_empty() || !wanted.units.is_empty() || wanted.waiting.is_some() {
                found.push(format!("{:?}: {} purchases for one sale", wanted.names, ours.len()));
            }
            continue;
        };
        let name = purchase.id.object.clone();
        if let Some(kind) = wanted.waiting {
            cases.insert((kind.to_owned(), purchase.id.to_string()));
        }
        for ((item, number), unit) in &wanted.units {
            if let Some(kind) = unit.open_case() {
                cases.insert((kind.to_owned(), purchase.id.unit(item.as_str(), *number).to_string()));
            }
        }
        let differs = units(&wanted.units, &bench.wanted(purchase).await);
        let differs = differs.into_iter().chain(licenses(&wanted.units, purchase, bench));
        found.extend(differs.map(|what| format!("{name}: {what}")));
    }
    for name in purchases.keys().filter(|name| !known.contains(*name)) {
        found.push(format!("{name}: a purchase that is none"));
    }
    let open: BTreeSet<_> =
        bench.open().await.into_iter().map(|open| (open.kind.as_str().to_owned(), open.subject)).collect();
    if open != cases {
        found.push(format!("open obligations: issuer {open:?}, model {cases:?}"));
    }
    if let Some(books) = books {
        let shown = books.open().await;
        if shown != cases {
            found.push(format!("open obligations: views {shown:?}, model {cases:?}"));
        }
        found.extend(books.differences(expected, bench.now()).await.into_iter().map(|what| format!("views: {what}")));
    }
    for (reference, made) in bench.engine.made() {
        if made.creates != 1 {
            found.push(format!("{reference} was created {} times", made.creates));
        }
    }
    found
}

/// What the issuer's core wants, unit by unit.
fn units(expected: &BTreeMap<(String, u32), Unit>, wanted: &[Wanted]) -> Vec<String> {
    let key = |wanted: &Wanted| (wanted.0.unit.item.clone(), wanted.0.unit.number);
    let wanted: BTreeMap<_, _> = wanted.iter().map(|wanted| (key(wanted), wanted)).collect();
    let mut found = Vec::new();
    let names: BTreeSet<_> = expected.keys().chain(wanted.keys()).collect();
    for name in names {
        match (expected.get(name), wanted.get(name)) {
            (Some(unit), Some(wanted)) => {
                let model = told(unit);
                let issuer = told_by(wanted, unit);
                if model != issuer {
                    found.push(format!("{name:?}: issuer wants {issuer}, model {model}"));
                }
            }
            (Some(unit), None) => found.push(format!("{name:?}: the issuer has no such unit; model {unit:?}")),
            (None, Some(wanted)) => found.push(format!("{name:?}: the model has no such unit; issuer {:?}", wanted.0)),
            (None, None) => {}
        }
    }
    found
}

fn told(unit: &Unit) -> String {
    // Terms of a license that nothing is paid for are nobody's business.
    let meaning = unit.meaning.filter(|_| unit.until != Until::Nothing);
    let terms = meaning.map(|_| (unit.expires, unit.seats, unit.features.iter().copied().collect::<Vec<_>>()));
    format!("{:?} charged={} owed={} {:?} {terms:?}", unit.until, unit.charged, unit.number_owed, unit.standing)
}

fn told_by((desired, terms): &Wanted, unit: &Unit) -> String {
    let until = match desired.paid_until {
        PaidUntil::Nothing => Until::Nothing,
        PaidUntil::At(at) => Until::At(at.as_second()),
        PaidUntil::Forever => Until::Forever,
    };
    // What an adopted license means without a mapping is not compared.
    let terms = terms.as_ref().filter(|_| unit.meaning.is_some() || !unit.adoptable);
    let terms = terms.map(|terms| {
        let features: Vec<&str> = terms.features.iter().map(String::as_str).collect();
        (terms.expires_at.map(Timestamp::as_second), terms.seats, features)
    });
    let standing = standing(desired.standing);
    format!("{until:?} charged={} owed={} {standing:?} {terms:?}", desired.charged, desired.number_owed)
}

fn standing(stored: Stored) -> Standing {
    match stored {
        Stored::Active => Standing::Active,
        Stored::Suspended(_) => Standing::Suspended,
        Stored::Revoked(_) => Standing::Revoked,
    }
}

/// The licenses of a purchase: one for each unit that must have one, and each in the right state.
fn licenses(expected: &BTreeMap<(String, u32), Unit>, purchase: &Purchase, bench: &Bench) -> Vec<String> {
    let mut found = Vec::new();
    for ((item, number), unit) in expected {
        let kept = purchase.unit(item, *number).cloned().unwrap_or_default();
        let what = license(unit, &kept);
        found.extend(what.into_iter().map(|what| format!("({item}, {number}): {what}; {unit:?}; {kept:?}")));
    }
    for (item, units) in &purchase.units {
        for (number, kept) in units {
            if !kept.licenses.is_empty() && !expected.contains_key(&(item.clone(), *number)) {
                found.push(format!("({item}, {number}): a license that nobody is owed: {kept:?}"));
            }
            for (generation, license) in kept.licenses.iter().filter(|(_, license)| !license.adopted) {
                let reference = purchase.id.unit(item.as_str(), *number).reference(*generation);
                let made = bench.engine.made();
                match made.get(&reference) {
                    Some(made) if made.state == state(license) => {}
                    made => {
                        found.push(format!("({item}, {number}) {reference}: {license:?} is {made:?} at the engine"));
                    }
                }
            }
        }
    }
    found
}

fn state(license: &License) -> &'static str {
    match license.standing {
        Stored::Active => "active",
        Stored::Suspended(_) => "suspended",
        Stored::Revoked(_) => "revoked",
    }
}

fn license(unit: &Unit, kept: &Kept) -> Option<String> {
    let standing_licenses = kept.licenses.values().filter(|license| !license.is_revoked()).count();
    if standing_licenses > 1 {
        return Some(format!("{standing_licenses} licenses"));
    }
    let Some((_, license)) = kept.latest() else {
        return unit.is_licensed().then(|| "no license".to_owned());
    };
    if standing(license.standing) != unit.standing {
        return Some(format!("its license is {:?}", license.standing));
    }
    if unit.standing != Standing::Active {
        return None;
    }
    let until = match unit.until {
        Until::At(at) => Some(at),
        Until::Nothing | Until::Forever => None,
    };
    let wanted = (until, unit.expires, unit.seats);
    let LicenseTerms { paid_until, expires_at, seats, .. } = &license.terms;
    let stored = (paid_until.map(Timestamp::as_second), expires_at.map(Timestamp::as_second), *seats);
    if unit.meaning.is_some() && wanted != stored {
        return Some(format!("terms {stored:?} instead of {wanted:?}"));
    }
    let product = unit.meaning.map(|meaning| meaning.product);
    (!license.adopted && product != Some(&license.product)).then(|| format!("product {}", license.product))
}
