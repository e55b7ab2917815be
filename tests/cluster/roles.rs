//! Roles, and the processes that play them.

use std::ops::Deref;
use std::time::Duration;

use futures::future::join_all;
use tokio::process::Command;

use crate::entrance::Entrance;
use crate::support::client::Caller;
use crate::support::process::Process;
use crate::support::wait::until;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes webhooks, and mirrors the log.
    Ingest,
    /// Issues licenses.
    Issuer,
    /// Makes the views.
    Projector,
    /// Serves the API.
    Console,
}

impl Role {
    /// One of each.
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Issuer, Self::Projector, Self::Console];

    /// Its verb.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Issuer => "issuer",
            Self::Projector => "projector",
            Self::Console => "console",
        }
    }

    /// The name of its address in its ready line.
    fn address(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Issuer | Self::Projector => "health",
            Self::Console => "api",
        }
    }

    /// What each process is told beside the settings: a free port, for two of a role on one machine cannot have one
    /// address; and its user on NATS.
    pub fn tell(self, command: &mut Command) {
        for listen in ["KEYLEDGER_ISSUER__LISTEN", "KEYLEDGER_PROJECTOR__LISTEN"] {
            command.env(listen, "127.0.0.1:0");
        }
        command.env("KEYLEDGER_NATS__USER", self.verb());
    }
}

/// A process that plays a role.
#[derive(Debug)]
pub struct Member {
    /// Which.
    pub role: Role,
    /// Where it listens, as `http://…`.
    pub address: String,
    /// The process.
    pub process: Process,
}

impl Member {
    /// Reads the address from the ready line.
    pub fn new(role: Role, process: Process) -> Self {
        assert_eq!(process.ready["role"], role.verb(), "{}", process.ready);
        Self { role, address: process.address(role.address()), process }
    }

    /// Whether `/health/{what}` is good.
    pub async fn is_well(&self, what: &str) -> bool {
        let client = keyledger_test_servers::http::client();
        let answer = client.get(format!("{}/health/{what}", self.address)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

/// All roles of a deployment, running.
#[derive(Debug)]
pub struct Service {
    /// Their processes.
    pub members: Vec<Member>,
    /// Where to post and ask: the first ingest and the first console.
    pub client: Caller,
}

impl Service {
    /// At least one ingest and one console.
    pub fn new(members: Vec<Member>) -> Self {
        let client = caller_of(&members);
        Self { members, client }
    }

    /// Takes the first of a role out.
    pub fn take(&mut self, role: Role) -> Member {
        let index = self.members.iter().position(|member| member.role == role).unwrap();
        let member = self.members.remove(index);
        self.client = caller_of(&self.members);
        member
    }

    /// Puts one in, behind the others.
    pub fn put(&mut self, member: Member) {
        self.members.push(member);
        self.client = caller_of(&self.members);
    }

    /// The first of a role.
    pub fn first(&self, role: Role) -> &Member {
        self.members.iter().find(|member| member.role == role).unwrap()
    }

    /// Every ingest, one behind the other.
    pub fn entrance(&self) -> Entrance {
        let ingests = self.members.iter().filter(|member| member.role == Role::Ingest);
        Entrance::new(ingests.map(|member| member.address.clone()))
    }

    /// Waits until every role says that it is ready, or that it is not. It must live all the time.
    pub async fn are_ready(&self, ready: bool, within: Duration) {
        for member in &self.members {
            until(&format!("{:?} ready: {ready}", member.role), within, async || {
                if member.is_well("ready").await == ready { Ok(()) } else { Err("it is not known".to_owned()) }
            })
            .await;
            assert!(member.is_well("live").await, "{:?} lives without its servers", member.role);
        }
    }

    /// No process died.
    pub fn all_run(&mut self) {
        for member in &mut self.members {
            assert!(member.process.is_running(), "{:?} died:\n{}", member.role, member.process.last_words());
        }
    }

    /// SIGTERM to all at once, and a good end of each.
    pub async fn stop(self) {
        join_all(self.members.into_iter().map(|member| member.process.stop())).await;
    }
}

impl Deref for Service {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.client
    }
}

fn caller_of(members: &[Member]) -> Caller {
    let first = |role| members.iter().find(|member| member.role == role).map_or("", |member| &member.address);
    Caller::new(first(Role::Ingest), first(Role::Console))
}
