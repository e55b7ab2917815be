//! Roles may start together and in any order on a deployment that has nothing yet: no tables, no stream, no keys.

use serde_json::Value;

use crate::deployment::{Deployment, Role, Service};
use crate::support::random::Random;
use crate::support::setup::Setup;
use crate::support::stories::{VERSIONS, story};

/// One sale, and its key as every console reveals it: sealed by one process, opened by others.
async fn sells(service: &Service) {
    service.post_all("default", &story("b").bodies(VERSIONS[0])).await;
    service.caught_up().await;
    let license = service.list("/licenses?").await.remove(0);
    let path = format!("/licenses/{}?reveal=true", license["id"].as_str().unwrap());
    let masked = license["key"].as_str().unwrap();
    for console in service.members.iter().filter(|member| member.role == Role::Console) {
        let caller = crate::support::client::Caller::new("", &console.address);
        let key: Value = caller.get(&path).await["key"].clone();
        let key = key.as_str().unwrap();
        assert!(!key.contains('…') && key.ends_with(masked.rsplit('-').next().unwrap()), "{masked}");
    }
}

#[tokio::test]
async fn two_of_each_role_start_at_once_on_an_empty_deployment() {
    for seed in 1..=3 {
        let deployment = Deployment::new(&Setup::default());
        let mut roles = [Role::ALL, Role::ALL].concat();
        Random::new(seed).shuffle(&mut roles);
        let service = deployment.up_with(&roles).await;
        sells(&service).await;
        deployment.finish(service).await;
    }
}

#[tokio::test]
async fn each_role_gets_ready_though_no_other_has_ever_run() {
    for first in Role::ALL {
        let deployment = Deployment::new(&Setup::default());
        let mut members = vec![deployment.start(first).await];
        for role in Role::ALL.into_iter().rev().filter(|role| *role != first) {
            members.push(deployment.start(role).await);
        }
        let service = Service::new(members);
        sells(&service).await;
        deployment.finish(service).await;
    }
}
