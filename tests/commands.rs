//! The executable as people meet it: every documented command is one it understands, and each ends as documented.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use clap::{CommandFactory, Parser};
use keyledger::cli::Arguments;
use keyledger_ingest::signature;
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::secret::Secret;
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

const README: &str = include_str!("../README.md");

/// The executable in `folder`, with nothing of our environment but a secret and free ports.
fn keyledger(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyledger"));
    command.current_dir(folder).args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("USER", "tester").env("STRIPE_WEBHOOK_SECRET", "whsec_of_a_test");
    for part in ["INGEST", "API", "ISSUER", "PROJECTOR"] {
        command.env(format!("KEYLEDGER_{part}__LISTEN"), "127.0.0.1:0");
    }
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    keyledger(folder, arguments).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn assert_ends(output: &Output, code: i32) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(output.status.code(), Some(code), "{}\n{}", text(&output.stdout), text(&output.stderr));
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A service that is up. Killed when dropped, so that a failed test leaves none behind.
struct Up(Child);

impl Up {
    fn start(folder: &Path, arguments: &[&str]) -> (Self, Value) {
        let mut child = keyledger(folder, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("it did not start: {said}");
        }
        (Self(child), serde_json::from_str(&line).unwrap())
    }

    /// Asks it to stop, and says with what it ended.
    fn stop(mut self, signal: &str) -> Option<i32> {
        let killed = Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap();
        assert!(killed.success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The words of a command line as a shell sees them, up to a comment, a redirection or a pipe.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in line.chars().chain([' ']) {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(c),
        }
    }
    let end = words.iter().position(|word| ["#", ">", "|", "&&"].contains(&word.as_str())).unwrap_or(words.len());
    words.truncate(end);
    words
}

/// The arguments of a documented command line: what stands after `keyledger`, or after `cargo run … --`.
fn arguments(line: &str) -> Option<Vec<String>> {
    let words = words(line.trim().trim_start_matches("$ "));
    // Variables may stand in front.
    let start = words.iter().position(|word| !word.contains('='))?;
    match words[start].as_str() {
        "keyledger" => Some(words[start..].to_vec()),
        "cargo" if words.get(start + 1).is_some_and(|verb| verb == "run") => {
            let dashes = words.iter().position(|word| word == "--")?;
            Some(std::iter::once("keyledger".to_owned()).chain(words[dashes + 1..].iter().cloned()).collect())
        }
        _ => None,
    }
}

/// Example lines put more than two blanks between a command and what it is for.
fn without_remark(line: &str) -> &str {
    line.trim_start().split("   ").next().unwrap_or_default()
}

#[test]
fn every_command_of_the_readme_is_understood() {
    let lines: Vec<_> = README.lines().filter(|line| line.starts_with("$ ")).filter_map(arguments).collect();
    assert!(lines.len() >= 15, "{lines:?}");
    for line in lines {
        assert!(Arguments::try_parse_from(&line).is_ok(), "{line:?}");
    }
}

#[test]
fn every_example_of_the_help_is_understood() {
    fn walk(command: &mut clap::Command, examples: &mut Vec<Vec<String>>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        examples.extend(help.lines().map(without_remark).filter_map(arguments));
        for inner in command.get_subcommands_mut() {
            walk(inner, examples);
        }
    }
    let mut examples = Vec::new();
    walk(&mut Arguments::command(), &mut examples);
    assert!(examples.len() >= 40, "{}", examples.len());
    for example in examples {
        assert!(Arguments::try_parse_from(&example).is_ok(), "{example:?}");
    }
}

#[test]
fn every_verb_has_help() {
    fn walk(command: &clap::Command, path: &[String], paths: &mut Vec<Vec<String>>) {
        paths.push(path.to_vec());
        for inner in command.get_subcommands() {
            let deeper: Vec<String> = path.iter().cloned().chain([inner.get_name().to_owned()]).collect();
            walk(inner, &deeper, paths);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    walk(&Arguments::command(), &[], &mut paths);
    for path in paths {
        let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let output = run(folder.path(), &arguments);
        assert_ends(&output, 0);
        assert!(stdout(&output).contains("Usage: keyledger"), "{path:?}");
    }
}

#[test]
fn wrong_use_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in
        [&["no-such-verb"][..], &["--no-such-flag"], &["cases", "waive", "kl_cas_1"], &["customers", "--mode", "both"]]
    {
        assert_ends(&run(folder.path(), arguments), 2);
    }
    assert_ends(&run(folder.path(), &["schemas", "no.such.event"]), 2);
    assert_ends(&run(folder.path(), &["--config", "nowhere.toml", "doctor"]), 3);
    assert_ends(&run(folder.path(), &["--config", "nowhere.toml", "customers"]), 2);
}

#[test]
fn without_a_webhook_secret_it_says_what_to_set() {
    let folder = tempfile::tempdir().unwrap();
    let output = keyledger(folder.path(), &["up"]).env_remove("STRIPE_WEBHOOK_SECRET").output().unwrap();
    assert_ends(&output, 2);
    assert!(stderr(&output).contains("STRIPE_WEBHOOK_SECRET"));
    assert!(!folder.path().join("data").exists(), "nothing is made by a start that cannot work");
}

#[test]
fn what_was_never_started_is_not_reachable() {
    let folder = tempfile::tempdir().unwrap();
    for verb in ["customers", "cases", "events", "check", "catalog"] {
        assert_ends(&run(folder.path(), &[verb]), 4);
    }
    assert!(!folder.path().join("data/log.db").exists(), "reading makes nothing");
}

#[test]
fn init_makes_what_is_missing_for_its_owner_alone_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    assert_ends(&run(folder.path(), &["init"]), 0);
    let files = ["keyledger.toml", "data/api.token", "data/keys/license-key.secret", "data/keys/sealing.secret"];
    let read = || files.map(|file| fs::read(folder.path().join(file)).unwrap());
    for file in files {
        let mode = fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let before = read();
    assert_ends(&run(folder.path(), &["init"]), 0);
    assert_eq!(read(), before);
    assert_eq!(before[0], include_bytes!("../keyledger.example.toml"));
}

#[test]
fn doctor_has_a_line_for_each_check_and_ends_with_3_if_one_fails() {
    let folder = tempfile::tempdir().unwrap();
    assert_ends(&run(folder.path(), &["init"]), 0);
    assert_ends(&run(folder.path(), &["doctor"]), 0);
    let output = run(folder.path(), &["doctor", "--json"]);
    let checks: Vec<String> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["check"].as_str().unwrap().to_owned())
        .collect();
    for check in ["config", "webhook secrets", "data folder", "disk", "keys", "API token", "log", "views"] {
        assert!(checks.iter().any(|it| it == check), "{check}: {checks:?}");
    }
    fs::remove_file(folder.path().join("data/keys/sealing.secret")).unwrap();
    let output = run(folder.path(), &["doctor"]);
    assert_ends(&output, 3);
    assert!(stdout(&output).contains("sealing.secret"));
}

#[test]
fn up_says_where_it_is_and_leaves_in_peace() {
    let folder = tempfile::tempdir().unwrap();
    for signal in ["-TERM", "-INT"] {
        let (up, ready) = Up::start(folder.path(), &["up"]);
        assert_eq!(ready["ready"], true);
        for address in ["ingest", "api"] {
            assert!(ready[address].as_str().unwrap().starts_with("http://127.0.0.1:"), "{ready}");
        }
        assert_eq!(up.stop(signal), Some(0));
    }
    assert_ends(&run(folder.path(), &["events", "verify"]), 0);
    let settings = run(folder.path(), &["events", "--type", "settings.changed", "--json"]);
    assert_eq!(stdout(&settings).lines().count(), 1, "the same settings are recorded once");
}

#[test]
fn what_came_in_the_last_moment_is_worked_off_before_it_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("keyledger.toml"), "[[catalog]]\nproduct = \"pro\"\n[ingest]\nbody_bytes_max = 65536\n")
        .unwrap();
    for story in ["b_one_off_payment", "c_trial_then_paid"] {
        let (up, ready) = Up::start(folder, &["up"]);
        post_story(&ready, story);
        // Those refused after the first are counted, and the log is told when it stops.
        for _ in 0..3 {
            post(&ready, vec![b' '; 70_000], 413);
        }
        assert_eq!(up.stop("-TERM"), Some(0));
        assert_ends(&run(folder, &["check"]), 0);
    }
    assert!(!rows(folder, &["events", "--type", "ingest.body_refused"]).is_empty());
}

