//! The services of `docker-compose.yml` as processes here, each with its own environment, settings, secrets and rights on
//! NATS: they sell a license, and a program downstream sees it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keyledger_ingest::signature;
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::secret::Secret;
use keyledger_test_servers::{CURRENT, Nats, Options, Postgres};
use license_subscriber::{Handled, follow};
use serde_json::Value;
use tempfile::TempDir;

use crate::{ROLES, compose, deployed, project, read};

const WEBHOOK_SECRET: &str = "whsec_of_the_compose_test";

/// Long enough for anything to happen; a test that works never waits for it.
const PATIENCE: Duration = Duration::from_mins(1);

/// A deployment with the files of `deploy`, its addresses replaced by those that are free here.
struct Deployment {
    folder: TempDir,
    postgres: Postgres,
    nats: Nats,
}

impl Deployment {
    fn start() -> Self {
        let folder = deployed();
        let secrets = folder.path().join("deploy/secrets");
        fs::write(secrets.join("stripe_webhooks"), WEBHOOK_SECRET).unwrap();
        let passwords = fs::read_to_string(secrets.join("nats_passwords.conf")).unwrap();
        let config = read("deploy/nats/permissions.conf").replace("include ./passwords.conf", &passwords);
        let nats = Nats::start_with(&Options { version: CURRENT, config, login: None });
        let deployment = Self { folder, postgres: Postgres::start(), nats };
        let settings = deployment.here(&read("deploy/keyledger.toml"));
        fs::write(deployment.folder.path().join("keyledger.toml"), settings + "\n[[catalog]]\nproduct = \"pro\"\n")
            .unwrap();
        deployment
    }

    /// A file or a variable of the containers, with what it names as it is here.
    fn here(&self, text: &str) -> String {
        let folder = self.folder.path().display();
        let mut text = text
            .replace("/run/secrets", &format!("{folder}/deploy/secrets"))
            .replace("/var/lib/keyledger", &format!("{folder}/data"))
            .replace("@postgres/", &format!("@127.0.0.1:{}/", self.postgres.port()))
            .replace("nats://nats:4222", &format!("nats://127.0.0.1:{}", self.nats.port()));
        for port in ["8080", "8081", "8083", "8084"] {
            text = text.replace(&format!("0.0.0.0:{port}"), "127.0.0.1:0");
        }
        text
    }

    /// What a container of this service would run.
    fn command(&self, service: &str, arguments: &[&str]) -> Command {
        let service = &compose()["services"][service];
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyledger"));
        command.current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        for (name, value) in service["environment"].as_object().into_iter().flatten() {
            command.env(name, self.here(value.as_str().unwrap()));
        }
        command.args(arguments);
        command
    }

    fn password(&self, user: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("deploy/secrets/nats_{user}"))).unwrap()
    }
}

/// A service that runs. Killed when dropped.
struct Service {
    child: Child,
    ready: Value,
}

impl Service {
    fn start(deployment: &Deployment, name: &str) -> Self {
        let said = fs::File::create(deployment.folder.path().join(format!("{name}.log"))).unwrap();
        let mut child = deployment.command(name, &[name]).stdout(Stdio::piped()).stderr(said).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{name} did not start: {}", said_by(deployment, name)));
        Self { child, ready }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said_by(deployment: &Deployment, name: &str) -> String {
    fs::read_to_string(deployment.folder.path().join(format!("{name}.log"))).unwrap()
}

/// Stripe's events of a one-off payment.
fn payment() -> Vec<String> {
    let folder = project().join("schemas/testdata/stripe/events/b_one_off_payment");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.to_string_lossy().contains("dahlia"));
    files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

async fn post(url: &str, body: &str) {
    let header = signature::sign(&Secret::new(WEBHOOK_SECRET), body.as_bytes(), SystemClock.now());
    let http = keyledger_test_servers::http::client();
    let answer = http.post(url).header(signature::HEADER, header).body(body.to_owned()).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

/// The first license that the subscriber tells of.
async fn first_license(deployment: &Deployment) -> String {
    let options = license_subscriber::Options {
        url: format!("nats://127.0.0.1:{}", deployment.nats.port()),
        user: "licenses".to_owned(),
        password: deployment.password("licenses"),
        schemas: project().join("schemas/json"),
    };
    let mut handled = Handled::open(&deployment.folder.path().join("handled")).unwrap();
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let following = follow(&options, &mut handled, |line| said.send(line.to_owned()).unwrap());
    tokio::select! {
        ended = following => panic!("{ended:?}"),
        line = heard.recv() => line.unwrap(),
        () = tokio::time::sleep(PATIENCE) => panic!("no license was issued"),
    }
}

#[tokio::test]
async fn the_services_of_compose_sell_a_license_that_a_subscriber_sees() {
    let deployment = Deployment::start();
    let made = deployment.command("init", &["init"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(deployment.folder.path().join("data/keys").is_dir());

    let services: Vec<Service> = ROLES.iter().map(|role| Service::start(&deployment, role)).collect();
    let ingest = services[0].ready["ingest"].as_str().unwrap();
    for body in payment() {
        post(&format!("{ingest}/webhooks/stripe"), &body).await;
    }
    let line = first_license(&deployment).await;
    assert!(line.contains(" pro "), "{line}");

    // Nobody asked for more than deploy/nats/permissions.conf lets it have.
    for role in ROLES {
        let said = said_by(&deployment, role);
        assert!(!said.contains("ermissions"), "{role}: {said}");
    }
    // The books agree: log, mirror, issuer and views, as seen with the rights of the console.
    let checked = deployment.command("console", &["check"]).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(checked.status.success(), "{}{}", said(&checked.stdout), said(&checked.stderr));

    // What docs/operations.md asks the database for is there.
    let document = read("docs/operations.md");
    let queries = document.lines().filter_map(|line| line.strip_prefix("$ psql -d keyledger -c \""));
    let answers: Vec<String> =
        queries.map(|query| deployment.postgres.psql(query.strip_suffix('"').unwrap())).collect();
    assert!(answers.len() >= 2 && answers.iter().all(|answer| answer.contains("kB")), "{answers:?}");
}
