//! What readers see, and how the consumer behaves: waiting refunds, refused bodies, waivers, searches, pages.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails the test")]

mod support;

use std::time::Duration;

use keyledger_eventlog::consumer::{Checkpoint, HandleError, Handler};
use keyledger_eventlog::log::EventLog;
use keyledger_eventlog::tail::SqlTail;
use keyledger_projector::Projector;
use keyledger_projector::read::{
    AsOf, Case, CaseFilter, CaseStatus, CustomerFilter, LicenseFilter, LicenseState, PageRequest, SubscriptionFilter,
    Term, Views, Within,
};
use keyledger_projector::replay::{Switch, replay};
use keyledger_schemas::envelope::NewEvent;
use keyledger_schemas::event::Action;
use keyledger_schemas::event::{
    BodyRefused, CaseWaived, Event, LicenseNotDone, MirrorDiverged, MirrorFault, MirrorMended, NotDone,
    ObligationWaived, SettingsChanged,
};
use keyledger_schemas::ids::{Mode, PurchaseId};
use support::{
    Engine, NEW, OLD, World, at, issue_all, late, licenses, open, own, scope, settings, settings_changed, story,
};

on_both! {
    a_mirror_that_is_not_the_logs_is_one_case_until_it_is_mended,
    a_waived_mirror_is_a_case_again_only_when_something_else_is_wrong,
    a_refund_that_waits_for_its_link_is_a_case_after_an_hour_and_closes_when_it_is_routed,
    a_refund_that_is_routed_within_the_hour_was_never_a_case,
    settings_that_change_heal_what_was_unmapped,
    a_case_names_money_customer_age_and_what_to_do,
    an_issuer_that_has_not_come_there_yet_is_the_cause,
    a_providers_answer_shows_in_the_case,
    a_waived_unit_is_kept_with_name_and_reason_and_owes_nothing,
    refused_bodies_are_one_case_per_hour_until_a_person_waives_it,
    a_license_is_found_by_everything_that_names_it_and_its_state_depends_on_the_time,
    a_guests_one_off_license_is_found_by_session_and_address,
    a_customer_is_shown_with_all_that_hangs_on_them,
    a_deleted_customer_keeps_their_name,
    pages_follow_each_other_without_gaps_or_repeats,
    an_event_of_ours_that_cannot_be_read_is_set_aside_with_a_reason,
    an_event_of_a_newer_build_has_no_effect,
    a_checkpoint_that_someone_else_moved_refuses_the_batch,
    readers_are_told_what_to_do_when_there_are_no_views_of_this_build,
    a_source_is_shown_alone_when_asked_for,
    product_metadata_that_changes_reaches_every_purchase_that_sells_it,
    the_same_ids_in_another_mode_or_account_are_other_purchases,
    a_paid_invoice_that_waits_for_its_payment_is_a_case_after_an_hour_where_the_catalog_names_what_it_sold,
    an_invoice_that_is_routed_within_the_hour_never_was_a_case,
    an_invoice_that_waits_and_sold_something_else_is_no_case_until_the_catalog_names_it,
    metadata_of_the_product_names_what_a_waiting_invoice_sold_too,
    a_refund_that_only_its_charge_shows_waits_like_one_that_is_shown,
    a_charge_without_refunds_waits_silently,
}

const ALL: PageRequest = PageRequest { limit: 200, after: None };

async fn cases(views: &Views, as_of: AsOf) -> Vec<Case> {
    views.cases(&Within::default(), &CaseFilter::default(), as_of, &ALL).await.unwrap().data
}

fn of_kind(events: Vec<NewEvent>, kinds: &[&str]) -> Vec<NewEvent> {
    events.into_iter().filter(|event| kinds.contains(&event.kind.as_str())).collect()
}

