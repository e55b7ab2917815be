//! The views are nothing but the log: a replay to any position gives what stood there, and nothing is done again.

use std::fs;
use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

use crate::deployment::Deployment;
use crate::support::setup::Setup;
use crate::support::stories::{self, VERSIONS};
use crate::support::stub::Stub;

/// The views as they stood at a position.
struct Snapshot {
    position: u64,
    views: PathBuf,
}

/// Stops the service, so that its views are one file, and keeps a copy.
async fn snapshot(deployment: &Deployment, number: usize) -> Snapshot {
    let position = deployment.json(0, &["check"]).await["position"].as_u64().unwrap();
    let views = deployment.folder().join(format!("views-{number}.db"));
    let mut database = SqliteConnection::connect(&url(&deployment.views_file())).await.unwrap();
    sqlx::query("pragma wal_checkpoint(truncate)").execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    fs::copy(deployment.views_file(), &views).unwrap();
    Snapshot { position, views }
}

fn url(file: &Path) -> String {
    format!("sqlite:{}", file.display())
}

/// The tables in which two sets of views differ, and by how many rows.
async fn differing(one: &Path, other: &Path) -> Vec<(String, i64)> {
    let mut database = SqliteConnection::connect(&url(one)).await.unwrap();
    let attach = format!("attach '{}' as other", other.display());
    sqlx::query(AssertSqlSafe(attach)).execute(&mut database).await.unwrap();
    let named = "select name from sqlite_master where type = 'table' and name not like 'sqlite_%' order by name";
    let tables: Vec<String> = sqlx::query_scalar(named).fetch_all(&mut database).await.unwrap();
    assert!(tables.len() > 5, "{tables:?}");
    let mut differing = Vec::new();
    for table in tables {
        let count = format!(
            "select (select count(*) from (select * from main.{table} except select * from other.{table}))
                  + (select count(*) from (select * from other.{table} except select * from main.{table}))"
        );
        let rows: i64 = sqlx::query(AssertSqlSafe(count)).fetch_one(&mut database).await.unwrap().get(0);
        if rows > 0 {
            differing.push((table, rows));
        }
    }
    database.close().await.unwrap();
    differing
}

#[tokio::test]
async fn a_replay_to_a_position_gives_the_views_that_stood_there() {
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path()).await;
    let deployment = Deployment::new(&Setup { settings: stub.settings(), ..Setup::default() });
    let stories = stories::all();
    let mut snapshots = Vec::new();
    for (number, some) in stories.chunks(4).enumerate() {
        let service = deployment.up().await;
        for story in some {
            service.post_together("default", &story.bodies(VERSIONS[number % 2]), 4).await;
        }
        service.caught_up().await;
        service.stop().await;
        snapshots.push(snapshot(&deployment, number).await);
    }

    let made = stub.stats().await;
    for Snapshot { position, views } in &snapshots {
        let into = deployment.folder().join(format!("replayed-{position}.db"));
        let (to, file) = (position.to_string(), into.to_str().unwrap());
        deployment.json(0, &["replay", "--to", &to, "--into", file]).await;
        assert_eq!(differing(views, &into).await, [], "at position {position}");
    }
    deployment.audit().await;
    // Nor does a restart do anything again.
    for _ in 0..2 {
        let service = deployment.up().await;
        service.caught_up().await;
        service.stop().await;
    }
    assert_eq!(deployment.json(0, &["check"]).await["position"], snapshots.last().unwrap().position);
    assert_eq!(stub.stats().await, made, "a replay or a restart called the engine");
    stub.stop().await;
}
