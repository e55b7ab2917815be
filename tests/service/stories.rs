//! Every fixture story over HTTP in both API versions, and what the API says at the turns of each story.

use keyledger_schemas::event::Event;
use serde_json::Value;

use crate::deployment::Deployment;
use crate::support::client::Caller;
use crate::support::setup::{SELL_EVERYTHING, Setup};
use crate::support::stories::{Story, VERSIONS, story};

/// A story being told to one source of a running service.
struct Tale<'a> {
    caller: &'a Caller,
    source: &'a str,
    version: &'a str,
    story: &'a Story,
}

impl Tale<'_> {
    /// Posts the steps `first` to `last` and waits until nothing is left to do.
    async fn tell(&self, first: u64, last: u64) {
        self.caller.post_all(self.source, &self.story.between(self.version, first, last)).await;
        self.caller.caught_up().await;
    }

    async fn tell_all(&self) {
        self.tell(1, u64::MAX).await;
    }

    async fn licenses(&self, at: &str) -> Vec<Value> {
        self.caller.list(&format!("/licenses?source={}&at={at}", self.source)).await
    }

    /// The one license there is, as of `at`.
    async fn license(&self, at: &str) -> Value {
        let mut licenses = self.licenses(at).await;
        assert_eq!(licenses.len(), 1, "{} in {}: {licenses:#?}", self.story.key, self.version);
        licenses.remove(0)
    }

    /// The state of the one license at each time.
    async fn is_at(&self, expected: &[(&str, &str)]) {
        for (at, state) in expected {
            let license = self.license(at).await;
            assert_eq!(license["state"], *state, "{} in {} at {at}: {license:#}", self.story.key, self.version);
        }
    }

    async fn status_of(&self, subscription: &str) -> Value {
        self.caller.get(&format!("/subscriptions/{subscription}?source={}", self.source)).await["status"].clone()
    }

    async fn open_cases(&self, kind: &str) -> Vec<Value> {
        self.caller.list(&format!("/cases?source={}&kind={kind}&status=open", self.source)).await
    }

    /// Nobody waits for a key, and no key is short.
    async fn nothing_is_owed(&self) {
        for kind in ["no_key", "not_extended", "free_without_key"] {
            let open = self.open_cases(kind).await;
            assert_eq!(open, Vec::<Value>::new(), "{} in {}", self.story.key, self.version);
        }
    }

    /// How often an event of ours stands in the log.
    async fn count(&self, kind: &str) -> usize {
        assert!(Event::KINDS.contains(&kind), "there is no event `{kind}`");
        self.caller.list(&format!("/events?source={}&type={kind}", self.source)).await.len()
    }
}

/// Tells the story `key` once in each version, each to a source of its own, and ends with the audit.
async fn in_both_versions(key: &str, settings: &str, test: impl AsyncFn(Tale<'_>)) {
    let sources = ["old", "new"];
    let setup = Setup { sources: sources.map(str::to_owned).to_vec(), settings: settings.to_owned() };
    let deployment = Deployment::new(&setup);
    let service = deployment.up().await;
    let story = story(key);
    for (source, version) in sources.into_iter().zip(VERSIONS) {
        test(Tale { caller: &service, source, version, story: &story }).await;
    }
    deployment.finish(service).await;
}

#[tokio::test]
async fn a_subscription_is_renewed_fails_recovers_and_ends_with_one_key() {
    const SUBSCRIPTION: &str = "sub_1w95DJB7WZ01zgkWKk3BnmFz";
    in_both_versions("a", SELL_EVERYTHING, async |tale: Tale<'_>| {
        tale.tell(1, 11).await;
        // An id that was written into the metadata comes too late to be adopted.
        tale.tell(12, 12).await;
        tale.is_at(&[
            ("2026-08-30T09:15:41Z", "active"),
            ("2026-08-30T09:15:42Z", "grace"),
            ("2026-09-02T09:15:41Z", "grace"),
            ("2026-09-02T09:15:42Z", "expired"),
        ])
        .await;
        tale.tell(13, 20).await;
        tale.is_at(&[("2026-09-30T09:15:41Z", "active"), ("2026-10-01T09:15:42Z", "grace")]).await;
        // The renewal fails: nothing changes before paid-until and grace are over.
        tale.tell(21, 27).await;
        assert_eq!(tale.status_of(SUBSCRIPTION).await, "past_due");
        tale.is_at(&[("2026-10-01T09:15:42Z", "grace"), ("2026-10-03T09:15:43Z", "expired")]).await;
        // It recovers: active through the whole month, as if paid on time.
        tale.tell(28, 34).await;
        tale.is_at(&[("2026-10-03T09:15:43Z", "active"), ("2026-10-31T09:15:42Z", "grace")]).await;
        // It is to end with its period: no grace then.
        tale.tell(35, 35).await;
        tale.is_at(&[("2026-10-30T09:15:41Z", "active"), ("2026-10-30T09:15:42Z", "expired")]).await;
        tale.tell(36, 37).await;
        assert_eq!(tale.status_of(SUBSCRIPTION).await, "canceled");
        tale.is_at(&[("2026-10-30T09:15:41Z", "active"), ("2026-10-30T09:15:42Z", "expired")]).await;
        assert_eq!(tale.count("license.issued").await, 1);
        tale.nothing_is_owed().await;
    })
    .await;
}