async fn a_refund_that_waits_for_its_link_is_a_case_after_an_hour_and_closes_when_it_is_routed(engine: Engine) {
    let events = story("e", NEW);
    let refund = of_kind(events.clone(), &["stripe.refund.created", "stripe.charge.refunded"]);
    let world = World::with(&engine, refund).await;
    let views = world.folded().await;
    assert_eq!(cases(&views, AsOf::at(at("2026-12-01T12:59:59Z"))).await, []);
    let found = cases(&views, AsOf::at(at("2026-12-01T13:00:00Z"))).await;
    assert_eq!((found[0].kind.as_str(), found[0].status), ("unrouted", CaseStatus::Open));
    assert!(found[0].amount.is_some());
    assert_eq!(views.status(&Within::default(), at("2026-12-01T12:00:01Z")).await.unwrap().cases_open_total(), 0);

    world.clock.advance(Duration::from_hours(2));
    world.append(events).await;
    let views = world.folded().await;
    let found = cases(&views, late()).await;
    let unrouted: Vec<_> = found.iter().filter(|case| case.kind == "unrouted").map(|case| case.status).collect();
    assert_eq!(unrouted, [CaseStatus::Closed]);
}

async fn a_refund_that_is_routed_within_the_hour_was_never_a_case(engine: Engine) {
    let mut events = story("e", NEW);
    events.reverse();
    let world = World::with(&engine, events).await;
    assert!(cases(&world.folded().await, late()).await.iter().all(|case| case.kind != "unrouted"));
}

