//! Where NATS is and how it is reached: [`Options`].

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use keyledger_schemas::secret::Secret;

use super::STREAM;

/// How this process proves who it is.
#[derive(Clone, Debug, Default)]
pub enum Login {
    /// Not at all, or by what the URL holds.
    #[default]
    None,
    /// A credentials file as `nsc` writes it (JWT and seed).
    CredentialsFile(PathBuf),
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Token(Secret),
    /// The seed of an nkey.
    Nkey(Secret),
}

/// Where the servers are, what the stream is called, and how to get there.
#[derive(Clone)]
pub struct Options {
    /// `nats://` or `tls://` URLs, separated by commas. May hold a user and a password.
    pub url: String,
    /// The stream. Default [`STREAM`].
    pub stream: String,
    /// How many servers keep a copy, when the stream is made. Default 1.
    pub replicas: usize,
    /// How this process proves who it is. Default not at all.
    pub login: Login,
    /// Certificates to trust instead of the machine's, as PEM. TLS is then required.
    pub tls_ca_file: Option<PathBuf>,
    /// How long one attempt to connect may take. Default 5 s.
    pub connect_timeout: Duration,
    /// How long a request to the server may take. Default 5 s.
    pub request_timeout: Duration,
    /// What this connection is called in the server's lists. Default `keyledger`.
    pub name: String,
}

impl Options {
    /// The defaults, for the servers at `url`.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            stream: STREAM.to_owned(),
            replicas: 1,
            login: Login::None,
            tls_ca_file: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            name: "keyledger".to_owned(),
        }
    }

    /// The URLs without users and passwords, to be shown.
    pub fn servers(&self) -> String {
        let urls = self.url.split(',').map(|url| match (url.split_once("://"), url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
            (None, Some((_, host))) => host.to_owned(),
            (_, None) => url.to_owned(),
        });
        urls.collect::<Vec<_>>().join(",")
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("servers", &self.servers())
            .field("stream", &self.stream)
            .field("replicas", &self.replicas)
            .field("login", &self.login)
            .field("tls_ca_file", &self.tls_ca_file)
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let login = Login::Password { user: "u".to_owned(), password: Secret::new("hunter2") };
        let options = Options { login, ..Options::at("nats://me:hunter2@a:4222,tls://b:4222,me:hunter2@c") };
        let shown = format!("{options:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(options.servers(), "nats://a:4222,tls://b:4222,c");
    }
}
