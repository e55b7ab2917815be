//! The stub engine as a process of its own, killed without warning.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keyledger_issuer::provider::stub::run;
use keyledger_issuer::provider::stub::wire::{Found, License, Stats};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Where the process says its address, inside its directory.
const ADDRESS_FILE: &str = "address";

const PATIENCE: Duration = Duration::from_secs(30);

/// A process that finds this file where it is started is the engine, not the test.
const MARKER: &str = "this-process-is-the-engine";

/// What the child process runs, in its working directory, until it is killed.
async fn serve_in_the_working_directory() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::fs::write("address.new", address).unwrap();
    std::fs::rename("address.new", ADDRESS_FILE).unwrap();
    let orphaned =
        tokio::time::timeout(Duration::from_mins(2), run(listener, Path::new("."), CancellationToken::new()));
    orphaned.await.unwrap().unwrap();
}

/// A child process that does not outlive its test.
struct Process(Child);

impl Process {
    fn start(dir: &Path) -> Self {
        let _ = std::fs::remove_file(dir.join(ADDRESS_FILE));
        std::fs::write(dir.join(MARKER), "").unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "every_license_that_was_answered_survives_a_kill"])
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL: the process gets no chance to tidy up.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn base_url(dir: &Path) -> String {
    let waiting = async {
        loop {
            if let Ok(address) = std::fs::read_to_string(dir.join(ADDRESS_FILE)) {
                return format!("http://{address}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_license_that_was_answered_survives_a_kill() {
    if Path::new(MARKER).exists() {
        return serve_in_the_working_directory().await;
    }
    let dir = tempfile::tempdir().unwrap();
    let http = keyledger_test_servers::http::builder().pool_max_idle_per_host(0).timeout(PATIENCE).build().unwrap();
    let mut answered = BTreeSet::new();
    for round in 0..4_u64 {
        let process = Process::start(dir.path());
        let base_url = base_url(dir.path()).await;
        let (kill, told) = tokio::sync::oneshot::channel();
        let killed = tokio::spawn(async move {
            told.await.unwrap();
            // Somewhere inside one of the calls that go on meanwhile.
            tokio::time::sleep(Duration::from_micros(700 * round)).await;
            drop(process);
        });
        let mut kill = Some(kill);
        for number in 0.. {
            if number == 5 {
                kill.take().unwrap().send(()).unwrap();
            }
            let body = serde_json::json!({
                "reference": format!("kl-{round}-{number}"),
                "product": "pro", "purchase": "sub_1", "expires_at": null, "seats": 1,
            });
            let sent = http.post(format!("{base_url}/licenses")).json(&body).send().await;
            let Ok(answer) = sent else { break };
            let Ok(license) = answer.json::<License>().await else { break };
            answered.insert(license.reference);
        }
        killed.await.unwrap();
    }
    assert!(answered.len() >= 4 * 5);

    let _process = Process::start(dir.path());
    let base_url = base_url(dir.path()).await;
    let stats: Stats = http.get(format!("{base_url}/control/stats")).send().await.unwrap().json().await.unwrap();
    let kept: BTreeSet<_> = stats.creates_by_reference.keys().cloned().collect();
    assert!(answered.is_subset(&kept), "{:?}", answered.difference(&kept));
    // Beyond those answered, at most the one in hand when each round was killed.
    assert!(kept.len() <= answered.len() + 4, "{} {}", kept.len(), answered.len());
    assert_eq!(stats.creates_per_reference_max, 1);
    let reference = answered.iter().next().unwrap();
    let request = http.get(format!("{base_url}/licenses")).query(&[("reference", reference)]);
    let found: Found = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(found.data.len(), 1);
}
