//! What the account holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::settings::{Policy, Settings};

/// A license.
#[derive(Clone, Debug, Serialize)]
pub struct License {
    /// Its id.
    pub id: Uuid,
    /// What the customer types in.
    pub key: String,
    /// What it is called.
    pub name: Option<String>,
    /// Its policy.
    pub policy: Uuid,
    /// Whose it is.
    pub owner: Option<Uuid>,
    /// When it runs out; `None` for never.
    pub expiry: Option<Timestamp>,
    /// Stopped for now.
    pub suspended: bool,
    /// Not to be shown to its owner.
    pub protected: bool,
    /// Limits that it has instead of the policy's, such as `max_machines`.
    pub limits: BTreeMap<String, u64>,
    /// Metadata, keys as they are stored.
    pub metadata: Map<String, Value>,
    /// Entitlements of its own, beside the policy's.
    pub entitlements: BTreeSet<Uuid>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was changed.
    pub updated: Timestamp,
    /// Seconds that relative renewals have added.
    pub renewed_s: u64,
    /// Since when searches may see it, but for their lag.
    #[serde(skip)]
    pub(super) made: Option<Instant>,
}

/// A user.
#[derive(Clone, Debug, Serialize)]
pub struct User {
    /// Its id.
    pub id: Uuid,
    /// In lower case; unique.
    pub email: String,
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// Metadata, keys as they are stored.
    pub metadata: Map<String, Value>,
    /// Its licenses do not work.
    pub banned: bool,
    /// One of the account's own people: not seen by a product's token.
    pub admin: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When it was changed.
    pub updated: Timestamp,
}

/// All of it. Oldest first.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) settings: Settings,
    pub(super) licenses: Vec<License>,
    pub(super) users: Vec<User>,
    /// Metadata of every license that was ever made by a call.
    pub(super) made: Vec<Map<String, Value>>,
    pub(super) window: Option<(Instant, u32)>,
    ids: u128,
}

impl Account {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    pub(super) fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "a stand-in is a server of its own, with a clock of its own")]
        let now = self.settings.now.unwrap_or_else(Timestamp::now);
        now
    }

    /// An id that was not given before.
    pub(super) fn next_id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &self.ids.to_be_bytes())
    }

    pub(super) fn next_key(&mut self) -> String {
        let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, self.next_id().as_bytes()).simple().to_string().to_uppercase();
        format!("{}-{}-{}-{}-V3", &id[..6], &id[6..12], &id[12..18], &id[18..24])
    }

    pub(super) fn policy(&self, id: Uuid) -> Option<&Policy> {
        self.settings.policies.iter().find(|policy| policy.id == id)
    }

    /// Whether the token sees what is of this policy.
    pub(super) fn sees(&self, policy: Uuid) -> bool {
        match self.settings.token_product {
            None => true,
            Some(product) => self.policy(policy).is_some_and(|policy| policy.product == product),
        }
    }

    /// The place of a license that the token sees, by id or key.
    pub(super) fn find_license(&self, id_or_key: &str) -> Option<usize> {
        let id = super::document::hyphenated(id_or_key);
        let fits = |license: &License| id.map_or(license.key == id_or_key, |id| license.id == id);
        self.licenses.iter().position(|license| fits(license) && self.sees(license.policy))
    }

    /// The place of a user that the token sees, by id or email.
    pub(super) fn find_user(&self, id_or_email: &str) -> Option<usize> {
        let id = super::document::hyphenated(id_or_email);
        let email = id_or_email.to_lowercase();
        let fits = |user: &User| id.map_or(user.email == email, |id| user.id == id);
        let hidden = |user: &User| user.admin && self.settings.token_product.is_some();
        self.users.iter().position(|user| fits(user) && !hidden(user))
    }

    /// What the policy gives and what the license has beside it.
    pub(super) fn entitlements(&self, license: &License) -> BTreeSet<Uuid> {
        let given = self.policy(license.policy).map(|policy| policy.entitlements.clone()).unwrap_or_default();
        given.union(&license.entitlements).copied().collect()
    }

    pub(super) fn max_machines(&self, license: &License) -> Option<u64> {
        let own = license.limits.get("max_machines").copied();
        own.or_else(|| self.policy(license.policy)?.max_machines.map(u64::from))
    }

    pub(super) fn status(&self, license: &License) -> &'static str {
        const DAY_S: i64 = 86_400;
        let now = self.now().as_second();
        let banned = self.users.iter().any(|user| Some(user.id) == license.owner && user.banned);
        match license.expiry.map(Timestamp::as_second) {
            _ if banned => "BANNED",
            _ if license.suspended => "SUSPENDED",
            Some(at) if at < now => "EXPIRED",
            Some(at) if at < now + 3 * DAY_S => "EXPIRING",
            _ if license.created.as_second() < now - 90 * DAY_S => "INACTIVE",
            _ => "ACTIVE",
        }
    }

    /// Whether a search sees it already.
    pub(super) fn is_visible(license: &License, lag: Duration) -> bool {
        license.made.is_none_or(|made| made.elapsed() >= lag)
    }

    /// Counts a call; false when it is one too many.
    pub(super) fn admits(&mut self) -> bool {
        let Some(max) = self.settings.calls_per_30_s else { return true };
        let (began, count) = match self.window {
            Some((began, count)) if began.elapsed() < Duration::from_secs(30) => (began, count),
            _ => (Instant::now(), 0),
        };
        self.window = Some((began, count.saturating_add(1)));
        count < max
    }
}