#[tokio::test]
async fn a_one_off_sale_gives_one_key_for_good() {
    const SESSION: &str = "cs_live_a147SkU9Cfhf0DFc2ygQZQTmHNk1NQOzz5dU74npzhhnCABp5iuhv6ZnTr";
    in_both_versions("b", SELL_EVERYTHING, async |tale: Tale<'_>| {
        tale.tell_all().await;
        let path = format!("/licenses?source={}&session={SESSION}&at=2066-01-01T00:00:00Z", tale.source);
        let licenses = tale.caller.list(&path).await;
        assert_eq!(licenses.len(), 1);
        assert_eq!(licenses[0]["state"], "active");
        assert_eq!((&licenses[0]["perpetual"], &licenses[0]["expires_at"]), (&Value::Bool(true), &Value::Null));
        tale.nothing_is_owed().await;
    })
    .await;
}

#[tokio::test]
async fn a_key_is_masked_until_it_is_revealed_and_that_is_in_the_log() {
    in_both_versions("b", SELL_EVERYTHING, async |tale: Tale<'_>| {
        tale.tell_all().await;
        let license = tale.license("2026-12-01T00:00:00Z").await;
        let masked = license["key"].as_str().unwrap();
        let path = format!("/licenses/{}?source={}&reveal=true", license["id"].as_str().unwrap(), tale.source);
        let revealed = tale.caller.get(&path).await;
        let key = revealed["key"].as_str().unwrap();
        assert!(masked.contains('…') && !key.contains('…'), "{masked}");
        assert!(key.ends_with(masked.rsplit('-').next().unwrap()));
        assert_eq!(tale.count("operator.key_revealed").await, 1);
        tale.caller.caught_up().await;
    })
    .await;
}

#[tokio::test]
async fn a_trial_gets_a_key_and_the_first_payment_extends_it() {
    in_both_versions("c", SELL_EVERYTHING, async |tale: Tale<'_>| {
        tale.tell(1, 8).await;
        let license = tale.license("2026-08-14T00:00:00Z").await;
        assert_eq!((&license["state"], &license["paid_until"]), (&"active".into(), &"2026-08-15T08:00:00Z".into()));
        tale.nothing_is_owed().await;
        tale.tell(9, 16).await;
        let license = tale.license("2026-09-15T07:59:59Z").await;
        assert_eq!((&license["state"], &license["paid_until"]), (&"active".into(), &"2026-09-15T08:00:00Z".into()));
        assert_eq!(tale.count("license.issued").await, 1);
        tale.nothing_is_owed().await;
    })
    .await;
}

#[tokio::test]
async fn seats_go_up_and_down_and_proration_never_moves_the_expiry() {
    in_both_versions("d", SELL_EVERYTHING, async |tale: Tale<'_>| {
        let turns = [
            (1, 11, 1, "2026-09-03T10:00:00Z"),
            (12, 19, 5, "2026-09-03T10:00:00Z"),
            (20, 20, 3, "2026-09-03T10:00:00Z"),
            (21, 28, 3, "2026-10-03T10:00:00Z"),
        ];
        for (first, last, seats, paid_until) in turns {
            tale.tell(first, last).await;
            let license = tale.license("2026-08-20T00:00:00Z").await;
            assert_eq!((&license["seats"], &license["paid_until"]), (&seats.into(), &paid_until.into()), "step {last}");
            assert_eq!((&license["provider"], &license["provider_id"]), (&"cryptolens".into(), &"29502".into()));
        }
        tale.nothing_is_owed().await;
    })
    .await;
}

