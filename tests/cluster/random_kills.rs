//! `kill -9` of any process and any server at random moments, under load, with an engine that misbehaves: each paid unit
//! has exactly one license, what was acknowledged is in the log, and the mirror is the log.

use std::ops::Range;
use std::time::Duration;

use futures::future::{join, join_all};
use keyledger_test_servers::{Nats, Postgres};
use serde_json::{Value, json};
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::deployment::{Deployment, Member, Role, Service, start_for, start_in_the_end};
use crate::entrance::Entrance;
use crate::mirror::rows;
use crate::support::faults;
use crate::support::folder::Folder;
use crate::support::histories::histories;
use crate::support::load::Load;
use crate::support::random::Random;
use crate::support::setup::Setup;
use crate::support::sold::{calls_cut_short, doubts_resolved, issued_once, made_once, one_each, settled};
use crate::support::stub::Stub;
use crate::support::wait::PATIENCE;
use crate::traffic::Traffic;

const ROUNDS: usize = 20;

/// How many webhooks come in a round.
const EACH: usize = 40;

/// When in its round a victim is killed, in milliseconds.
const KILLED_AT_MS: Range<u64> = 50..900;

/// How long it is gone, in milliseconds.
const GONE_MS: Range<u64> = 1..500;

/// How long one lives that is killed while it starts, in milliseconds.
const STARTS_MS: Range<u64> = 1..250;

/// What happens to a victim of a round.
#[derive(Clone, Copy, Debug)]
struct Fate {
    killed_at: Duration,
    gone: Duration,
    /// How long its first start lasts, where that is cut short too.
    starts_for: Option<Duration>,
}

impl Fate {
    /// Of about one in two; of the others `None`.
    fn draw(random: &mut Random) -> Option<Self> {
        let mut within = |range| Duration::from_millis(random.within(range));
        let (killed_at, gone, starts_for) = (within(KILLED_AT_MS), within(GONE_MS), within(STARTS_MS));
        let starts_for = (random.below(4) == 0).then_some(starts_for);
        (random.below(2) == 0).then_some(Self { killed_at, gone, starts_for })
    }
}

/// What the engine does wrong, and often it takes long enough to be killed meanwhile.
fn faults_of_a_slow_engine() -> Value {
    let mut faults = faults::faults();
    let slow = json!({"operation": "any", "probability": 0.3, "fault": {"kind": "slow", "delay_ms": 150}});
    faults["mix"]["faults"].as_array_mut().unwrap().push(slow);
    faults
}

/// One round: all who are drawn are killed, each at its time, and come back.
async fn round(
    deployment: &mut Deployment,
    members: Vec<Member>,
    entrance: &Entrance,
    random: &mut Random,
) -> Vec<Member> {
    let Deployment { folder, postgres, nats, .. } = deployment;
    let fates: Vec<_> = members.iter().map(|_| Fate::draw(random)).collect();
    let (postgres_fate, nats_fate) = (Fate::draw(random), Fate::draw(random));
    let roles = join_all(members.into_iter().zip(fates).map(|(member, fate)| suffer(folder, member, fate, entrance)));
    let servers = join(restart_postgres(postgres, postgres_fate), restart_nats(&mut nats[0], nats_fate));
    join(roles, servers).await.0
}

async fn suffer(folder: &Folder, mut member: Member, fate: Option<Fate>, entrance: &Entrance) -> Member {
    let Some(fate) = fate else { return member };
    sleep(fate.killed_at).await;
    assert!(member.process.is_running(), "{:?} died by itself:\n{}", member.role, member.process.last_words());
    let role = member.role;
    member.process.kill().await;
    sleep(fate.gone).await;
    if let Some(while_) = fate.starts_for {
        start_for(folder, role, while_).await;
    }
    let new = start_in_the_end(folder, role).await;
    if role == Role::Ingest {
        entrance.close(&member.address);
        entrance.open(&new.address);
    }
    new
}

async fn restart_postgres(postgres: &mut Postgres, fate: Option<Fate>) {
    let Some(fate) = fate else { return };
    sleep(fate.killed_at).await;
    block_in_place(|| postgres.kill());
    sleep(fate.gone).await;
    block_in_place(|| postgres.start_again());
}

async fn restart_nats(nats: &mut Nats, fate: Option<Fate>) {
    let Some(fate) = fate else { return };
    sleep(fate.killed_at).await;
    block_in_place(|| nats.kill());
    sleep(fate.gone).await;
    block_in_place(|| nats.start_again());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_paid_unit_has_one_license_and_the_mirror_is_the_log_whatever_is_killed() {
    let histories = histories(200);
    let folder = tempfile::tempdir().unwrap();
    let stub = Stub::start(folder.path()).await;
    stub.misbehave(&faults_of_a_slow_engine()).await;
    let mut deployment = Deployment::new(&Setup { settings: stub.settings(), ..Setup::default() });
    let service = deployment.up_twice().await;
    let entrance = service.entrance();
    let mut members = service.members;
    let traffic = Traffic::begin(Load::of(&histories, 9), entrance);
    let mut random = Random::new(10);
    for _ in 0..ROUNDS {
        traffic.allow(EACH);
        members = round(&mut deployment, members, &traffic.entrance, &mut random).await;
    }
    stub.behave().await;
    let load = traffic.end().await;
    let service = Service::new(members);
    service.are_ready(true, PATIENCE).await;
    settled(&service, &histories).await;
    doubts_resolved(&service, &stub).await;

    load.is_among(rows(&deployment.postgres.url()).await.iter().map(|row| row.id.as_str()));
    load.is_kept(&service).await;
    let licenses = one_each(&service, &histories).await;
    issued_once(&service, licenses.len()).await;
    assert!(calls_cut_short(&service).await > 0, "no kill hit a call in hand: the test proves little");
    made_once(&stub, &licenses).await;
    faults::all_happened(&stub).await;
    deployment.finish(service).await;
    stub.stop().await;
}
