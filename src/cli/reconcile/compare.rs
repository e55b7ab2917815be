//! What a license engine holds, held against what was paid for: pure, so that every way to differ is a test.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use keyledger_issuer::provider::Listed;
use keyledger_projector::read::{License, LicenseState};
use keyledger_schemas::ids::{LicenseId, ProviderName, UnitId};
use serde::Serialize;

/// How the two can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Paid for, and the engine holds no key.
    PaymentWithoutKey,
    /// The engine's key ends at another time than what was paid for.
    WrongExpiry,
    /// The engine's key works and should not, or the other way round.
    WrongState,
    /// Two keys that work for one paid unit.
    TwoKeys,
    /// A key that works, and nothing that was paid.
    KeyWithoutPayment,
    /// A customer of Stripe's whom the engine knows and who has no key there.
    CustomerWithoutKey,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which kind.
    pub kind: Kind,
    /// The engine.
    pub provider: ProviderName,
    /// The engine's product, where it is about a key.
    pub product: Option<String>,
    /// The engine's own id: of the key, or of the customer.
    pub provider_id: Option<String>,
    /// Our license.
    pub license: Option<LicenseId>,
    /// `sub_…`, `in_…` or `cs_…`.
    pub purchase: Option<String>,
    /// `cus_…`
    pub customer: Option<String>,
    /// What is at the engine, and what should be.
    pub found: String,
    /// What to do.
    pub next: String,
}

/// A key as the engine lists it, with the product it was listed for.
#[derive(Clone, Debug)]
pub struct Held {
    /// The engine's product.
    pub product: String,
    /// The key.
    pub license: Listed,
}

/// A customer as the engine lists them.
#[derive(Clone, Debug)]
pub struct Known {
    /// The engine's own id.
    pub id: String,
    /// The customer of Stripe's that they carry, if they do.
    pub customer: Option<String>,
}

/// A paid unit without a license that this engine should hold.
#[derive(Clone, Debug)]
pub struct Owed {
    /// The unit.
    pub unit: UnitId,
    /// `cus_…`
    pub customer: Option<String>,
    /// Why it has none.
    pub cause: Option<String>,
}

/// What one engine holds, and what our books say that it should.
#[derive(Debug)]
pub struct Books<'a> {
    /// The engine.
    pub provider: &'a ProviderName,
    /// All keys of all its products that we know of.
    pub held: &'a [Held],
    /// All its customers, where it tells.
    pub known: &'a [Known],
    /// Our licenses there.
    pub ours: &'a [License],
    /// What it still owes.
    pub owed: &'a [Owed],
    /// When listing began: what was made later may be missing from the list.
    pub since: Timestamp,
    /// How much later than ours an expiry may be, where the engine knows days alone.
    pub later: SignedDuration,
}

/// A key's place in the list.
type Place = usize;