#[test]
fn a_second_up_on_one_data_folder_is_refused_and_told_who_is_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let (up, _) = Up::start(folder.path(), &["up"]);
    let second = run(folder.path(), &["up"]);
    assert_ends(&second, 1);
    assert!(stderr(&second).contains(&up.0.id().to_string()), "{}", stderr(&second));
    assert_eq!(up.stop("-TERM"), Some(0));
}

/// What an address answers, and whether that means that all is well.
fn get(url: &str) -> (bool, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = keyledger_test_servers::http::client().get(url).send().await.unwrap();
        (response.status().is_success(), response.text().await.unwrap())
    })
}

#[test]
fn roles_share_a_data_folder_say_where_they_are_and_leave_in_peace() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("keyledger.toml"), "[[catalog]]\nproduct = \"pro\"\n").unwrap();
    let roles = [("projector", "health"), ("ingest", "ingest"), ("issuer", "health"), ("console", "api")];
    let running = roles.map(|(role, address)| {
        let (up, ready) = Up::start(folder, &[role]);
        assert_eq!((&ready["ready"], &ready["role"]), (&true.into(), &role.into()));
        let url = ready[address].as_str().unwrap().to_owned();
        assert_eq!(ready.as_object().unwrap().len(), 3, "{ready}");
        wait_for("readiness", || get(&format!("{url}/health/ready")).0);
        assert!(get(&format!("{url}/health/live")).0);
        assert!(get(&format!("{url}/metrics")).1.contains("keyledger_build_info"), "{role}");
        (up, ready)
    });
    let refused = run(folder, &["up"]);
    assert_ends(&refused, 1);
    for (role, _) in roles {
        assert!(stderr(&refused).contains(&format!("`keyledger {role}` with process id")), "{}", stderr(&refused));
    }

    post_story(&running[1].1, "b_one_off_payment");
    wait_for("the license", || rows(folder, &["licenses"]).len() == 1);
    wait_for("agreement of the books", || run(folder, &["check"]).status.code() == Some(0));
    let id = rows(folder, &["licenses"])[0]["id"].as_str().unwrap().to_owned();
    assert!(rows(folder, &["licenses", "show", &id, "--reveal"])[0]["key"].as_str().unwrap().starts_with("KL-"));
    for (up, _) in running {
        assert_eq!(up.stop("-TERM"), Some(0));
    }
    assert_eq!(rows(folder, &["events", "--type", "settings.changed"]).len(), 1, "recorded once");
    let (up, _) = Up::start(folder, &["up"]);
    assert_eq!(up.stop("-TERM"), Some(0));
}

