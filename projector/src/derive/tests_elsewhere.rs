//! Add-ons and what is skipped, what people decided about a license, and what engines and other systems say of one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyledger_schemas::event::{
    Action, Event, ExtendRequested, LicenseAdopted, LicenseIssued, LicenseNotDone, LicenseRequested, LicenseTerms,
    NotDone, ReinstateRequested, RetryRequested, RevokeReason, RevokeRequested, SuspendReason, SuspendRequested,
};
use keyledger_schemas::settings::LeftPolicy;
use keyledger_schemas::stripe::fact::InvoiceSeen;
use keyledger_schemas::stripe::status::{SessionMode, SubscriptionStatus};
use serde_json::json;

use super::given::*;

fn none() -> Vec<String> {
    Vec::new()
}

fn one_month() -> Given {
    Given::subscription().invoice(&paid("in_1", 0, vec![line(0, 31)]))
}

mod addons {
    use super::*;

    /// `si_1` is a license of `pro` with two seats; `si_2` an add-on, as often as said, in the invoice and in the snapshot.
    fn with_addon(quantity: u64) -> Given {
        let mut more = line(0, 31);
        (more.id, more.item, more.price) = ("il_more".into(), Some("si_2".into()), Some(price("price_more")));
        more.quantity = Some(1);
        let mut sight = snapshot(1, SubscriptionStatus::Active, 0, 31);
        sight.items[0].quantity = Some(2);
        if quantity > 0 {
            sight.items.push(item("si_2", "price_more", quantity, 0, 31));
        }
        Given::subscription().invoice(&paid("in_1", 0, vec![line(0, 31), more])).snapshot(&sight).catalog(json!([
            { "price": "price_more", "addon_of": "pro", "features": ["more"], "seats": "quantity" },
            { "product": "pro", "features": ["base"] },
        ]))
    }

    fn terms(given: &Given) -> (Option<u32>, Vec<String>) {
        let unit = given.derive().units.remove(0);
        (unit.seats, unit.features.into_iter().collect())
    }

    #[test]
    fn an_addon_opens_nothing_and_adds_to_the_license_it_belongs_to() {
        let given = with_addon(3);
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
        assert_eq!(given.cases(), ["no_key issuing 4900"]);
        assert_eq!(terms(&given), (Some(5), vec!["base".to_owned(), "more".to_owned()]));
    }

    #[test]
    fn an_addon_that_is_bought_no_more_adds_nothing() {
        assert_eq!(terms(&with_addon(0)), (Some(2), vec!["base".to_owned()]));
    }

    #[test]
    fn a_snapshot_that_shows_part_of_its_items_takes_none_away() {
        let mut sight = snapshot(2, SubscriptionStatus::Active, 0, 31);
        (sight.items[0].quantity, sight.items_truncated) = (Some(2), true);
        assert_eq!(terms(&with_addon(0).snapshot(&sight)).0, Some(3));
    }

    #[test]
    fn an_addon_whose_money_went_back_adds_nothing() {
        let mut more = line(0, 31);
        (more.id, more.item, more.price) = ("il_more".into(), Some("si_2".into()), Some(price("price_more")));
        let given = one_month().invoice(&paid("in_2", 0, vec![more])).charge("in_2", 4900).catalog(json!([
            { "price": "price_more", "addon_of": "pro", "features": ["more"] },
            { "product": "pro" },
        ]));
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
        assert_eq!(terms(&given), (Some(1), Vec::new()));
    }

    #[test]
    fn an_addon_of_another_product_adds_nothing_and_is_a_mapping_error() {
        let given = with_addon(1).catalog(json!([
            { "price": "price_more", "addon_of": "team", "features": ["more"] },
            { "product": "pro" },
        ]));
        assert_eq!(terms(&given), (Some(2), Vec::new()));
        assert_eq!(given.cases(), ["no_key issuing 4900", "mapping_error - -"]);
        let said = given.details("mapping_error").remove(0);
        assert!(said.starts_with("`addon_of` cannot be used") && said.contains("`team`"), "{said}");
    }

    #[test]
    fn what_is_skipped_opens_nothing_and_is_no_case() {
        let given = one_month().catalog(json!([{ "price": "price_1", "skip": true }, { "product": "pro" }]));
        assert_eq!((given.units(), given.cases()), (none(), none()));
        let once = Given::one_off("cs_1").session(&session("cs_1", 0, SessionMode::Payment, "paid"));
        let once = once.catalog(json!([{ "skip": true }]));
        assert_eq!((once.units(), once.cases()), (none(), none()));
    }

