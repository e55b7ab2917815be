//! One test for every rule of docs/deciding.md §3–§6: given what was seen, when derived, then what is owed.

use keyledger_schemas::event::{
    Action, Event, LicenseAdopted, LicenseExtended, LicenseNotDone, LicenseRevoked, LicenseSurplusFound,
    LicenseSuspended, LicenseTerms, NotDone, ObligationWaived, RetryRequested, RevokeReason, RevokeRequested,
    SuspendReason,
};
use keyledger_schemas::settings::{LeftPolicy, MoneyGone, StopOrKeep, TrialPolicy};
use keyledger_schemas::stripe::fact::{InvoiceSeen, LineKind, SessionSeen};
use keyledger_schemas::stripe::status::{SessionMode, SubscriptionStatus};
use serde_json::json;

use super::given::*;

fn none() -> Vec<String> {
    Vec::new()
}

fn one_month() -> Given {
    Given::subscription().invoice(&paid("in_1", 0, vec![line(0, 31)]))
}

mod periods {
    use super::*;

    #[test]
    fn a_line_of_a_paid_invoice_opens_a_unit_to_its_end() {
        assert_eq!(one_month().units(), ["si_1/1 31 charged active"]);
        assert_eq!(one_month().cases(), ["no_key issuing 4900"]);
    }

    #[test]
    fn a_line_of_an_unpaid_invoice_opens_nothing() {
        let open = InvoiceSeen { paid: false, paid_at: None, ..paid("in_1", 0, vec![line(0, 31)]) };
        let given = Given::subscription().invoice(&open).snapshot(&snapshot(0, SubscriptionStatus::Active, 0, 31));
        assert_eq!(given.units(), none());
        assert_eq!(given.cases(), none());
    }

    #[test]
    fn a_renewal_moves_the_end_whatever_came_first() {
        let given = Given::subscription().invoice(&paid("in_2", 31, vec![line(31, 59)]));
        let given = given.invoice(&paid("in_1", 0, vec![line(0, 31)]));
        assert_eq!(given.units(), ["si_1/1 59 charged active"]);
    }

    #[test]
    fn a_proration_moves_nothing_where_the_item_has_a_period() {
        let mut part = line(10, 90);
        part.proration = true;
        let given = one_month().invoice(&paid("in_2", 10, vec![part]));
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
    }

    #[test]
    fn a_proration_alone_opens_a_unit_and_a_credit_does_not() {
        let mut part = line(10, 31);
        part.proration = true;
        let mut credit = part.clone();
        credit.amount_minor = -100;
        credit.item = Some("si_2".into());
        let given = Given::subscription().invoice(&paid("in_1", 10, vec![part, credit]));
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
    }

    #[test]
    fn hidden_lines_are_those_of_the_snapshots_period() {
        let invoice = InvoiceSeen { lines_truncated: true, total_minor: 900, ..paid("in_1", 0, Vec::new()) };
        let given = Given::subscription().invoice(&invoice);
        assert_eq!(given.cases(), ["no_key waiting_for_link 900"]);
        let given = given.snapshot(&snapshot(0, SubscriptionStatus::Active, 0, 31));
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
        assert_eq!(given.cases(), ["no_key issuing 900"]);
    }

    #[test]
    fn a_snapshots_period_that_the_invoice_does_not_fall_into_is_not_paid() {
        let invoice = InvoiceSeen { lines_truncated: true, total_minor: 900, ..paid("in_1", 31, Vec::new()) };
        let given = Given::subscription().invoice(&invoice).snapshot(&snapshot(0, SubscriptionStatus::Active, 0, 31));
        assert_eq!(given.units(), none());
    }

    #[test]
    fn a_paid_session_proves_that_the_invoice_it_names_is_paid() {
        let sight =
            SessionSeen { invoice: Some("in_1".into()), ..session("cs_1", 0, SessionMode::Subscription, "paid") };
        let given = Given::subscription().session(&sight);
        assert_eq!(given.cases(), ["no_key waiting_for_link 4900"]);
        let given = given.snapshot(&snapshot(0, SubscriptionStatus::Active, 0, 31));
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
    }

    #[test]
    fn a_paid_session_that_names_no_invoice_waits_for_one() {
        let given = Given::subscription().session(&session("cs_1", 0, SessionMode::Subscription, "paid"));
        assert_eq!(given.cases(), ["no_key waiting_for_link 4900"]);
    }

    #[test]
    fn a_trial_is_free_to_its_end_and_may_be_ignored() {
        let mut trial = snapshot(0, SubscriptionStatus::Trialing, 0, 14);
        trial.trial_end = Some(day(14));
        let given = Given::subscription().snapshot(&trial);
        assert_eq!(given.units(), ["si_1/1 14 free active"]);
        assert_eq!(given.cases(), ["free_without_key issuing -"]);
        let given = given.setting(|settings| settings.policy.trial = TrialPolicy::Ignore);
        assert_eq!(given.units(), none());
    }

    #[test]
    fn a_trial_ends_when_it_ends_whatever_the_term() {
        let mut trial = snapshot(0, SubscriptionStatus::Trialing, 0, 14);
        trial.trial_end = Some(day(14));
        let given = Given::subscription().snapshot(&trial);
        let given = given.catalog(json!([{ "product": "pro", "term": "perpetual" }]));
        assert_eq!(given.units(), ["si_1/1 14 free active"]);
    }

