//! Sending one call, and reading what became of it.
//!
//! Every call is a `POST` with a form: the token and the keys stay out of the logs of proxies. What happened is told by
//! `result` and `message` of the body, since errors may come with any status, 200 too.

use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;

use keyledger_schemas::secret::Secret;

use super::wire::Verdict;
use crate::outbound::{Answer, Outbound};
use crate::provider::{CallError, ProviderError};

/// A longer reason is cut: it is shown in a case.
const REASON_CHARS_MAX: usize = 200;

/// Parameters of a call, by their names.
pub(super) type Form<'a> = Vec<(&'a str, String)>;

/// Sends calls with the token.
#[derive(Clone, Debug)]
pub(super) struct Client {
    service: Outbound,
    token: Secret,
}

/// Why a call was not done, as far as the caller may want to tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// There is no such license in the product, or the token may not see it.
    NoKey,
    /// There is no such customer.
    NoCustomer,
    /// Something about the parameters.
    Incorrect,
    /// Anything else.
    Other,
}

/// A call that did not end in *done*.
#[derive(Debug)]
pub(super) enum Failure {
    /// A definite no.
    Refused { said: Said, reason: String },
    /// Not known, or not now.
    Other(ProviderError),
}

impl From<Failure> for ProviderError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused { reason, .. } => Self::Refused { reason },
            Failure::Other(error) => error,
        }
    }
}

impl Failure {
    /// Nothing was sent, or nothing that changes anything: asking again is enough.
    pub(super) fn of_a_look_up(self) -> Self {
        match self {
            Self::Other(ProviderError::Indeterminate { source }) => {
                Self::Other(ProviderError::Unavailable { retry_after: None, source })
            }
            other => other,
        }
    }

    pub(super) fn said(&self) -> Option<Said> {
        match self {
            Self::Refused { said, .. } => Some(*said),
            Self::Other(_) => None,
        }
    }
}

impl Client {
    pub(super) fn new(service: Outbound, token: Secret) -> Self {
        Self { service, token }
    }

    /// A call that changes something.
    pub(super) async fn change<T: DeserializeOwned>(
        &self,
        group: &str,
        method: &str,
        form: Form<'_>,
    ) -> Result<T, Failure> {
        let mut whole: Form<'_> =
            vec![("token", self.token.expose().to_owned()), ("v", "1".to_owned()), ("ModelVersion", "3".to_owned())];
        whole.extend(form);
        let request = self.service.request(Method::POST, &["api", group, method]).form(&whole);
        let answer = self.service.send(request).await.map_err(Failure::Other)?;
        self.read(method, &answer)
    }

    /// A call that changes nothing.
    pub(super) async fn look<T: DeserializeOwned>(
        &self,
        group: &str,
        method: &str,
        form: Form<'_>,
    ) -> Result<T, Failure> {
        self.change(group, method, form).await.map_err(Failure::of_a_look_up)
    }

    fn read<T: DeserializeOwned>(&self, method: &str, answer: &Answer) -> Result<T, Failure> {
        let turned_away = answer.status == StatusCode::TOO_MANY_REQUESTS
            || answer.status == StatusCode::SERVICE_UNAVAILABLE
                && crate::outbound::retry_after(&answer.headers).is_some();
        if turned_away {
            return Err(Failure::Other(answer.failure("")));
        }
        match serde_json::from_slice::<Verdict>(&answer.body) {
            Ok(Verdict { result: Some(0), .. }) => answer.json().map_err(Failure::Other),
            Ok(Verdict { result: Some(_), message }) => Err(self.refused(method, answer, &message.unwrap_or_default())),
            // The server itself failed, or something before it answered in its place.
            Ok(Verdict { result: None, .. }) | Err(_) => Err(without_verdict(answer)),
        }
    }

    fn refused(&self, method: &str, answer: &Answer, message: &str) -> Failure {
        let lower = message.to_lowercase();
        let says = |part: &str| lower.contains(part);
        let refused = |said, reason: String| Failure::Refused { said, reason };
        if says("something went wrong") {
            let source = CallError::Status { status: answer.status.as_u16() };
            return Failure::Other(ProviderError::Indeterminate { source });
        }
        // A token that ran out, or a plan that is not paid: nothing was done, and it goes on by itself once that is mended.
        if says("unable to authenticate") || says("no active subscription") {
            let source = CallError::Credentials { status: answer.status.as_u16() };
            return Failure::Other(ProviderError::Unavailable { retry_after: None, source });
        }
        if says("access denied") {
            return refused(Said::Other, format!("the access token may not call `{method}`: give it that permission"));
        }
        if says("not enough permission") || says("could not find the key") {
            let reason = format!("`{method}`: there is no such key in the product, or the token may not see it");
            return refused(Said::NoKey, reason);
        }
        if says("customer could not be found") {
            return refused(Said::NoCustomer, format!("`{method}`: there is no such customer"));
        }
        let said = if says("input parameters were incorrect") { Said::Incorrect } else { Said::Other };
        refused(said, format!("`{method}`: {}", self.shown(message)))
    }