#[test]
fn a_stand_in_says_where_it_is_and_is_controlled_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["cryptlex", "cryptolens", "keygen", "stripe"] {
        let (up, ready) = Up::start(folder.path(), &["sandbox", name, "--listen", "127.0.0.1:0"]);
        assert_eq!((&ready["ready"], &ready["stands_for"]), (&true.into(), &name.into()));
        let control: Vec<&str> = ready["control"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        assert_eq!(control.len(), 4, "{ready}");
        for route in control {
            let (is_fine, body) = get(route);
            assert!(is_fine && serde_json::from_str::<Value>(&body).is_ok(), "{route}: {body}");
        }
        assert_eq!(up.stop("-TERM"), Some(0));
    }
    let words = [
        ["--settings", "{\"no_such\": 1}"],
        ["--settings", "{"],
        ["--fault", "create"],
        ["--fault", "any=fail:200"],
        ["--faults", "{\"x\": 1}"],
    ];
    for [flag, value] in words {
        let refused = run(folder.path(), &["sandbox", "keygen", "--listen", "127.0.0.1:0", flag, value]);
        assert_ends(&refused, 2);
    }
}

#[test]
fn a_stand_in_misbehaves_as_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["sandbox", "cryptlex", "--listen", "127.0.0.1:0", "--fault", "any=fail:503"];
    let (up, ready) = Up::start(folder.path(), &arguments);
    let url = ready["url"].as_str().unwrap();
    assert!(!get(&format!("{url}/v3/users")).0);
    let calls = get(&format!("{url}/control/calls")).1;
    assert!(calls.contains("\"fail\":1"), "{calls}");
    assert_eq!(up.stop("-TERM"), Some(0));
}

#[test]
fn what_people_decide_about_a_license_is_recorded_and_done() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("keyledger.toml"), "[[catalog]]\nproduct = \"pro\"\n").unwrap();
    let (up, ready) = Up::start(folder, &["up"]);
    post_story(&ready, "b_one_off_payment");
    wait_for("the license", || rows(folder, &["licenses"]).len() == 1);
    let id = rows(folder, &["licenses"])[0]["id"].as_str().unwrap().to_owned();
    let act = |verb: &str| run(folder, &["licenses", verb, &id, "--reason", "a test", "--by", "ana"]);
    let has_state = |state: &str| rows(folder, &["licenses", "show", &id])[0]["state"] == state;
    for (verb, state) in
        [("suspend", "suspended"), ("reinstate", "active"), ("revoke", "revoked"), ("reinstate", "active")]
    {
        assert_ends(&act(verb), 0);
        wait_for(state, || has_state(state));
    }
    assert_ends(&act("reissue"), 0);
    wait_for("the new license", || rows(folder, &["licenses"]).len() == 2 && has_state("revoked"));
    let wrong = [
        &["licenses", "suspend", &id, "--reason", " "][..],
        &["licenses", "extend", &id, "--reason", "x"],
        &["licenses", "suspend", "0190c1d0-0000-7000-8000-000000000000", "--reason", "x"],
    ];
    for arguments in wrong {
        assert_ends(&run(folder, arguments), 2);
    }
    let acts = rows(folder, &["events", "--type", "operator."]);
    assert_eq!(acts.len(), 5, "{acts:#?}");
    assert!(acts.iter().all(|event| event["actor"] == "ana"), "{acts:#?}");
    assert_eq!(up.stop("-TERM"), Some(0));
}

#[test]
fn a_plan_of_repair_is_shown_first_and_applying_it_twice_is_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (up, ready) = Up::start(folder, &["up"]);
    assert_ends(&run(folder, &["repair"]), 2);
    post_story(&ready, "h_incomplete_sca");
    wait_for("the case", || rows(folder, &["cases", "--kind", "no_key"]).len() == 1);
    let case = rows(folder, &["cases"])[0]["id"].as_str().unwrap().to_owned();
    for arguments in
        [&["repair", "--all"][..], &["repair", &case], &["repair", "--all", "--apply"], &["repair", &case, "--apply"]]
    {
        let output = run(folder, arguments);
        assert_ends(&output, 3);
        assert!(stdout(&output).contains("map_price"), "{}", stdout(&output));
    }
    assert_ends(&run(folder, &["repair", "kl_cas_00000000000000000000000000000000"]), 2);
    assert!(rows(folder, &["events", "--type", "operator."]).is_empty(), "what a person must do is left to them");
    assert_eq!(up.stop("-TERM"), Some(0));
}

#[test]
fn the_log_is_held_against_stripe_if_there_is_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (up, _) = Up::start(folder, &["up"]);
    let without = run(folder, &["reconcile"]);
    assert_ends(&without, 2);
    assert!(stderr(&without).contains("STRIPE_API_KEY"), "{}", stderr(&without));
    let (stripe, ready) = Up::start(folder, &["sandbox", "stripe", "--listen", "127.0.0.1:0"]);
    let with = |key: &str, arguments: &[&str]| {
        let mut command = keyledger(folder, arguments);
        command.env("STRIPE_API_KEY", key).env("KEYLEDGER_STRIPE__DEFAULT__API_BASE", ready["url"].as_str().unwrap());
        command.stdin(Stdio::null()).output().unwrap()
    };
    for arguments in [&["reconcile"][..], &["reconcile", "--apply", "--since", "400d"]] {
        assert_ends(&with("sandbox", arguments), 0);
    }
    assert!(stdout(&with("sandbox", &["doctor"])).contains("the API key can read events"));
    assert_ends(&with("of nobody", &["reconcile"]), 4);
    assert!(stdout(&with("of nobody", &["doctor"])).contains("✗ Stripe"));
    assert_ends(&with("sandbox", &["reconcile", "--source", "elsewhere"]), 2);
    assert_eq!((stripe.stop("-TERM"), up.stop("-TERM")), (Some(0), Some(0)));
}