    #[test]
    fn a_paid_invoice_that_shows_no_line_has_hidden_ones() {
        let given = Given::subscription().invoice(&InvoiceSeen { total_minor: 900, ..paid("in_1", 0, Vec::new()) });
        assert_eq!(given.cases(), ["no_key waiting_for_link 900"]);
        let given = given.snapshot(&snapshot(0, SubscriptionStatus::Active, 0, 31));
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
    }

    #[test]
    fn a_trial_counts_for_ever_after() {
        let mut trial = snapshot(0, SubscriptionStatus::Trialing, 0, 14);
        trial.trial_end = Some(day(14));
        let given = Given::subscription().snapshot(&trial).snapshot(&snapshot(14, SubscriptionStatus::Active, 14, 45));
        assert_eq!(given.units(), ["si_1/1 14 free active"]);
    }

    #[test]
    fn a_settled_session_sells_for_ever() {
        let given = Given::one_off("cs_1").session(&session("cs_1", 0, SessionMode::Payment, "paid"));
        assert_eq!(given.units(), ["0/1 ever charged active"]);
        let given = Given::one_off("cs_1").session(&session("cs_1", 0, SessionMode::Payment, "no_payment_required"));
        assert_eq!(given.units(), ["0/1 ever charged active"]);
        let given = Given::one_off("cs_1").session(&session("cs_1", 0, SessionMode::Payment, "unpaid"));
        assert_eq!(given.units(), none());
        assert_eq!(given.cases(), none());
    }

    #[test]
    fn a_sessions_known_lines_are_its_items_and_credits_are_not_sold() {
        let sight = SessionSeen {
            lines: Some(vec![session_line("price_1", 4000), session_line("price_2", -10), session_line("price_3", 0)]),
            ..session("cs_1", 0, SessionMode::Payment, "paid")
        };
        let given = Given::one_off("cs_1").session(&sight);
        assert_eq!(given.units(), ["0/1 ever charged active", "2/1 ever free active"]);
    }

    #[test]
    fn a_settled_session_sells_before_its_invoice_is_seen_and_then_with_the_invoices_lines() {
        let sight = SessionSeen { invoice: Some("in_1".into()), ..session("cs_1", 0, SessionMode::Payment, "paid") };
        let given = Given::one_off("in_1").session(&sight);
        assert_eq!(given.units(), ["0/1 ever charged active"]);
        assert_eq!(given.cases(), ["no_key issuing 4900"]);
        let unmapped = Given::one_off("in_1").session(&sight).catalog(json!([]));
        assert_eq!(unmapped.cases(), ["no_key lines_unknown 4900"]);
        let mut sold = line(0, 0);
        sold.kind = LineKind::InvoiceItem;
        let invoice = InvoiceSeen { subscription: None, ..paid("in_1", 0, vec![sold.clone(), sold]) };
        let given = given.invoice(&invoice);
        assert_eq!(given.units(), ["0/1 ever charged active", "1/1 ever charged active"]);
        assert_eq!(given.cases(), ["no_key issuing 4900", "no_key issuing 4900"]);
    }

    #[test]
    fn an_invoice_without_a_session_sells_only_what_is_mapped_explicitly() {
        let mut sold = line(0, 0);
        sold.kind = LineKind::InvoiceItem;
        let invoice = InvoiceSeen { subscription: None, ..paid("in_1", 0, vec![sold]) };
        let given = Given::one_off("in_1").invoice(&invoice);
        assert_eq!((given.units(), given.cases()), (none(), none()));
        let given = given.catalog(json!([{ "price": "price_1", "product": "pro" }]));
        assert_eq!(given.units(), ["0/1 ever charged active"]);
    }

    #[test]
    fn an_invoice_item_beside_a_subscription_sells_once_where_mapped_explicitly() {
        let mut beside = line(0, 0);
        beside.kind = LineKind::InvoiceItem;
        beside.id = "il_beside".into();
        beside.item = None;
        beside.price = Some(price("price_2"));
        let given = Given::subscription().invoice(&paid("in_1", 0, vec![line(0, 31), beside]));
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
        let given = given.catalog(json!([{ "price": "price_2", "product": "extra" }, { "product": "pro" }]));
        assert_eq!(given.units(), ["il_beside/1 ever charged active", "si_1/1 31 charged active"]);
    }

    #[test]
    fn a_metered_item_opens_nothing_unless_its_seats_are_fixed() {
        let mut metered = snapshot(0, SubscriptionStatus::Active, 0, 31);
        metered.items[0].metered = true;
        metered.items[0].quantity = None;
        let given = one_month().snapshot(&metered);
        assert_eq!((given.units(), given.cases()), (none(), none()));
        let given = given.catalog(json!([{ "product": "pro", "seats": 3 }]));
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
    }

    #[test]
    fn what_was_ever_metered_is_metered_unless_its_status_was_unknown() {
        let shown = |on, status: SubscriptionStatus, metered| {
            let mut sight = snapshot(on, status, 0, 31);
            sight.items[0].metered = metered;
            sight
        };
        let given = one_month().snapshot(&shown(0, "zapped".to_owned().into(), true));
        let given = given.snapshot(&shown(2, SubscriptionStatus::Active, false));
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
        assert_eq!(given.snapshot(&shown(1, SubscriptionStatus::Active, true)).units(), none());
        let mut measured = line(0, 31);
        measured.metered = true;
        assert_eq!(Given::subscription().invoice(&paid("in_1", 0, vec![measured])).units(), none());
    }