#[tokio::test]
async fn a_full_refund_revokes() {
    in_both_versions("e", SELL_EVERYTHING, async |tale: Tale<'_>| {
        tale.tell(1, 10).await;
        tale.is_at(&[("2026-08-20T00:00:00Z", "active")]).await;
        tale.tell(11, 15).await;
        tale.is_at(&[("2026-08-20T00:00:00Z", "revoked")]).await;
        assert_eq!(tale.count("license.revoked").await, 1);
        tale.nothing_is_owed().await;
    })
    .await;
}

#[tokio::test]
async fn a_partial_refund_changes_nothing() {
    in_both_versions("e2", SELL_EVERYTHING, async |tale: Tale<'_>| {
        tale.tell_all().await;
        tale.is_at(&[("2026-09-05T00:00:00Z", "active"), ("2026-09-06T17:00:00Z", "grace")]).await;
        tale.nothing_is_owed().await;
    })
    .await;
}

#[tokio::test]
async fn an_open_dispute_suspends_and_a_lost_one_revokes() {
    in_both_versions("f", SELL_EVERYTHING, async |tale: Tale<'_>| {
        tale.tell(1, 10).await;
        tale.is_at(&[("2026-08-20T00:00:00Z", "active")]).await;
        tale.tell(11, 13).await;
        tale.is_at(&[("2026-08-20T00:00:00Z", "suspended")]).await;
        assert_eq!(tale.open_cases("disputed").await.len(), 1);
        tale.tell(14, 14).await;
        tale.is_at(&[("2026-08-20T00:00:00Z", "suspended")]).await;
        tale.tell(15, 16).await;
        tale.is_at(&[("2026-08-20T00:00:00Z", "revoked")]).await;
        tale.nothing_is_owed().await;
    })
    .await;
}

#[tokio::test]
async fn what_another_system_left_gets_a_key_by_default() {
    in_both_versions("g", SELL_EVERYTHING, async |tale: Tale<'_>| {
        tale.tell_all().await;
        assert_eq!(tale.licenses("2026-08-20T00:00:00Z").await.len(), 3);
        tale.nothing_is_owed().await;
    })
    .await;
}

#[tokio::test]
async fn what_another_system_left_is_one_case_where_the_policy_says_so() {
    let settings = format!("{SELL_EVERYTHING}[policy]\nleft_by_other_system = \"case\"\n");
    in_both_versions("g", &settings, async |tale: Tale<'_>| {
        tale.tell_all().await;
        let open = tale.open_cases("no_key").await;
        assert_eq!(open.len(), 1, "{open:#?}");
        let case = &open[0];
        assert_eq!(case["cause"], "left_by_other_system");
        assert_eq!(case["purchase"]["stripe_id"], "sub_1PeHPFB7WZ01zgkW2CJpD0Cc");
        assert_eq!(case["customer"], "cus_i0qtr3bISTScAa");
        assert_eq!(case["amount"], serde_json::json!({"amount_minor": 2000, "currency": "usd"}));
        let ids: Vec<_> =
            tale.licenses("2026-08-20T00:00:00Z").await.iter().map(|row| row["provider_id"].clone()).collect();
        assert_eq!(ids.len(), 2);
        assert!(ids.contains(&"30117".into()) && ids.contains(&"30240".into()), "{ids:?}");
    })
    .await;
}

#[tokio::test]
async fn a_first_payment_that_needs_a_second_look_gets_its_key_once_it_is_made() {
    in_both_versions("h", SELL_EVERYTHING, async |tale: Tale<'_>| {
        tale.tell(1, 6).await;
        assert_eq!(tale.licenses("2026-08-20T00:00:00Z").await, Vec::<Value>::new());
        tale.tell(7, 20).await;
        tale.is_at(&[("2026-09-12T07:59:59Z", "active"), ("2026-09-12T12:00:00Z", "grace")]).await;
        assert_eq!(tale.status_of("sub_1cUZc0B7WZ01zgkWEO3ZxkU4").await, "incomplete_expired");
        tale.nothing_is_owed().await;
    })
    .await;
}