#[test]
fn an_engine_is_held_against_what_was_paid_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (keygen, ready) = Up::start(folder, &["sandbox", "keygen", "--listen", "127.0.0.1:0"]);
    let url = ready["url"].as_str().unwrap();
    let settings = format!(
        "[[catalog]]\nprovider = \"keygen\"\nproduct = \"0b100000-0000-4000-8000-000000000001\"\n[provider.keygen]\n\
         base_url = \"{url}\"\naccount = \"sandbox\"\ntoken = \"sandbox\"\n"
    );
    fs::write(folder.join("keyledger.toml"), settings).unwrap();
    let (up, at) = Up::start(folder, &["up"]);
    post_story(&at, "b_one_off_payment");
    wait_for("the license", || rows(folder, &["licenses"]).len() == 1);
    assert_ends(&run(folder, &["reconcile", "provider"]), 0);
    assert!(stdout(&run(folder, &["doctor"])).contains("keygen can be called"));
    assert_ends(&run(folder, &["reconcile", "provider", "builtin"]), 2);
    assert_ends(&run(folder, &["reconcile", "provider", "cryptlex"]), 2);

    // What it holds is in memory: the next one at its place holds nothing.
    assert_eq!(keygen.stop("-TERM"), Some(0));
    assert_ends(&run(folder, &["reconcile", "provider"]), 4);
    let listen = url.trim_start_matches("http://").to_owned();
    let (empty, _) = Up::start(folder, &["sandbox", "keygen", "--listen", &listen]);
    let found = run(folder, &["reconcile", "provider", "keygen", "--json"]);
    assert_ends(&found, 3);
    assert!(stdout(&found).contains("payment_without_key"), "{}", stdout(&found));
    assert_eq!((empty.stop("-TERM"), up.stop("-TERM")), (Some(0), Some(0)));
}

#[test]
fn of_two_issuers_one_works_and_the_other_takes_over_when_it_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let states = |ready: &Value| get(&format!("{}/health/ready", ready["health"].as_str().unwrap())).1;
    let (first, ready_first) = Up::start(folder, &["issuer"]);
    wait_for("the first to be active", || states(&ready_first).contains("active"));
    let (second, ready_second) = Up::start(folder, &["issuer"]);
    let is_ready = get(&format!("{}/health/ready", ready_second["health"].as_str().unwrap()));
    assert!(is_ready.0 && is_ready.1.contains("standby"), "{}", is_ready.1);
    assert_eq!(first.stop("-TERM"), Some(0));
    wait_for("the second to be active", || states(&ready_second).contains("active"));
    assert_eq!(second.stop("-TERM"), Some(0));
}

#[test]
fn the_issuer_makes_keys_beside_events_that_came_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("keyledger.toml"), "[[catalog]]\nproduct = \"pro\"\n").unwrap();
    let (ingest, ready) = Up::start(folder, &["ingest"]);
    post_story(&ready, "b_one_off_payment");
    assert!(!folder.join("data/keys").exists(), "taking webhooks needs no keys");
    let (issuer, _) = Up::start(folder, &["issuer"]);
    wait_for("a license", || !rows(folder, &["events", "--type", "license.issued"]).is_empty());
    assert_eq!(issuer.stop("-TERM"), Some(0));
    fs::remove_dir_all(folder.join("data/keys")).unwrap();
    let refused = run(folder, &["issuer"]);
    assert_ends(&refused, 1);
    assert!(stderr(&refused).contains("restore them from the backup"), "{}", stderr(&refused));
    assert_eq!(ingest.stop("-TERM"), Some(0));
}

#[test]
fn a_server_that_does_not_answer_is_not_reachable_for_verbs_and_stops_no_doctor() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let settings = "log = \"postgres://kl:planted@127.0.0.1:1/keyledger\"\n[nats]\nurl = \"nats://127.0.0.1:1\"\n";
    fs::write(folder.join("keyledger.toml"), settings).unwrap();
    fs::set_permissions(folder.join("keyledger.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    for verb in [&["events"][..], &["check"], &["catalog"], &["backup", "b"]] {
        let output = run(folder, verb);
        assert_ends(&output, 4);
        assert!(stderr(&output).contains("postgres://kl@127.0.0.1:1/keyledger"), "{}", stderr(&output));
        assert!(!stderr(&output).contains("planted"), "{}", stderr(&output));
    }
    let doctor = run(folder, &["doctor"]);
    assert_ends(&doctor, 3);
    let said = stdout(&doctor);
    assert!(said.contains("✗ log") && said.contains("start PostgreSQL") && !said.contains("planted"), "{said}");
}