    #[test]
    fn the_session_that_settled_first_says_what_was_sold() {
        let sight = |id: &str, on, status: &str, product: &str| {
            let mut sight = session(id, on, SessionMode::Payment, status);
            sight.metadata.insert("skm_product_id".to_owned(), product.to_owned());
            sight
        };
        let given = Given::one_off("cs_1").setting(|settings| {
            settings.providers.insert("cryptolens".into());
        });
        let given = given.session(&sight("cs_1", 0, "unpaid", "1")).session(&sight("cs_2", 2, "paid", "2"));
        assert_eq!(given.derive().units[0].mapping.as_ref().unwrap().product, "2");
        let given = given.session(&sight("cs_3", 1, "paid", "3"));
        assert_eq!(given.derive().units[0].mapping.as_ref().unwrap().product, "3");
    }

    #[test]
    fn a_guess_that_the_invoice_takes_back_leaves_its_license_listed_and_nothing_open() {
        let sight =
            SessionSeen { invoice: Some("in_1".into()), ..session("cs_1", 0, SessionMode::Subscription, "paid") };
        let given = Given::subscription().session(&sight).snapshot(&snapshot(0, SubscriptionStatus::Active, 0, 31));
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
        let given = given.issued("si_1", 1, Some(day(31)));
        let mut other = line(0, 31);
        other.item = Some("si_2".into());
        other.price = Some(price("price_2"));
        let given = given.invoice(&paid("in_1", 0, vec![other]));
        let derived = given.derive();
        let guessed = derived.units.iter().find(|unit| unit.item == "si_1").unwrap();
        assert!(!guessed.has_periods, "{guessed:?}");
        assert_eq!(given.cases(), ["no_key issuing 4900"]);
        assert_eq!(derived.cases[0].unit, Some(("si_2".to_owned(), 1)));
        assert_eq!(given.listed(), ["si_1/1 active - 31 31 1 seats"]);
        let given = given.suspended("si_1", 1, SuspendReason::Paused);
        assert_eq!(given.listed(), ["si_1/1 suspended paused 31 31 1 seats"]);
        assert_eq!(given.cases(), ["no_key issuing 4900"]);
    }

    #[test]
    fn the_term_sets_the_end() {
        let perpetual = one_month().catalog(json!([{ "product": "pro", "term": "perpetual" }]));
        assert_eq!(perpetual.units(), ["si_1/1 ever charged active"]);
        let ten_days = one_month().catalog(json!([{ "product": "pro", "term": "P10D" }]));
        assert_eq!(ten_days.units(), ["si_1/1 10 charged active"]);
        let year = Given::one_off("cs_1")
            .session(&session("cs_1", 0, SessionMode::Payment, "paid"))
            .catalog(json!([{ "product": "pro", "term": "P1Y" }]));
        assert_eq!(year.units(), ["0/1 365 charged active"]);
    }

    #[test]
    fn nothing_charged_is_free() {
        let mut gift = line(0, 31);
        gift.amount_minor = 0;
        let given = Given::subscription().invoice(&paid("in_1", 0, vec![gift]));
        assert_eq!(given.cases(), ["free_without_key issuing 0"]);
    }
}

mod money_back {
    use super::*;

    #[test]
    fn a_full_refund_takes_the_period_back_and_a_part_does_not() {
        let given = one_month().charge("in_1", 0).refund("re_1", "in_1", 4899, "succeeded");
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
        let given = given.refund("re_2", "in_1", 1, "pending");
        assert_eq!(given.units(), ["si_1/1 none free revoked"]);
        assert_eq!(given.cases(), none());
        assert_eq!(given.licenses(), ["si_1/1 revoked"]);
    }

    #[test]
    fn a_refund_is_seen_on_the_charge_too_and_is_not_counted_twice() {
        let given = one_month().charge("in_1", 2500).refund("re_1", "in_1", 2500, "succeeded");
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
        assert_eq!(one_month().charge("in_1", 4900).units(), ["si_1/1 none free revoked"]);
    }

    #[test]
    fn a_refund_that_came_to_nothing_gives_nothing_back() {
        let given = one_month().charge("in_1", 4900).refund("re_1", "in_1", 4900, "failed");
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
    }

    #[test]
    fn the_refund_of_a_renewal_takes_that_period_back_alone() {
        let given = one_month().invoice(&paid("in_2", 31, vec![line(31, 59)])).charge("in_2", 4900);
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
    }

    #[test]
    fn what_was_paid_elsewhere_cannot_be_refunded_here() {
        let invoice = InvoiceSeen { amount_paid_minor: 0, ..paid("in_1", 0, vec![line(0, 31)]) };
        let given = Given::subscription().invoice(&invoice).charge("in_1", 4900);
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
    }

    #[test]
    fn an_open_dispute_suspends_a_lost_one_revokes_and_a_won_one_reinstates() {
        let given = one_month().charge("in_1", 0).dispute("dp_1", "in_1", "needs_response");
        assert_eq!(given.units(), ["si_1/1 31 charged suspended"]);
        assert_eq!(given.cases(), ["disputed - 4900"]);
        let given = given.dispute("dp_1", "in_1", "lost");
        assert_eq!(given.units(), ["si_1/1 none free revoked"]);
        assert_eq!(given.cases(), none());
        let given = given.dispute("dp_1", "in_1", "won").dispute("dp_1", "in_1", "needs_response");
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
    }

    #[test]
    fn an_inquiry_only_opens_a_case() {
        let given = one_month().charge("in_1", 0).dispute("dp_1", "in_1", "warning_needs_response");
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
        assert_eq!(given.cases(), ["no_key issuing 4900", "disputed - 4900"]);
    }