    #[test]
    fn a_license_stays_as_it_is_when_its_price_is_skipped_or_becomes_an_addon() {
        for entry in [json!({ "price": "price_1", "skip": true }), json!({ "price": "price_1", "addon_of": "pro" })] {
            let kept = one_month().requested("si_1", 1, Action::Create).issued("si_1", 1, Some(day(31)));
            let given = kept.catalog(json!([entry, { "product": "pro" }]));
            // Its mapping was recorded with it.
            assert_eq!(given.units(), ["si_1/1 31 charged active"]);
            let moved = {
                let mut sight = snapshot(2, SubscriptionStatus::Active, 0, 31);
                sight.items[0].price = Some(price("price_2"));
                let skipped = json!([{ "price": "price_2", "skip": true }, { "product": "pro" }]);
                given.snapshot(&sight).catalog(skipped)
            };
            assert_eq!((moved.cases(), moved.licenses()), (none(), vec!["si_1/1 active".to_owned()]));
        }
    }
}

mod people {
    use super::*;

    fn suspend(given: &Given) -> Event {
        Event::SuspendRequested(SuspendRequested { unit: given.unit_id("si_1", 1), reason: "fraud?".to_owned() })
    }

    fn revoke(given: &Given) -> Event {
        Event::RevokeRequested(RevokeRequested { unit: given.unit_id("si_1", 1), reason: "fraud".to_owned() })
    }

    fn reinstate(given: &Given) -> Event {
        Event::ReinstateRequested(ReinstateRequested { unit: given.unit_id("si_1", 1), reason: "paid".to_owned() })
    }

    fn extend(given: &Given, until: i64) -> Event {
        let (unit, until) = (given.unit_id("si_1", 1), day(until));
        Event::ExtendRequested(ExtendRequested { unit, until, reason: "goodwill".to_owned() })
    }

    fn expires(given: &Given) -> Option<Timestamp> {
        given.derive().units[0].expires_at
    }

    #[test]
    fn what_a_person_stopped_stays_stopped_and_is_no_case_whatever_is_paid() {
        let given = one_month().issued("si_1", 1, Some(day(31)));
        let event = suspend(&given);
        let given = given.own("si_1", 1, &event);
        assert_eq!(given.units(), ["si_1/1 31 charged suspended"]);
        let stopped = given.suspended("si_1", 1, SuspendReason::Operator);
        let renewed = stopped.invoice(&paid("in_2", 31, vec![line(31, 59)]));
        assert_eq!((renewed.units(), renewed.cases()), (vec!["si_1/1 59 charged suspended".to_owned()], none()));
        assert_eq!(renewed.listed(), ["si_1/1 suspended operator 59 62 1 seats"]);
    }

    #[test]
    fn a_persons_stop_is_named_before_what_stripe_says_and_after_a_revocation() {
        let given = one_month().issued("si_1", 1, Some(day(31))).charge("in_1", 0);
        let event = suspend(&given);
        let given = given.own("si_1", 1, &event).dispute("dp_1", "in_1", "needs_response");
        assert_eq!(given.derive().units[0].suspended_by, Some(SuspendReason::Operator));
        let event = revoke(&given);
        assert_eq!(given.own("si_1", 1, &event).units(), ["si_1/1 31 charged revoked"]);
    }

    #[test]
    fn a_person_takes_back_what_a_person_did_and_then_what_is_paid_counts_again() {
        for stop in [suspend, revoke] {
            let given = one_month().issued("si_1", 1, Some(day(31)));
            let (event, back) = (stop(&given), reinstate(&given));
            let given = given.own("si_1", 1, &event);
            let stopped = if event.kind() == "operator.suspend_requested" {
                given.suspended("si_1", 1, SuspendReason::Operator)
            } else {
                given.revoked("si_1", 1, RevokeReason::Operator)
            };
            assert_eq!(stopped.cases(), none());
            let back = stopped.own("si_1", 1, &back);
            assert_eq!(
                (back.units(), back.cases()),
                (vec!["si_1/1 31 charged active".to_owned()], vec!["not_extended issuing 4900".to_owned()],)
            );
        }
    }

    #[test]
    fn a_person_may_give_more_time_than_was_paid_for_and_the_last_word_counts() {
        let given = one_month().issued("si_1", 1, Some(day(31)));
        let paid = expires(&given);
        let (far, near) = (extend(&given, 90), extend(&given, 10));
        let given = given.own("si_1", 1, &far);
        assert_eq!((expires(&given), given.units()), (Some(day(90)), vec!["si_1/1 31 charged active".to_owned()]));
        assert_eq!(given.cases(), none());
        assert_eq!(expires(&given.own("si_1", 1, &near)), paid);
    }

