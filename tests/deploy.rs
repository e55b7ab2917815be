//! What is shipped to run keyledger with: `docker-compose.yml`, the `Dockerfile`, and the files under `deploy`. No Docker
//! is needed here: everything that they say of keyledger, of each other and of the servers is held against those.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "deploy/services.rs"]
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

use clap::Parser;
use keyledger::cli::Arguments;
use keyledger::settings::Settings;
use keyledger_test_servers::{CURRENT, OLDEST};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};
use tempfile::TempDir;

const ROLES: [&str; 4] = ["ingest", "issuer", "projector", "console"];

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(project().join(path)).unwrap()
}

/// YAML as JSON, with its merge keys merged in.
fn json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::String(text)) => Value::from(text.as_ref()),
        Yaml::Value(Scalar::Boolean(truth)) => Value::from(*truth),
        Yaml::Value(Scalar::Integer(number)) => Value::from(*number),
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Sequence(list) => list.iter().map(json).collect(),
        Yaml::Mapping(mapping) => {
            let (mut merged, mut own) = (Map::new(), Map::new());
            for (key, value) in mapping {
                match (key.as_str().unwrap(), json(value)) {
                    ("<<", Value::Object(values)) => merged.extend(values),
                    (key, value) => {
                        assert!(own.insert(key.to_owned(), value).is_none(), "{key} stands twice");
                    }
                }
            }
            merged.extend(own);
            Value::Object(merged)
        }
        other => panic!("{other:?}"),
    }
}

fn compose() -> Value {
    let text = read("docker-compose.yml");
    json(&Yaml::load_from_str(&text).unwrap()[0])
}

fn names(table: &Value) -> BTreeSet<String> {
    table.as_object().unwrap().keys().cloned().collect()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The names of the secrets that a service is given, and where it finds each.
fn secrets_of(service: &Value) -> BTreeMap<String, String> {
    let mut secrets = BTreeMap::new();
    for secret in service["secrets"].as_array().into_iter().flatten() {
        let (name, target) = match secret {
            Value::String(name) => (name.clone(), format!("/run/secrets/{name}")),
            long => (long["source"].as_str().unwrap().to_owned(), long["target"].as_str().unwrap().to_owned()),
        };
        secrets.insert(name, target);
    }
    secrets
}

/// The folder `deploy` as an operator has it after `deploy/secrets.sh`.
fn deployed() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(project().join("deploy")).arg(folder.path()).status().unwrap();
    assert!(copied.success());
    let _ = fs::remove_dir_all(folder.path().join("deploy/secrets"));
    make_secrets(&folder);
    folder
}

fn make_secrets(folder: &TempDir) {
    let made = Command::new("sh").arg(folder.path().join("deploy/secrets.sh")).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn every_role_is_a_service_that_keyledger_understands() {
    let compose = compose();
    for role in ROLES {
        let service = &compose["services"][role];
        assert_eq!(texts(&service["command"]), [role]);
        let check = texts(&service["healthcheck"]["test"]);
        assert_eq!(check[..2], ["CMD", "/usr/local/bin/keyledger"]);
        assert_eq!(check.last().unwrap(), role, "{role} asks another role for its health");
        for arguments in [texts(&service["command"]), check[2..].to_vec()] {
            let line = std::iter::once("keyledger".to_owned()).chain(arguments.iter().cloned());
            assert!(Arguments::try_parse_from(line).is_ok(), "{role}: keyledger {arguments:?}");
        }
    }
}

#[test]
fn no_service_of_ours_has_rights_that_it_does_not_need() {
    let compose = compose();
    for name in ROLES.into_iter().chain(["init"]) {
        let service = &compose["services"][name];
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        let secrets = secrets_of(service);
        assert_eq!(secrets.contains_key("stripe_webhooks"), name == "ingest", "{name}: {secrets:?}");
        let of_nats: Vec<_> = secrets.keys().filter(|secret| secret.starts_with("nats_")).collect();
        if name != "init" {
            assert_eq!(of_nats, [&format!("nats_{name}")]);
        }
    }
}

#[test]
fn only_webhooks_are_published_and_only_to_this_machine() {
    for (name, service) in compose()["services"].as_object().unwrap() {
        match service.get("ports") {
            None => assert_ne!(name, "ingest"),
            Some(ports) => {
                assert_eq!(name, "ingest");
                assert!(texts(ports).iter().all(|port| port.starts_with("127.0.0.1:")), "{ports}");
            }
        }
    }
}

#[test]
fn every_service_comes_back_and_is_given_time_to_end() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        if name == "init" {
            continue;
        }
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        assert!(service["healthcheck"]["test"].is_array(), "{name}");
        let grace = service["stop_grace_period"].as_str().unwrap().strip_suffix('s').unwrap();
        assert!(grace.parse::<u64>().unwrap() > Settings::default().stop_timeout_s, "{name}");
    }
}