    #[test]
    fn a_status_that_nobody_knows_does_not_hide_a_lost_dispute() {
        let given = one_month().charge("in_1", 0).dispute("dp_1", "in_1", "lost").dispute("dp_1", "in_1", "zapped");
        assert_eq!(given.units(), ["si_1/1 none free revoked"]);
    }

    #[test]
    fn policy_may_keep_what_was_refunded_lost_or_disputed() {
        let keep = |given: Given| {
            given.setting(|settings| {
                settings.policy.refund_full = MoneyGone::Keep;
                settings.policy.dispute_lost = MoneyGone::Keep;
                settings.policy.dispute_open = StopOrKeep::Keep;
            })
        };
        assert_eq!(keep(one_month().charge("in_1", 4900)).units(), ["si_1/1 31 charged active"]);
        let lost = one_month().charge("in_1", 0).dispute("dp_1", "in_1", "lost");
        assert_eq!(keep(lost).units(), ["si_1/1 31 charged active"]);
        let open = one_month().charge("in_1", 0).dispute("dp_1", "in_1", "under_review");
        assert_eq!(keep(open).units(), ["si_1/1 31 charged active"]);
    }

    #[test]
    fn a_one_off_sale_is_refunded_as_a_whole() {
        let sight = SessionSeen {
            lines: Some(vec![session_line("price_1", 4000), session_line("price_2", 900)]),
            ..session("cs_1", 0, SessionMode::Payment, "paid")
        };
        let given = Given::one_off("cs_1").session(&sight).charge("cs_1", 4000);
        assert_eq!(given.units(), ["0/1 ever charged active", "1/1 ever charged active"]);
        let given = given.charge("cs_1", 4900);
        assert_eq!(given.units(), ["0/1 none free revoked", "1/1 none free revoked"]);
    }

    #[test]
    fn money_that_was_given_back_waits_for_nothing() {
        let sight =
            SessionSeen { invoice: Some("in_1".into()), ..session("cs_1", 0, SessionMode::Subscription, "paid") };
        let given = Given::subscription().session(&sight).charge("in_1", 4900);
        assert_eq!(given.cases(), none());
    }
}

mod items {
    use super::*;

    #[test]
    fn a_line_without_an_item_belongs_to_the_item_with_its_price() {
        let mut nameless = line(31, 59);
        nameless.item = None;
        let given = Given::subscription().snapshot(&snapshot(0, SubscriptionStatus::Active, 0, 31));
        assert_eq!(given.invoice(&paid("in_2", 31, vec![nameless])).units(), ["si_1/1 59 charged active"]);
    }

    #[test]
    fn an_item_named_by_its_price_first_keeps_that_name() {
        let mut nameless = line(0, 31);
        nameless.item = None;
        let given = Given::subscription().invoice(&paid("in_1", 0, vec![nameless]));
        assert_eq!(given.units(), ["price_1/1 31 charged active"]);
        let given = given.invoice(&paid("in_2", 31, vec![line(31, 59)]));
        assert_eq!(given.units(), ["price_1/1 59 charged active"]);
        let moved = snapshot(40, SubscriptionStatus::Active, 31, 59);
        assert_eq!(given.snapshot(&moved).units(), ["price_1/1 59 charged active"]);
    }

    #[test]
    fn many_lines_of_one_item_are_one_item() {
        let given = Given::subscription().invoice(&paid("in_1", 0, vec![line(0, 31), line(31, 59)]));
        assert_eq!(given.units(), ["si_1/1 59 charged active"]);
    }

    #[test]
    fn a_snapshot_without_money_opens_nothing() {
        let given = Given::subscription().snapshot(&snapshot(0, SubscriptionStatus::Active, 0, 31));
        assert_eq!((given.units(), given.cases()), (none(), none()));
    }
}

mod units {
    use super::*;

    fn licenses_by_quantity(given: Given) -> Given {
        given.catalog(json!([{ "product": "pro", "units": "quantity" }]))
    }

    fn of(quantity: u64, on: i64) -> keyledger_schemas::stripe::fact::SubscriptionSeen {
        let mut sight = snapshot(on, SubscriptionStatus::Active, 0, 31);
        sight.items[0].quantity = Some(quantity);
        sight
    }

    #[test]
    fn quantity_makes_that_many_units_and_fewer_suspends_the_highest() {
        let given = licenses_by_quantity(one_month().snapshot(&of(3, 1)));
        let active = ["si_1/1 31 charged active", "si_1/2 31 charged active", "si_1/3 31 charged active"];
        assert_eq!(given.units(), active);
        let given = given.snapshot(&of(1, 2));
        let fewer = ["si_1/1 31 charged active", "si_1/2 31 charged suspended", "si_1/3 31 charged suspended"];
        assert_eq!(given.units(), fewer);
        assert_eq!(given.cases(), ["no_key issuing 4900"]);
        assert_eq!(given.licenses(), ["si_1/2 suspended", "si_1/3 suspended"]);
    }

    #[test]
    fn more_licenses_than_one_item_gets_are_left_to_a_person() {
        let given = licenses_by_quantity(one_month().snapshot(&of(999_999, 1)));
        assert_eq!(given.units().len(), 1000);
        let cases = given.cases();
        assert_eq!(cases.iter().filter(|case| case.starts_with("mapping_error")).count(), 1, "{cases:?}");
    }

    #[test]
    fn quantity_zero_owes_nothing_and_suspends() {
        let given = one_month().snapshot(&of(0, 1));
        assert_eq!(given.units(), ["si_1/1 31 charged suspended"]);
        assert_eq!(given.cases(), none());
    }