#[test]
fn a_log_without_its_keys_is_not_started_and_gets_no_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (up, _) = Up::start(folder, &["up"]);
    assert_eq!(up.stop("-TERM"), Some(0));
    fs::remove_dir_all(folder.join("data/keys")).unwrap();
    for verb in ["up", "init"] {
        let output = run(folder, &[verb]);
        assert_ends(&output, 1);
        assert!(stderr(&output).contains("restore them from the backup"), "{}", stderr(&output));
        assert!(!folder.join("data/keys").exists(), "{verb} made new keys");
    }
    let output = run(folder, &["doctor"]);
    assert_ends(&output, 3);
    let line = stdout(&output).lines().skip_while(|line| !line.contains("✗ keys")).nth(1).unwrap().to_owned();
    assert!(line.ends_with("fix: restore them from the backup"), "{line}");
}

#[test]
fn keys_of_another_deployment_are_refused_beside_a_log_with_license_keys() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("keyledger.toml"), "[[catalog]]\nproduct = \"pro\"\n").unwrap();
    let (up, ready) = Up::start(folder, &["up"]);
    post_story(&ready, "b_one_off_payment");
    wait_for("the license", || rows(folder, &["licenses"]).len() == 1);
    let id = rows(folder, &["licenses"])[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(up.stop("-TERM"), Some(0));
    assert_ends(&run(folder, &["doctor"]), 0);

    let other = tempfile::tempdir().unwrap();
    assert_ends(&run(other.path(), &["init"]), 0);
    fs::rename(folder.join("data/keys"), folder.join("own")).unwrap();
    fs::rename(other.path().join("data/keys"), folder.join("data/keys")).unwrap();
    for verb in ["up", "init"] {
        let output = run(folder, &[verb]);
        assert_ends(&output, 1);
        assert!(stderr(&output).contains("are sealed with the key"), "{verb}: {}", stderr(&output));
    }
    let output = run(folder, &["doctor"]);
    assert_ends(&output, 3);
    assert!(stdout(&output).contains("✗ keys"), "{}", stdout(&output));
    let revealed = run(folder, &["licenses", "show", &id, "--reveal"]);
    assert_ends(&revealed, 1);
    assert!(stderr(&revealed).contains("restore the key files"), "{}", stderr(&revealed));
    assert!(!stderr(&revealed).contains("fault in keyledger"), "{}", stderr(&revealed));

    fs::remove_dir_all(folder.join("data/keys")).unwrap();
    fs::rename(folder.join("own"), folder.join("data/keys")).unwrap();
    let (up, _) = Up::start(folder, &["up"]);
    assert_eq!(up.stop("-TERM"), Some(0));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut child =
        keyledger(folder.path(), &["schemas"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert_eq!(said, "");
}

#[test]
fn the_newest_events_are_listed_unless_asked_otherwise_and_what_is_left_out_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (up, ready) = Up::start(folder, &["up"]);
    post_story(&ready, "a_subscription_lifecycle");
    assert_eq!(up.stop("-TERM"), Some(0));
    let all: Vec<u64> = positions(&rows(folder, &["events", "--limit", "100000"]));
    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(positions(&rows(folder, &["events", "--limit", "3"])), all[all.len() - 3..]);
    assert_eq!(positions(&rows(folder, &["events", "--limit", "3", "--after", "1"])), [2, 3, 4]);
    assert!(stderr(&run(folder, &["events", "--limit", "3"])).contains("The newest 3 are shown"));
    assert!(stderr(&run(folder, &["events", "--limit", "3", "--after", "0"])).contains("The first 3 are shown"));
    assert_eq!(stderr(&run(folder, &["events", "--limit", "100000"])), "");
}

fn positions(rows: &[Value]) -> Vec<u64> {
    rows.iter().map(|row| row["position"].as_u64().unwrap()).collect()
}

#[test]
fn a_search_that_cannot_be_read_shows_where() {
    let folder = tempfile::tempdir().unwrap();
    let (up, _) = Up::start(folder.path(), &["up"]);
    let query = "is:no-key amount>=";
    let output = run(folder.path(), &["search", query]);
    assert_ends(&output, 2);
    let said = stderr(&output);
    assert!(said.contains(&format!("\n{query}\n")) && said.trim_end().ends_with('^'), "{said}");
    assert_eq!(up.stop("-TERM"), Some(0));
}

/// The lines of the README's first block under a heading.
fn block<'a>(heading: &str) -> Vec<&'a str> {
    let (_, section) = README.split_once(heading).unwrap();
    let (_, block) = section.split_once("```console\n").unwrap();
    block.split("```").next().unwrap().lines().filter_map(|line| line.strip_prefix("$ ")).collect()
}

#[test]
fn the_start_block_of_the_readme_works_as_written() {
    let folder = tempfile::tempdir().unwrap();
    let home = Path::new(env!("CARGO_BIN_EXE_keyledger")).parent().unwrap().display().to_string();
    let lines: Vec<&str> = block("## Start").into_iter().filter(|line| !line.starts_with("cargo")).collect();
    let (last, before) = lines.split_last().unwrap();
    assert_eq!(last.split('#').next().unwrap().trim(), "keyledger", "it ends with a service that is up");
    let shell = |script: String| {
        let mut command = Command::new("sh");
        command.current_dir(folder.path()).env_clear().args(["-c", &script]);
        let mut path = OsString::from(format!("{home}:"));
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command.env("PATH", path).env("USER", "tester").stdin(Stdio::null());
        command.env("KEYLEDGER_INGEST__LISTEN", "127.0.0.1:0").env("KEYLEDGER_API__LISTEN", "127.0.0.1:0");
        command
    };
    let script: Vec<&str> = before.iter().copied().filter(|line| !line.starts_with("alias")).collect();
    let output = shell(format!("set -e\n{}", script.join("\n"))).output().unwrap();
    assert_ends(&output, 0);
    let exports: Vec<&str> = script.iter().copied().filter(|line| line.starts_with("export")).collect();
    let mut up = shell(format!("{}\nexec {last}", exports.join("\n")));
    let mut up = Up(up.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(up.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("\"ready\":true"), "{line}");
    assert_eq!(up.stop("-TERM"), Some(0));
}

#[test]
fn what_is_newly_made_is_told_with_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let told = |said: &str, file: &str| said.lines().any(|line| line.contains("made") && line.contains(file));
    for first in [true, false] {
        let mut child = keyledger(&folder, &["up"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(Up(child).stop("-TERM"), Some(0));
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        for file in ["data/keys", "data/log.db", "data/api.token"] {
            let file = folder.join(file).display().to_string();
            assert_eq!(told(&said, &file), first, "{file}:\n{said}");
        }
    }
    assert!(stdout(&run(&folder, &["doctor"])).contains(&folder.join("data/log.db").display().to_string()));
}

#[test]
fn schemas_are_json_schemas() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["schemas", "license.issued"]);
    assert_ends(&output, 0);
    let schema: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
}

#[test]
fn exported_schemas_are_the_committed_ones() {
    let files = |folder: &Path| -> Vec<(OsString, String)> {
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| (file.file_name().unwrap().to_owned(), fs::read_to_string(file).unwrap())).collect()
    };
    let folder = tempfile::tempdir().unwrap();
    assert_ends(&run(folder.path(), &["schemas", "--export", "out"]), 0);
    let exported = files(&folder.path().join("out"));
    assert_eq!(exported, files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/json")));
    assert_eq!(stdout(&run(folder.path(), &["schemas"])).lines().count(), exported.len());
    assert_eq!(
        stdout(&run(folder.path(), &["schemas", "delivery"])),
        fs::read_to_string(folder.path().join("out/delivery.json")).unwrap()
    );
}

#[test]
fn a_file_that_is_no_license_ends_with_3() {
    let folder = tempfile::tempdir().unwrap();
    assert_ends(&run(folder.path(), &["init"]), 0);
    fs::write(folder.path().join("forged"), "not a license").unwrap();
    let output = run(folder.path(), &["licenses", "verify", "forged", "--json"]);
    assert_ends(&output, 3);
    let said: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(said["genuine"], false);
}

/// Posts a story of the fixtures to a service that is up, signed for now.
fn post_story(ready: &Value, story: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/testdata/stripe/events").join(story);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.to_str().unwrap().contains("2026-07-29.dahlia"));
    files.sort_by_key(|file| file.file_stem().unwrap().to_str().unwrap().rsplit('.').next().unwrap().to_owned());
    for file in files {
        post(ready, fs::read(file).unwrap(), 200);
    }
}

/// Posts a body to a service that is up, signed for now, and expects the answer.
#[track_caller]
fn post(ready: &Value, body: Vec<u8>, status: u16) {
    let header = signature::sign(&Secret::new("whsec_of_a_test"), &body, SystemClock.now());
    let url = format!("{}/webhooks/stripe", ready["ingest"].as_str().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let request = keyledger_test_servers::http::client().post(url).header(signature::HEADER, header).body(body);
    assert_eq!(runtime.block_on(request.send()).unwrap().status(), status);
}

/// Asks again until `good`, for ten seconds at most.
#[track_caller]
fn wait_for(what: &str, mut good: impl FnMut() -> bool) {
    for _ in 0..100 {
        if good() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{what} did not come within ten seconds");
}

/// What a verb prints with `--json`, line by line.
#[track_caller]
fn rows(folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let output = run(folder, &arguments);
    assert_ends(&output, 0);
    stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_license_is_shown_filed_verified_and_revoked_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("keyledger.toml"), "[[catalog]]\nproduct = \"pro\"\n").unwrap();
    let (up, ready) = Up::start(folder, &["up"]);
    post_story(&ready, "b_one_off_payment");
    wait_for("the license", || rows(folder, &["licenses"]).len() == 1);
    wait_for("agreement of the books", || run(folder, &["check"]).status.code() == Some(0));

    let license = &rows(folder, &["licenses"])[0];
    let id = license["id"].as_str().unwrap();
    assert_eq!((&license["state"], &license["product"]), (&"active".into(), &"pro".into()));
    assert!(license["key"].as_str().unwrap().contains('…'), "lists never show a key");
    let revealed = &rows(folder, &["licenses", "show", id, "--reveal"])[0];
    let key = revealed["key"].as_str().unwrap();
    assert!(key.starts_with("KL-") && !key.contains('…'));
    assert_eq!(rows(folder, &["events", "--type", "operator.key_revealed"])[0]["actor"], "tester");
    assert!(stdout(&run(folder, &["search", key])).contains(id));

    let file = run(folder, &["licenses", "file", id]);
    assert_ends(&file, 0);
    fs::write(folder.join("a.license"), &file.stdout).unwrap();
    assert_ends(&run(folder, &["licenses", "verify", "a.license"]), 0);
    let public_key = "data/keys/license-signing.pub.pem";
    assert_ends(&run(folder, &["licenses", "verify", "a.license", "--public-key", public_key]), 0);

    assert_ends(&run(folder, &["licenses", "revoke", id, "--reason", "shared in public", "--by", "ana"]), 0);
    wait_for("the revoke", || rows(folder, &["licenses"])[0]["state"] == "revoked");
    assert_ends(&run(folder, &["licenses", "file", id]), 2);
    assert_eq!(rows(folder, &["events", "--type", "operator.revoke_requested"])[0]["actor"], "ana");
    wait_for("agreement of the books", || run(folder, &["check"]).status.code() == Some(0));
    assert_ends(&run(folder, &["replay"]), 0);
    assert_eq!(up.stop("-TERM"), Some(0));
    let replayed = rows(folder, &["replay"]);
    assert_eq!((&replayed[0]["switched"], &replayed[0]["differences"]), (&true.into(), &Value::Array(Vec::new())));
    assert_eq!(rows(folder, &["licenses"])[0]["state"], "revoked");
}

/// Runs a statement on a database as if nobody else had it. Says how many rows it touched.
fn execute(file: &Path, statement: &'static str) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
        let done = sqlx::query(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        done.rows_affected()
    })
}

#[test]
fn check_names_each_difference_that_is_planted_in_the_views() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let settings = "[[catalog]]\nproduct = \"pro\"\n[policy]\nleft_by_other_system = \"case\"\n";
    fs::write(folder.join("keyledger.toml"), settings).unwrap();
    let (up, ready) = Up::start(folder, &["up"]);
    post_story(&ready, "b_one_off_payment");
    wait_for("a license", || rows(folder, &["licenses"]).len() == 1);
    let id = rows(folder, &["licenses"])[0]["id"].as_str().unwrap().to_owned();
    assert_ends(&run(folder, &["licenses", "revoke", &id, "--reason", "shared in public"]), 0);
    wait_for("the revoke", || rows(folder, &["licenses"])[0]["state"] == "revoked");
    for story in ["a_subscription_lifecycle", "g_charged_no_key"] {
        post_story(&ready, story);
    }
    wait_for("the stuck case", || rows(folder, &["cases", "--kind", "no_key"]).len() == 1);
    wait_for("the other licenses", || rows(folder, &["licenses"]).len() == 4);
    assert_eq!(up.stop("-TERM"), Some(0));
    let balance = &rows(folder, &["check"])[0];
    assert_eq!((&balance["open"], &balance["differences"]), (&1.into(), &Value::Array(Vec::new())));
    assert_eq!(balance["licenses"], 4);

    let one = "where id = (select min(id) from license where state = 'active')";
    let stuck = "where kind = 'no_key'";
    let plants = [
        (format!("update license set seats = 99 {one}"), "seats: 99 in the views, 1 in the issuer's books"),
        (
            format!("update license set paid_until = '2031-01-01T00:00:00Z' {one}"),
            "paid until: 2031-01-01T00:00:00Z in",
        ),
        (
            format!("update license set expires_at = null, perpetual = 1 {one} and expires_at is not null"),
            "expires at: never in",
        ),
        (format!("update license set provider = 'stub' {one}"), "provider: stub in"),
        (format!("update license set provider_id = 'x' {one}"), "provider id: x in"),
        (format!("update license set state = 'suspended' {one}"), "standing: suspended in"),
        ("update license set state = 'active' where state = 'revoked'".to_owned(), "standing: active in"),
        (format!("update license set generation = 2 {one}"), "generation: 2 in"),
        (format!("delete from license {one}"), "license: none in the views"),
        (format!("update license set purchase = 'sub_of_nobody' {one}"), "sub_of_nobody: licenses in the views"),
        ("update obligation set open = 'no_key' where open is null".to_owned(), "no_key: no open case in the views"),
        ("update obligation set open = null where open = 'no_key'".to_owned(), "about a unit that is not open there"),
        (format!("delete from casefile {stuck}"), "no_key: not open in the views, open in the issuer's books"),
        (format!("update casefile set status = 'closed' {stuck}"), "no_key: not open in the views"),
        (format!("update casefile set kind = 'not_extended' {stuck}"), "not_extended: open in the views, not open"),
    ];
    for (statement, says) in plants {
        let statement: &'static str = statement.leak();
        assert!(execute(&folder.join("data/views.db"), statement) >= 1, "{statement} changes nothing");
        let output = run(folder, &["check"]);
        let found = stdout(&output);
        assert_eq!(output.status.code(), Some(3), "{statement}:\n{found}");
        let line = found.lines().find(|line| line.contains(says)).unwrap_or_else(|| panic!("{statement}:\n{found}"));
        assert!(line.ends_with("run `keyledger replay`"), "{line}");
        assert_ends(&run(folder, &["replay"]), 3);
        assert_ends(&run(folder, &["check"]), 0);
    }
}

