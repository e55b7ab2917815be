//! Which call is which, and what a token must be allowed for it.

use std::time::Duration;

use axum::http::Method;
use axum::response::Response;

use super::account::Account;
use super::call::Call;
use super::problem::Problem;
use super::render::Style;
use super::settings::Settings;
use super::{licenses, users};

/// What is asked, and of which license or user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    FindUser,
    ReadUser(String),
    CreateUser,
    UpdateUser(String),
    Find,
    Read(String),
    Create,
    Update(String),
    Delete(String),
    Revoke(String),
    Suspend(String),
    Reinstate(String),
    Renew(String),
    Owner(String),
    Policy(String),
    Entitlements(String),
    Attach(String),
    Detach(String),
    Entitlement(String),
    PolicyEntitlements(String),
}

impl Operation {
    /// `None` for what is not here.
    pub(super) fn of(call: &Call) -> Option<Self> {
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        let id = |id: &str| id.to_owned();
        let operation = match (call.method.clone(), path.as_slice()) {
            (Method::GET, ["users"]) => Self::FindUser,
            (Method::POST, ["users"]) => Self::CreateUser,
            (Method::GET, ["users", of]) => Self::ReadUser(id(of)),
            (Method::PATCH, ["users", of]) => Self::UpdateUser(id(of)),
            (Method::GET, ["licenses"]) => Self::Find,
            (Method::POST, ["licenses"]) => Self::Create,
            (Method::GET, ["licenses", of]) => Self::Read(id(of)),
            (Method::PATCH, ["licenses", of]) => Self::Update(id(of)),
            (Method::DELETE, ["licenses", of]) => Self::Delete(id(of)),
            (Method::DELETE, ["licenses", of, "actions", "revoke"]) => Self::Revoke(id(of)),
            (Method::POST, ["licenses", of, "actions", "suspend"]) => Self::Suspend(id(of)),
            (Method::POST, ["licenses", of, "actions", "reinstate"]) => Self::Reinstate(id(of)),
            (Method::POST, ["licenses", of, "actions", "renew"]) => Self::Renew(id(of)),
            (Method::PUT, ["licenses", of, "owner"]) => Self::Owner(id(of)),
            (Method::PUT, ["licenses", of, "policy"]) => Self::Policy(id(of)),
            (Method::GET, ["licenses", of, "entitlements"]) => Self::Entitlements(id(of)),
            (Method::POST, ["licenses", of, "entitlements"]) => Self::Attach(id(of)),
            (Method::DELETE, ["licenses", of, "entitlements"]) => Self::Detach(id(of)),
            (Method::GET, ["entitlements", of]) => Self::Entitlement(id(of)),
            (Method::GET, ["policies", of, "entitlements"]) => Self::PolicyEntitlements(id(of)),
            _ => return None,
        };
        Some(operation)
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::FindUser => "find_user",
            Self::ReadUser(_) => "read_user",
            Self::CreateUser => "create_user",
            Self::UpdateUser(_) => "update_user",
            Self::Find => "find",
            Self::Read(_) => "read",
            Self::Create => "create",
            Self::Update(_) => "update",
            Self::Delete(_) => "delete",
            Self::Revoke(_) => "revoke",
            Self::Suspend(_) => "suspend",
            Self::Reinstate(_) => "reinstate",
            Self::Renew(_) => "renew",
            Self::Owner(_) => "owner",
            Self::Policy(_) => "policy",
            Self::Entitlements(_) => "entitlements",
            Self::Attach(_) => "attach",
            Self::Detach(_) => "detach",
            Self::Entitlement(_) => "entitlement",
            Self::PolicyEntitlements(_) => "policy_entitlements",
        }
    }

    /// Which license it is about.
    pub(super) fn about(&self) -> Option<&str> {
        match self {
            Self::FindUser
            | Self::ReadUser(_)
            | Self::CreateUser
            | Self::UpdateUser(_)
            | Self::Find
            | Self::Create
            | Self::Entitlement(_)
            | Self::PolicyEntitlements(_) => None,
            Self::Read(id)
            | Self::Update(id)
            | Self::Delete(id)
            | Self::Revoke(id)
            | Self::Suspend(id)
            | Self::Reinstate(id)
            | Self::Renew(id)
            | Self::Owner(id)
            | Self::Policy(id)
            | Self::Entitlements(id)
            | Self::Attach(id)
            | Self::Detach(id) => Some(id),
        }
    }

    /// Whether the token may do it.
    pub(super) fn allowed(&self, settings: &Settings) -> Result<(), Problem> {
        match &settings.permissions {
            Some(permissions) if !permissions.contains(self.permission()) => {
                Err(Problem::forbidden("You do not have permission to complete the request").coded("TOKEN_NOT_ALLOWED"))
            }
            _ => Ok(()),
        }
    }

    /// What Keygen calls the right to do it. That listing the entitlements of a license or policy takes `entitlement.read` is
    /// not verified; the strictest reading is taken.
    fn permission(&self) -> &'static str {
        match self {
            Self::FindUser | Self::ReadUser(_) => "user.read",
            Self::CreateUser => "user.create",
            Self::UpdateUser(_) => "user.update",
            Self::Find | Self::Read(_) => "license.read",
            Self::Create => "license.create",
            Self::Update(_) => "license.update",
            Self::Delete(_) => "license.delete",
            Self::Revoke(_) => "license.revoke",
            Self::Suspend(_) => "license.suspend",
            Self::Reinstate(_) => "license.reinstate",
            Self::Renew(_) => "license.renew",
            Self::Owner(_) => "license.owner.update",
            Self::Policy(_) => "license.policy.update",
            Self::Entitlements(_) | Self::Entitlement(_) | Self::PolicyEntitlements(_) => "entitlement.read",
            Self::Attach(_) => "license.entitlements.attach",
            Self::Detach(_) => "license.entitlements.detach",
        }
    }

    pub(super) fn run(
        &self,
        account: &mut Account,
        call: &Call,
        style: &Style,
        lag: Duration,
    ) -> Result<Response, Problem> {
        match self {
            Self::FindUser => users::list(account, call, style),
            Self::ReadUser(id) => users::read(account, id, style),
            Self::CreateUser => users::create(account, call, style),
            Self::UpdateUser(id) => users::update(account, call, id, style),
            Self::Find => licenses::list(account, call, style, lag),
            Self::Read(id) => licenses::read(account, id, style),
            Self::Create => licenses::create(account, call, style),
            Self::Update(id) => licenses::update(account, call, id, style),
            Self::Delete(id) | Self::Revoke(id) => licenses::destroy(account, id),
            Self::Suspend(id) => licenses::suspend(account, id, true, style),
            Self::Reinstate(id) => licenses::suspend(account, id, false, style),
            Self::Renew(id) => licenses::renew(account, id, style),
            Self::Owner(id) => licenses::set_owner(account, call, id, style),
            Self::Policy(id) => licenses::set_policy(account, call, id, style),
            Self::Entitlements(id) => licenses::entitlements(account, call, id, style),
            Self::Attach(id) => licenses::attach(account, call, id),
            Self::Detach(id) => licenses::detach(account, call, id),
            Self::Entitlement(id) => licenses::entitlement(account, id, style),
            Self::PolicyEntitlements(id) => licenses::of_policy(account, call, id, style),
        }
    }
}