    #[test]
    fn without_a_snapshot_the_latest_paid_line_says_how_many() {
        let mut three = line(31, 59);
        three.quantity = Some(3);
        let given = licenses_by_quantity(one_month().invoice(&paid("in_2", 31, vec![three])));
        assert_eq!(given.units().len(), 3);
        assert!(given.units().iter().all(|unit| unit.ends_with("59 charged active")));
    }

    #[test]
    fn what_nothing_maps_is_open_and_names_the_price() {
        let given = one_month().catalog(json!([{ "price": "price_9", "product": "pro" }]));
        assert_eq!(given.cases(), ["no_key unmapped_price 4900"]);
        assert_eq!(given.derive().cases[0].detail.as_deref(), Some("price_1"));
    }

    #[test]
    fn a_session_whose_lines_nobody_knows_says_so() {
        let given =
            Given::one_off("cs_1").session(&session("cs_1", 0, SessionMode::Payment, "paid")).catalog(json!([]));
        assert_eq!(given.cases(), ["no_key lines_unknown 4900"]);
    }

    #[test]
    fn metadata_that_cannot_be_used_is_a_case_of_its_own() {
        let mut marked = snapshot(0, SubscriptionStatus::Active, 0, 31);
        marked.metadata.insert("skm_product_id".to_owned(), "pro".to_owned());
        let given = one_month().snapshot(&marked).setting(|settings| {
            settings.providers.insert("cryptolens".into());
        });
        assert_eq!(given.cases(), ["no_key unmapped_price 4900", "mapping_error - -"]);
    }

    #[test]
    fn a_mode_that_does_not_issue_is_shown_and_owes_nothing() {
        let given = one_month().setting(|settings| settings.sources.clear());
        assert_eq!(given.units(), ["si_1/1 31 charged active"]);
        assert_eq!(given.cases(), none());
    }

    #[test]
    fn a_license_keeps_its_mapping_until_the_price_changes() {
        let given = one_month().requested("si_1", 1, Action::Create).issued("si_1", 1, Some(day(31)));
        let given = given.catalog(json!([{ "product": "basic" }]));
        assert_eq!(given.derive().units[0].mapping.as_ref().unwrap().product, "pro");
        let mut moved = snapshot(1, SubscriptionStatus::Active, 0, 31);
        moved.items[0].price = Some(price("price_2"));
        let given = given.snapshot(&moved);
        assert_eq!(given.derive().units[0].mapping.as_ref().unwrap().product, "basic");
        assert_eq!(given.mapped_price("si_1").unwrap().as_str(), "price_2");
    }

    #[test]
    fn a_request_that_came_to_nothing_leaves_the_mapping_of_the_license() {
        let given = one_month().requested("si_1", 1, Action::Create).issued("si_1", 1, Some(day(31)));
        let mut moved = snapshot(1, SubscriptionStatus::Active, 0, 31);
        moved.items[0].price = Some(price("price_2"));
        let given =
            given.snapshot(&moved).catalog(json!([{ "product": "basic" }])).requested("si_1", 1, Action::SetTerms);
        let refused = Event::LicenseNotDone(LicenseNotDone {
            unit: given.unit_id("si_1", 1),
            license: given.license_id("si_1", 1),
            attempt: 1,
            action: Action::SetTerms,
            answer: NotDone::Refused,
            reason: "no such product".to_owned(),
            next_attempt_at: None,
            nothing_found: false,
            unconfigured: false,
        });
        let given = given.own("si_1", 1, &refused);
        let back = given.snapshot(&snapshot(2, SubscriptionStatus::Active, 0, 31));
        assert_eq!(back.derive().units[0].mapping.as_ref().unwrap().product, "pro");
    }

    #[test]
    fn beside_a_licensed_unit_one_without_a_license_follows_the_catalog() {
        let given = licenses_by_quantity(one_month().snapshot(&of(2, 1))).requested("si_1", 1, Action::Create);
        let given = given.issued("si_1", 1, Some(day(31))).catalog(json!([{ "product": "basic" }]));
        let products: Vec<String> =
            given.derive().units.iter().map(|unit| unit.mapping.clone().unwrap().product).collect();
        assert_eq!(products, ["pro", "basic"]);
    }

    #[test]
    fn a_unit_without_a_license_is_healed_by_a_mended_catalog() {
        let given = one_month().catalog(json!([]));
        assert_eq!(given.cases(), ["no_key unmapped_price 4900"]);
        let given = given.catalog(json!([{ "product": "pro" }]));
        assert_eq!(given.cases(), ["no_key issuing 4900"]);
    }
}

mod standing {
    use super::*;

    #[test]
    fn paused_and_unpaid_suspend_and_past_due_does_not() {
        let standing = |status| one_month().snapshot(&snapshot(1, status, 0, 31)).units().remove(0);
        assert_eq!(standing(SubscriptionStatus::Paused), "si_1/1 31 charged suspended");
        assert_eq!(standing(SubscriptionStatus::Unpaid), "si_1/1 31 charged suspended");
        assert_eq!(standing(SubscriptionStatus::PastDue), "si_1/1 31 charged active");
        assert_eq!(standing(SubscriptionStatus::Canceled), "si_1/1 31 charged active");
    }

