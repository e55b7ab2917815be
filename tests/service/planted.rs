//! What the proofs are worth: a difference that is planted is found, by name and by exit code.

use sqlx::{Connection, Executor, SqliteConnection};

use crate::deployment::Deployment;
use crate::support::setup::{SELL_EVERYTHING, Setup};
use crate::support::stories::{self, VERSIONS};

/// The subscription of story g that another system left without a key.
const STUCK: &str = "sub_1PeHPFB7WZ01zgkW2CJpD0Cc";

/// A stopped deployment that all stories were told to.
async fn told() -> Deployment {
    told_with(&Setup::default()).await
}

async fn told_with(setup: &Setup) -> Deployment {
    let deployment = Deployment::new(setup);
    let service = deployment.up().await;
    for story in stories::all() {
        service.post_together("default", &story.bodies(VERSIONS[1]), 8).await;
    }
    service.caught_up().await;
    service.stop().await;
    deployment
}

async fn change(file: &std::path::Path, statement: &'static str) {
    let mut database = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    database.execute(statement).await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test]
async fn a_difference_planted_in_the_views_is_found_and_a_replay_mends_it() {
    let deployment = told().await;
    deployment.audit().await;
    let plants = [
        "update license set seats = 99 where id = (select min(id) from license)",
        "delete from license where id = (select max(id) from license)",
        "update obligation set open = 'no_key' where (purchase, item, number) = \
         (select purchase, item, number from obligation where open is null order by purchase, item, number limit 1)",
        "update customer set name = 'Somebody Else' where id = (select min(id) from customer)",
        "update object set amount_minor = 1 where kind = 'charge'",
    ];
    for statement in plants {
        change(&deployment.views_file(), statement).await;
        deployment.json(3, &["replay"]).await;
        deployment.audit().await;
    }
}

#[tokio::test]
async fn a_case_that_is_hidden_from_view_is_found_by_the_trial_balance() {
    let settings = format!("{SELL_EVERYTHING}[policy]\nleft_by_other_system = \"case\"\n");
    let deployment = told_with(&Setup { settings, ..Setup::default() }).await;
    assert_eq!(deployment.json(0, &["check"]).await["open"], 1);
    let plants = [
        "delete from casefile where kind = 'no_key'",
        "update casefile set status = 'closed' where kind = 'no_key'",
        "update casefile set kind = 'not_extended' where kind = 'no_key'",
    ];
    for statement in plants {
        change(&deployment.views_file(), statement).await;
        let checked = deployment.json(3, &["check"]).await;
        assert!(checked["differences"].to_string().contains(STUCK), "{statement}: {checked:#}");
        deployment.json(3, &["replay"]).await;
        deployment.audit().await;
    }
}

#[tokio::test]
async fn an_event_that_was_changed_afterwards_is_found() {
    let deployment = told().await;
    change(&deployment.log_file(), "drop trigger event_is_never_changed").await;
    change(
        &deployment.log_file(),
        "update event set data = cast(replace(cast(data as text), '2026', '2027') as blob) where position = 12",
    )
    .await;
    let verified = deployment.json(3, &["events", "verify"]).await;
    assert_eq!(verified["problem"]["position"], 12, "{verified:#}");
    let checked = deployment.json(3, &["check"]).await;
    assert!(checked["differences"].to_string().contains("chain"), "{checked:#}");
}

#[tokio::test]
async fn views_that_are_gone_are_made_again_from_the_log() {
    let deployment = told().await;
    for ending in ["", "-wal", "-shm"] {
        let mut file = deployment.views_file().into_os_string();
        file.push(ending);
        let _ = std::fs::remove_file(file);
    }
    let service = deployment.up().await;
    service.caught_up().await;
    assert!(!service.list("/licenses?").await.is_empty());
    deployment.finish(service).await;
}
