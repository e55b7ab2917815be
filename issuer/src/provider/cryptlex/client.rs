//! Cryptlex' Web API v3 as calls: each sends one request, or the pages of one search.

use jiff::Timestamp;
use keyledger_schemas::secret::Secret;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::wire::{Expiry, License, NewLicense, NewUser, Patch, Problem, User, UserPatch};
use crate::outbound::{Answer, Outbound};
use crate::provider::{CallError, ProviderError};

/// The most that a page may have. The default is not documented.
pub(super) const PAGE: usize = 100;

/// A search that has more pages than this is not one of ours.
const PAGES_MAX: usize = 50;

#[derive(Clone, Debug)]
pub(super) struct Client {
    api: Outbound,
    token: Secret,
}

impl Client {
    pub(super) fn new(api: Outbound, token: Secret) -> Self {
        Self { api, token }
    }

    /// Licenses that have metadata with this value. Whether key and value are of one entry is for the caller to look at.
    pub(super) async fn licenses_with(&self, key: &str, value: &str) -> Result<Vec<License>, ProviderError> {
        self.search("licenses", &[("metadata.key[eq]", key), ("metadata.value[eq]", value)]).await
    }

    /// One page of a product's licenses, from 1; the oldest first.
    pub(super) async fn licenses_of(&self, product: &str, page: usize) -> Result<Vec<License>, ProviderError> {
        self.page("licenses", &[("productId[eq]", product)], page, PAGE).await
    }

    pub(super) async fn license(&self, id: &str) -> Result<Option<License>, ProviderError> {
        self.read(&["v3", "licenses", id]).await
    }

    pub(super) async fn create_license(&self, body: &NewLicense<'_>) -> Result<License, ProviderError> {
        self.send(Method::POST, &["v3", "licenses"], body, said).await?.json()
    }

    pub(super) async fn patch_license(&self, id: &str, patch: &Patch) -> Result<(), ProviderError> {
        self.send(Method::PATCH, &["v3", "licenses", id], patch, said).await.and_then(|answer| done(&answer))
    }

    /// In whole seconds, and never earlier than asked for.
    pub(super) async fn set_expiry(&self, id: &str, expires_at: Option<Timestamp>) -> Result<(), ProviderError> {
        let expires_at = expires_at.map(|at| whole_seconds(at).to_string());
        let sent = self.send(Method::PATCH, &["v3", "licenses", id, "expires-at"], &Expiry { expires_at }, said).await;
        sent.and_then(|answer| done(&answer))
    }

    pub(super) async fn users_with(&self, key: &str, value: &str) -> Result<Vec<User>, ProviderError> {
        self.search("users", &[("metadata.key[eq]", key), ("metadata.value[eq]", value)]).await
    }

    pub(super) async fn users_at(&self, email: &str) -> Result<Vec<User>, ProviderError> {
        self.search("users", &[("email[eq]", email)]).await
    }

    pub(super) async fn user(&self, id: &str) -> Result<Option<User>, ProviderError> {
        self.read(&["v3", "users", id]).await
    }

    pub(super) async fn create_user(&self, body: &NewUser<'_>) -> Result<User, ProviderError> {
        self.send(Method::POST, &["v3", "users"], body, said_of_a_person).await?.json()
    }

    pub(super) async fn patch_user(&self, id: &str, patch: &UserPatch) -> Result<(), ProviderError> {
        self.send(Method::PATCH, &["v3", "users", id], patch, said_of_a_person).await.and_then(|answer| done(&answer))
    }

    /// One page of all users, from 1; the oldest first.
    pub(super) async fn users(&self, page: usize) -> Result<Vec<User>, ProviderError> {
        self.page("users", &[], page, PAGE).await
    }

    /// Asks for one license and one user: whether the token works.
    pub(super) async fn probe(&self) -> Result<(), ProviderError> {
        self.page::<License>("licenses", &[], 1, 1).await?;
        self.page::<User>("users", &[], 1, 1).await?;
        Ok(())
    }

    /// All pages of a search. A page that is shorter than asked for is the last.
    async fn search<T: DeserializeOwned>(&self, of: &str, filters: &[(&str, &str)]) -> Result<Vec<T>, ProviderError> {
        let mut found = Vec::new();
        for page in 1..=PAGES_MAX {
            let hits: Vec<T> = self.page(of, filters, page, PAGE).await?;
            let is_last = hits.len() < PAGE;
            found.extend(hits);
            if is_last {
                return Ok(found);
            }
        }
        let reason = format!("a search for one thing has more than {PAGES_MAX} pages");
        Err(ProviderError::Unavailable { retry_after: None, source: CallError::Unreadable { reason } })
    }