/// Copies the log as the readme says, while the service is up.
fn back_up(folder: &Path) {
    for _ in 0..2 {
        // The second replaces the first.
        assert_ends(&run(folder, &["backup", "./backup"]), 0);
    }
    for file in ["log.db", "keys/sealing.secret"] {
        let mode = fs::metadata(folder.join("backup").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_backup_is_restored_and_what_it_lost_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("keyledger.toml"), "[[catalog]]\nproduct = \"pro\"\n").unwrap();
    let (up, ready) = Up::start(folder, &["up"]);
    post_story(&ready, "b_one_off_payment");
    wait_for("the license", || rows(folder, &["licenses"]).len() == 1);
    wait_for("agreement of the books", || run(folder, &["check"]).status.code() == Some(0));
    let license = rows(folder, &["licenses"]);
    back_up(folder);
    post_story(&ready, "l_catalogue_and_customer");
    wait_for("agreement of the books", || run(folder, &["check"]).status.code() == Some(0));
    assert_eq!(up.stop("-TERM"), Some(0));

    for file in ["log.db-wal", "log.db-shm"] {
        let _ = fs::remove_file(folder.join("data").join(file));
    }
    fs::rename(folder.join("backup/log.db"), folder.join("data/log.db")).unwrap();
    let doctor = run(folder, &["doctor"]);
    assert_ends(&doctor, 3);
    assert!(stdout(&doctor).contains("✗ views"), "{}", stdout(&doctor));
    assert!(stderr(&run(folder, &["cases"])).contains("older backup"));
    let refused = run(folder, &["up"]);
    assert_ends(&refused, 1);
    assert!(stderr(&refused).contains("--accept-loss"), "{}", stderr(&refused));
    let (up, _) = Up::start(folder, &["up", "--accept-loss"]);
    wait_for("agreement of the books", || run(folder, &["check"]).status.code() == Some(0));
    assert_eq!(rows(folder, &["licenses"]), license);
    assert_eq!(up.stop("-TERM"), Some(0));
    let (up, _) = Up::start(folder, &["up"]);
    assert_eq!(up.stop("-TERM"), Some(0));
}

#[test]
fn a_case_is_listed_shown_and_waived_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (up, ready) = Up::start(folder, &["up"]);
    post_story(&ready, "h_incomplete_sca");
    wait_for("the case", || rows(folder, &["cases", "--kind", "no_key"]).len() == 1);
    let case = &rows(folder, &["cases"])[0];
    assert_eq!(case["cause"], "unmapped_price");
    assert_ends(&run(folder, &["catalog"]), 3);
    assert_ends(&run(folder, &["doctor"]), 3);
    let id = case["id"].as_str().unwrap();
    let listed = stdout(&run(folder, &["cases"]));
    assert!(listed.contains(case["detail"].as_str().unwrap()), "{listed}");
    assert_eq!(&rows(folder, &["cases", "show", id])[0], case);
    let shown = stdout(&run(folder, &["cases", "show", id]));
    for field in ["attempts", "detail", "subject", "next_attempt_at", "next "] {
        assert!(shown.lines().any(|line| line.trim_start().starts_with(field)), "{field}:\n{shown}");
    }
    let customer = case["customer"].as_str().unwrap();
    let shown = stdout(&run(folder, &["customers", "show", customer]));
    for head in ["PURCHASE", "UNIT", "STATUS"] {
        assert!(shown.contains(head), "{head}:\n{shown}");
    }
    assert!(!shown.contains("obligations="), "{shown}");
    let blank = run(folder, &["cases", "waive", id, "--reason", ""]);
    assert_ends(&blank, 2);
    assert!(stderr(&blank).contains("--reason must have"), "{}", stderr(&blank));
    assert_ends(&run(folder, &["cases", "waive", id, "--reason", "a gift"]), 0);
    wait_for("the waiver", || rows(folder, &["cases"]).is_empty());
    let found = stdout(&run(folder, &["search", id]));
    assert!(found.contains("waived"), "{found}");
    assert_eq!(rows(folder, &["cases", "--status", "waived"])[0]["waived_by"], "tester");
    wait_for("agreement of the books", || run(folder, &["check"]).status.code() == Some(0));
    assert_ends(&run(folder, &["cases", "retry", "kl_cas_00000000000000000000000000000000"]), 2);
    assert_eq!(up.stop("-TERM"), Some(0));
}

