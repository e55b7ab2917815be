//! What a call brings: names in any case, from the query or a form, each of them known to the method that reads it.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::answer::No;

/// Given with every method.
const ALWAYS: [&str; 3] = ["token", "v", "modelversion"];

/// The parameters of one call, by their names in lower case.
#[derive(Debug, Default)]
pub(super) struct Form {
    values: BTreeMap<String, String>,
}

impl Form {
    /// Reads the query and the form. A name that is given twice is refused: nobody can say which of the two counts.
    pub(super) fn read(query: &str, body: &str) -> Result<Self, No> {
        let mut values = BTreeMap::new();
        for pair in query.split('&').chain(body.split('&')).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = plain(name)?.to_ascii_lowercase();
            if values.insert(name.clone(), plain(value)?).is_some() {
                return Err(No::incorrect(&format!("`{name}` is given twice")));
            }
        }
        Ok(Self { values })
    }

    /// Refuses every parameter that is not one of `names`.
    pub(super) fn only(&self, names: &[&str]) -> Result<(), No> {
        let known = |given: &str| ALWAYS.contains(&given) || names.iter().any(|name| name.eq_ignore_ascii_case(given));
        match self.values.keys().find(|given| !known(given)) {
            Some(unknown) => Err(No::incorrect(&format!("there is no `{unknown}`"))),
            None => Ok(()),
        }
    }

    /// A text; an empty one is as if it were absent.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(&name.to_ascii_lowercase()).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A text that there must be.
    pub(super) fn needed(&self, name: &str) -> Result<&str, No> {
        self.text(name).ok_or_else(|| No::incorrect(&format!("`{name}` is missing")))
    }

    /// A text of at most so many characters.
    pub(super) fn limited(&self, name: &str, chars_max: usize) -> Result<Option<&str>, No> {
        match self.text(name) {
            Some(text) if text.chars().count() > chars_max => {
                Err(No::refused(&format!("The {name} cannot be longer than {chars_max} characters.")))
            }
            text => Ok(text),
        }
    }

    /// A whole number.
    pub(super) fn int(&self, name: &str) -> Result<Option<i64>, No> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number: Option<i32> = text.parse().ok();
        number.map(|number| Some(number.into())).ok_or_else(|| No::incorrect(&format!("`{name}` is not a number")))
    }

    /// A whole number from 0.
    pub(super) fn count(&self, name: &str) -> Result<Option<u32>, No> {
        let count = self.int(name)?.map(u32::try_from).transpose();
        count.map_err(|_| No::incorrect(&format!("`{name}` is below 0")))
    }

    /// The id of something.
    pub(super) fn id(&self, name: &str) -> Result<Option<u64>, No> {
        Ok(self.count(name)?.map(u64::from))
    }

    /// The id of something that must be named.
    pub(super) fn needed_id(&self, name: &str) -> Result<u64, No> {
        self.id(name)?.ok_or_else(|| No::incorrect(&format!("`{name}` is missing")))
    }

    /// Yes or no; absent is no.
    pub(super) fn flag(&self, name: &str) -> Result<bool, No> {
        match self.text(name) {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(No::incorrect(&format!("`{name}` is neither true nor false"))),
        }
    }
}

fn plain(text: &str) -> Result<String, No> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| No::incorrect("that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_flags_come_in_any_case_and_from_both_places() {
        let form = Form::read("productid=3&Sign=", "F1=True&f2=false&Notes=a%20b+c%26").unwrap();
        assert_eq!(form.needed_id("ProductId").unwrap(), 3);
        assert!(form.flag("f1").unwrap());
        assert!(!form.flag("F2").unwrap());
        assert!(!form.flag("Sign").unwrap());
        assert_eq!(form.text("notes"), Some("a b c&"));
    }

    #[test]
    fn what_is_not_known_doubled_or_of_another_kind_is_refused() {
        assert!(Form::read("a=1&A=2", "").is_err());
        let form = Form::read("", "Period=-1&F1=yes&ProductId=x&token=t&v=1").unwrap();
        assert!(form.count("Period").is_err());
        assert!(form.flag("F1").is_err());
        assert!(form.int("ProductId").is_err());
        assert!(form.only(&["Period", "F1", "ProductId"]).is_ok());
        assert!(form.only(&["Period", "F1"]).is_err());
    }
}