    async fn page<T: DeserializeOwned>(
        &self,
        of: &str,
        filters: &[(&str, &str)],
        page: usize,
        limit: usize,
    ) -> Result<Vec<T>, ProviderError> {
        let request =
            self.api.request(Method::GET, &["v3", of]).query(filters).query(&[("page", page), ("limit", limit)]);
        let answer = self.answer(request).await.map_err(of_a_look_up)?;
        if !answer.status.is_success() {
            return Err(of_a_look_up(failure(&answer, said_of_a_person)));
        }
        answer.json().map_err(of_a_look_up)
    }

    async fn read<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Option<T>, ProviderError> {
        let answer = self.answer(self.api.request(Method::GET, path)).await.map_err(of_a_look_up)?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => answer.json().map(Some).map_err(of_a_look_up),
            _ => Err(of_a_look_up(failure(&answer, said_of_a_person))),
        }
    }

    async fn send<B: Serialize + Sync>(
        &self,
        method: Method,
        path: &[&str],
        body: &B,
        reason: fn(&Answer) -> String,
    ) -> Result<Answer, ProviderError> {
        let answer = self.answer(self.api.request(method, path).json(body)).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(failure(&answer, reason)) }
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Answer, ProviderError> {
        self.api.send(request.bearer_auth(self.token.expose())).await
    }
}

/// What a change did is read back, not believed; but half an answer says that something is wrong. Whether setting an expiry is
/// answered with anything is not documented.
fn done(answer: &Answer) -> Result<(), ProviderError> {
    if answer.body.is_empty() {
        return Ok(());
    }
    answer.json::<serde::de::IgnoredAny>().map(|_| ())
}

/// Only the status decides. A token without the scope is as one that ran out: a setting to mend, nothing was done, and all
/// goes on by itself once it is replaced.
fn failure(answer: &Answer, reason: fn(&Answer) -> String) -> ProviderError {
    if answer.status == StatusCode::FORBIDDEN {
        let source = CallError::Credentials { status: answer.status.as_u16() };
        return ProviderError::Unavailable { retry_after: None, source };
    }
    answer.failure(&reason(answer))
}

/// A look-up changes nothing: one of unknown outcome may simply be asked again.
fn of_a_look_up(error: ProviderError) -> ProviderError {
    match error {
        ProviderError::Indeterminate { source } => ProviderError::Unavailable { retry_after: None, source },
        other => other,
    }
}

/// What was said, without anything that looks like an address.
fn said(answer: &Answer) -> String {
    let Problem { message, code } = problem(answer);
    let words: Vec<&str> = message.split_whitespace().map(|word| if word.contains('@') { "…" } else { word }).collect();
    [code, words.join(" ")].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The code alone: what is said of a person may name them.
fn said_of_a_person(answer: &Answer) -> String {
    let code = problem(answer).code;
    if code.contains('@') { String::new() } else { code }
}

fn problem(answer: &Answer) -> Problem {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// The whole second at or after `at`.
pub(super) fn whole_seconds(at: Timestamp) -> Timestamp {
    let second = Timestamp::from_second(at.as_second()).unwrap_or(at);
    if second < at { second.saturating_add(jiff::SignedDuration::from_secs(1)).unwrap_or(second) } else { second }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_token_that_ran_out_refuses_nothing_for_good() {
        for status in [401, 403] {
            let error = failure(&answer(status, "{}"), said);
            assert!(matches!(error, ProviderError::Unavailable { source: CallError::Credentials { .. }, .. }));
        }
        assert!(matches!(failure(&answer(400, ""), said), ProviderError::Refused { .. }));
        assert!(matches!(failure(&answer(409, ""), said), ProviderError::Indeterminate { .. }));
        assert!(matches!(failure(&answer(500, ""), said), ProviderError::Indeterminate { .. }));
    }

    #[test]
    fn reasons_name_nobody() {
        let body = r#"{"message": "user jane@example.com exists", "code": "USER_EXISTS", "more": [1]}"#;
        assert_eq!(said(&answer(400, body)), "USER_EXISTS user … exists");
        assert_eq!(said_of_a_person(&answer(400, body)), "USER_EXISTS");
        assert_eq!(said(&answer(400, "<html>")), "");
    }

    #[test]
    fn times_are_sent_in_whole_seconds_and_never_earlier() {
        let sent = |text: &str| whole_seconds(text.parse().unwrap()).to_string();
        assert_eq!(sent("2026-07-01T00:00:00Z"), "2026-07-01T00:00:00Z");
        assert_eq!(sent("2026-07-01T00:00:00.1Z"), "2026-07-01T00:00:01Z");
    }
}