async fn settings_that_change_heal_what_was_unmapped(engine: Engine) {
    let mut nothing_mapped = settings();
    nothing_mapped.catalog.clear();
    let world = World::new(&engine);
    world.append(vec![settings_changed(nothing_mapped)]).await;
    world.append(story("b", NEW)).await;
    world.append(story("h", NEW)).await;
    let causes = |lines: Vec<String>| -> Vec<String> {
        lines.iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(causes(open(&world.folded().await).await), ["lines_unknown", "unmapped_price"]);
    let changed = Event::SettingsChanged(SettingsChanged { settings: settings() });
    world.append(vec![own("settings-2", &changed, at("2026-12-01T00:00:00Z"))]).await;
    assert_eq!(causes(open(&world.folded().await).await), ["issuing", "issuing"]);
}

async fn a_case_names_money_customer_age_and_what_to_do(engine: Engine) {
    let world = World::with(&engine, story("h", NEW)).await;
    let views = world.folded().await;
    let case = cases(&views, late()).await.remove(0);
    assert_eq!(case.amount.as_ref().unwrap().to_string(), "20.00 USD");
    assert_eq!(case.customer.as_ref().unwrap().as_str(), "cus_l1lGR35zAf0GJh");
    assert_eq!(case.stripe_id.as_deref(), Some("sub_17SKsKB7WZ01zgkWTBlUjnj3"));
    assert!(case.opened_at < at("2026-12-01T00:00:00Z"));
    assert!(!case.next.is_empty());
    let again = views.case(&Within::default(), case.id, late()).await.unwrap().unwrap();
    assert_eq!(again, case);
    let test = Within { mode: Mode::Test, source: None };
    assert_eq!(views.case(&test, case.id, late()).await.unwrap(), None);
}

async fn an_issuer_that_has_not_come_there_yet_is_the_cause(engine: Engine) {
    let world = World::with(&engine, story("h", NEW)).await;
    let views = world.folded().await;
    let head = world.log.head().await.unwrap().position;
    let cause = |issuer| {
        let views = views.clone();
        async move { cases(&views, AsOf { issuer: Some(issuer), ..late() }).await.remove(0).cause.unwrap() }
    };
    assert_eq!(cause(1).await, "issuer_behind");
    assert_eq!(cause(head).await, "issuing");
}

async fn a_providers_answer_shows_in_the_case(engine: Engine) {
    let world = World::with(&engine, story("h", NEW)).await;
    let views = world.folded().await;
    let unit = cases(&views, late()).await[0].unit.clone().unwrap();
    let event = Event::LicenseNotDone(LicenseNotDone {
        license: unit.license(1),
        unit,
        attempt: 4,
        action: Action::Create,
        answer: NotDone::Unavailable,
        reason: "503".to_owned(),
        next_attempt_at: Some(at("2026-12-01T12:10:00Z")),
        nothing_found: false,
        unconfigured: false,
    });
    world.append(vec![own("not-done", &event, at("2026-12-01T12:00:00Z"))]).await;
    let case = cases(&world.folded().await, late()).await.remove(0);
    assert_eq!(case.cause.as_deref(), Some("provider_unavailable"));
    assert_eq!((case.attempts, case.detail.as_deref()), (4, Some("503")));
    assert_eq!(case.next_attempt_at, Some(at("2026-12-01T12:10:00Z")));
}

async fn a_waived_unit_is_kept_with_name_and_reason_and_owes_nothing(engine: Engine) {
    let world = World::with(&engine, story("h", NEW)).await;
    let views = world.folded().await;
    let unit = cases(&views, late()).await[0].unit.clone().unwrap();
    let waived = Event::ObligationWaived(ObligationWaived { unit, through: None, reason: "a gift".to_owned() });
    world.append(vec![own("waived", &waived, at("2026-12-01T12:00:00Z"))]).await;
    let views = world.folded().await;
    assert_eq!(open(&views).await, Vec::<String>::new());
    let case = cases(&views, late()).await.remove(0);
    assert_eq!(case.status, CaseStatus::Waived);
    assert_eq!((case.waived_by.as_deref(), case.waived_reason.as_deref()), (Some("ana"), Some("a gift")));
}

async fn refused_bodies_are_one_case_per_hour_until_a_person_waives_it(engine: Engine) {
    let refused = |count| {
        Event::BodyRefused(BodyRefused {
            source: "default".parse().unwrap(),
            hour: at("2026-12-01T12:00:00Z"),
            count,
            limit_bytes: 4,
            largest_bytes: Some(9),
        })
    };
    let world = World::with(&engine, vec![own("first", &refused(1), at("2026-12-01T12:01:00Z"))]).await;
    world.append(vec![own("last", &refused(7), at("2026-12-01T12:59:00Z"))]).await;
    let case = cases(&world.folded().await, late()).await.remove(0);
    assert_eq!((case.kind.as_str(), case.status), ("body_refused", CaseStatus::Open));
    assert_eq!(case.detail.as_deref(), Some("7 bodies over 4 bytes, the largest of 9 bytes"));
    let waive = Event::CaseWaived(CaseWaived { case: case.id, kind: case.kind, reason: "a stranger".to_owned() });
    world.append(vec![own("waive", &waive, at("2026-12-01T13:00:00Z"))]).await;
    let case = cases(&world.folded().await, late()).await.remove(0);
    assert_eq!((case.status, case.waived_reason.as_deref()), (CaseStatus::Waived, Some("a stranger")));
}

async fn a_mirror_that_is_not_the_logs_is_one_case_until_it_is_mended(engine: Engine) {
    let diverged = |fault, position| {
        let detail = "the stream was purged".to_owned();
        Event::MirrorDiverged(MirrorDiverged { stream: "KL_LOG".to_owned(), fault, position, detail })
    };
    let mended = Event::MirrorMended(MirrorMended { stream: "KL_LOG".to_owned(), position: 9 });
    let world = World::with(&engine, vec![own("first", &diverged(MirrorFault::Holes, None), late().at)]).await;
    let found = cases(&world.folded().await, late()).await;
    assert_eq!((found.len(), found[0].kind.as_str(), found[0].subject.as_str()), (1, "mirror_diverged", "KL_LOG"));
    assert_eq!((found[0].status, found[0].cause.as_deref()), (CaseStatus::Open, Some("holes")));
    assert!(found[0].next.contains("purge"), "{}", found[0].next);

    world.append(vec![own("other", &diverged(MirrorFault::OtherBytes, Some(7)), late().at)]).await;
    let found = cases(&world.folded().await, late()).await;
    assert_eq!((found.len(), found[0].cause.as_deref()), (1, Some("other_bytes")));
    assert_eq!(found[0].detail.as_deref(), Some("the stream was purged (position 7)"));

    world.append(vec![own("mended", &mended, late().at)]).await;
    assert_eq!(cases(&world.folded().await, late()).await[0].status, CaseStatus::Closed);
    world.append(vec![own("again", &diverged(MirrorFault::OtherBytes, None), late().at)]).await;
    assert_eq!(cases(&world.folded().await, late()).await[0].status, CaseStatus::Open);
    let report = replay(&SqlTail::new(world.log.clone()), &world.url("views.db"), Switch::CompareOnly, |_, _| {}).await;
    assert_eq!(report.unwrap().differences, []);
}

async fn a_waived_mirror_is_a_case_again_only_when_something_else_is_wrong(engine: Engine) {
    let diverged = |fault| {
        let stream = "KL_LOG".to_owned();
        Event::MirrorDiverged(MirrorDiverged { stream, fault, position: None, detail: String::new() })
    };
    let world = World::with(&engine, vec![own("first", &diverged(MirrorFault::Foreign), late().at)]).await;
    let case = cases(&world.folded().await, late()).await.remove(0);
    let waive = Event::CaseWaived(CaseWaived { case: case.id, kind: case.kind, reason: "known".to_owned() });
    world.append(vec![own("waive", &waive, late().at)]).await;
    world.append(vec![own("second", &diverged(MirrorFault::Foreign), late().at)]).await;
    assert_eq!(cases(&world.folded().await, late()).await[0].status, CaseStatus::Waived);
    world.append(vec![own("third", &diverged(MirrorFault::Holes), late().at)]).await;
    assert_eq!(cases(&world.folded().await, late()).await[0].status, CaseStatus::Open);
}

async fn a_license_is_found_by_everything_that_names_it_and_its_state_depends_on_the_time(engine: Engine) {
    let world = World::with(&engine, story("h", NEW)).await;
    issue_all(&world, &world.folded().await).await;
    let views = world.folded().await;
    let license = licenses(&views, at("2026-09-01T00:00:00Z")).await.remove(0);
    assert_eq!(license.state, LicenseState::Active);
    assert_eq!(licenses(&views, license.paid_until.unwrap()).await[0].state, LicenseState::Expired);
    let filters = [
        LicenseFilter { subscription: Some("sub_17SKsKB7WZ01zgkWTBlUjnj3".to_owned()), ..LicenseFilter::default() },
        LicenseFilter { customer: Some("cus_l1lGR35zAf0GJh".to_owned()), ..LicenseFilter::default() },
        LicenseFilter { provider_id: license.provider_id.clone(), ..LicenseFilter::default() },
        LicenseFilter { id: Some(license.id), ..LicenseFilter::default() },
        LicenseFilter { unit: Some(license.unit.clone()), ..LicenseFilter::default() },
    ];
    for filter in filters {
        let found = views.licenses(&Within::default(), &filter, late().at, &ALL).await.unwrap().data;
        assert_eq!(found.len(), 1, "{filter:?}");
        let other = Within { mode: Mode::Test, source: None };
        assert_eq!(views.licenses(&other, &filter, late().at, &ALL).await.unwrap().data, []);
    }
    let key = license.key.unwrap();
    for term in [
        Term::KeyHash(key.hash),
        Term::KeyLast4(key.last4.to_lowercase()),
        Term::ProviderId(license.provider_id.unwrap()),
        Term::Uuid(license.id.0),
    ] {
        let hits = views.search(&Within::default(), std::slice::from_ref(&term)).await.unwrap();
        assert_eq!(hits.iter().map(|hit| hit.kind.as_str()).collect::<Vec<_>>(), ["license"], "{term:?}");
    }
}

async fn a_guests_one_off_license_is_found_by_session_and_address(engine: Engine) {
    let world = World::with(&engine, story("b", OLD)).await;
    issue_all(&world, &world.folded().await).await;
    let views = world.folded().await;
    let license = licenses(&views, late().at).await.remove(0);
    assert!(license.perpetual);
    assert_eq!(license.state, LicenseState::Active);
    let session = license.purchase.object.clone();
    assert!(session.starts_with("cs_"));
    let filter = LicenseFilter { session: Some(session.clone()), ..LicenseFilter::default() };
    assert_eq!(views.licenses(&Within::default(), &filter, late().at, &ALL).await.unwrap().data.len(), 1);
    let hits = views.search(&Within::default(), &[Term::StripeId(session)]).await.unwrap();
    assert!(hits.iter().any(|hit| hit.kind == "session"));
    let purchase: PurchaseId = license.purchase;
    let payments = views.payments_of_purchase(&purchase).await.unwrap();
    assert!(payments.iter().any(|payment| payment.kind == "charge" && payment.status.as_deref() == Some("succeeded")));
}

async fn a_customer_is_shown_with_all_that_hangs_on_them(engine: Engine) {
    let world = World::with(&engine, story("a", NEW)).await;
    let views = world.folded().await;
    let detail = views.customer(&Within::default(), "cus_flVtZ7z4OIuARq", late()).await.unwrap().unwrap();
    assert_eq!((detail.purchases.len(), detail.subscriptions.len()), (1, 1));
    assert!(detail.payments.iter().filter(|payment| payment.kind == "invoice").count() >= 3);
    assert_eq!(detail.cross_links[0].system, "stripe");
    let email = detail.customer.email.clone().unwrap();
    let filter = CustomerFilter { email: Some(email.to_uppercase()), ..CustomerFilter::default() };
    assert_eq!(
        views.customers(&Within::default(), &filter, &ALL).await.unwrap().data,
        std::slice::from_ref(&detail.customer)
    );
    let name = detail.customer.name.clone().unwrap();
    let prefix = Term::NamePrefix(name.chars().take(4).collect());
    let hits = views.search(&Within::default(), &[prefix, Term::Email(email)]).await.unwrap();
    assert!(hits.iter().any(|hit| hit.kind == "customer" && hit.id == "cus_flVtZ7z4OIuARq"));
    assert_eq!(views.customer(&Within::default(), "cus_nobody", late()).await.unwrap(), None);
}

async fn a_deleted_customer_keeps_their_name(engine: Engine) {
    let world = World::with(&engine, story("l", NEW)).await;
    let views = world.folded().await;
    let all = views.customers(&Within::default(), &CustomerFilter::default(), &ALL).await.unwrap().data;
    assert!(all.iter().any(|customer| customer.deleted_at.is_some() && customer.name.is_some()), "{all:?}");
}

async fn pages_follow_each_other_without_gaps_or_repeats(engine: Engine) {
    let events = ["a", "c", "d", "e", "f", "g", "h", "k", "m"].iter().flat_map(|name| story(name, NEW)).collect();
    let world = World::with(&engine, events).await;
    let views = world.folded().await;
    let filter = SubscriptionFilter::default();
    let whole = views.subscriptions(&Within::default(), &filter, &ALL).await.unwrap();
    assert!(whole.data.len() > 9 && whole.next.is_none());
    let mut walked = Vec::new();
    let mut request = PageRequest { limit: 2, after: None };
    loop {
        let page = views.subscriptions(&Within::default(), &filter, &request).await.unwrap();
        assert!(page.data.len() <= 2);
        walked.extend(page.data);
        request.after = page.next;
        if request.after.is_none() {
            break;
        }
    }
    assert_eq!(walked, whole.data);
}

async fn an_event_of_ours_that_cannot_be_read_is_set_aside_with_a_reason(engine: Engine) {
    let world = World::new(&engine);
    let broken = NewEvent {
        id: "broken".into(),
        kind: "license.issued".to_owned(),
        data: b"{}".to_vec(),
        ..settings_changed(settings())
    };
    world.append(vec![settings_changed(settings()), broken]).await;
    world.append(story("b", NEW)).await;
    let views = world.folded().await;
    assert_eq!(open(&views).await.len(), 1);
    let parked = views.parked(0, 10).await.unwrap();
    assert_eq!((parked.len(), parked[0].position, parked[0].kind.as_str()), (1, 2, "license.issued"));
    assert_eq!(views.status(&Within::default(), late().at).await.unwrap().parked, 1);
}

async fn an_event_of_a_newer_build_has_no_effect(engine: Engine) {
    let world = World::new(&engine);
    let newer = NewEvent {
        id: "newer".into(),
        kind: "license.painted".to_owned(),
        data: b"{}".to_vec(),
        ..settings_changed(settings())
    };
    world.append(vec![settings_changed(settings()), newer]).await;
    world.append(story("b", NEW)).await;
    let views = world.folded().await;
    assert_eq!(open(&views).await.len(), 1);
    assert_eq!(views.status(&Within::default(), late().at).await.unwrap().parked, 0);
}

async fn a_checkpoint_that_someone_else_moved_refuses_the_batch(engine: Engine) {
    let world = World::with(&engine, story("b", NEW)).await;
    let batch = world.log.read_after(0, 100).await.unwrap();
    let mut one = Projector::open(&world.url("views.db")).await.unwrap();
    let mut two = Projector::open(&world.url("views.db")).await.unwrap();
    let start = one.checkpoint().await.unwrap();
    assert_eq!(start, Checkpoint::default());
    one.handle(&batch, start).await.unwrap();
    assert!(matches!(two.handle(&batch, start).await, Err(HandleError::Moved)));
    assert_eq!(two.checkpoint().await.unwrap().position, batch.last().unwrap().position);
    two.reset().await.unwrap();
    assert_eq!(one.checkpoint().await.unwrap(), Checkpoint::default());
}

async fn readers_are_told_what_to_do_when_there_are_no_views_of_this_build(engine: Engine) {
    let world = World::new(&engine);
    let missing = Views::open_read(&world.url("views.db")).await.unwrap_err();
    assert!(missing.to_string().contains("`keyledger up`"), "{missing}");
    world.folded().await.close().await;
    world.meddle("views.db", "update view_meta set projection_version = 0").await;
    let other = Views::open_read(&world.url("views.db")).await.unwrap_err();
    assert!(other.to_string().contains("another build"), "{other}");
    world.folded().await;
}

async fn a_source_is_shown_alone_when_asked_for(engine: Engine) {
    let world = World::with(&engine, story("a", NEW)).await;
    let views = world.folded().await;
    let other = Within { mode: Mode::Live, source: Some("other".parse().unwrap()) };
    assert_eq!(views.subscriptions(&other, &SubscriptionFilter::default(), &ALL).await.unwrap().data, []);
    let this = Within { mode: Mode::Live, source: Some(scope().source) };
    assert_eq!(views.subscriptions(&this, &SubscriptionFilter::default(), &ALL).await.unwrap().data.len(), 1);
}

async fn product_metadata_that_changes_reaches_every_purchase_that_sells_it(engine: Engine) {
    let mut by_metadata = settings();
    by_metadata.catalog.clear();
    by_metadata.providers.insert("cryptolens".into());
    let world = World::new(&engine);
    world.append(vec![settings_changed(by_metadata)]).await;
    world.append(story("h", NEW)).await;
    let views = world.folded().await;
    assert!(open(&views).await[0].ends_with("unmapped_price"));
    let subscription =
        &views.subscriptions(&Within::default(), &SubscriptionFilter::default(), &ALL).await.unwrap().data;
    let product = subscription[0].items[0].product.clone().unwrap();
    let updated = |id: &str, value: &str| {
        let body = serde_json::json!({
            "id": id, "object": "event", "type": "product.updated", "created": 1_790_000_000, "livemode": true,
            "api_version": NEW,
            "data": { "object": {
                "id": product, "object": "product", "name": "Pro", "active": true, "livemode": true,
                "metadata": { "skm_product_id": value },
            } },
        });
        support::stripe(body.to_string().into_bytes())
    };
    world.append(vec![updated("evt_product_1", "3349")]).await;
    let views = world.folded().await;
    assert!(open(&views).await[0].ends_with("issuing"), "{:?}", open(&views).await);
    world.append(vec![updated("evt_product_2", "not a number")]).await;
    let views = world.folded().await;
    assert!(open(&views).await[0].ends_with("unmapped_price"));
    let kinds: Vec<String> = cases(&views, late()).await.into_iter().map(|case| case.kind).collect();
    assert!(kinds.contains(&"mapping_error".to_owned()), "{kinds:?}");
}

async fn the_same_ids_in_another_mode_or_account_are_other_purchases(engine: Engine) {
    let elsewhere = |mode, account: Option<&str>| {
        let place = move |event: NewEvent| {
            let mut event = event;
            event.id = format!("{}-{mode}-{account:?}", event.id).as_str().into();
            event.stream = format!("{}-{mode}-{account:?}", event.stream).as_str().into();
            event.scope.mode = mode;
            event.scope.account = account.map(Into::into);
            event
        };
        story("b", NEW).into_iter().map(place).collect::<Vec<_>>()
    };
    let world = World::with(&engine, story("b", NEW)).await;
    world.append(elsewhere(Mode::Test, None)).await;
    world.append(elsewhere(Mode::Live, Some("acct_9"))).await;
    let views = world.folded().await;
    let found = open(&views).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("default:acct_9:live:cs_")));
    let test = Within { mode: Mode::Test, source: None };
    assert_eq!(views.open_obligations(&test).await.unwrap(), []);
    assert_eq!(views.licenses(&test, &LicenseFilter::default(), late().at, &ALL).await.unwrap().data, []);
}

