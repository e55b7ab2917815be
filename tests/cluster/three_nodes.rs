//! A cluster of three nats-servers loses a node under load, the leader of the stream too: no gap, no double.

use crate::deployment::Deployment;
use crate::mirror::mirror;
use crate::support::histories::histories;
use crate::support::load::Load;
use crate::support::setup::Setup;
use crate::support::sold::{issued_once, one_each, settled};
use crate::support::wait::{PATIENCE, until};
use crate::traffic::Traffic;

/// The node that leads the stream, once there is one.
async fn leader(deployment: &Deployment) -> usize {
    until("the stream has a leader", PATIENCE, async || {
        let stream = mirror(&deployment.nats_url()).await.map_err(|error| error.to_string())?;
        let cluster = stream.cached_info().cluster.clone().ok_or("it is on one node")?;
        let leader = cluster.leader.ok_or("it has no leader")?;
        assert_eq!(cluster.replicas.len(), 2, "it is on all three nodes");
        Ok(leader.trim_start_matches('n').parse().unwrap())
    })
    .await
}

/// Waits until every node has all of the stream.
async fn all_are_current(deployment: &Deployment) {
    until("all nodes are current", PATIENCE, async || {
        let stream = mirror(&deployment.nats_url()).await.map_err(|error| error.to_string())?;
        let cluster = stream.cached_info().cluster.clone().ok_or("it is on one node")?;
        let current = cluster.replicas.iter().filter(|replica| replica.current && !replica.offline).count();
        if current == 2 && cluster.leader.is_some() { Ok(()) } else { Err(format!("{cluster:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_one_node_after_the_other_mirrors_each_event_once() {
    let histories = histories(100);
    let mut deployment = Deployment::on_three_nodes(&Setup::default());
    let service = deployment.up().await;
    let traffic = Traffic::begin(Load::of(&histories, 7), service.entrance());
    traffic.allow(20);
    traffic.flows().await;
    let first = leader(&deployment).await;
    for node in [first, (first + 1) % 3] {
        traffic.allow(60);
        tokio::task::block_in_place(|| deployment.nats[node].kill());
        traffic.flows().await;
        traffic.allow(60);
        tokio::task::block_in_place(|| deployment.nats[node].start_again());
        // One node less is no loss, two would be: the next goes when this one has all that it missed.
        all_are_current(&deployment).await;
    }
    let load = traffic.end().await;
    assert_eq!(load.refused(), 0, "intake depends on NATS");
    settled(&service, &histories).await;
    load.is_kept(&service).await;
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    deployment.finish(service).await;
}