    #[test]
    fn policy_may_keep_what_is_paused_or_unpaid() {
        let keep = |status| {
            let given = one_month().snapshot(&snapshot(1, status, 0, 31)).setting(|settings| {
                settings.policy.paused = StopOrKeep::Keep;
                settings.policy.unpaid = StopOrKeep::Keep;
            });
            given.units().remove(0)
        };
        assert_eq!(keep(SubscriptionStatus::Paused), "si_1/1 31 charged active");
        assert_eq!(keep(SubscriptionStatus::Unpaid), "si_1/1 31 charged active");
    }

    #[test]
    fn an_invoice_paid_later_overrides_unpaid_and_not_paused() {
        let later = || paid("in_2", 40, vec![line(31, 59)]);
        let given = one_month().snapshot(&snapshot(35, SubscriptionStatus::Unpaid, 31, 59)).invoice(&later());
        assert_eq!(given.units(), ["si_1/1 59 charged active"]);
        let given = one_month().snapshot(&snapshot(35, SubscriptionStatus::Paused, 31, 59)).invoice(&later());
        assert_eq!(given.units(), ["si_1/1 59 charged suspended"]);
    }

    #[test]
    fn a_unit_that_stands_still_is_listed_so_and_is_not_open() {
        let given = one_month().snapshot(&snapshot(1, SubscriptionStatus::Paused, 0, 31));
        assert_eq!(given.cases(), none());
        assert_eq!(given.licenses(), ["si_1/1 suspended"]);
    }

    #[test]
    fn an_unknown_status_is_skipped_and_said() {
        let active = snapshot(1, SubscriptionStatus::Active, 0, 31);
        let given = one_month().snapshot(&active).snapshot(&snapshot(2, "zapped".to_owned().into(), 0, 31));
        assert_eq!(given.cases(), ["no_key issuing 4900", "unknown_status - -"]);
        let given = given.snapshot(&snapshot(3, SubscriptionStatus::Active, 0, 31));
        assert_eq!(given.cases(), ["no_key issuing 4900"]);
    }

    #[test]
    fn what_a_person_revoked_stays_revoked() {
        let given = one_month().issued("si_1", 1, Some(day(31)));
        let revoke =
            Event::RevokeRequested(RevokeRequested { unit: given.unit_id("si_1", 1), reason: "fraud".to_owned() });
        let given = given.own("si_1", 1, &revoke).invoice(&paid("in_2", 31, vec![line(31, 59)]));
        assert_eq!(given.units(), ["si_1/1 59 charged revoked"]);
        assert_eq!(given.cases(), none());
    }
}

mod met {
    use super::*;

    fn licensed() -> Given {
        one_month().issued("si_1", 1, Some(day(31)))
    }

    #[test]
    fn a_license_that_reaches_what_is_paid_meets() {
        assert_eq!(licensed().cases(), none());
        assert_eq!(licensed().licenses(), ["si_1/1 active"]);
        let beyond = one_month().issued("si_1", 1, None);
        assert_eq!(beyond.cases(), none());
    }

    #[test]
    fn a_renewal_that_the_license_does_not_show_is_open() {
        let given = licensed().invoice(&paid("in_2", 31, vec![line(31, 59)]));
        assert_eq!(given.cases(), ["not_extended issuing 4900"]);
        let extended = Event::LicenseExtended(LicenseExtended {
            unit: given.unit_id("si_1", 1),
            license: given.license_id("si_1", 1),
            paid_until: Some(day(59)),
            expires_at: Some(day(62)),
        });
        assert_eq!(given.own("si_1", 1, &extended).cases(), none());
    }

    fn suspended(given: Given, reason: SuspendReason) -> Given {
        let event = Event::LicenseSuspended(LicenseSuspended {
            unit: given.unit_id("si_1", 1),
            license: given.license_id("si_1", 1),
            reason,
        });
        given.own("si_1", 1, &event)
    }

    #[test]
    fn a_license_wrongly_suspended_or_revoked_is_open() {
        assert_eq!(suspended(licensed(), SuspendReason::Paused).cases(), ["not_extended issuing 4900"]);
        let given = licensed();
        let revoked = Event::LicenseRevoked(LicenseRevoked {
            unit: given.unit_id("si_1", 1),
            license: given.license_id("si_1", 1),
            reason: RevokeReason::MoneyGone,
        });
        let given = given.own("si_1", 1, &revoked);
        assert_eq!(given.cases(), ["not_extended issuing 4900"]);
        assert_eq!(given.licenses(), ["si_1/1 revoked"]);
    }

    #[test]
    fn a_license_that_lapsed_is_not_wrongly_suspended_until_it_is_paid_again() {
        let given = suspended(licensed(), SuspendReason::Lapsed);
        assert_eq!(given.cases(), none());
        assert_eq!(given.licenses(), ["si_1/1 active"]);
        let extended = Event::LicenseExtended(LicenseExtended {
            unit: given.unit_id("si_1", 1),
            license: given.license_id("si_1", 1),
            paid_until: Some(day(59)),
            expires_at: Some(day(62)),
        });
        assert_eq!(given.own("si_1", 1, &extended).cases(), ["not_extended issuing 4900"]);
    }

    #[test]
    fn a_waiver_closes_what_is_paid_so_far() {
        let waive = |given: Given, through| {
            let unit = given.unit_id("si_1", 1);
            given.own(
                "si_1",
                1,
                &Event::ObligationWaived(ObligationWaived { unit, through, reason: "gift".to_owned() }),
            )
        };
        let given = waive(one_month(), Some(day(31)));
        assert_eq!(given.cases(), ["no_key issuing 4900 waived"]);
        let given = given.invoice(&paid("in_2", 31, vec![line(31, 59)]));
        assert_eq!(given.cases(), ["no_key issuing 4900"]);
        assert_eq!(waive(given, None).cases(), ["no_key issuing 4900 waived"]);
    }