#[test]
fn everything_that_a_service_names_is_there() {
    let compose = compose();
    let deployed = deployed();
    for (name, service) in compose["services"].as_object().unwrap() {
        for secret in secrets_of(service).keys() {
            assert!(names(&compose["secrets"]).contains(secret), "{name}: {secret}");
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let (source, _) = volume.as_str().unwrap().split_once(':').unwrap();
            let there = match source.strip_prefix("./") {
                Some(file) => project().join(file).exists(),
                None => names(&compose["volumes"]).contains(source),
            };
            assert!(there, "{name}: {source}");
        }
        for other in service["depends_on"].as_object().into_iter().flatten().map(|(other, _)| other) {
            assert!(names(&compose["services"]).contains(other), "{name}: {other}");
        }
    }
    for (name, secret) in compose["secrets"].as_object().unwrap() {
        let file = secret["file"].as_str().unwrap().strip_prefix("./").unwrap();
        assert!(deployed.path().join(file).exists(), "{name}: deploy/secrets.sh does not make {file}");
    }
}

/// The settings of a service, with the secrets where this machine has them.
fn settings_of(service: &Value, deployed: &TempDir) -> Result<Settings, String> {
    let secrets = deployed.path().join("deploy/secrets").display().to_string();
    let local = |text: &str| text.replace("/run/secrets", &secrets);
    let file = deployed.path().join("keyledger.toml");
    fs::write(&file, local(&read("deploy/keyledger.toml"))).unwrap();
    let variables = service["environment"].as_object().into_iter().flatten();
    let variables = variables.map(|(name, value)| (name.clone(), local(value.as_str().unwrap())));
    // As the Dockerfile sets it.
    let image = [("KEYLEDGER_DATA_DIR".to_owned(), "/var/lib/keyledger".to_owned())];
    let environment = variables.chain(image).collect();
    Settings::load(Some(&file), &environment).map_err(|bad| bad.to_string())
}

#[test]
fn keyledger_accepts_the_settings_of_every_service() {
    let compose = compose();
    let deployed = deployed();
    fs::write(deployed.path().join("deploy/secrets/stripe_webhooks"), "whsec_old\nwhsec_new\n").unwrap();
    for name in ROLES.into_iter().chain(["init"]) {
        let settings = settings_of(&compose["services"][name], &deployed).unwrap_or_else(|bad| panic!("{name}: {bad}"));
        assert_eq!(settings.data_dir, Path::new("/var/lib/keyledger"));
        assert_eq!(settings.require_sources().is_ok(), name == "ingest", "{name}");
    }
    // Until somebody puts Stripe's secrets there, ingest says what is missing.
    fs::write(deployed.path().join("deploy/secrets/stripe_webhooks"), "# none yet\n").unwrap();
    let bad = settings_of(&compose["services"]["ingest"], &deployed).unwrap_err();
    assert!(bad.contains("holds no secret"), "{bad}");
}

#[test]
fn secrets_are_made_once_and_are_closed_to_others() {
    let deployed = deployed();
    let folder = deployed.path().join("deploy/secrets");
    let all = || -> BTreeMap<PathBuf, Vec<u8>> {
        let paths = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
    };
    let made = all();
    make_secrets(&deployed);
    assert_eq!(all(), made);
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let passwords: BTreeSet<&Vec<u8>> = made.values().collect();
    assert_eq!(passwords.len(), made.len(), "two secrets are the same");
    for (path, secret) in &made {
        assert!(secret.len() >= 24, "{}", path.display());
    }
}

