//! What is refused, with a word about what to do.

use super::*;

async fn refused(url: &str) -> String {
    match try_open(url).await {
        Err(LogError::Unsafe { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_would_lose_what_it_acknowledges_is_refused_by_the_name_of_the_setting() {
    for setting in ["fsync", "full_page_writes"] {
        let server = Postgres::start_with(&[&format!("{setting}=off")]);
        let reason = refused(&server.url()).await;
        assert!(reason.contains(&format!("`{setting} = on`")), "{reason}");
        assert!(!PostgresLog::exists(&server.url()).await.unwrap(), "nothing was made");
    }
}

#[tokio::test]
async fn a_server_that_comes_back_with_unsafe_settings_takes_no_appends_until_they_are_mended() {
    let mut server = Postgres::start();
    let log = open(&server).await;
    append(&log, "a").await.unwrap();
    let settings = server.data_dir().join("postgresql.auto.conf");
    server.stop();
    std::fs::write(&settings, "fsync = off\n").unwrap();
    server.start_again();
    let refused = append(&log, "b").await;
    let right =
        matches!(&refused, Err(AppendError::Unavailable(LogError::Unsafe { reason })) if reason.contains("fsync"));
    assert!(right, "{refused:?}");
    assert_eq!(log.head().await.unwrap().position, 1, "what is there can be read");
    server.stop();
    std::fs::write(&settings, "").unwrap();
    server.start_again();
    assert_eq!(append_patiently(&log, "b").await, Placed::Appended(2));
}

#[tokio::test]
async fn what_the_server_commits_carelessly_by_default_is_committed_with_care() {
    let server = Postgres::start_with(&["synchronous_commit=off", "default_transaction_isolation=serializable"]);
    let log = open(&server).await;
    append(&log, "a").await.unwrap();
    let mut writing = Server::new(url::parse(&server.url()).unwrap(), &options()).for_writing().await.unwrap();
    for (setting, value) in [("synchronous_commit", "on"), ("default_transaction_isolation", "read committed")] {
        let query = sqlx::query_scalar("select current_setting($1)").bind(setting);
        let is: String = query.fetch_one(&mut writing).await.unwrap();
        assert_eq!(is, value);
    }
}

#[tokio::test]
async fn a_database_that_cannot_hold_an_event_or_takes_none_is_refused() {
    let server = Postgres::start();
    server.psql("create database latin encoding 'LATIN1' locale 'C' template template0");
    assert!(refused(&server.url_of("latin")).await.contains("encoding 'UTF8'"));
    server.psql("create database fixed");
    server.psql("alter database fixed set default_transaction_read_only = on");
    assert!(refused(&server.url_of("fixed")).await.contains("default_transaction_read_only"));
}

#[tokio::test]
async fn a_standby_is_refused() {
    let mut server = Postgres::start();
    open(&server).await.close().await;
    server.stop();
    std::fs::write(server.data_dir().join("standby.signal"), "").unwrap();
    server.start_again();
    assert!(refused(&server.url()).await.contains("name the primary"));
}

#[tokio::test]
async fn tables_of_someone_else_are_refused_and_left_alone() {
    let server = Postgres::start();
    server.psql("create schema keyledger_log create table letter (body text)");
    assert!(refused(&server.url()).await.contains("no log of keyledger"));
    assert_eq!(server.psql("select count(*) from pg_class where relnamespace = 'keyledger_log'::regnamespace"), "1");
}

#[tokio::test]
async fn a_log_with_another_schema_than_ours_is_refused() {
    let server = Postgres::start();
    open(&server).await.close().await;
    server.psql("update keyledger_log._sqlx_migrations set checksum = '' where version = 1");
    assert!(refused(&server.url()).await.contains("another schema 1"));
    server.psql(
        "insert into keyledger_log._sqlx_migrations (version, description, success, checksum, execution_time) \
         values (9999, 'from the future', true, '', 0)",
    );
    assert!(refused(&server.url()).await.contains("newer keyledger"));
}

#[tokio::test]
async fn a_user_that_may_not_make_the_schema_is_told_what_to_grant() {
    let server = Postgres::start();
    server.psql("create role small login");
    let url = server.url().replace("keyledger@", "small@");
    assert!(refused(&url).await.contains("grant create on database"));
    server.psql("create schema keyledger_log authorization small");
    let log = try_open(&url).await.unwrap();
    append(&log, "a").await.unwrap();
}

#[tokio::test]
async fn a_log_is_not_moved_onto_another() {
    let server = Postgres::start();
    let moved = Uuid::from_u128(7);
    let with_id = |id| Options { log_id: Some(id), ..options() };
    let log = PostgresLog::open(&server.url(), clock(), with_id(moved)).await.unwrap();
    assert_eq!(log.log_id(), moved);
    assert_eq!(open(&server).await.log_id(), moved);
    let refused = PostgresLog::open(&server.url(), clock(), with_id(Uuid::from_u128(8))).await;
    assert!(matches!(&refused, Err(LogError::Unsafe { reason }) if reason.contains("empty database")), "{refused:?}");
}

#[tokio::test]
async fn a_password_is_in_no_error_and_no_debug_text() {
    let server = Postgres::start();
    let with_password = |url: String| url.replace("keyledger@", "keyledger:s3cret@");
    let nobody = format!("127.0.0.1:{}", Link::to(1).await.port());
    let failing = [
        with_password(server.url_of("nowhere")),
        format!("{}?sslmode=require", with_password(server.url())),
        format!("postgres://keyledger:s3cret@{nobody}/keyledger"),
        "postgres://keyledger:s3cret@host:no/keyledger".to_owned(),
    ];
    for url in failing {
        let error = try_open(&url).await.unwrap_err();
        assert!(!chain_of(&error).contains("s3cret"), "{}", chain_of(&error));
    }
    let log = try_open(&with_password(server.url())).await.unwrap();
    assert!(!format!("{log:?}").contains("s3cret"));
}