/// A Stripe event of the older version around `object`.
fn event_of(id: &str, kind: &str, object: &serde_json::Value) -> NewEvent {
    let body = serde_json::json!({
        "id": id, "object": "event", "type": kind, "created": 1_790_000_000, "livemode": true,
        "api_version": OLD, "data": { "object": object },
    });
    support::stripe(body.to_string().into_bytes())
}

/// A paid invoice without a subscription and without its payment.
fn invoice_that_waits() -> NewEvent {
    let line = serde_json::json!({
        "id": "il_9", "object": "line_item", "type": "invoiceitem", "amount": 4900, "currency": "usd", "quantity": 1,
        "proration": false, "period": { "start": 1_790_000_000, "end": 1_790_000_000 },
        "price": { "id": "price_9", "object": "price", "product": "prod_9", "metadata": {} },
    });
    let invoice = serde_json::json!({
        "id": "in_9", "object": "invoice", "status": "paid", "paid": true, "created": 1_790_000_000,
        "customer": "cus_9", "currency": "usd", "total": 4900, "amount_paid": 4900, "livemode": true,
        "status_transitions": { "paid_at": 1_790_000_000 }, "lines": { "data": [line], "has_more": false },
    });
    event_of("evt_invoice_9", "invoice.paid", &invoice)
}