#[test]
fn both_versions_of_nats_accept_the_configuration() {
    let deployed = deployed();
    // Where docker-compose.yml puts them.
    let folder = deployed.path().join("deploy/nats");
    fs::copy(deployed.path().join("deploy/secrets/nats_passwords.conf"), folder.join("passwords.conf")).unwrap();
    for version in [CURRENT, OLDEST] {
        let mut server = Command::new(project().join(format!(".tools/nats-server-{version}")));
        let output = server.arg("-t").arg("-c").arg(folder.join("nats-server.conf")).output().unwrap();
        assert!(output.status.success(), "{version}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let compose = compose();
    let targets: BTreeSet<String> = secrets_of(&compose["services"]["nats"]).into_values().collect();
    assert_eq!(targets, BTreeSet::from(["/etc/nats/passwords.conf".to_owned()]));
    let image = compose["services"]["nats"]["image"].as_str().unwrap().to_owned();
    assert!(image.contains(CURRENT), "tests run on {CURRENT}, and {image} runs in production");
}

/// What the Dockerfile copies from the project, as far as `.dockerignore` lets it.
fn build_context() -> Vec<PathBuf> {
    let copies = read("Dockerfile");
    let copies = copies.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--"));
    let sources = copies.flat_map(|line| {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        words.pop();
        words
    });
    sources.map(PathBuf::from).collect()
}

#[test]
fn the_image_is_built_from_all_that_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    for path in build_context() {
        let to = folder.path().join(&path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let copied = Command::new("cp").arg("-r").arg(project().join(&path)).arg(&to).status().unwrap();
        assert!(copied.success(), "{}", path.display());
    }
    // Every member and every file that is compiled in must be among it. `scripts/check-image.sh` builds it in full.
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(folder.path().join("Cargo.toml"))
        // Whatever other systems than this one need was not downloaded.
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec();
    let metadata = metadata.unwrap_or_else(|error| panic!("cargo cannot read what the Dockerfile copies: {error}"));
    let root = metadata.packages.iter().find(|package| package.name.as_str() == "keyledger");
    assert!(root.is_some_and(|root| root.targets.iter().any(cargo_metadata::Target::is_bin)));
    for outside in ["keyledger.example.toml", "schemas/testdata/stripe/events", "projector/migrations"] {
        assert!(folder.path().join(outside).exists(), "{outside} is compiled into the executable");
    }
}

#[test]
fn docker_is_given_what_the_dockerfile_copies_and_no_more() {
    let ignored = read(".dockerignore");
    let lines: Vec<&str> = ignored.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert_eq!(lines[0], "*", "whatever is not named must stay out: secrets, data");
    let given: BTreeSet<PathBuf> = lines.iter().filter_map(|line| line.strip_prefix('!')).map(PathBuf::from).collect();
    let mut copied: BTreeSet<PathBuf> = build_context().into_iter().collect();
    // A folder inside of one that is let in, with the rest of it kept out.
    assert!(lines.contains(&"tests/*"));
    copied.insert("tests".into());
    assert_eq!(given, copied);
}

#[test]
fn the_image_is_pinned_and_runs_as_nobody() {
    let dockerfile = read("Dockerfile");
    let argument = |name: &str| {
        let line = dockerfile.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap();
        line.trim().to_owned()
    };
    let rust = argument("ARG");
    let rust = rust.strip_prefix("RUST_VERSION=").unwrap();
    let manifest = read("Cargo.toml");
    let oldest = manifest.split("rust-version = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let parts = |version: &str| version.split('.').map(|part| part.parse().unwrap()).collect::<Vec<u32>>();
    assert_eq!(parts(rust).len(), 3, "pin {rust} to the patch");
    assert!(parts(rust) >= parts(&oldest), "{rust} is older than {oldest}");
    assert_eq!(argument("USER"), "65532:65532");
    assert_eq!(argument("ENTRYPOINT"), r#"["/usr/local/bin/keyledger"]"#);
    let data_dir = argument("ENV");
    let data_dir = data_dir.strip_prefix("KEYLEDGER_DATA_DIR=").unwrap();
    assert!(dockerfile.contains(&format!("/data {data_dir}\n")), "the folder must be the user's");
    for role in ROLES {
        let volumes = texts(&compose()["services"][role]["volumes"]);
        assert!(volumes.iter().any(|volume| volume.ends_with(&format!(":{data_dir}"))), "{volumes:?}");
    }
}

/// `keyledger health projector` in `folder`, where the projector is said to listen at `listen`.
fn health(folder: &Path, listen: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyledger"));
    command.current_dir(folder).env_clear().env("KEYLEDGER_PROJECTOR__LISTEN", listen).args(["health", "projector"]);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// Answers one request with this status.
fn answer_once(listener: TcpListener, status: &'static str) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut caller, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let length = caller.read(&mut request).unwrap();
        assert!(request[..length].starts_with(b"GET /health/ready HTTP/1.1\r\n"));
        write!(caller, "HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\nsaid").unwrap();
    })
}

#[test]
fn a_health_check_ends_as_the_role_says() {
    let folder = tempfile::tempdir().unwrap();
    for (status, code) in [("200 OK", 0), ("503 Service Unavailable", 3)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let role = answer_once(listener, status);
        // Where a container's role listens everywhere, it is asked on loopback.
        assert_eq!(health(folder.path(), &format!("0.0.0.0:{port}")), (Some(code), "said\n".to_owned()));
        role.join().unwrap();
        assert_eq!(health(folder.path(), &format!("0.0.0.0:{port}")).0, Some(4), "nobody is there any more");
    }
    assert_eq!(health(folder.path(), "127.0.0.1:0").0, Some(2));
}
