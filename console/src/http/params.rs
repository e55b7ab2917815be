//! Query parameters: read one by one, refused all at once, each by its name.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use jiff::Timestamp;
use keyledger_projector::read::{PAGE_MAX, PageRequest, Within};
use keyledger_schemas::ids::{Mode, SourceName};

use crate::api::View;
use crate::problem::{Fault, Problem};

/// The parameters of one request. A handler takes those it knows and then calls [`Params::finish`], which refuses what
/// could not be read and what is left over: a mistyped filter must not answer with everything.
#[derive(Debug)]
pub struct Params {
    left: Vec<(String, String)>,
    faults: Vec<Fault>,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| Problem::Invalid(vec![Fault::parameter("query", "the query string cannot be read")]))?;
        Ok(Self::new(pairs.0))
    }
}

impl Params {
    /// The parameters as they came.
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        Self { left: pairs, faults: Vec::new() }
    }

    /// `mode`, `source` and `at`: which rows, and as of when.
    pub fn view(&mut self) -> View {
        let mode = self.parsed("mode", "`live` or `test`", |text| text.parse::<Mode>().ok()).unwrap_or_default();
        let source =
            self.parsed("source", "the name of a source, as configured", |text| text.parse::<SourceName>().ok());
        let at =
            self.parsed("at", "an RFC 3339 time such as 2026-03-01T00:00:00Z", |text| text.parse::<Timestamp>().ok());
        View { within: Within { mode, source }, at }
    }

    /// `limit` and `after`: which page. The cursor is read by whoever knows its rows.
    pub fn page(&mut self) -> PageRequest {
        let expected = format!("a whole number from 1 to {PAGE_MAX}");
        let fits = |text: &str| text.parse::<u32>().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
        PageRequest { limit: self.parsed("limit", &expected, fits).unwrap_or(0), after: self.text("after") }
    }

    /// A parameter as text; blank counts as absent.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let text = self.take(name)?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// A parameter that is `true` or `false`, absent for `false`.
    pub fn flag(&mut self, name: &str) -> bool {
        self.parsed(name, "`true` or `false`", |text| text.parse().ok()).unwrap_or(false)
    }

    /// A parameter read by `read`; `expected` says what would be right.
    pub fn parsed<T>(&mut self, name: &str, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.take(name)?;
        let value = read(text.trim());
        if value.is_none() {
            self.faults.push(Fault::parameter(name, format!("must be {expected}")));
        }
        value
    }

    /// A parameter that must be there.
    pub fn required(&mut self, name: &str) -> String {
        let text = self.text(name);
        if text.is_none() && !self.faults.iter().any(|fault| fault.parameter.as_deref() == Some(name)) {
            self.faults.push(Fault::parameter(name, "is missing"));
        }
        text.unwrap_or_default()
    }

    /// Ends reading.
    ///
    /// # Errors
    ///
    /// [`Problem::Invalid`] with every parameter that is wrong or not known here.
    pub fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in &self.left {
            let shown: String = name.chars().take(64).collect();
            self.faults.push(Fault::parameter(&shown, "is not a parameter of this route"));
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::Invalid(self.faults)) }
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let mut values = self.left.extract_if(.., |(known, _)| known == name).map(|(_, value)| value);
        let first = values.next();
        let more = values.count();
        if more > 0 {
            self.faults.push(Fault::parameter(name, "is given more than once"));
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        Params::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn without_parameters_it_is_live_all_sources_and_now() {
        let mut params = params(&[]);
        let view = params.view();
        assert_eq!((view.within.mode, view.within.source, view.at), (Mode::Live, None, None));
        assert_eq!(params.page().rows(), 50);
        assert!(params.finish().is_ok());
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        let mut params = params(&[
            ("mode", "prod"),
            ("at", "noon"),
            ("source", "A B"),
            ("limit", "0"),
            ("limt", "5"),
            ("reveal", "1"),
        ]);
        params.view();
        params.page();
        params.flag("reveal");
        params.required("q");
        let problem = params.finish().unwrap_err();
        let named: Vec<_> = problem.faults().iter().filter_map(|fault| fault.parameter.as_deref()).collect();
        assert_eq!(named, ["mode", "source", "at", "limit", "reveal", "q", "limt"]);
    }

    #[test]
    fn limits_are_1_to_200() {
        for (limit, fits) in
            [("1", true), ("200", true), ("0", false), ("201", false), ("-1", false), ("x", false), ("", false)]
        {
            let mut params = params(&[("limit", limit)]);
            params.page();
            assert_eq!(params.finish().is_ok(), fits, "{limit}");
        }
    }

    #[test]
    fn a_parameter_given_twice_is_refused() {
        let mut params = params(&[("kind", "no_key"), ("kind", "surplus_key")]);
        assert_eq!(params.text("kind").as_deref(), Some("no_key"));
        assert!(params.finish().is_err());
    }
}
