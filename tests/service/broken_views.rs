//! Views are derived: whatever happens to their file, webhooks are taken, licenses issued, and the views made again.

use std::fs;
use std::path::PathBuf;

use sqlx::{Connection, Executor, SqliteConnection};

use crate::deployment::{Deployment, Service};
use crate::support::setup::Setup;
use crate::support::stories::{VERSIONS, story};
use crate::support::wait::{PATIENCE, until};

/// Makes every session's facts unreadable, beside the service that runs.
const DAMAGE: &str = "update object set facts = '{' where kind = 'session'";

/// A sale by a session of this number.
fn sale(number: usize) -> Vec<Vec<u8>> {
    let bodies = story("b").bodies(VERSIONS[0]);
    let text = |body: &Vec<u8>| String::from_utf8(body.clone()).unwrap();
    bodies.iter().map(|body| renamed(&text(body), number).into_bytes()).collect()
}

/// The same events of other objects.
fn renamed(body: &str, number: usize) -> String {
    let mut body = body.to_owned();
    for prefix in ["evt_", "cs_test_", "cs_live_", "pi_", "ch_", "cus_"] {
        body = body.replace(&format!("\"{prefix}"), &format!("\"{prefix}{number}x"));
    }
    body
}

async fn damage(deployment: &Deployment) {
    let mut database =
        SqliteConnection::connect(&format!("sqlite:{}", deployment.views_file().display())).await.unwrap();
    let changed = database.execute(DAMAGE).await.unwrap();
    assert!(changed.rows_affected() > 0, "nothing was damaged");
    database.close().await.unwrap();
}

/// What was put aside, without what SQLite keeps beside a file.
fn aside(deployment: &Deployment) -> Vec<PathBuf> {
    let entries = fs::read_dir(deployment.data_dir()).unwrap().map(|entry| entry.unwrap().path());
    let is_aside = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("views.db.broken-") && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    entries.filter(is_aside).collect()
}

async fn has_licenses(service: &Service, expected: usize) {
    service.caught_up().await;
    assert_eq!(service.list("/licenses?").await.len(), expected);
}

/// What the issuer itself says, whatever the views are like.
async fn issuer_caught_up(service: &Service) {
    until("the issuer", PATIENCE, async || {
        let status = service.status().await;
        let done = status["issuer"]["position"] == status["log"]["position"] && status["issuer"]["due_now"] == 0;
        if done { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_damaged_row_puts_the_views_aside_and_they_are_made_again_under_load() {
    let deployment = Deployment::new(&Setup::default());
    let mut service = deployment.up().await;
    service.post_all("default", &sale(1)).await;
    has_licenses(&service, 1).await;
    damage(&deployment).await;
    // Another event of the session: the fold must read its row.
    let again = String::from_utf8(sale(1).pop().unwrap()).unwrap().replace("\"evt_", "\"evt_again");
    service.post_all("default", &[again.into_bytes()]).await;
    service.post_all("default", &sale(2)).await;
    has_licenses(&service, 2).await;
    assert!(service.process.is_running());
    assert_eq!(aside(&deployment).len(), 1, "{}", deployment.said());
    assert!(deployment.said().contains("put aside"));
    deployment.finish(service).await;
}

#[tokio::test]
async fn views_that_break_twice_stand_still_and_sales_go_on() {
    let deployment = Deployment::new(&Setup::default());
    let mut service = deployment.up().await;
    for round in 0..2 {
        service.post_all("default", &sale(round)).await;
        service.caught_up().await;
        damage(&deployment).await;
        let again = format!("\"evt_again{round}");
        let again = String::from_utf8(sale(round).pop().unwrap()).unwrap().replace("\"evt_", &again);
        service.post_all("default", &[again.into_bytes()]).await;
        until("a reaction", PATIENCE, async || {
            let said = deployment.said();
            let expected = ["put aside", "the views stand still"][round];
            if said.contains(expected) { Ok(()) } else { Err(expected.to_owned()) }
        })
        .await;
    }
    service.post_all("default", &sale(7)).await;
    issuer_caught_up(&service).await;
    assert!(service.process.is_running());
    let status = service.status().await;
    let at = |part: &str| status[part]["position"].as_u64().unwrap();
    assert!(at("projector") < at("log"), "{status:#}");
    let metrics = service.http.get(format!("{}/metrics", service.ingest)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("keyledger_views_down 1"), "{metrics}");
    service.stop().await;

    // The next start tries once more, and all that was sold meanwhile is there.
    let service = deployment.up().await;
    has_licenses(&service, 3).await;
    assert_eq!(aside(&deployment).len(), 2);
    deployment.finish(service).await;
}

#[tokio::test]
async fn views_that_are_no_database_or_have_a_broken_page_do_not_keep_it_from_starting() {
    let deployment = Deployment::new(&Setup::default());
    let service = deployment.up().await;
    service.post_all("default", &sale(0)).await;
    has_licenses(&service, 1).await;
    service.stop().await;
    let whole = fs::read(deployment.views_file()).unwrap();
    let broken_page = {
        let mut bytes = whole.clone();
        bytes[100..4096].fill(0xff);
        bytes
    };
    for (number, bytes) in
        [b"no database at all, but long enough to look at".repeat(100), broken_page].into_iter().enumerate()
    {
        fs::write(deployment.views_file(), bytes).unwrap();
        // What stands there would mend the file, where the last to close it was in a hurry.
        let _ = fs::remove_file(deployment.views_file().with_extension("db-wal"));
        let service = deployment.up().await;
        service.post_all("default", &sale(number + 1)).await;
        has_licenses(&service, number + 2).await;
        service.stop().await;
        assert_eq!(aside(&deployment).len(), number + 1, "{}", deployment.said());
    }
    deployment.audit().await;
}

#[tokio::test]
async fn a_database_of_something_else_is_left_alone_and_sales_go_on() {
    let deployment = Deployment::new(&Setup::default());
    fs::create_dir_all(deployment.data_dir()).unwrap();
    let url = format!("sqlite:{}?mode=rwc", deployment.views_file().display());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    database.execute("create table theirs (id integer)").await.unwrap();
    database.close().await.unwrap();
    let mut service = deployment.up().await;
    service.post_all("default", &sale(0)).await;
    issuer_caught_up(&service).await;
    assert!(service.process.is_running());
    assert!(deployment.said().contains("a database of something else"), "{}", deployment.said());
    service.stop().await;
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    let names: Vec<String> =
        sqlx::query_scalar("select name from sqlite_schema").fetch_all(&mut database).await.unwrap();
    database.close().await.unwrap();
    assert_eq!(names, ["theirs"]);

    fs::remove_file(deployment.views_file()).unwrap();
    let service = deployment.up().await;
    has_licenses(&service, 1).await;
    deployment.finish(service).await;
}
