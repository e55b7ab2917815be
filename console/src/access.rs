//! Who may ask, and for what: bearer tokens and their roles.
//!
//! Tokens are kept and compared as SHA-256, in constant time. They are long random text, so a plain hash is enough.

use std::fmt;
use std::net::SocketAddr;

use keyledger_schemas::envelope::{Hash, content_hash};
use keyledger_schemas::secret::Secret;
use serde::Serialize;
use subtle::{Choice, ConstantTimeEq};

use crate::problem::Problem;

/// What a caller may do. Each role may do all that the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Read everything but license keys.
    Viewer,
    /// See license keys, and ask for another try.
    Support,
    /// Close cases and attach licenses.
    Operator,
    /// Everything.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Support => "support",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

/// Who asks. The command line makes its own; the API makes one of each request's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name that stands in the log as the actor of what they do.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Names this one occasion: the same text twice is the same request, asked again.
    pub request: String,
}

impl Caller {
    /// Refuses whoever has less than `needs`.
    ///
    /// # Errors
    ///
    /// [`Problem::Forbidden`].
    pub fn must_be(&self, needs: Role) -> Result<(), Problem> {
        if self.role >= needs { Ok(()) } else { Err(Problem::Forbidden { needs, has: self.role }) }
    }
}

/// A token as it is kept.
#[derive(Clone)]
pub struct Token {
    name: String,
    role: Role,
    hash: Hash,
}

impl Token {
    /// Keeps the hash of `secret`, under a name that stands in the log.
    pub fn new(name: impl Into<String>, role: Role, secret: &Secret) -> Self {
        Self { name: name.into(), role, hash: content_hash(secret.expose().trim().as_bytes()) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("name", &self.name).field("role", &self.role).finish_non_exhaustive()
    }
}

/// Who may ask.
#[derive(Clone, Debug, Default)]
pub struct Access {
    tokens: Vec<Token>,
    loopback_without_token: bool,
}

/// What a request shows of its sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown<'a> {
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The other end of the connection.
    pub peer: Option<SocketAddr>,
    /// The `Host` header.
    pub host: Option<&'a str>,
    /// It came through a proxy, or from a page in a browser.
    pub relayed: bool,
}

impl Access {
    /// Lets in whoever has one of `tokens`.
    pub fn tokens(tokens: Vec<Token>) -> Self {
        Self { tokens, loopback_without_token: false }
    }

    /// Lets in, as administrator, also whoever connects from this machine without a token.
    ///
    /// A request that a proxy relayed, that a web page sent, or that names another host does not count as from this
    /// machine: otherwise any page in the operator's browser could ask.
    #[must_use]
    pub fn with_loopback(mut self) -> Self {
        self.loopback_without_token = true;
        self
    }

    /// Who this is.
    ///
    /// # Errors
    ///
    /// [`Problem::Unauthorized`].
    pub fn admit(&self, shown: &Shown<'_>, request: &str) -> Result<Caller, Problem> {
        let Some(authorization) = shown.authorization else {
            if self.loopback_without_token && is_local(shown) {
                return Ok(Caller { name: "loopback".to_owned(), role: Role::Admin, request: request.to_owned() });
            }
            return Err(Problem::Unauthorized { token_given: false });
        };
        let found = bearer(authorization).and_then(|token| self.find(token));
        let token = found.ok_or(Problem::Unauthorized { token_given: true })?;
        Ok(Caller { name: token.name.clone(), role: token.role, request: request.to_owned() })
    }

    /// Compares with every token, so that the time taken does not tell which one was close.
    fn find(&self, given: &str) -> Option<&Token> {
        let given = content_hash(given.as_bytes());
        let mut found = None;
        for token in &self.tokens {
            let same: Choice = token.hash.as_slice().ct_eq(given.as_slice());
            if bool::from(same) {
                found = Some(token);
            }
        }
        found
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn is_local(shown: &Shown<'_>) -> bool {
    let from_here = shown.peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    from_here && !shown.relayed && shown.host.is_some_and(names_this_machine)
}

/// A page elsewhere can make its own name resolve to 127.0.0.1, but not `localhost`.
fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let viewer = Token::new("reader", Role::Viewer, &Secret::new("t-viewer"));
        Access::tokens(vec![Token::new("api", Role::Admin, &Secret::new("t-admin\n")), viewer])
    }

    fn with_token(authorization: &str) -> Result<Caller, Problem> {
        access().admit(&Shown { authorization: Some(authorization), ..Shown::default() }, "r1")
    }

    fn local<'a>() -> Shown<'a> {
        Shown { peer: Some(([127, 0, 0, 1], 5000).into()), host: Some("127.0.0.1:8081"), ..Shown::default() }
    }

    #[test]
    fn a_token_names_its_caller_and_role() {
        assert_eq!(with_token("Bearer t-admin").unwrap().role, Role::Admin);
        assert_eq!(with_token("bearer  t-viewer").unwrap().name, "reader");
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", "Bearer", "Bearer ", "t-admin", "Basic t-admin", "Bearer t-admi", "Bearer t-admin2"] {
            assert!(matches!(with_token(bad), Err(Problem::Unauthorized { token_given: true })), "{bad}");
        }
        assert!(matches!(access().admit(&local(), "r"), Err(Problem::Unauthorized { token_given: false })));
    }

    #[test]
    fn nobody_is_let_in_when_there_are_no_tokens() {
        let shown = Shown { authorization: Some("Bearer "), ..local() };
        assert!(Access::default().admit(&shown, "r").is_err());
    }

    #[test]
    fn loopback_goes_without_a_token_only_where_it_is_allowed_and_truly_local() {
        let open = access().with_loopback();
        let admitted = |shown: &Shown<'_>| open.admit(shown, "r").is_ok();
        assert!(admitted(&local()));
        assert!(admitted(&Shown { host: Some("localhost:1"), ..local() }));
        assert!(admitted(&Shown { host: Some("[::1]:1"), peer: Some("[::1]:1".parse().unwrap()), ..local() }));
        assert!(!admitted(&Shown { peer: Some(([10, 0, 0, 1], 1).into()), ..local() }));
        assert!(!admitted(&Shown { host: Some("rebound.example"), ..local() }));
        assert!(!admitted(&Shown { host: None, ..local() }));
        assert!(!admitted(&Shown { relayed: true, ..local() }));
        // A wrong token is wrong from anywhere.
        assert!(!admitted(&Shown { authorization: Some("Bearer x"), ..local() }));
    }

    #[test]
    fn roles_are_ordered() {
        let caller = with_token("Bearer t-viewer").unwrap();
        assert!(caller.must_be(Role::Viewer).is_ok());
        assert!(matches!(caller.must_be(Role::Support), Err(Problem::Forbidden { .. })));
    }

    #[test]
    fn debug_shows_no_token() {
        assert!(!format!("{:?}", access()).contains("t-admin"));
    }
}