impl Books<'_> {
    /// Every difference, by kind, then by purchase.
    pub fn compare(&self) -> Vec<Finding> {
        let index = Index::of(self.held);
        let references = self.references();
        let mut claimed: BTreeMap<Place, &License> = BTreeMap::new();
        let mut findings = Vec::new();
        for license in self.ours {
            let Some(place) = index.find(license) else {
                findings.extend(self.missing(license));
                continue;
            };
            claimed.insert(place, license);
            let held = &self.held[place].license;
            findings.extend(self.wrong_state(license, held));
            findings.extend(self.wrong_expiry(license, held));
        }
        findings.extend(self.two_of_ours(&claimed));
        for (_, held) in self.held.iter().enumerate().filter(|(place, _)| !claimed.contains_key(place)) {
            findings.extend(self.unclaimed(held, &references, &claimed));
        }
        findings.extend(self.owed.iter().map(|owed| self.owed(owed)));
        findings.extend(self.customers());
        findings.sort_by(|a, b| (a.kind, &a.purchase, &a.provider_id).cmp(&(b.kind, &b.purchase, &b.provider_id)));
        findings
    }

    fn finding(&self, kind: Kind, found: String, next: &str) -> Finding {
        Finding {
            kind,
            provider: self.provider.clone(),
            product: None,
            provider_id: None,
            license: None,
            purchase: None,
            customer: None,
            found,
            next: next.to_owned(),
        }
    }

    fn about(&self, license: &License, kind: Kind, found: String, next: &str) -> Finding {
        Finding {
            product: license.product.clone(),
            provider_id: license.provider_id.clone(),
            license: Some(license.id),
            purchase: Some(license.purchase.object.clone()),
            customer: license.customer.as_ref().map(ToString::to_string),
            ..self.finding(kind, found, next)
        }
    }

    /// Paid for and working by our books, and not in the list.
    fn missing(&self, license: &License) -> Option<Finding> {
        let is_new = license.issued_at.is_none_or(|issued| issued >= self.since);
        let works = matches!(license.state, LicenseState::Active | LicenseState::Grace);
        (works && !is_new).then(|| {
            let found = "the engine does not list this key: somebody deleted it there".to_owned();
            self.about(license, Kind::PaymentWithoutKey, found, &format!("keyledger licenses reissue {}", license.id))
        })
    }

    fn wrong_state(&self, license: &License, held: &Listed) -> Option<Finding> {
        let should = match license.state {
            LicenseState::Active | LicenseState::Grace => true,
            LicenseState::Suspended | LicenseState::Revoked => false,
            // Engines differ in what they say of a key that has ended.
            LicenseState::Expired => return None,
        };
        let said = |works| if works { "works" } else { "is stopped" };
        let next = if should {
            format!("keyledger licenses reinstate {}", license.id)
        } else {
            format!("keyledger licenses {} {}", verb_to_stop(license.state), license.id)
        };
        (held.works != should).then(|| {
            let found = format!("it {} at the engine, and {} by what was paid", said(held.works), said(should));
            self.about(license, Kind::WrongState, found, &next)
        })
    }

    fn wrong_expiry(&self, license: &License, held: &Listed) -> Option<Finding> {
        // What is stopped ends when it is let go again; and where nothing counts any more there is no date to be held to.
        if !matches!(license.state, LicenseState::Active | LicenseState::Grace | LicenseState::Expired) {
            return None;
        }
        let ours = match (license.expires_at, license.perpetual) {
            (None, false) => return None,
            (ours, _) => ours,
        };
        if self.agree(ours, held.expires_at) {
            return None;
        }
        let said = |at: Option<Timestamp>| {
            at.map_or_else(|| "never".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
        };
        let found = format!("it ends {} at the engine, and {} by what was paid", said(held.expires_at), said(ours));
        Some(self.about(license, Kind::WrongExpiry, found, "keyledger repair --all --apply"))
    }

    /// Whole seconds: no engine keeps more. Where it knows days alone, it may end later, and never earlier.
    fn agree(&self, ours: Option<Timestamp>, theirs: Option<Timestamp>) -> bool {
        match (ours, theirs) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => {
                let late = theirs.as_second() - ours.as_second();
                (0..=self.later.as_secs()).contains(&late)
            }
            _ => false,
        }
    }

    /// Keys that we made or adopted ourselves, more than one for a unit.
    fn two_of_ours(&self, claimed: &BTreeMap<Place, &License>) -> Vec<Finding> {
        let mut working: BTreeMap<&UnitId, Vec<&License>> = BTreeMap::new();
        for (place, license) in claimed {
            if self.held[*place].license.works && license.state != LicenseState::Revoked {
                working.entry(&license.unit).or_default().push(license);
            }
        }
        let mut findings = Vec::new();
        for licenses in working.into_values().filter(|licenses| licenses.len() > 1) {
            let newest = licenses.iter().map(|license| license.generation).max().unwrap_or_default();
            for license in licenses.into_iter().filter(|license| license.generation < newest) {
                let found = "a newer key of the same unit works too".to_owned();
                let next = format!("keyledger licenses revoke {} --reason \"replaced\"", license.id);
                findings.push(self.about(license, Kind::TwoKeys, found, &next));
            }
        }
        findings
    }

    /// A key in the list that our books do not know.
    fn unclaimed(
        &self,
        held: &Held,
        references: &BTreeMap<String, &UnitId>,
        claimed: &BTreeMap<Place, &License>,
    ) -> Option<Finding> {
        let license = &held.license;
        if !license.works {
            return None;
        }
        let about = |kind: Kind, found: String, next: &str| Finding {
            product: Some(held.product.clone()),
            provider_id: Some(license.provider_id.clone()),
            purchase: license.purchase.clone(),
            ..self.finding(kind, found, next)
        };
        let unit = license.reference.as_deref().and_then(|reference| references.get(reference));
        if let Some(unit) = unit {
            let twin = claimed.values().find(|ours| ours.unit == **unit && ours.state != LicenseState::Revoked);
            if let Some(twin) = twin {
                let found = format!("it carries the reference of a unit that license {} meets", twin.id);
                return Some(about(
                    Kind::TwoKeys,
                    found,
                    "look at both at the engine, and stop the one that nobody uses",
                ));
            }
            // Its making is not recorded yet: the issuer looks it up before it makes anything.
            return None;
        }
        if let Some(purchase) = &license.purchase
            && let Some(ours) =
                self.ours.iter().find(|ours| ours.purchase.object == *purchase && ours.state != LicenseState::Revoked)
        {
            let found = format!("it carries {purchase}, for which license {} stands", ours.id);
            return Some(about(Kind::TwoKeys, found, "look at both at the engine, and stop the one that nobody uses"));
        }
        let (found, next) = match (&license.reference, &license.purchase) {
            (Some(_), _) => (
                "it carries a reference of a keyledger that has other books".to_owned(),
                "look for it in the other deployment, or in an older log",
            ),
            (None, Some(purchase)) => (
                format!("it carries {purchase}, for which nothing counts as paid here"),
                "keyledger reconcile --apply, if Stripe has payments that the log lacks; else stop it at the engine",
            ),
            (None, None) => (
                "nothing says what it was made for".to_owned(),
                "attach it to the case it belongs to: keyledger cases attach; else leave it or stop it at the engine",
            ),
        };
        Some(about(Kind::KeyWithoutPayment, found, next))
    }

    /// The units by their references, of any generation that they had or may be getting now.
    fn references(&self) -> BTreeMap<String, &UnitId> {
        let ours = self.ours.iter().map(|license| (&license.unit, license.generation));
        let units = ours.chain(self.owed.iter().map(|owed| (&owed.unit, 0)));
        let all =
            units.flat_map(|(unit, newest)| (1..=newest + 1).map(move |generation| (unit.reference(generation), unit)));
        all.collect()
    }

    fn owed(&self, owed: &Owed) -> Finding {
        let cause = owed.cause.as_deref().unwrap_or("no cause is known");
        Finding {
            purchase: Some(owed.unit.purchase.object.clone()),
            customer: owed.customer.clone(),
            ..self.finding(
                Kind::PaymentWithoutKey,
                format!("{} has no key yet: {cause}", owed.unit),
                "keyledger cases --kind no_key",
            )
        }
    }

    /// Customers that carry a customer of Stripe's and own nothing: a lost answer leaves such a one behind.
    fn customers(&self) -> Vec<Finding> {
        let owners: BTreeSet<&str> = self.held.iter().filter_map(|held| held.license.owner.as_deref()).collect();
        let empty = self.known.iter().filter(|known| known.customer.is_some() && !owners.contains(known.id.as_str()));
        let finding = |known: &Known| Finding {
            provider_id: Some(known.id.clone()),
            customer: known.customer.clone(),
            ..self.finding(
                Kind::CustomerWithoutKey,
                "it carries a customer of Stripe's and has no key".to_owned(),
                "delete it at the engine, unless a case of that customer is open",
            )
        };
        empty.map(finding).collect()
    }
}