fn charge_of_that_invoice() -> NewEvent {
    let charge = serde_json::json!({
        "id": "ch_9", "object": "charge", "amount": 4900, "amount_refunded": 0, "currency": "usd", "paid": true,
        "status": "succeeded", "customer": "cus_9", "invoice": "in_9", "livemode": true,
    });
    event_of("evt_charge_9", "charge.succeeded", &charge)
}

fn naming(price: &str) -> keyledger_schemas::settings::DecidingSettings {
    let mut naming = settings();
    naming.catalog =
        serde_json::from_value(serde_json::json!([{ "price": price, "product": "pro" }, { "product": "rest" }]))
            .unwrap();
    naming
}

async fn unrouted(views: &Views, minutes: i64) -> Vec<String> {
    // The log of the tests was written at noon.
    let at = at("2026-12-01T12:00:00Z") + jiff::SignedDuration::from_mins(minutes);
    let found = cases(views, AsOf::at(at)).await.into_iter().filter(|case| case.kind == "unrouted");
    found.map(|case| format!("{} {}", case.subject, case.status.as_str())).collect()
}

async fn a_paid_invoice_that_waits_for_its_payment_is_a_case_after_an_hour_where_the_catalog_names_what_it_sold(
    engine: Engine,
) {
    let waits = ["default:-:live:in_9 open"];
    let world = World::new(&engine);
    world.append(vec![settings_changed(naming("price_9")), invoice_that_waits()]).await;
    let views = world.folded().await;
    assert_eq!(unrouted(&views, 59).await, Vec::<String>::new());
    assert_eq!(unrouted(&views, 61).await, waits);
    let found = cases(&views, late()).await;
    assert_eq!(found[0].amount.as_ref().map(ToString::to_string).as_deref(), Some("49.00 USD"));
    assert_eq!(found[0].customer, Some("cus_9".into()));
    assert_eq!(open(&views).await, Vec::<String>::new(), "what waits is no obligation yet");

    world.clock.advance(Duration::from_hours(2));
    world.append(vec![charge_of_that_invoice()]).await;
    let views = world.folded().await;
    assert_eq!(unrouted(&views, 180).await, ["default:-:live:in_9 closed"]);
    assert_eq!(open(&views).await, ["in_9/0/1 no_key issuing"]);
}

