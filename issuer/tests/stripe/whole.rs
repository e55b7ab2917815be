//! Nothing was ever delivered, and reconciling alone brings the same licenses about.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyledger_issuer::purchase::state::Standing;
use keyledger_issuer::stripe::reconcile::{Options, Source, reconcile};
use keyledger_schemas::ids::{Mode, SourceName};

use crate::place::{NEW, Place, story};
use crate::support::Bench;

/// What a license is like: its standing, what it is paid until, when it ends, its seats.
type Terms = (Standing, Option<Timestamp>, Option<Timestamp>, u32);

/// Every license by purchase, item, number and generation.
async fn licenses(bench: &Bench) -> BTreeMap<String, Terms> {
    let mut found = BTreeMap::new();
    for (id, purchase) in bench.purchases().await {
        for (item, units) in &purchase.units {
            for (number, unit) in units {
                for (generation, license) in &unit.licenses {
                    let terms = &license.terms;
                    let like = (license.standing, terms.paid_until, terms.expires_at, terms.seats);
                    found.insert(format!("{id}/{item}/{number}/{generation}"), like);
                }
            }
        }
    }
    found
}

/// When each license is paid until and ends.
fn times_of(licenses: BTreeMap<String, Terms>) -> Vec<(String, Option<Timestamp>, Option<Timestamp>)> {
    licenses.into_iter().map(|(id, (_, paid_until, expires_at, _))| (id, paid_until, expires_at)).collect()
}

async fn bench_at(now: &str) -> Bench {
    let bench = Bench::new().await;
    bench.clock.set(now.parse().unwrap());
    bench
}

/// Reads all that Stripe has into the log of a bench that was told nothing.
async fn reconciled(key: &str, times: &[&str]) -> Bench {
    let place = Place::new().await;
    place.tell(key, NEW);
    let mut bench = bench_at(times[0]).await;
    let options = Options { since: "2026-07-01T00:00:00Z".parse().unwrap(), apply: true, ..Options::default() };
    for now in times {
        place.set_now(now);
        bench.clock.set(now.parse().unwrap());
        let source = Source::new(SourceName::default(), Mode::Live, place.client());
        reconcile(&*bench.log, &*bench.clock, &source, &options, &mut |_| {}).await.unwrap();
        bench.issuer.run_until_idle().await.unwrap();
    }
    bench
}

#[tokio::test]
async fn objects_alone_bring_the_same_licenses_about_as_all_events() {
    let now = "2026-12-31T00:00:00Z";
    let mut made = 0;
    for key in ["a", "b", "c", "d", "e", "e2", "f", "g", "h", "i", "j", "k", "m"] {
        let mut told = bench_at(now).await;
        told.feed(&story(key, NEW)).await;
        let read = reconciled(key, &[now]).await;
        let expected = licenses(&told).await;
        made += expected.len();
        assert_eq!(licenses(&read).await, expected, "{key}");
        let open = |open: Vec<_>| open.iter().map(|open| format!("{open:?}")).collect::<Vec<String>>();
        assert_eq!(open(read.open().await), open(told.open().await), "{key}");
    }
    assert!(made >= 10, "{made}");
}

#[tokio::test]
async fn events_read_back_bring_the_same_licenses_about_as_delivered_ones() {
    let times = ["2026-08-25T00:00:00Z", "2026-09-20T00:00:00Z", "2026-10-15T00:00:00Z", "2026-11-05T00:00:00Z"];
    for key in ["a", "d", "e", "f", "g"] {
        let mut told = bench_at(times[3]).await;
        told.feed(&story(key, NEW)).await;
        let read = reconciled(key, &times).await;
        // A license that was made before its money went is revoked; one whose money had gone was never made.
        let (read, told) = (times_of(licenses(&read).await), times_of(licenses(&told).await));
        assert!(told.iter().all(|license| read.contains(license)), "{key}: {read:?} {told:?}");
    }
}