    #[test]
    fn what_does_not_expire_needs_no_more_time() {
        let sold = Given::one_off("cs_1").session(&session("cs_1", 0, SessionMode::Payment, "paid"));
        let (unit, until) = (sold.unit_id("0", 1), day(90));
        let extend = Event::ExtendRequested(ExtendRequested { unit, until, reason: "goodwill".to_owned() });
        assert_eq!(expires(&sold.own("0", 1, &extend)), None);
    }
}

mod left_by_other_systems {
    use super::*;

    fn marked(pairs: &[(&str, &str)]) -> Given {
        let mut sight = snapshot(0, SubscriptionStatus::Active, 0, 31);
        sight.metadata = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        one_month().snapshot(&sight)
    }

    fn held(given: Given) -> Given {
        given.setting(|settings| settings.policy.left_by_other_system = LeftPolicy::Case)
    }

    /// A license of Cryptolens's for `si_1`, with its two ids.
    fn issued_by_cryptolens(given: Given) -> Given {
        let event = Event::LicenseIssued(LicenseIssued {
            unit: given.unit_id("si_1", 1),
            generation: 1,
            license: given.license_id("si_1", 1),
            provider: "cryptolens".into(),
            provider_id: "2".to_owned(),
            product: "3349".to_owned(),
            key: None,
            terms: LicenseTerms { paid_until: Some(day(31)), expires_at: None, seats: 1, features: [].into() },
            found: false,
            also: BTreeMap::from([("globalId".to_owned(), "812345".to_owned())]),
        });
        given.own("si_1", 1, &event)
    }

    #[test]
    fn our_own_mark_says_nothing_about_another_system() {
        let given = held(marked(&[("skm_temp_var", "keyledger:owed")]));
        assert_eq!(given.cases(), ["no_key issuing 4900"]);
        assert!(given.derive().cases[0].awaits_issuer);
    }

    #[test]
    fn a_retry_by_a_person_lifts_the_hold_for_that_unit() {
        let given = held(marked(&[("skm_temp_var", "x")]));
        assert!(!given.derive().cases[0].awaits_issuer);
        let retry = Event::RetryRequested(RetryRequested { unit: given.unit_id("si_1", 1) });
        let case = given.own("si_1", 1, &retry).derive().cases.remove(0);
        assert_eq!((case.cause, case.awaits_issuer), (Some("left_by_other_system"), true));
    }

    #[test]
    fn a_license_that_we_wrote_into_the_metadata_is_no_surplus_by_either_id() {
        for pairs in [
            &[("skm_key_id", "2"), ("skm_key_globalid", "812345")][..],
            &[("skm_key_id", "2")],
            &[("skm_key_globalid", "812345")],
        ] {
            assert_eq!(issued_by_cryptolens(marked(pairs)).cases(), none(), "{pairs:?}");
        }
        assert_eq!(issued_by_cryptolens(marked(&[("skm_key_globalid", "2222")])).cases(), ["surplus_key - -"]);
    }

    #[test]
    fn a_license_that_one_unit_has_names_nothing_for_another() {
        let mut first = line(0, 31);
        (first.id, first.item) = ("il_0".into(), Some("si_0".into()));
        let given = issued_by_cryptolens(marked(&[("skm_key_id", "2"), ("skm_key_globalid", "812345")]));
        let given = given.invoice(&paid("in_2", 1, vec![first]));
        assert_eq!(given.cases(), ["no_key issuing 4900"]);
    }

