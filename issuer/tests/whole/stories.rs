//! Stripe's fixture stories through the whole issuer, on a log in memory.

use crate::support::{Bench, VERSIONS, default_entry, story};
use keyledger_issuer::purchase::state::{License, Standing};
use keyledger_schemas::event::RevokeReason;
use keyledger_schemas::settings::{LeftPolicy, Policy};

async fn licenses(bench: &Bench) -> Vec<License> {
    let purchases = bench.purchases().await;
    let units = purchases.values().flat_map(|purchase| purchase.units.values().flat_map(|units| units.values()));
    units.flat_map(|unit| unit.licenses.values().cloned()).collect()
}

fn day(license: &License) -> (Option<String>, Option<String>) {
    let day = |at: jiff::Timestamp| at.strftime("%F").to_string();
    (license.terms.paid_until.map(day), license.terms.expires_at.map(day))
}

#[tokio::test]
async fn a_subscription_gets_one_license_that_lives_until_it_was_canceled() {
    for version in VERSIONS {
        let mut bench = Bench::new().await;
        bench.feed(&story("a", version)).await;
        let licenses = licenses(&bench).await;
        assert_eq!(licenses.len(), 1, "{version}: {licenses:#?}");
        assert_eq!(day(&licenses[0]), (Some("2026-10-30".to_owned()), Some("2026-10-30".to_owned())), "{version}");
        assert_eq!(bench.open().await, []);
    }
}

#[tokio::test]
async fn a_one_off_sale_gets_a_license_for_good() {
    for version in VERSIONS {
        let mut bench = Bench::new().await;
        bench.feed(&story("b", version)).await;
        let licenses = licenses(&bench).await;
        assert_eq!(licenses.len(), 1);
        assert_eq!((licenses[0].terms.expires_at, licenses[0].terms.seats), (None, 1));
    }
}

#[tokio::test]
async fn seats_follow_the_subscription_and_proration_never_moves_the_expiry() {
    for version in VERSIONS {
        let mut bench = Bench::new().await;
        bench.feed(&story("d", version)).await;
        let licenses = licenses(&bench).await;
        assert_eq!(licenses.len(), 1, "{licenses:#?}");
        assert_eq!(licenses[0].terms.seats, 3);
        assert_eq!(day(&licenses[0]).0.as_deref(), Some("2026-10-03"));
    }
}

#[tokio::test]
async fn money_that_went_back_revokes() {
    for (key, version) in ["e", "f"].into_iter().flat_map(|key| VERSIONS.map(|version| (key, version))) {
        let mut bench = Bench::new().await;
        // One event at a time, so that the license is made before its money goes.
        for body in story(key, version) {
            bench.feed(&[body]).await;
        }
        let licenses = licenses(&bench).await;
        assert_eq!(licenses.len(), 1, "{key} {version}");
        assert_eq!(licenses[0].standing, Standing::Revoked(RevokeReason::MoneyGone), "{key} {version}");
        assert_eq!(bench.open().await, []);
    }
}

#[tokio::test]
async fn a_partial_refund_changes_nothing() {
    let mut bench = Bench::new().await;
    bench.feed(&story("e2", VERSIONS[1])).await;
    assert_eq!(licenses(&bench).await[0].standing, Standing::Active);
}

#[tokio::test]
async fn what_another_system_left_waits_for_a_person_where_the_policy_says_so() {
    for version in VERSIONS {
        let policy = Policy { left_by_other_system: LeftPolicy::Case, ..Policy::default() };
        let mut bench = Bench::with(policy, vec![default_entry()]).await;
        bench.feed(&story("g", version)).await;
        assert_eq!(licenses(&bench).await.len(), 2);
        assert_eq!(bench.open().await.len(), 1);
    }
}

#[tokio::test]
async fn unpaid_invoices_and_sessions_get_nothing() {
    for (key, count) in [("h", 1), ("i", 1), ("k", 0), ("l", 0), ("c", 1), ("j", 1), ("m", 1)] {
        for version in VERSIONS {
            let mut bench = Bench::new().await;
            bench.feed(&story(key, version)).await;
            let licenses = licenses(&bench).await;
            assert_eq!(licenses.len(), count, "{key} {version}: {licenses:#?}");
            assert_eq!(bench.open().await, [], "{key} {version}");
        }
    }
}

#[tokio::test]
async fn a_pause_suspends_and_a_payment_for_four_seats_gives_four() {
    let mut bench = Bench::new().await;
    let bodies = story("j", VERSIONS[1]);
    bench.feed(&bodies[..3]).await;
    bench.feed(&bodies[3..6]).await;
    assert!(matches!(licenses(&bench).await[0].standing, Standing::Suspended(_)));
    bench.feed(&bodies[6..15]).await;
    let license = &licenses(&bench).await[0];
    assert_eq!((license.standing, license.terms.seats), (Standing::Active, 1));
    bench.feed(&bodies[15..]).await;
    assert_eq!(licenses(&bench).await[0].terms.seats, 4);
}

#[tokio::test]
async fn state_can_be_rebuilt_from_the_log_and_issues_nothing_twice() {
    let mut bench = Bench::new().await;
    for key in ["a", "b", "c", "d", "e", "f", "g", "j", "m"] {
        bench.feed(&story(key, VERSIONS[1])).await;
    }
    let (before, kinds) = (bench.purchases().await, bench.own_kinds().await);
    let events = bench.log.read_after(0, 100_000).await.unwrap();
    let mut again = Bench::new().await;
    let copy = events.into_iter().skip(1).map(|event| keyledger_schemas::envelope::NewEvent {
        id: event.id,
        kind: event.kind,
        scope: event.scope,
        stream: event.stream,
        occurred_at: event.occurred_at,
        causation_id: event.causation_id,
        correlation_id: event.correlation_id,
        schema_version: event.schema_version,
        actor: event.actor,
        partition: event.partition,
        delivery: event.delivery,
        data: event.data,
        on_reuse: keyledger_schemas::envelope::IdReuse::Refused,
    });
    again.log.append(keyledger_eventlog::log::Append::events(copy.collect())).await.unwrap();
    again.issuer.run_until_idle().await.unwrap();
    assert_eq!(again.own_kinds().await, kinds);
    assert_eq!(again.purchases().await, before);
}

#[tokio::test]
async fn a_license_lapses_when_its_time_comes_and_a_late_payment_extends_it() {
    let mut bench = Bench::new().await;
    let bodies = story("a", VERSIONS[1]);
    bench.clock.set("2026-08-01T00:00:00Z".parse().unwrap());
    bench.feed(&bodies[..12]).await;
    assert_eq!(licenses(&bench).await[0].lapsed_at, None);
    bench.clock.set("2026-09-10T00:00:00Z".parse().unwrap());
    bench.feed(&[]).await;
    let lapsed = licenses(&bench).await[0].clone();
    assert_eq!((lapsed.lapsed_at, lapsed.standing), (lapsed.terms.expires_at, Standing::Active));
    bench.restart().await;
    bench.feed(&bodies[12..20]).await;
    let extended = &licenses(&bench).await[0];
    assert_eq!(day(extended), (Some("2026-09-30".to_owned()), Some("2026-10-03".to_owned())));
    assert_ne!(extended.lapsed_at, extended.terms.expires_at);
}
