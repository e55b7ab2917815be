//! Two processes on one data folder: a second `up` refuses to start and does no harm; other verbs work beside the first.

use serde_json::Value;

use crate::deployment::Deployment;
use crate::support::setup::Setup;
use crate::support::stories::{VERSIONS, story};

#[tokio::test]
async fn a_second_up_refuses_to_start_and_names_the_first() {
    let deployment = Deployment::new(&Setup::default());
    let mut first = deployment.up().await;
    first.post_all("default", &story("a").between(VERSIONS[0], 1, 8)).await;
    let output = deployment.run(&["up"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"", "it was never ready");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("in use") && said.contains(&first.process.id().to_string()), "{said}");

    // The first goes on as if nothing had been.
    assert!(first.process.is_running());
    first.post_all("default", &story("b").bodies(VERSIONS[0])).await;
    first.caught_up().await;
    assert_eq!(first.list("/licenses?").await.len(), 2);
    deployment.finish(first).await;
}

#[tokio::test]
async fn a_killed_process_does_not_keep_the_next_one_out() {
    let deployment = Deployment::new(&Setup::default());
    for _ in 0..3 {
        deployment.up().await.kill().await;
    }
    let service = deployment.up().await;
    service.caught_up().await;
    deployment.finish(service).await;
}

#[tokio::test]
async fn other_verbs_work_beside_a_running_service() {
    let deployment = Deployment::new(&Setup { settings: String::new(), ..Setup::default() });
    let service = deployment.up().await;
    service.post_all("default", &story("a").between(VERSIONS[1], 1, 9)).await;
    service.caught_up().await;

    let lists = [
        (vec!["cases"], "no_key"),
        (vec!["cases", "--kind", "no_key"], "unmapped_price"),
        (vec!["customers"], "cus_flVtZ7z4OIuARq"),
        (vec!["customers", "show", "cus_flVtZ7z4OIuARq"], "jenny.rosen@example.com"),
        (vec!["subscriptions"], "sub_1w95DJB7WZ01zgkWKk3BnmFz"),
        (vec!["subscriptions", "show", "sub_1w95DJB7WZ01zgkWKk3BnmFz"], "active"),
        (vec!["events", "--type", "stripe.invoice.paid"], "evt_12ucf3B7WZ01zgkWDw5eC87f"),
        (vec!["search", "jenny.rosen@example.com"], "cus_flVtZ7z4OIuARq"),
    ];
    for (arguments, expected) in lists {
        for arguments in [arguments.clone(), [arguments.as_slice(), &["--json"]].concat()] {
            let output = deployment.run(&arguments).await;
            let shown = String::from_utf8(output.stdout).unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
            assert!(shown.contains(expected), "{arguments:?} does not show {expected}:\n{shown}");
        }
    }
    // A price that sells nothing is a finding, and so it is told by the exit code.
    let catalog = deployment.run(&["catalog", "--json"]).await;
    assert_eq!(catalog.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&catalog.stdout).contains("price_1PgafmB7WZ01zgkW6dKueIc5"));
    let checked = deployment.json(0, &["check"]).await;
    assert_eq!(checked["open"], 1);
    let verified = deployment.json(0, &["events", "verify"]).await;
    assert_eq!(verified["problem"], Value::Null);
    deployment.finish(service).await;
}