#[test]
fn a_retry_is_recorded_by_name_and_the_next_verb_waits_until_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Nobody listens there: the case waits for the engine.
    let settings = "[[catalog]]\nprovider = \"stub\"\n[provider.stub]\nbase_url = \"http://127.0.0.1:1\"\n";
    fs::write(folder.join("keyledger.toml"), settings).unwrap();
    let (up, ready) = Up::start(folder, &["up"]);
    post_story(&ready, "b_one_off_payment");
    let tried = || rows(folder, &["cases"]).first().filter(|case| case["attempts"] != 0).cloned();
    wait_for("an attempt", || tried().is_some());
    let id = tried().unwrap()["id"].as_str().unwrap().to_owned();
    assert_ends(&run(folder, &["cases", "retry", &id]), 0);
    let next = run(folder, &["cases"]);
    assert!(!stderr(&next).contains("behind"), "{}", stderr(&next));
    assert_eq!(rows(folder, &["events", "--type", "operator.retry_requested"])[0]["actor"], "tester");
    assert_eq!(up.stop("-TERM"), Some(0));
}

#[test]
fn the_demo_ends_with_one_customer_charged_without_a_key_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    for version in ["2026-07-29.dahlia", "2024-06-20"] {
        let started = Instant::now();
        let arguments = ["demo", "--exit", "--json", "--api-version", version];
        let output = keyledger(folder.path(), &arguments).env("TMPDIR", folder.path()).output().unwrap();
        assert_ends(&output, 0);
        let shown: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(shown["charged_without_key"].as_array().unwrap().len(), 1);
        assert!(shown["customers"].as_array().unwrap().len() >= 14);
        assert!(shown["licenses"].as_array().unwrap().len() >= 10);
        assert!(started.elapsed() < Duration::from_mins(1));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something is left behind");
    }
}