async fn an_invoice_that_is_routed_within_the_hour_never_was_a_case(engine: Engine) {
    let world = World::new(&engine);
    world.append(vec![settings_changed(naming("price_9")), invoice_that_waits(), charge_of_that_invoice()]).await;
    assert_eq!(unrouted(&world.folded().await, 600).await, Vec::<String>::new());
}

async fn an_invoice_that_waits_and_sold_something_else_is_no_case_until_the_catalog_names_it(engine: Engine) {
    let world = World::new(&engine);
    world.append(vec![settings_changed(naming("price_1")), invoice_that_waits()]).await;
    assert_eq!(unrouted(&world.folded().await, 600).await, Vec::<String>::new());
    let named = |id: &str, price: &str| {
        let event = Event::SettingsChanged(SettingsChanged { settings: naming(price) });
        own(id, &event, at("2026-12-01T12:00:00Z"))
    };
    world.append(vec![named("settings-2", "price_9")]).await;
    assert_eq!(unrouted(&world.folded().await, 61).await, ["default:-:live:in_9 open"]);
    world.clock.advance(Duration::from_hours(2));
    world.append(vec![named("settings-3", "price_1")]).await;
    assert_eq!(unrouted(&world.folded().await, 600).await, ["default:-:live:in_9 closed"]);
    world.append(vec![named("settings-4", "price_9")]).await;
    assert_eq!(unrouted(&world.folded().await, 600).await, ["default:-:live:in_9 open"]);
    let report = replay(&SqlTail::new(world.log.clone()), &world.url("views.db"), Switch::CompareOnly, |_, _| {}).await;
    assert_eq!(report.unwrap().differences, []);
}

