//! Queries and form bodies in bracket notation, read strictly.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::answer::Refusal;

/// Parameters in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads a query or a form body.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if is_name(&name) { Ok((name, value)) } else { Err(Refusal::unknown(&name)) }
        });
        let pairs: Vec<_> = pairs.collect::<Result<_, Refusal>>()?;
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !name.ends_with("[]") && pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(Refusal::parameter("parameter_invalid", name, format!("Duplicate parameter: {name}")));
            }
        }
        Ok(Self(pairs))
    }

    /// Refuses what is in none of the patterns: a name, `name[]` for a list, `name[*]` for any key.
    pub(super) fn only(&self, patterns: &[&str]) -> Result<(), Refusal> {
        let unknown = self.0.iter().find(|(name, _)| !patterns.iter().any(|pattern| fits(pattern, name)));
        unknown.map_or(Ok(()), |(name, _)| Err(Refusal::unknown(name)))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Elements of a list, written `name[]=` or `name[0]=`.
    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        let pattern = format!("{name}[]");
        self.0.iter().filter(|(given, _)| fits(&pattern, given)).map(|(_, value)| value.as_str()).collect()
    }

    /// The entries of `name[key]=value`.
    pub(super) fn hash(&self, name: &str) -> BTreeMap<&str, &str> {
        let entries = self.0.iter().filter_map(|(given, value)| {
            let key = given.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')?;
            Some((key, value.as_str()))
        });
        entries.collect()
    }

    /// A whole number, if it is given.
    pub(super) fn int(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let bad = || Refusal::parameter("parameter_invalid_integer", name, format!("Invalid integer: {text}"));
        text.parse().map(Some).map_err(|_| bad())
    }

    /// Yes or no, if it is given.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => {
                Err(Refusal::parameter("parameter_invalid_boolean", name, format!("Invalid boolean: {other}")))
            }
        }
    }

    /// The same parameters in any order are the same request.
    pub(super) fn fingerprint(&self) -> Vec<(String, String)> {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted
    }
}

fn decode(text: &str) -> Result<String, Refusal> {
    let spaced: Cow<'_, str> = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { text.into() };
    let decoded = percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned);
    decoded.map_err(|_| Refusal::new(400, None, "Invalid UTF-8 in a parameter"))
}

/// `name`, then any number of `[key]` or `[]`.
fn is_name(name: &str) -> bool {
    let Some(open) = name.find('[') else { return !name.is_empty() && !name.contains(']') };
    let (root, mut rest) = name.split_at(open);
    while !rest.is_empty() {
        let Some(inner) = rest.strip_prefix('[') else { return false };
        let Some(close) = inner.find(']') else { return false };
        if inner[..close].contains('[') {
            return false;
        }
        rest = &inner[close + 1..];
    }
    !root.is_empty() && !root.contains(']')
}

fn fits(pattern: &str, name: &str) -> bool {
    let inner = |suffix: &str| {
        let key = name.strip_prefix(pattern.strip_suffix(suffix)?)?.strip_prefix('[')?.strip_suffix(']')?;
        (!key.contains(['[', ']'])).then_some(key)
    };
    if pattern.ends_with("[*]") {
        return inner("[*]").is_some_and(|key| !key.is_empty());
    }
    if pattern.ends_with("[]") {
        return inner("[]").is_some_and(|key| key.bytes().all(|b| b.is_ascii_digit()));
    }
    pattern == name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_names_of_their_own() {
        let text = "metadata[a_b]=x+y&metadata[c]=&expand[]=lines&expand%5B%5D=items&created%5Bgte%5D=5&limit=3";
        let params = Params::parse(text).unwrap();
        assert_eq!(params.hash("metadata"), BTreeMap::from([("a_b", "x y"), ("c", "")]));
        assert_eq!(params.list("expand"), ["lines", "items"]);
        assert_eq!(params.int("created[gte]"), Ok(Some(5)));
        assert_eq!(params.only(&["metadata[*]", "expand[]", "created[gte]", "limit"]), Ok(()));
        let unknown = params.only(&["metadata[*]", "expand[]", "created[gte]"]).unwrap_err();
        assert_eq!((unknown.code, unknown.param.as_deref()), (Some("parameter_unknown"), Some("limit")));
    }

    #[test]
    fn what_is_no_parameter_is_refused() {
        for bad in ["a[=1", "a]=1", "[a]=1", "=1", "a[b=1", "a[b]c=1", "a[b[c]]=1", "a=%ff", "a=1&a=2"] {
            assert!(Params::parse(bad).is_err(), "{bad}");
        }
        let nested = Params::parse("metadata[a][b]=1").unwrap();
        assert!(nested.only(&["metadata[*]"]).is_err());
        assert!(Params::parse("expand[x]=1").unwrap().only(&["expand[]"]).is_err());
    }
}
