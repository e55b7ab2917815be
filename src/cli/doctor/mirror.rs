//! Whether the log's mirror can be reached, is ours, and is what the log is.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use keyledger_eventlog::jetstream::compare::{Ahead, ahead};
use keyledger_eventlog::jetstream::judgement::Judgement;
use keyledger_eventlog::jetstream::mirror::Look;
use keyledger_eventlog::jetstream::{Client, Mirror, connect};
use keyledger_eventlog::log::EventLog;

use super::Report;
use crate::output::counted;
use crate::settings::{Nats, Settings};

/// What the lines are called.
const CHECK: &str = "mirror";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is asked whether there is a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// More events than this that the mirror lacks are a warning: a relay that works is never so far behind.
const LAG_MAX: u64 = 1000;

/// Checks the mirror, if there is to be one.
pub async fn check(report: &mut Report, settings: &Settings, log: Option<&dyn EventLog>) {
    let Some(nats) = &settings.nats else { return };
    let client = match connect(&nats.server).await {
        Ok(client) => client,
        Err(error) => {
            report.problem(CHECK, format!("{:#}", anyhow!(error)), "mend the settings under [nats]");
            return;
        }
    };
    if !connected(&client).await {
        let found = format!("{} does not answer", nats.server.servers());
        report.problem(
            CHECK,
            found,
            "start nats-server, or mend `nats.url` and the login; webhooks are taken meanwhile",
        );
        return;
    }
    let Some(log) = log else {
        report.good(CHECK, format!("{} answers; there is no log to mirror yet", nats.server.servers()));
        return;
    };
    let mirror = Mirror::new(client, log.log_id());
    match mirror.look().await {
        Ok(Look::Gone) => {
            let found = format!("there is no stream {} yet", nats.server.stream);
            report.warning(
                CHECK,
                found,
                "start `keyledger ingest` or `keyledger up`: it is made, and filled from the log",
            );
        }
        Ok(Look::Here(judgement)) => judged(report, nats, &judgement, log, &mirror).await,
        Err(error) => {
            let fix = "let this login see the stream: `deploy/nats` shows what each role must be allowed";
            report.problem(CHECK, format!("{:#}", anyhow!(error)), fix);
        }
    }
}

async fn connected(client: &Client) -> bool {
    let begun = Instant::now();
    while !client.is_connected() && begun.elapsed() < PATIENCE {
        tokio::time::sleep(PAUSE).await;
    }
    client.is_connected()
}

async fn judged(report: &mut Report, nats: &Nats, judgement: &Judgement, log: &dyn EventLog, mirror: &Mirror) {
    let stream = &nats.server.stream;
    let last = match judgement {
        Judgement::Ours { last } => *last,
        Judgement::Holes { first, .. } => {
            let found = format!("messages are missing in {stream}, from position {first} on");
            report.problem(
                CHECK,
                found,
                format!("the relay makes it anew; if it may not, run `nats stream rm {stream}`"),
            );
            return;
        }
        Judgement::Unsafe { reason, .. } | Judgement::Foreign { reason } => {
            report.problem(CHECK, reason.clone(), "issuer and projector read the log's database meanwhile");
            return;
        }
    };
    let head = match log.head().await {
        Ok(head) => head.position,
        Err(error) => {
            report.problem(CHECK, error.to_string(), "run `keyledger events verify`");
            return;
        }
    };
    match ahead(log, mirror, PATIENCE).await {
        Ok(Ahead::By { log, mirror }) => report.problem(
            CHECK,
            format!("the log ends at {log}, and {stream} at {mirror}: the log was restored from an older backup"),
            "start `keyledger ingest` or `keyledger up`: the rest is put back from the mirror",
        ),
        Ok(Ahead::Diverged) => report.problem(
            CHECK,
            format!("{stream} holds other events than the log"),
            format!("the relay makes it anew; if it may not, run `nats stream rm {stream}`"),
        ),
        Ok(Ahead::No) if head.saturating_sub(last) > LAG_MAX => {
            let found = format!("{stream} is {} behind the log", counted(head - last, "event"));
            report.warning(CHECK, found, "is `keyledger ingest` or `keyledger up` running?");
        }
        Ok(Ahead::No) => report.good(CHECK, format!("{stream} at {}, {last} of {head} events", nats.server.servers())),
        Ok(Ahead::Unknown) => report.problem(CHECK, format!("{stream} does not answer in time"), "look at nats-server"),
        Err(error) => report.problem(CHECK, error.to_string(), "run `keyledger events verify`"),
    }
}