#[tokio::test]
async fn a_bank_debit_gets_its_key_when_the_money_arrives() {
    in_both_versions("i", SELL_EVERYTHING, async |tale: Tale<'_>| {
        tale.tell(1, 5).await;
        assert_eq!(tale.licenses("2026-08-20T00:00:00Z").await, Vec::<Value>::new());
        tale.tell(6, 6).await;
        let license = tale.license("2066-01-01T00:00:00Z").await;
        assert_eq!((&license["state"], &license["perpetual"]), (&"active".into(), &true.into()));
        tale.tell(7, 12).await;
        tale.is_at(&[("2066-01-01T00:00:00Z", "active")]).await;
        tale.nothing_is_owed().await;
    })
    .await;
}

#[tokio::test]
async fn a_pause_suspends_a_payment_reinstates_and_only_paid_seats_count() {
    in_both_versions("j", SELL_EVERYTHING, async |tale: Tale<'_>| {
        tale.tell(1, 4).await;
        tale.is_at(&[("2026-08-08T00:00:00Z", "active")]).await;
        tale.tell(5, 6).await;
        tale.is_at(&[("2026-08-10T00:00:00Z", "suspended")]).await;
        tale.tell(7, 11).await;
        tale.is_at(&[("2026-09-01T00:00:00Z", "active")]).await;
        for (first, last, seats) in [(12, 13, 1), (14, 14, 1), (15, 18, 1), (19, 20, 4)] {
            tale.tell(first, last).await;
            let license = tale.license("2026-09-01T00:00:00Z").await;
            assert_eq!((&license["state"], &license["seats"]), (&"active".into(), &seats.into()), "step {last}");
        }
        assert_eq!(tale.count("license.issued").await, 1);
        tale.nothing_is_owed().await;
    })
    .await;
}

#[tokio::test]
async fn invoices_that_are_never_paid_sell_nothing_though_the_status_is_active() {
    in_both_versions("k", SELL_EVERYTHING, async |tale: Tale<'_>| {
        tale.tell_all().await;
        assert_eq!(tale.licenses("2026-08-20T00:00:00Z").await, Vec::<Value>::new());
        assert_eq!(tale.status_of("sub_1oWvKAB7WZ01zgkWTu7cow5Q").await, "past_due");
        assert_eq!(tale.status_of("sub_1Fg0VVB7WZ01zgkWad9Iu1h2").await, "active");
        tale.nothing_is_owed().await;
    })
    .await;
}

#[tokio::test]
async fn a_cancellation_in_the_portal_is_told_by_cancel_at_alone() {
    in_both_versions("m", SELL_EVERYTHING, async |tale: Tale<'_>| {
        let (end, day_after) = ("2026-09-07T13:37:00Z", "2026-09-08T00:00:00Z");
        tale.tell(1, 10).await;
        tale.is_at(&[("2026-09-07T13:36:59Z", "active"), (day_after, "grace")]).await;
        tale.tell(11, 11).await;
        tale.is_at(&[("2026-09-07T13:36:59Z", "active"), (end, "expired")]).await;
        tale.tell(12, 12).await;
        tale.is_at(&[(end, "grace"), (day_after, "grace")]).await;
        tale.tell(13, 14).await;
        tale.is_at(&[("2026-09-07T13:36:59Z", "active"), (end, "expired")]).await;
        tale.nothing_is_owed().await;
    })
    .await;
}

#[tokio::test]
async fn the_catalogue_and_a_deleted_customer_sell_nothing() {
    in_both_versions("l", SELL_EVERYTHING, async |tale: Tale<'_>| {
        tale.tell_all().await;
        assert_eq!(tale.licenses("2026-08-20T00:00:00Z").await, Vec::<Value>::new());
        let customer = tale.caller.get(&format!("/customers/cus_MunyoEpcL8TwkV?source={}", tale.source)).await;
        assert!(customer["deleted_at"].is_string(), "{customer:#}");
        tale.nothing_is_owed().await;
    })
    .await;
}