    #[test]
    fn the_providers_last_answer_is_the_cause_until_it_is_asked_again() {
        let not_done = |answer| {
            let given = one_month();
            let event = Event::LicenseNotDone(LicenseNotDone {
                unit: given.unit_id("si_1", 1),
                license: given.license_id("si_1", 1),
                attempt: 2,
                action: Action::Create,
                answer,
                reason: "no such product".to_owned(),
                next_attempt_at: None,
                nothing_found: false,
                unconfigured: false,
            });
            given.own("si_1", 1, &event)
        };
        assert_eq!(not_done(NotDone::Refused).cases(), ["no_key provider_refused 4900"]);
        assert_eq!(not_done(NotDone::Unavailable).cases(), ["no_key provider_unavailable 4900"]);
        assert_eq!(not_done(NotDone::Indeterminate).cases(), ["no_key indeterminate 4900"]);
        let refused = not_done(NotDone::Refused);
        assert_eq!(refused.derive().cases[0].attempts, 2);
        let retry = Event::RetryRequested(RetryRequested { unit: refused.unit_id("si_1", 1) });
        assert_eq!(refused.own("si_1", 1, &retry).cases(), ["no_key issuing 4900"]);
        // A lost answer may still come to light: it stays in doubt, and is asked about when that is over.
        let case = not_done(NotDone::Indeterminate).own("si_1", 1, &retry).derive().cases.remove(0);
        assert_eq!((case.cause, case.awaits_issuer), (Some("indeterminate"), false));
        assert!(case.next_attempt_at.is_some());
    }
}

mod left_by_other_systems {
    use super::*;

    fn marked(pairs: &[(&str, &str)]) -> Given {
        let mut sight = snapshot(0, SubscriptionStatus::Active, 0, 31);
        sight.metadata = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        one_month().snapshot(&sight)
    }

    #[test]
    fn the_mark_names_the_cause_and_blocks_nothing() {
        let given = marked(&[("skm_temp_var", "x")]);
        assert_eq!(given.cases(), ["no_key left_by_other_system 4900"]);
        assert!(given.derive().cases[0].awaits_issuer);
    }

    #[test]
    fn by_policy_the_mark_holds() {
        let given = marked(&[("skm_temp_var", "x")]);
        let given = given.setting(|settings| settings.policy.left_by_other_system = LeftPolicy::Case);
        assert_eq!(given.cases(), ["no_key left_by_other_system 4900"]);
        assert!(!given.derive().cases[0].awaits_issuer);
    }

    #[test]
    fn a_license_that_the_metadata_names_meets_the_first_unit() {
        assert_eq!(marked(&[("skm_key_id", "88121"), ("skm_temp_var", "x")]).cases(), none());
        assert_eq!(marked(&[("skm_key_globalid", "8")]).cases(), none());
        assert_eq!(marked(&[("skm_key_id", " ")]).cases(), ["no_key issuing 4900"]);
    }

    #[test]
    fn beside_a_license_of_ours_it_is_one_too_many() {
        let given = marked(&[("skm_key_id", "88121")]).issued("si_1", 1, Some(day(31)));
        assert_eq!(given.cases(), ["surplus_key - -"]);
        let own = marked(&[("skm_key_id", "lic-si_1-1")]).issued("si_1", 1, Some(day(31)));
        assert_eq!(own.cases(), none());
    }

    #[test]
    fn an_adopted_license_means_a_plain_one_where_nothing_is_mapped() {
        let given = marked(&[("skm_key_id", "88121")]).catalog(json!([]));
        let adopted = Event::LicenseAdopted(LicenseAdopted {
            unit: given.unit_id("si_1", 1),
            generation: 1,
            license: given.license_id("si_1", 1),
            provider: "cryptolens".into(),
            provider_id: "88121".to_owned(),
            terms: LicenseTerms { paid_until: Some(day(31)), expires_at: None, seats: 1, features: [].into() },
            named_by: "skm_key_id".to_owned(),
            mapping: None,
            product: None,
            key: None,
            also: [].into(),
        });
        let given = given.own("si_1", 1, &adopted);
        assert_eq!((given.cases(), given.licenses()), (none(), vec!["si_1/1 active".to_owned()]));
        assert!(given.derive().units[0].mapping.is_some());
    }

    #[test]
    fn a_surplus_that_the_issuer_found_is_the_same_case() {
        let given = marked(&[("skm_key_id", "88121")]).issued("si_1", 1, Some(day(31)));
        let found = Event::LicenseSurplusFound(LicenseSurplusFound {
            unit: given.unit_id("si_1", 1),
            provider: "cryptolens".into(),
            provider_id: "88121".to_owned(),
            reason: "named by metadata".to_owned(),
        });
        assert_eq!(given.own("si_1", 1, &found).cases(), ["surplus_key - -"]);
    }
}

/// What is listed of a license that does not work is what the facts give, whether or not it was made first.
mod listed {
    use super::*;

    /// Two seats, made when only one was paid for, for less time.
    fn made() -> Given {
        two_seats().issued("si_1", 1, Some(day(10)))
    }

    fn two_seats() -> Given {
        let mut sight = snapshot(0, SubscriptionStatus::Active, 0, 31);
        sight.items[0].quantity = Some(2);
        one_month().snapshot(&sight).catalog(json!([{ "product": "pro", "seats": "quantity", "grace": "P3D" }]))
    }