fn verb_to_stop(state: LicenseState) -> &'static str {
    if state == LicenseState::Revoked { "revoke" } else { "suspend" }
}

/// Where keys stand in the list.
struct Index<'a> {
    /// By product and id: some engines count ids per product.
    by_product: BTreeMap<(&'a str, &'a str), Place>,
    /// By id and by other ids, where only one key has it.
    by_id: BTreeMap<&'a str, Option<Place>>,
}

impl<'a> Index<'a> {
    fn of(held: &'a [Held]) -> Self {
        let mut index = Self { by_product: BTreeMap::new(), by_id: BTreeMap::new() };
        for (place, one) in held.iter().enumerate() {
            let id = one.license.provider_id.as_str();
            index.by_product.insert((one.product.as_str(), id), place);
            for id in std::iter::once(id).chain(one.license.also.values().map(String::as_str)) {
                index.by_id.entry(id).and_modify(|other| *other = None).or_insert(Some(place));
            }
        }
        index
    }

    fn find(&self, license: &License) -> Option<Place> {
        let id = license.provider_id.as_deref()?;
        match &license.product {
            Some(product) => self.by_product.get(&(product.as_str(), id)).copied(),
            None => self.by_id.get(id).copied().flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use keyledger_schemas::ids::{Mode, PurchaseId, Scope, SourceName};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn unit(purchase: &str) -> UnitId {
        PurchaseId::new(Scope::new(SourceName::default(), Mode::Live), purchase).unit("si_1", 1)
    }

    fn license(purchase: &str, id: &str) -> License {
        let unit = unit(purchase);
        License {
            id: unit.license(1),
            purchase: unit.purchase.clone(),
            unit,
            generation: 1,
            customer: None,
            state: LicenseState::Active,
            reason: None,
            seats: Some(1),
            features: BTreeSet::new(),
            paid_until: Some(at("2026-04-01T00:00:00Z")),
            expires_at: Some(at("2026-04-04T00:00:00Z")),
            perpetual: false,
            provider: Some(ProviderName::from("cryptolens")),
            provider_id: Some(id.to_owned()),
            also: BTreeMap::new(),
            product: Some("3349".to_owned()),
            origin: "made".to_owned(),
            issued_at: Some(at("2026-03-01T00:00:00Z")),
            key: None,
        }
    }

    /// The key that the engine should hold for it.
    fn held(license: &License) -> Held {
        Held {
            product: license.product.clone().unwrap(),
            license: Listed {
                provider_id: license.provider_id.clone().unwrap(),
                also: BTreeMap::new(),
                reference: Some(license.unit.reference(license.generation)),
                purchase: Some(license.purchase.object.clone()),
                owner: Some("7".to_owned()),
                expires_at: license.expires_at,
                seats: license.seats,
                works: true,
            },
        }
    }

    fn found(held: &[Held], known: &[Known], ours: &[License], owed: &[Owed]) -> Vec<(Kind, Option<String>)> {
        let provider = ProviderName::from("cryptolens");
        let books = Books {
            provider: &provider,
            held,
            known,
            ours,
            owed,
            since: at("2026-03-10T00:00:00Z"),
            later: SignedDuration::from_hours(48),
        };
        books.compare().into_iter().map(|finding| (finding.kind, finding.provider_id)).collect()
    }

    fn one(kind: Kind, id: &str) -> Vec<(Kind, Option<String>)> {
        vec![(kind, Some(id.to_owned()))]
    }

    #[test]
    fn books_that_agree_have_no_difference() {
        let ours = [license("sub_1", "1"), license("sub_2", "2")];
        let late = Listed { expires_at: Some(at("2026-04-05T17:00:00Z")), ..held(&ours[1]).license };
        let held = [held(&ours[0]), Held { product: "3349".to_owned(), license: late }];
        let known = [Known { id: "7".to_owned(), customer: Some("cus_1".to_owned()) }];
        assert_eq!(found(&held, &known, &ours, &[]), []);
    }

    #[test]
    fn a_key_that_was_deleted_is_a_payment_without_a_key_and_one_just_made_is_none() {
        let ours = license("sub_1", "1");
        assert_eq!(found(&[], &[], std::slice::from_ref(&ours), &[]), one(Kind::PaymentWithoutKey, "1"));
        let new = License { issued_at: Some(at("2026-03-10T00:00:01Z")), ..ours.clone() };
        assert_eq!(found(&[], &[], &[new], &[]), []);
        let revoked = License { state: LicenseState::Revoked, ..ours };
        assert_eq!(found(&[], &[], &[revoked], &[]), []);
    }

    #[test]
    fn an_expiry_may_be_days_later_where_the_engine_knows_days_alone_and_never_earlier() {
        let ours = license("sub_1", "1");
        for (expires, is_wrong) in [
            (Some("2026-04-03T23:59:59Z"), true),
            (Some("2026-04-04T00:00:00Z"), false),
            (Some("2026-04-06T00:00:00Z"), false),
            (Some("2026-04-06T00:00:01Z"), true),
            (None, true),
        ] {
            let mut held = held(&ours);
            held.license.expires_at = expires.map(at);
            let expected = if is_wrong { one(Kind::WrongExpiry, "1") } else { vec![] };
            assert_eq!(found(&[held], &[], std::slice::from_ref(&ours), &[]), expected, "{expires:?}");
        }
    }

    #[test]
    fn a_key_that_works_though_it_should_not_is_found_and_the_other_way_round() {
        let ours = license("sub_1", "1");
        let held = held(&ours);
        let suspended = License { state: LicenseState::Suspended, ..ours.clone() };
        assert_eq!(found(std::slice::from_ref(&held), &[], &[suspended], &[]), one(Kind::WrongState, "1"));
        let mut stopped = held;
        stopped.license.works = false;
        assert_eq!(found(&[stopped], &[], &[ours], &[]), one(Kind::WrongState, "1"));
    }

    #[test]
    fn two_keys_for_one_unit_are_found_by_reference_and_by_purchase() {
        let ours = license("sub_1", "1");
        let mut twin = held(&ours);
        twin.license.provider_id = "2".to_owned();
        assert_eq!(found(&[held(&ours), twin.clone()], &[], std::slice::from_ref(&ours), &[]), one(Kind::TwoKeys, "2"));
        twin.license.reference = None;
        assert_eq!(found(&[held(&ours), twin.clone()], &[], std::slice::from_ref(&ours), &[]), one(Kind::TwoKeys, "2"));
        twin.license.works = false;
        assert_eq!(found(&[held(&ours), twin], &[], &[ours], &[]), []);
    }

    #[test]
    fn of_two_generations_that_both_work_the_older_one_is_too_many() {
        let old = license("sub_1", "1");
        let new = License { generation: 2, id: old.unit.license(2), provider_id: Some("2".to_owned()), ..old.clone() };
        assert_eq!(found(&[held(&old), held(&new)], &[], &[new, old], &[]), one(Kind::TwoKeys, "1"));
    }

    #[test]
    fn a_key_that_nobody_paid_for_is_found_unless_it_is_stopped() {
        let stranger = Held { product: "3349".to_owned(), ..held(&license("sub_9", "9")) };
        for (reference, purchase) in [(None, None), (None, Some("sub_9")), (Some("kl-0"), None)] {
            let mut held = stranger.clone();
            held.license.reference = reference.map(str::to_owned);
            held.license.purchase = purchase.map(str::to_owned);
            assert_eq!(found(&[held.clone()], &[], &[], &[]), one(Kind::KeyWithoutPayment, "9"));
            held.license.works = false;
            assert_eq!(found(&[held], &[], &[], &[]), []);
        }
    }

    #[test]
    fn a_key_whose_making_is_not_recorded_yet_is_no_surplus_but_its_unit_is_owed() {
        let held = held(&license("sub_1", "1"));
        let owed = Owed { unit: unit("sub_1"), customer: None, cause: Some("indeterminate".to_owned()) };
        assert_eq!(found(&[held], &[], &[], &[owed]), [(Kind::PaymentWithoutKey, None)]);
    }

    #[test]
    fn ids_of_two_products_are_not_mixed_up_and_an_adopted_key_is_found_by_any_of_its_ids() {
        let ours = license("sub_1", "1");
        let mut other = held(&license("sub_2", "1"));
        other.product = "3350".to_owned();
        other.license.works = false;
        assert_eq!(found(&[other.clone(), held(&ours)], &[], std::slice::from_ref(&ours), &[]), []);
        let mut adopted = held(&ours);
        adopted.license.also.insert("globalId".to_owned(), "812345".to_owned());
        let ours = License { product: None, provider_id: Some("812345".to_owned()), ..ours };
        assert_eq!(found(&[other, adopted], &[], &[ours], &[]), []);
    }

    #[test]
    fn a_customer_of_stripes_without_a_key_is_listed_and_others_are_left_alone() {
        let known =
            |id: &str, customer: Option<&str>| Known { id: id.to_owned(), customer: customer.map(str::to_owned) };
        let ours = license("sub_1", "1");
        let all = [known("7", Some("cus_1")), known("8", Some("cus_1")), known("9", None)];
        assert_eq!(found(&[held(&ours)], &all, &[ours], &[]), one(Kind::CustomerWithoutKey, "8"));
    }
}
