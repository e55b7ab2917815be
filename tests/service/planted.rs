//! What the proofs are worth: a difference that is planted is found, by name and by exit code.

use serde_json::json;
use sqlx::{Connection, Executor, SqliteConnection};

use crate::support::deployment::{Deployment, Setup};
use crate::support::stories::{self, VERSIONS};

/// A stopped deployment that all stories were told to.
async fn told() -> Deployment {
    let deployment = Deployment::new(&Setup::default());
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
        ("update obligation set open = 'no_key' where rowid = (select min(rowid) from obligation)", true),
        ("update license set seats = 99 where id = (select min(id) from license)", false),
        ("delete from license where id = (select max(id) from license)", false),
        ("update customer set name = 'Somebody Else' where id = (select min(id) from customer)", false),
        ("update object set amount_minor = 1 where kind = 'charge'", false),
    ];
    for (statement, is_about_the_promise) in plants {
        change(&deployment.views_file(), statement).await;
        // The trial balance is about open obligations; a replay compares every row.
        let checked = deployment.json(if is_about_the_promise { 3 } else { 0 }, &["check"]).await;
        assert_eq!(checked["differences"] != json!([]), is_about_the_promise, "{statement}");
        deployment.json(3, &["replay"]).await;
        deployment.audit().await;
    }
}

#[tokio::test]
async fn an_event_that_was_changed_afterwards_is_found() {
    let deployment = told().await;
    change(&deployment.log_file(), "drop trigger event_is_never_changed").await;
    change(&deployment.log_file(), "update event set data = replace(data, '2000', '2001') where position = 12").await;
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