    #[test]
    fn an_engine_that_can_be_asked_is_asked_before_a_named_license_counts() {
        let given = marked(&[("skm_key_id", "88121")]);
        assert_eq!(given.cases(), none());
        let given = given.setting(|settings| _ = settings.providers.insert("cryptolens".into()));
        assert_eq!(given.cases(), ["no_key issuing 4900"]);
        let (unit, license) = (given.unit_id("si_1", 1), given.license_id("si_1", 1));
        let mapping = given.derive().units[0].mapping.clone().unwrap();
        let terms = LicenseTerms { paid_until: Some(day(31)), expires_at: None, seats: 1, features: [].into() };
        let request = Event::LicenseRequested(LicenseRequested {
            unit: unit.clone(),
            generation: 1,
            license,
            attempt: 1,
            action: Action::Adopt,
            terms: terms.clone(),
            mapping: mapping.clone(),
            named: Some("88121".to_owned()),
            wait_until: day(0),
        });
        let refusal = Event::LicenseNotDone(LicenseNotDone {
            unit: unit.clone(),
            license,
            attempt: 1,
            action: Action::Adopt,
            answer: NotDone::Refused,
            reason: "it belongs to somebody else".to_owned(),
            next_attempt_at: None,
            nothing_found: false,
            unconfigured: false,
        });
        let refused = given.own("si_1", 1, &request).own("si_1", 1, &refusal);
        assert_eq!(refused.cases(), ["no_key provider_refused 4900"]);
        assert_eq!(refused.details("no_key"), ["license 88121 is not taken: it belongs to somebody else"]);
        let adopted = Event::LicenseAdopted(LicenseAdopted {
            unit,
            generation: 1,
            license,
            provider: "cryptolens".into(),
            provider_id: "88121".to_owned(),
            terms,
            named_by: "skm_key_id".to_owned(),
            mapping: Some(mapping),
            product: Some("3349".to_owned()),
            key: None,
            also: BTreeMap::from([("globalId".to_owned(), "9".to_owned())]),
        });
        let adopted = refused.own("si_1", 1, &request).own("si_1", 1, &adopted);
        assert_eq!((adopted.cases(), adopted.licenses()), (none(), vec!["si_1/1 active".to_owned()]));
        let row = adopted.derive().licenses.remove(0);
        let (provider, id, product) = row.provider.unwrap();
        assert_eq!((&*provider, &*id, product.as_deref()), ("cryptolens", "88121", Some("3349")));
        assert_eq!(row.also["globalId"], "9");
        // Taken before the engine could be asked, and now it does not give it.
        let given = adopted.own("si_1", 1, &request).own("si_1", 1, &refusal);
        assert_eq!(given.cases(), ["not_adopted provider_refused -"]);
        let renewed = given.invoice(&paid("in_2", 31, vec![line(31, 59)]));
        assert_eq!(renewed.cases(), ["not_extended provider_refused 4900"]);
    }
}

mod no_email {
    use super::*;

    fn at_cryptlex() -> Given {
        one_month().catalog(json!([{ "product": "pro", "provider": "cryptlex" }]))
    }

    #[test]
    fn an_engine_that_wants_an_address_waits_for_one_and_says_so() {
        let given = at_cryptlex();
        assert_eq!(given.cases(), ["no_key no_email 4900", "no_email - 4900"]);
        assert!(!given.derive().cases[0].awaits_issuer);
        let mut known = at_cryptlex();
        known.customer_has_email = true;
        assert_eq!(known.cases(), ["no_key issuing 4900"]);
    }

    #[test]
    fn an_address_on_an_invoice_is_one_and_a_blank_one_is_none() {
        let with = |email: &str| {
            let email = Some(email.to_owned());
            at_cryptlex().invoice(&InvoiceSeen { customer_email: email, ..paid("in_1", 1, vec![line(0, 31)]) })
        };
        assert_eq!(with("ana@example.com").cases(), ["no_key issuing 4900"]);
        assert_eq!(with(" ").cases().len(), 2);
    }

    #[test]
    fn a_unit_that_has_a_license_needs_no_address() {
        assert_eq!(at_cryptlex().issued("si_1", 1, Some(day(31))).cases(), none());
    }

    #[test]
    fn other_engines_take_people_without_an_address() {
        assert_eq!(one_month().cases(), ["no_key issuing 4900"]);
    }
}

mod prices {
    use super::*;

    #[test]
    fn every_price_that_was_paid_for_is_listed_with_what_it_means() {
        let mut other = line(0, 31);
        (other.id, other.item, other.price) = ("il_b".into(), Some("si_2".into()), Some(price("price_2")));
        let given = one_month().invoice(&paid("in_2", 31, vec![line(31, 59), other]));
        let given = given.catalog(json!([{ "price": "price_1", "product": "pro" }]));
        let paid = given.derive().paid;
        let said: Vec<_> =
            paid.iter().map(|row| (row.price.as_str(), row.times, row.amount_minor, row.means)).collect();
        assert_eq!(said, [("price_1", 2, 9800, "license"), ("price_2", 1, 4900, "nothing")]);
        assert_eq!((paid[0].first_paid_at, paid[1].first_paid_at), (Some(day(0)), Some(day(31))));
    }

    #[test]
    fn what_was_given_back_was_not_paid_for() {
        assert!(one_month().charge("in_1", 4900).derive().paid.is_empty());
    }
}
