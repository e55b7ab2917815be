//! What can be set under `[ingest]`, and the sources that may deliver.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use keyledger_schemas::ids::{Mode, SourceName};
use keyledger_schemas::secret::Secret;
use serde::{Deserialize, Serialize};

use crate::signature::{self, BlankSecret, NamedSecret};

/// The smallest bound of a request's head that leaves room for a signature header and a proxy's additions.
const HEADER_BYTES_MIN: usize = 8 * 1024;

/// How old a connection may get, in header timeouts, before an answer ends it: five minutes by default, which is long
/// enough to spare a busy sender most of the handshakes.
const HEADER_TIMEOUTS_PER_CONNECTION: u32 = 30;

/// An hour. Stripe gives up long before.
const TIMEOUT_MS_MAX: u64 = 60 * 60 * 1000;

/// The settings of the ingest role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The address that Stripe, or the proxy before us, connects to. Port 0 takes a free one. Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Largest body that is taken, in bytes. A larger one is answered with 413 and opens a case. Default 4194304.
    pub body_bytes_max: usize,
    /// How old a signature may be, in seconds. Default 300.
    pub signature_tolerance_s: u64,
    /// How long a sender may take to send the head of a request, to take an answer, and to be idle, in milliseconds. A
    /// connection thirty times as old is closed with its next answer. Default 10000.
    pub header_timeout_ms: u64,
    /// How long a request may take to send its body, in milliseconds. Default 10000.
    pub body_timeout_ms: u64,
    /// How long the log may take to acknowledge an append before the sender is told to try again, in milliseconds.
    /// Default 10000.
    pub append_timeout_ms: u64,
    /// How long to go on taking requests once the role is stopping, each answer ending its connection, so that whoever
    /// sends turns to another process, in milliseconds. Default 1000.
    pub drain_ms: u64,
    /// How long requests in flight may take to finish after that, in milliseconds. Default 10000.
    pub stop_timeout_ms: u64,
    /// How long one readiness check may take, in milliseconds. Default 2000.
    pub check_timeout_ms: u64,
    /// Most signed webhook requests in hand at once; the next one is answered with 503. Default 512.
    pub requests_max: usize,
    /// Most connections at once; further ones wait to be accepted. Default 1024.
    pub connections_max: usize,
    /// Most bytes of bodies in memory at once; a request that would need more is answered with 503. Default 67108864.
    pub buffered_bytes_max: usize,
    /// Largest head of a request, in bytes, at least 8192. A larger one is answered with 431. Default 16384.
    pub header_bytes_max: usize,
    /// Most header lines of a request. More are answered with 431. Default 100.
    pub headers_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            body_bytes_max: 4 * 1024 * 1024,
            signature_tolerance_s: signature::TOLERANCE.as_secs(),
            header_timeout_ms: 10_000,
            body_timeout_ms: 10_000,
            append_timeout_ms: 10_000,
            drain_ms: 1_000,
            stop_timeout_ms: 10_000,
            check_timeout_ms: 2_000,
            requests_max: 512,
            connections_max: 1024,
            buffered_bytes_max: 64 * 1024 * 1024,
            header_bytes_max: 16 * 1024,
            headers_max: 100,
        }
    }
}

impl Options {
    /// Every setting that cannot work, each as a sentence that names it; empty when all is well.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let at_least_one = [
            ("body_bytes_max", self.body_bytes_max),
            ("requests_max", self.requests_max),
            ("connections_max", self.connections_max),
            ("headers_max", self.headers_max),
        ];
        for (name, value) in at_least_one {
            if value == 0 {
                problems.push(format!("`ingest.{name}` must be at least 1"));
            }
        }
        let timeouts = [
            ("header_timeout_ms", self.header_timeout_ms),
            ("body_timeout_ms", self.body_timeout_ms),
            ("append_timeout_ms", self.append_timeout_ms),
            ("stop_timeout_ms", self.stop_timeout_ms),
            ("check_timeout_ms", self.check_timeout_ms),
        ];
        for (name, value) in timeouts {
            if !(1..=TIMEOUT_MS_MAX).contains(&value) {
                problems.push(format!("`ingest.{name}` must be from 1 to {TIMEOUT_MS_MAX}"));
            }
        }
        if self.drain_ms > TIMEOUT_MS_MAX {
            problems.push(format!("`ingest.drain_ms` must be at most {TIMEOUT_MS_MAX}"));
        }
        if self.signature_tolerance_s == 0 {
            problems
                .push("`ingest.signature_tolerance_s` must be at least 1: 0 would let old requests be replayed".into());
        }
        if self.header_bytes_max < HEADER_BYTES_MIN {
            problems.push(format!("`ingest.header_bytes_max` must be at least {HEADER_BYTES_MIN}"));
        }
        if self.buffered_bytes_max < self.body_bytes_max {
            problems.push("`ingest.buffered_bytes_max` must not be less than `ingest.body_bytes_max`".into());
        }
        if u32::try_from(self.buffered_bytes_max).is_err() {
            problems.push(format!("`ingest.buffered_bytes_max` must not be more than {}", u32::MAX));
        }
        problems
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    pub(crate) fn signature_tolerance(&self) -> Duration {
        Duration::from_secs(self.signature_tolerance_s)
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    /// How long a sender may take to take an answer.
    pub(crate) fn answer_timeout(&self) -> Duration {
        self.header_timeout()
    }

    /// The age of a connection whose next answer is the last.
    pub(crate) fn connection_age(&self) -> Duration {
        self.header_timeout() * HEADER_TIMEOUTS_PER_CONNECTION
    }

    /// The age at which a connection is dropped: time enough for a request that comes at [`Options::connection_age`],
    /// behind an answer that is still being taken.
    pub(crate) fn connection_age_max(&self) -> Duration {
        let request = self.header_timeout() + self.body_timeout() + self.append_timeout().max(self.check_timeout());
        self.connection_age() + self.answer_timeout() + request + self.answer_timeout()
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }

    pub(crate) fn append_timeout(&self) -> Duration {
        Duration::from_millis(self.append_timeout_ms)
    }

    pub(crate) fn stop_timeout(&self) -> Duration {
        Duration::from_millis(self.stop_timeout_ms)
    }

    pub(crate) fn check_timeout(&self) -> Duration {
        Duration::from_millis(self.check_timeout_ms)
    }
}