async fn metadata_of_the_product_names_what_a_waiting_invoice_sold_too(engine: Engine) {
    let mut by_metadata = settings();
    by_metadata.providers.insert("cryptolens".into());
    let product = serde_json::json!({
        "id": "prod_9", "object": "product", "name": "Pro", "active": true, "livemode": true,
        "metadata": { "skm_product_id": "3349" },
    });
    let product = event_of("evt_product_9", "product.updated", &product);
    for events in [[invoice_that_waits(), product.clone()], [product, invoice_that_waits()]] {
        let world = World::new(&engine);
        world.append(vec![settings_changed(by_metadata.clone())]).await;
        world.append(events.to_vec()).await;
        assert_eq!(unrouted(&world.folded().await, 61).await, ["default:-:live:in_9 open"]);
    }
}

async fn a_refund_that_only_its_charge_shows_waits_like_one_that_is_shown(engine: Engine) {
    let charge = serde_json::json!({
        "id": "ch_8", "object": "charge", "amount": 4900, "amount_refunded": 700, "currency": "usd", "paid": true,
        "status": "succeeded", "customer": "cus_8", "payment_intent": "pi_8", "livemode": true,
    });
    let charge = event_of("evt_charge_8", "charge.refunded", &charge);
    let refund = serde_json::json!({
        "id": "re_8", "object": "refund", "amount": 700, "currency": "usd", "status": "succeeded", "charge": "ch_8",
        "payment_intent": "pi_8",
    });
    let refund = event_of("evt_refund_8", "refund.created", &refund);

    let world = World::with(&engine, vec![charge.clone()]).await;
    let views = world.folded().await;
    assert_eq!(unrouted(&views, 59).await, Vec::<String>::new());
    assert_eq!(unrouted(&views, 61).await, ["default:-:live:ch_8 open"]);
    let found = cases(&views, late()).await;
    assert_eq!(found[0].amount.as_ref().map(ToString::to_string).as_deref(), Some("7.00 USD"));

    // The same money is one case, whichever is heard of first.
    for events in [[charge.clone(), refund.clone()], [refund, charge]] {
        let world = World::with(&engine, events.to_vec()).await;
        assert_eq!(unrouted(&world.folded().await, 61).await, ["default:-:live:re_8 open"]);
        let (tail, url) = (SqlTail::new(world.log.clone()), world.url("views.db"));
        let report = replay(&tail, &url, Switch::CompareOnly, |_, _| {}).await;
        assert_eq!(report.unwrap().differences, []);
    }
}

async fn a_charge_without_refunds_waits_silently(engine: Engine) {
    let charge = serde_json::json!({
        "id": "ch_8", "object": "charge", "amount": 4900, "amount_refunded": 0, "currency": "usd", "paid": true,
        "status": "succeeded", "customer": "cus_8", "livemode": true,
    });
    let world = World::with(&engine, vec![event_of("evt_charge_8", "charge.succeeded", &charge)]).await;
    assert_eq!(unrouted(&world.folded().await, 600).await, Vec::<String>::new());
}
