//! A log that is gone or old is refused before anything is made or written, and what is put back then is used as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{Connection, Executor, SqliteConnection};

use crate::deployment::Deployment;
use crate::support::setup::Setup;
use crate::support::stories::{VERSIONS, story};

/// The log's file and what SQLite keeps beside it.
fn files(deployment: &Deployment) -> Vec<PathBuf> {
    let log = deployment.log_file().display().to_string();
    ["", "-wal", "-shm"].iter().map(|ending| PathBuf::from(format!("{log}{ending}"))).collect()
}

async fn connection(file: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap()
}

/// A deployment that sold something and was stopped, and how many events its log holds.
async fn sold() -> (Deployment, u64) {
    let deployment = Deployment::new(&Setup::default());
    let service = deployment.up().await;
    service.post_all("default", &story("b").bodies(VERSIONS[0])).await;
    service.caught_up().await;
    let events = service.get("/status").await["log"]["position"].as_u64().unwrap();
    service.stop().await;
    (deployment, events)
}

/// `up` must refuse, and say all of `words`.
async fn refused(deployment: &Deployment, words: &[&str]) {
    let output = deployment.run(&["up"]).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in {said}");
    }
}

async fn holds(deployment: &Deployment, events: u64) {
    let verified = deployment.json(0, &["events", "verify"]).await;
    assert_eq!(verified["events"], events, "{verified:#}");
}

#[tokio::test]
async fn a_log_that_is_gone_is_refused_and_the_one_put_back_is_used() {
    let (deployment, events) = sold().await;
    let backup = fs::read(deployment.log_file()).unwrap();
    fs::remove_file(deployment.log_file()).unwrap();
    refused(&deployment, &["there is no log", "log.db-wal and", "--accept-loss"]).await;
    assert!(files(&deployment).iter().all(|file| !file.exists()), "a refusal makes nothing");

    // Without views the keys tell that there was a log.
    fs::remove_file(deployment.views_file()).unwrap();
    refused(&deployment, &["there is no log", "the keys in"]).await;
    refused(&deployment, &["there is no log", "the keys in"]).await;

    fs::write(deployment.log_file(), backup).unwrap();
    let service = deployment.up().await;
    service.caught_up().await;
    assert_eq!(service.list("/licenses?").await.len(), 1);
    service.stop().await;
    holds(&deployment, events).await;
    deployment.audit().await;
}

#[tokio::test]
async fn a_log_that_is_gone_for_good_is_begun_anew_when_that_is_accepted() {
    let (deployment, _) = sold().await;
    fs::remove_file(deployment.log_file()).unwrap();
    let service = deployment.up_with(&["--accept-loss"]).await;
    service.post_all("default", &story("b").bodies(VERSIONS[0])).await;
    service.caught_up().await;
    assert_eq!(service.list("/licenses?").await.len(), 1);
    deployment.finish(service).await;
}

#[tokio::test]
async fn an_older_log_is_refused_unchanged_and_the_newer_one_is_used_as_it_was() {
    let (deployment, events) = sold().await;
    let older = fs::read(deployment.log_file()).unwrap();
    let service = deployment.up().await;
    service.post_all("default", &story("a").between(VERSIONS[0], 1, 8)).await;
    service.caught_up().await;
    service.stop().await;
    let newer = fs::read(deployment.log_file()).unwrap();

    // Views of another build have seen the same events.
    for views in [None, Some("update view_meta set projection_version = 0")] {
        if let Some(statement) = views {
            let mut database = connection(&deployment.views_file()).await;
            database.execute(statement).await.unwrap();
            database.close().await.unwrap();
        }
        fs::write(deployment.log_file(), &older).unwrap();
        // Other settings must not be recorded in it either.
        deployment.configure(&Setup { settings: String::new(), ..Setup::default() });
        refused(&deployment, &["have seen", "log.db-wal and", "--accept-loss"]).await;
        let left = files(&deployment).iter().filter(|file| file.exists()).count();
        assert_eq!(left, 1, "the log was closed");
        holds(&deployment, events).await;
    }

    fs::write(deployment.log_file(), &newer).unwrap();
    deployment.configure(&Setup::default());
    let service = deployment.up().await;
    service.caught_up().await;
    assert_eq!(service.list("/licenses?").await.len(), 2);
    deployment.finish(service).await;
}

#[tokio::test]
async fn a_start_that_fails_late_leaves_the_log_closed() {
    let (deployment, events) = sold().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = fs::read_to_string(deployment.folder().join("keyledger.toml")).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let settings = settings.replace("[api]\nlisten = \"127.0.0.1:0\"", &format!("[api]\nlisten = \"{address}\""));
    fs::write(deployment.folder().join("keyledger.toml"), settings).unwrap();
    refused(&deployment, &["api.listen"]).await;
    let left = files(&deployment).iter().filter(|file| file.exists()).count();
    assert_eq!(left, 1, "the log was closed");
    holds(&deployment, events).await;
}

#[tokio::test]
async fn a_start_that_takes_long_can_be_stopped() {
    let (deployment, events) = sold().await;
    // Somebody has the log to himself, so that it cannot be opened yet.
    let mut holder = connection(&deployment.log_file()).await;
    holder.execute("pragma locking_mode = exclusive; begin exclusive").await.unwrap();
    let status = deployment.up_stopped_after(Duration::from_millis(700)).await;
    assert_eq!(status.code(), Some(0), "{}", deployment.said());
    assert!(deployment.said().contains("before it was ready"), "{}", deployment.said());
    holder.close().await.unwrap();
    holds(&deployment, events).await;
    let service = deployment.up().await;
    service.caught_up().await;
    deployment.finish(service).await;
}