/// One Stripe account or Connect platform that may deliver, with all its endpoints' secrets.
#[derive(Clone, Debug)]
pub struct Source {
    name: SourceName,
    mode: Mode,
    secrets: Vec<NamedSecret>,
}

/// A source that could not tell Stripe from a stranger.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSource {
    /// There is no secret to verify with.
    #[error("source `{0}` has no webhook secret")]
    NoSecret(SourceName),
    /// One secret is blank.
    #[error("source `{source_name}` has an unusable webhook secret")]
    Blank {
        /// The source.
        source_name: SourceName,
        /// Which secret.
        #[source]
        secret: BlankSecret,
    },
}

impl Source {
    /// A source whose secrets are named `secret-1`, `secret-2`, … in the order given: live and test, old and new.
    /// It issues in `mode`; events of the other mode are kept all the same.
    ///
    /// # Errors
    ///
    /// [`BadSource`]: refuse to start.
    pub fn new(name: SourceName, mode: Mode, secrets: Vec<Secret>) -> Result<Self, BadSource> {
        if secrets.is_empty() {
            return Err(BadSource::NoSecret(name));
        }
        let mut named = Vec::new();
        for (index, secret) in secrets.into_iter().enumerate() {
            match NamedSecret::new(format!("secret-{}", index + 1), secret) {
                Ok(secret) => named.push(secret),
                Err(secret) => return Err(BadSource::Blank { source_name: name, secret }),
            }
        }
        Ok(Self { name, mode, secrets: named })
    }

    /// Its name: the last segment of its webhook's path.
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// The mode that it issues in.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The secrets that may have signed a delivery.
    pub fn secrets(&self) -> &[NamedSecret] {
        &self.secrets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_problems() {
        assert_eq!(Options::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let options = Options {
            body_bytes_max: 0,
            signature_tolerance_s: 0,
            header_timeout_ms: 0,
            header_bytes_max: 1,
            ..Options::default()
        };
        let problems = options.problems();
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn unknown_settings_are_refused_and_absent_ones_have_defaults() {
        assert!(serde_json::from_str::<Options>(r#"{"listne": "127.0.0.1:1"}"#).is_err());
        let options = serde_json::from_str::<Options>(r#"{"requests_max": 7}"#).unwrap();
        assert_eq!(options, Options { requests_max: 7, ..Options::default() });
    }

    #[test]
    fn a_source_without_a_usable_secret_is_refused() {
        let name = SourceName::default;
        assert_eq!(Source::new(name(), Mode::Live, vec![]).unwrap_err(), BadSource::NoSecret(name()));
        let blank = Source::new(name(), Mode::Live, vec![Secret::new("whsec_a"), Secret::new(" ")]).unwrap_err();
        assert!(matches!(blank, BadSource::Blank { secret, .. } if secret.name == "secret-2"));
    }

    #[test]
    fn the_name_of_a_secret_tells_nothing_of_it() {
        let source =
            Source::new(SourceName::default(), Mode::Live, vec![Secret::new("whsec_a"), Secret::new("whsec_b")]);
        let names: Vec<_> = source.unwrap().secrets().iter().map(|secret| secret.name().to_owned()).collect();
        assert_eq!(names, ["secret-1", "secret-2"]);
    }
}
