//! Ways to prove who we are, and an encrypted way to the server.

use std::path::Path;
use std::process::Command;

use keyledger_eventlog::jetstream::options::{Login, Options};
use keyledger_eventlog::jetstream::{Mirror, connect};
use keyledger_schemas::secret::Secret;
use keyledger_test_servers::Nats;

use crate::support::{Place, options, until};

/// A nats-server with this configuration.
fn server(config: &str) -> Nats {
    Nats::start_with(&keyledger_test_servers::Options {
        config: config.to_owned(),
        ..keyledger_test_servers::Options::default()
    })
}

/// Waits until the server answers with these options.
async fn gets_in(options: &Options) {
    let log = Place::new().open().await;
    let mirror = Mirror::new(connect(options).await.unwrap(), keyledger_eventlog::log::EventLog::log_id(&*log));
    until(async || mirror.look().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_the_options_or_in_the_url_opens_the_door() {
    let nats = server("authorization { user: me, password: \"p@ss word\" }");
    let login = Login::Password { user: "me".to_owned(), password: Secret::new("p@ss word") };
    gets_in(&Options { login, ..options(nats.url()) }).await;
    gets_in(&options(nats.url().replace("nats://", "nats://me:p%40ss%20word@"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_the_door() {
    let nats = server("authorization { token: s3cret }");
    gets_in(&Options { login: Login::Token(Secret::new("s3cret\n")), ..options(nats.url()) }).await;
    gets_in(&options(nats.url().replace("nats://", "nats://s3cret@"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nkey_opens_the_door() {
    // The pair of the NATS documentation.
    let nats = server("authorization { users: [{nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4}] }");
    let seed = Secret::new("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY\n");
    gets_in(&Options { login: Login::Nkey(seed), ..options(nats.url()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_tried_again() {
    let nats = server("authorization { user: me, password: right }");
    let login = Login::Password { user: "me".to_owned(), password: Secret::new("wrong") };
    let client = connect(&Options { login, ..options(nats.url()) }).await.unwrap();
    until(async || client.trouble().contains("authorization violation")).await;
    assert!(!client.is_connected());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_or_url_that_cannot_be_used_is_an_error_at_once() {
    let login = Login::CredentialsFile("/nowhere/user.creds".into());
    let refused = connect(&Options { login, ..options("nats://127.0.0.1:1") }).await.unwrap_err();
    assert_eq!(refused.to_string(), "cannot use the NATS credentials in `/nowhere/user.creds`");
    let refused = connect(&options("nats://me:hunter2@:::")).await.unwrap_err();
    assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
}

/// Runs `openssl` in `folder`.
fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_certificate_of_our_own_authority_is_trusted_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    std::fs::write(place.join("server.ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(place, &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"));
    openssl(place, &format!("req {key} -keyout server.key -out server.csr -subj /CN=server"));
    openssl(
        place,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile server.ext",
    );
    let (cert, key) = (place.join("server.pem"), place.join("server.key"));
    let nats = server(&format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", cert.display(), key.display()));
    gets_in(&Options { tls_ca_file: Some(place.join("ca.pem")), ..options(nats.url()) }).await;
    let stranger = connect(&options(nats.url().replace("nats://", "tls://"))).await.unwrap();
    until(async || stranger.trouble() != "there is no connection to NATS").await;
    assert!(!stranger.is_connected(), "{}", stranger.trouble());
}
