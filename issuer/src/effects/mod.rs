//! What the issuer does outside of license calls. All of it is optional.
//!
//! | effect | needs |
//! | --- | --- |
//! | [`write_back`]: what was issued is written into the metadata of Stripe's objects | an API key |
//! | [`fetching`]: what events do not carry is asked for, once, and put into the log | an API key |
//! | customers whose name or address changed are brought up to date at the engines | an engine that keeps customers |
//! | the log is compared with Stripe from time to time | an API key |
//!
//! ```text
//!   log ──▶ reader ──▶ subjects ──look──▶ errand rows ──due──▶ look again ──▶ call ──▶ outcome ──▶ log
//! ```
//!
//! What is to be done follows from state, and is asked of it anew before every call. So a crash at any line repeats
//! harmlessly, and reading the log again makes no call: what was written, fetched or refused stands in the streams of its
//! object, and a fetch that was refused is only tried again a day later. A value that was written is not written again unless it was seen to have changed since.

use std::collections::BTreeMap;
use std::time::Duration;

use keyledger_schemas::ids::{Mode, SourceName};
use serde::{Deserialize, Serialize};

use crate::stripe::reconcile;

pub mod write_back;

pub mod fetching;

pub mod errand;

mod look;

mod reader;

mod calls;

mod runner;

pub use reader::NAME;
pub use runner::Runner;

/// How patient effects are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How long a charged key may be missing before the subscription is marked with `skm_temp_var`, in seconds. Default 60.
    pub mark_after_s: u64,
    /// How long to wait for what may come by itself before Stripe is asked, in seconds. Default 60.
    pub fetch_after_s: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { mark_after_s: 60, fetch_after_s: 60 }
    }
}

impl Options {
    fn mark_after(&self) -> Duration {
        Duration::from_secs(self.mark_after_s)
    }

    fn fetch_after(&self) -> Duration {
        Duration::from_secs(self.fetch_after_s)
    }
}

/// The sources whose API key is configured.
#[derive(Clone, Debug, Default)]
pub struct Stripe {
    /// By name.
    pub sources: BTreeMap<SourceName, Source>,
    /// How patient it is with all of them.
    pub options: Options,
}

impl Stripe {
    /// These sources.
    pub fn new(sources: impl IntoIterator<Item = Source>, options: Options) -> Self {
        let sources = sources.into_iter().map(|source| (source.stripe.name.clone(), source)).collect();
        Self { sources, options }
    }
}

/// A source that may be asked and written to.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name, its mode, and how it is reached.
    pub stripe: reconcile::Source,
    /// Whether metadata is written back.
    pub write_back: bool,
    /// Whether what events do not carry is fetched.
    pub fetch: bool,
    /// How often the log is compared with Stripe; `None` for never.
    pub reconcile_every: Option<Duration>,
}

impl Source {
    fn mode(&self) -> Mode {
        self.stripe.mode
    }
}