    /// What the engine said, without what it may repeat of ours: the token, addresses, keys.
    fn shown(&self, message: &str) -> String {
        let hidden = |word: &str| {
            let is_key = word.matches('-').count() >= 3;
            word.contains('@') || is_key || !self.token.is_blank() && word.contains(self.token.expose())
        };
        let words = message.split_whitespace().map(|word| if hidden(word) { "[hidden]" } else { word });
        let text = words.collect::<Vec<_>>().join(" ");
        text.chars().filter(|char| !char.is_control()).take(REASON_CHARS_MAX).collect()
    }
}

/// An answer that does not say whether it was done. Only statuses that are decided before anything is done are believed.
fn without_verdict(answer: &Answer) -> Failure {
    match answer.status {
        StatusCode::UNAUTHORIZED => Failure::Other(answer.failure("")),
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            let status = answer.status.as_u16();
            let reason = format!("status {status}, not an answer of Cryptolens' API: check `base_url` and the token");
            Failure::Refused { said: Said::Other, reason }
        }
        status => {
            let source = CallError::Status { status: status.as_u16() };
            Failure::Other(ProviderError::Indeterminate { source })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

    use super::super::wire::{MadeKey, Nothing};
    use super::*;
    use crate::outbound::{Http, Limits};

    fn client() -> Client {
        let http = Http::new(Duration::from_secs(1)).unwrap();
        let service = Outbound::new(&http, "http://127.0.0.1:9", &Limits::default()).unwrap();
        Client::new(service, Secret::new("WyJzZWNyZXQi"))
    }

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }
    }

    fn word(status: u16, body: &str) -> String {
        match client().read::<Nothing>("GetKey", &answer(status, body)) {
            Ok(Nothing {}) => "done".to_owned(),
            Err(Failure::Refused { said, .. }) => format!("{said:?}"),
            Err(Failure::Other(ProviderError::Indeterminate { .. })) => "unknown".to_owned(),
            Err(Failure::Other(ProviderError::Unavailable { .. })) => "away".to_owned(),
            Err(Failure::Other(ProviderError::Refused { .. })) => "refused".to_owned(),
        }
    }

    #[test]
    fn the_body_decides_whatever_the_status() {
        for status in [200, 400, 401, 500] {
            assert_eq!(word(status, r#"{"result": 0, "message": null}"#), "done");
            assert_eq!(word(status, r#"{"result": 1, "message": "Could not find the key."}"#), "NoKey");
            assert_eq!(word(status, r#"{"result": 1, "message": "SOMETHING went wrong, contact us"}"#), "unknown");
            assert_eq!(word(status, r#"{"result": 1, "message": "Customer could not be found"}"#), "NoCustomer");
            assert_eq!(word(status, r#"{"result": 1, "message": "Unable to authenticate."}"#), "away");
            assert_eq!(word(status, r#"{"result": 1, "message": "Access denied."}"#), "Other");
            assert_eq!(word(status, r#"{"result": 1, "message": "a new one"}"#), "Other");
            assert_eq!(word(status, r#"{"result": 1}"#), "Other");
        }
    }

    #[test]
    fn without_a_verdict_it_may_have_been_done() {
        for (status, body) in
            [(200, "{\"resu"), (200, r#"{"message": "An error has occurred."}"#), (500, ""), (502, "<html>")]
        {
            assert_eq!(word(status, body), "unknown", "{status} {body}");
        }
        for status in [403, 404] {
            assert_eq!(word(status, r#"{"message": "No HTTP resource was found"}"#), "Other");
        }
        assert_eq!(word(401, r#"{"message": "Authorization has been denied"}"#), "away");
        assert_eq!(word(429, r#"{"result": 0}"#), "away");
        assert_eq!(word(503, "{}"), "unknown");
        let mut busy = answer(503, "");
        busy.headers.insert(RETRY_AFTER, HeaderValue::from(7));
        let busy = client().read::<Nothing>("GetKey", &busy);
        let seven = Some(Duration::from_secs(7));
        assert!(
            matches!(busy, Err(Failure::Other(ProviderError::Unavailable { retry_after, .. })) if retry_after == seven)
        );
    }

    #[test]
    fn an_answer_without_what_was_promised_leaves_open_what_was_done() {
        let read = client().read::<MadeKey>("CreateKey", &answer(200, r#"{"result": 0}"#));
        assert!(matches!(read, Err(Failure::Other(ProviderError::Indeterminate { .. }))));
    }

    #[test]
    fn nothing_of_ours_is_repeated() {
        let body =
            r#"{"result": 1, "message": "WyJzZWNyZXQi may not ABCDE-FGHIJ-KLMNO-PQRST for jane@example.com\u0007"}"#;
        let Err(failure) = client().read::<Nothing>("GetKey", &answer(200, body)) else { panic!("it is an error") };
        let text = ProviderError::from(failure).to_string();
        assert_eq!(text, "provider refused the request: `GetKey`: [hidden] may not [hidden] for [hidden]");
        assert!(!format!("{:?}", client()).contains("WyJ"));
    }
}