    #[test]
    fn revoked_for_want_of_money_shows_seats_and_no_dates() {
        let gone = |given: Given| given.charge("in_1", 4900);
        let expected = ["si_1/1 revoked money_gone - - 2 seats"];
        assert_eq!(gone(two_seats()).listed(), expected);
        assert_eq!(gone(made()).revoked("si_1", 1, RevokeReason::MoneyGone).listed(), expected);
        assert_eq!(gone(made()).listed(), ["si_1/1 active - 10 10 1 seats"], "until the engine has confirmed it");
    }

    #[test]
    fn revoked_by_a_person_shows_seats_and_no_dates() {
        let unit = made().unit_id("si_1", 1);
        let revoke = Event::RevokeRequested(RevokeRequested { unit, reason: "fraud".to_owned() });
        let expected = ["si_1/1 revoked operator - - 2 seats"];
        assert_eq!(two_seats().own("si_1", 1, &revoke).listed(), expected);
        let made = made().own("si_1", 1, &revoke).revoked("si_1", 1, RevokeReason::Operator);
        assert_eq!(made.listed(), expected);
    }

    #[test]
    fn suspended_shows_what_is_paid() {
        let disputed = |given: Given| given.charge("in_1", 0).dispute("dp_1", "in_1", "needs_response");
        let expected = ["si_1/1 suspended disputed 31 34 2 seats"];
        assert_eq!(disputed(two_seats()).listed(), expected);
        // Whatever it was first suspended by.
        assert_eq!(disputed(made()).suspended("si_1", 1, SuspendReason::Paused).listed(), expected);
    }

    #[test]
    fn a_unit_that_is_bought_no_more_shows_what_the_others_show() {
        let many = |given: Given, quantity: i64| {
            let mut sight = snapshot(3 - quantity, SubscriptionStatus::Active, 0, 31);
            sight.items[0].quantity = Some(quantity.unsigned_abs());
            given.snapshot(&sight).catalog(json!([{ "product": "pro", "units": "quantity", "grace": "P3D" }]))
        };
        let never = many(many(one_month(), 2), 1);
        let expected = "si_1/2 suspended quantity_reduced 31 34 1 seats";
        assert_eq!(never.listed(), [expected]);
        let made = many(many(one_month(), 2).issued("si_1", 2, Some(day(10))), 1);
        assert_eq!(made.suspended("si_1", 2, SuspendReason::QuantityReduced).listed(), [expected]);
    }

    #[test]
    fn suspended_for_ever_stays_for_ever() {
        let sold = Given::one_off("cs_1").session(&session("cs_1", 0, SessionMode::Payment, "paid"));
        let disputed = |given: Given| given.charge("cs_1", 0).dispute("dp_1", "cs_1", "needs_response");
        let expected = ["0/1 suspended disputed - - 1 seats for ever"];
        assert_eq!(
            disputed(Given::one_off("cs_1").session(&session("cs_1", 0, SessionMode::Payment, "paid"))).listed(),
            expected
        );
        let made = disputed(sold.issued("0", 1, None)).suspended("0", 1, SuspendReason::Disputed);
        assert_eq!(made.listed(), expected);
    }

    #[test]
    fn the_end_of_a_subscription_is_that_of_what_it_paid_for() {
        let paused = |change: fn(&mut keyledger_schemas::stripe::fact::SubscriptionSeen)| {
            let mut sight = snapshot(20, SubscriptionStatus::Paused, 0, 31);
            change(&mut sight);
            one_month().snapshot(&sight).listed().remove(0)
        };
        assert_eq!(paused(|_| ()), "si_1/1 suspended paused 31 34 1 seats");
        assert_eq!(paused(|sight| sight.cancel_at_period_end = true), "si_1/1 suspended paused 31 31 1 seats");
        assert_eq!(paused(|sight| sight.cancel_at = Some(day(31))), "si_1/1 suspended paused 31 31 1 seats");
        assert_eq!(paused(|sight| sight.cancel_at = Some(day(40))), "si_1/1 suspended paused 31 34 1 seats");
        let ended = |on| {
            let mut sight = snapshot(on, SubscriptionStatus::Canceled, 0, 31);
            sight.ended_at = Some(day(on));
            sight.items[0].quantity = Some(0);
            one_month().snapshot(&sight).listed().remove(0)
        };
        assert_eq!(ended(20), "si_1/1 suspended quantity_reduced 31 20 1 seats");
        assert_eq!(ended(40), "si_1/1 suspended quantity_reduced 31 34 1 seats");
    }

    #[test]
    fn a_revoked_license_whose_money_came_back_may_be_suspended() {
        let given = two_seats().requested("si_1", 1, Action::Create).issued("si_1", 1, Some(day(31)));
        let lost = given.charge("in_1", 0).dispute("dp_1", "in_1", "lost").revoked("si_1", 1, RevokeReason::MoneyGone);
        let won = lost.dispute("dp_1", "in_1", "won").dispute("dp_2", "in_1", "needs_response");
        assert_eq!(won.listed(), ["si_1/1 revoked money_gone 31 31 1 seats"]);
        let given = won.suspended("si_1", 1, SuspendReason::Disputed);
        assert_eq!(given.listed(), ["si_1/1 suspended disputed 31 34 2 seats"]);
        assert_eq!(given.cases(), ["disputed - 4900"]);
        let settled = given.dispute("dp_2", "in_1", "won");
        assert_eq!(settled.cases(), ["not_extended issuing 4900"]);
    }
}
