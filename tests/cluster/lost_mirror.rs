//! The mirror is gone, old, or not ours: intake and licenses go on, and the mirror becomes exact again.

use std::collections::HashMap;

use async_nats::jetstream::stream::Config;
use serde_json::Value;

use crate::deployment::Deployment;
use crate::mirror::{STREAM, context, messages};
use crate::support::client::Caller;
use crate::support::histories::{History, histories};
use crate::support::setup::Setup;
use crate::support::sold::{issued_once, one_each};
use crate::support::wait::{PATIENCE, until};
use crate::traffic::sell;

/// All is sold once, and nobody needs to look at the mirror.
async fn all_is_well(caller: &Caller, histories: &[History]) {
    let licenses = one_each(caller, histories).await;
    issued_once(caller, licenses.len()).await;
    assert_eq!(caller.open_cases("mirror_diverged").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_mirror_whose_store_was_emptied_is_made_anew() {
    let histories = histories(15);
    let mut deployment = Deployment::new(&Setup::default());
    let service = deployment.up().await;
    for (index, sold) in histories.chunks(5).enumerate() {
        sell(&service, sold).await;
        deployment.is_mirrored().await;
        if index % 2 == 0 {
            deployment.nats[0].kill();
        } else {
            deployment.nats[0].stop();
        }
        deployment.nats[0].wipe();
        deployment.nats[0].start_again();
    }
    all_is_well(&service, &histories).await;
    deployment.finish(service).await;
}

#[tokio::test]
async fn a_mirror_that_is_deleted_under_a_running_service_is_made_anew() {
    let histories = histories(10);
    let deployment = Deployment::new(&Setup::default());
    let service = deployment.up().await;
    sell(&service, &histories[..5]).await;
    deployment.is_mirrored().await;
    context(&deployment.nats_url()).await.unwrap().delete_stream(STREAM).await.unwrap();
    sell(&service, &histories[5..]).await;
    deployment.is_mirrored().await;
    all_is_well(&service, &histories).await;
    deployment.finish(service).await;
}

#[tokio::test]
async fn a_mirror_from_an_older_store_is_filled_up() {
    let histories = histories(15);
    let mut deployment = Deployment::new(&Setup::default());
    let service = deployment.up().await;
    sell(&service, &histories[..5]).await;
    deployment.is_mirrored().await;
    deployment.nats[0].stop();
    let older = deployment.nats[0].backup();
    deployment.nats[0].start_again();
    sell(&service, &histories[5..10]).await;
    deployment.is_mirrored().await;
    deployment.nats[0].stop();
    deployment.nats[0].restore(&older);
    deployment.nats[0].start_again();
    sell(&service, &histories[10..]).await;
    deployment.is_mirrored().await;
    all_is_well(&service, &histories).await;
    deployment.finish(service).await;
}

/// Makes a stream in the mirror's place that somebody else's log is in.
async fn take_its_place(nats: &str) {
    let jetstream = context(nats).await.unwrap();
    let metadata = [("keyledger-mirror", "v1"), ("keyledger-log-id", "5a9e4c0e-7f0b-4a51-8e77-0d3c6e1f2a99")];
    let metadata = metadata.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let theirs = Config {
        name: STREAM.to_owned(),
        subjects: vec!["kl.v1.>".to_owned()],
        metadata: HashMap::from(metadata),
        ..Config::default()
    };
    jetstream.create_stream(theirs).await.unwrap();
    for number in 0..3 {
        let payload = format!("{{\"theirs\": {number}}}");
        jetstream.publish("kl.v1.theirs.live.00.license.issued", payload.into()).await.unwrap().await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_is_not_ours_is_left_alone_and_a_case_until_it_is_gone() {
    let histories = histories(20);
    let mut deployment = Deployment::new(&Setup::default());
    let nats = deployment.nats_url();
    take_its_place(&nats).await;
    let theirs = messages(&nats).await;
    deployment.nats[0].stop();
    let foreign = deployment.nats[0].backup();
    deployment.nats[0].start_again();

    // It is there at the start; later it takes the place of the mirror.
    let service = deployment.up().await;
    for (index, sold) in histories.chunks(10).enumerate() {
        if index > 0 {
            deployment.nats[0].stop();
            deployment.nats[0].restore(&foreign);
            deployment.nats[0].start_again();
        }
        sell(&service, &sold[..5]).await;
        let case = until("the case of the foreign stream", PATIENCE, async || {
            let mut open = service.open_cases("mirror_diverged").await;
            if open.len() == 1 { Ok(open.remove(0)) } else { Err(format!("{open:#?}")) }
        })
        .await;
        assert!(case.to_string().contains(STREAM), "{case:#}");
        assert_eq!(messages(&nats).await, theirs, "it was written to");

        context(&nats).await.unwrap().delete_stream(STREAM).await.unwrap();
        until("the case closes", PATIENCE, async || {
            let open = service.open_cases("mirror_diverged").await;
            if open.is_empty() { Ok(()) } else { Err(format!("{open:#?}")) }
        })
        .await;
        sell(&service, &sold[5..]).await;
        deployment.is_mirrored().await;
    }
    all_is_well(&service, &histories).await;
    deployment.finish(service).await;
}
