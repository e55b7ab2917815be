//! Calls to one Keygen account.

use keyledger_schemas::secret::Secret;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::wire::{License, Many, One, Problem, User};
use crate::outbound::{Answer, Outbound};
use crate::provider::ProviderError;

const MEDIA_TYPE: &str = "application/vnd.api+json";

/// Without it the version that is stored in the account applies, and shapes differ.
const VERSION: &str = "1.8";

/// The longest page there is.
const PAGE: usize = 100;

/// Searches are for one license or one person: more pages than this is nothing to wait for.
const PAGES_MAX: usize = 10;

/// One account, and who calls it.
#[derive(Clone, Debug)]
pub(super) struct Client {
    account: Outbound,
    token: Secret,
}

impl Client {
    pub(super) fn new(account: Outbound, token: Secret) -> Self {
        Self { account, token }
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let request = self.account.request(method, path).bearer_auth(self.token.expose());
        request.header(ACCEPT, MEDIA_TYPE).header("Keygen-Version", VERSION)
    }

    pub(super) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Answer, ProviderError> {
        self.account.send(self.request(Method::GET, path).query(query)).await
    }

    pub(super) async fn send(&self, method: Method, path: &[&str], body: &Value) -> Result<Answer, ProviderError> {
        let request = self.request(method, path).header(CONTENT_TYPE, MEDIA_TYPE).body(body.to_string());
        self.account.send(request).await
    }

    /// Without a body.
    pub(super) async fn delete(&self, path: &[&str]) -> Result<Answer, ProviderError> {
        self.account.send(self.request(Method::DELETE, path)).await
    }

    /// One license; `None` when this token sees none.
    pub(super) async fn license(&self, id: &str) -> Result<Option<License>, ProviderError> {
        found(&self.get(&["licenses", id], &[]).await?)
    }

    /// One user, by id or address; `None` when this token sees none.
    pub(super) async fn user(&self, id_or_email: &str) -> Result<Option<User>, ProviderError> {
        found(&self.get(&["users", id_or_email], &[]).await?)
    }

    /// Licenses or users whose metadata has this, newest first.
    pub(super) async fn search<T: DeserializeOwned + Identified>(
        &self,
        field: &str,
        value: &str,
    ) -> Result<Vec<T>, ProviderError> {
        let filter = format!("metadata[{field}]");
        let (mut all, mut after) = (Vec::new(), Some(String::new()));
        for _ in 0..PAGES_MAX {
            let Some(cursor) = after else { break };
            let page = self.page(T::PATH, &[(&filter, value)], &cursor).await?;
            after = page.next;
            all.extend(page.items);
        }
        Ok(all)
    }

    /// One page behind `cursor` (empty to begin), newest first.
    pub(super) async fn page<T: DeserializeOwned + Identified>(
        &self,
        path: &str,
        filter: &[(&str, &str)],
        cursor: &str,
    ) -> Result<Page<T>, ProviderError> {
        let size = PAGE.to_string();
        let mut query = filter.to_vec();
        query.extend([("page[cursor]", cursor), ("page[size]", &size)]);
        let many: Many<T> = read(&self.get(&[path], &query).await?)?;
        let last = many.data.last().map(|item| item.id().to_owned());
        Ok(Page { next: many.links.next.and(last), items: many.data })
    }
}

/// One page of a list.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// The cursor of the next page.
    pub(super) next: Option<String>,
}

/// What is listed.
pub(super) trait Identified {
    /// Its collection.
    const PATH: &'static str;

    /// Its id.
    fn id(&self) -> &str;
}

impl Identified for License {
    const PATH: &'static str = "licenses";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Identified for User {
    const PATH: &'static str = "users";

    fn id(&self) -> &str {
        &self.id
    }
}

/// The thing that an answer is about; `None` for 404.
pub(super) fn found<T: DeserializeOwned>(answer: &Answer) -> Result<Option<T>, ProviderError> {
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let one: One<T> = read(answer)?;
    Ok(Some(one.data))
}

/// The document of a success.
pub(super) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, ProviderError> {
    done(answer)?;
    answer.json()
}

/// Whether it was done, where nobody reads the answer.
pub(super) fn done(answer: &Answer) -> Result<(), ProviderError> {
    if answer.status.is_success() { Ok(()) } else { Err(failure(answer)) }
}

/// Whether an error of the answer has this code.
pub(super) fn says(answer: &Answer, code: &str) -> bool {
    problem(answer).errors.iter().any(|error| error.code.as_deref() == Some(code))
}

/// What a failure means. What it says is shown to people, so details are left out where they may repeat an address or a key:
/// when something was not found, and about users.
pub(super) fn failure(answer: &Answer) -> ProviderError {
    let problem = problem(answer);
    let hint = hint(answer.status);
    let Some(error) = problem.errors.first() else { return answer.failure(hint.unwrap_or_default()) };
    let pointer = error.source.pointer.as_deref();
    let quotes = answer.status == StatusCode::NOT_FOUND || pointer.is_some_and(is_personal);
    let detail = error.detail.as_deref().filter(|_| !quotes);
    let pointer = pointer.map(|pointer| format!("at {pointer}"));
    let said: Vec<&str> = [error.code.as_deref(), error.title.as_deref(), pointer.as_deref(), hint, detail]
        .into_iter()
        .flatten()
        .collect();
    answer.failure(&said.join(", "))
}

/// What to look at.
fn hint(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::FORBIDDEN => Some("the policy is not of the token's product, or the token lacks a permission"),
        StatusCode::NOT_FOUND => Some("it is gone, or of a product that the token does not see"),
        _ => None,
    }
}

fn is_personal(pointer: &str) -> bool {
    ["email", "firstName", "lastName", "metadata", "key"].iter().any(|name| pointer.ends_with(&format!("/{name}")))
}

fn problem(answer: &Answer) -> Problem {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}
