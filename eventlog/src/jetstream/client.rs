//! The connection to NATS: [`connect`]. It comes back by itself for ever, and a server that is away stops no start.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{ConnectOptions, Event, ServerAddr};

use super::options::{Login, Options};
use super::text;

/// How long to wait before each attempt to connect again; the last repeats. With several servers each attempt is
/// another one of them.
const DELAYS: &[Duration] = &[
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// How often an idle connection is tested. Two tests without an answer end it: that is how a network that went silent
/// is noticed.
const PING: Duration = Duration::from_secs(3);

/// What answers are sent to: of our own, so that whoever may listen to the usual one does not hear ours.
const INBOX: &str = "_INBOX.keyledger";

/// Publishes whose answer is not known yet, over all resynchronisations within the time an answer may take.
const ACKS_MAX: usize = 16 * 1024;

/// Why no connection can be tried. A server that is only away is no error.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file with the credentials cannot be used.
    #[error("cannot use the NATS credentials in `{path}`")]
    Credentials {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The URL is not one, or its host has no address.
    #[error("cannot use the NATS URL `{servers}`")]
    Url {
        /// The URL without its password.
        servers: String,
        /// Why.
        #[source]
        source: async_nats::ConnectError,
    },
}

/// A connection to NATS that mends itself, and the stream it is about. Clones are the same connection.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) nats: async_nats::Client,
    pub(super) context: Context,
    pub(super) stream: Arc<str>,
    pub(super) replicas: usize,
    trouble: Trouble,
}

/// Why there is no connection, as far as is known.
#[derive(Clone, Debug, Default)]
struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what is wrong; whether that is news.
    fn set(&self, trouble: Option<String>) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = *known != trouble;
        *known = trouble;
        is_news
    }
}

impl Client {
    /// Whether there is a connection now, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.nats.connection_state() == State::Connected
    }

    /// Why there is no connection, in words.
    pub fn trouble(&self) -> String {
        match self.trouble.get() {
            Some(trouble) => format!("there is no connection to NATS: {trouble}"),
            None => "there is no connection to NATS".to_owned(),
        }
    }

    /// The name of the stream.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The largest message that the server takes, headers included.
    pub fn max_payload(&self) -> usize {
        self.nats.max_payload()
    }

    /// The connection itself.
    pub fn nats(&self) -> &async_nats::Client {
        &self.nats
    }
}

/// Begins to connect, and goes on for ever: now, and whenever the connection is lost. Does not wait for a server.
///
/// # Errors
///
/// When the credentials' file cannot be read or the URL is not one: nothing was started.
pub async fn connect(options: &Options) -> Result<Client, ConnectError> {
    let servers: Vec<&str> = options.url.split(',').map(str::trim).filter(|url| !url.is_empty()).collect();
    let trouble = Trouble::default();
    let told = trouble.clone();
    let connecting = with_login(options)?
        .name(&options.name)
        .custom_inbox_prefix(INBOX)
        .retry_on_initial_connect()
        .max_reconnects(None)
        .reconnect_delay_callback(|attempt| DELAYS[attempt.saturating_sub(1).min(DELAYS.len() - 1)])
        .connection_timeout(options.connect_timeout)
        .request_timeout(Some(options.request_timeout))
        .ping_interval(PING)
        .event_callback(move |event| {
            report(&event, &told);
            std::future::ready(())
        });
    let connecting = match &options.tls_ca_file {
        Some(path) => connecting.add_root_certificates(path.clone()).require_tls(true),
        None => connecting,
    };
    let nats = connecting.connect(servers.as_slice()).await;
    let nats = nats.map_err(|source| ConnectError::Url { servers: options.servers(), source })?;
    let context = ContextBuilder::new()
        .timeout(options.request_timeout)
        .ack_timeout(options.request_timeout)
        .max_ack_inflight(ACKS_MAX)
        .build(nats.clone());
    Ok(Client { nats, context, stream: Arc::from(options.stream.as_str()), replicas: options.replicas, trouble })
}

fn with_login(options: &Options) -> Result<ConnectOptions, ConnectError> {
    let connecting = ConnectOptions::new();
    Ok(match &options.login {
        Login::None => match login_of_url(&options.url) {
            Some((user, Some(password))) => connecting.user_and_password(user, password),
            Some((token, None)) => connecting.token(token),
            None => connecting,
        },
        Login::CredentialsFile(path) => {
            let unusable = |source| ConnectError::Credentials { path: path.display().to_string(), source };
            let text = std::fs::read_to_string(path).map_err(unusable)?;
            connecting.credentials(&text).map_err(unusable)?
        }
        Login::Password { user, password } => connecting.user_and_password(user.clone(), password.expose().to_owned()),
        Login::Token(token) => connecting.token(token.expose().trim().to_owned()),
        Login::Nkey(seed) => connecting.nkey(seed.expose().trim().to_owned()),
    })
}

/// The user and the password that a URL holds, or a token alone: the client library looks at neither.
fn login_of_url(urls: &str) -> Option<(String, Option<String>)> {
    urls.split(',').filter_map(|url| url.trim().parse::<ServerAddr>().ok()).find_map(|server| {
        let user = text::decode(server.username()?)?;
        let password = match server.password() {
            Some(password) => Some(text::decode(password)?),
            None => None,
        };
        Some((user, password))
    })
}

fn report(event: &Event, trouble: &Trouble) {
    match event {
        Event::Connected => {
            trouble.set(None);
            tracing::info!("connected to NATS");
        }
        Event::Disconnected => tracing::warn!("the connection to NATS is lost; it is made again"),
        Event::ServerError(error) => tracing::warn!("NATS refused: {error}"),
        Event::ClientError(error) => {
            let error = error.to_string();
            if trouble.set(Some(error.clone())) {
                tracing::warn!("NATS cannot be reached: {error}");
            }
        }
        Event::SlowConsumer(_) | Event::LameDuckMode | Event::Draining | Event::Closed => {
            tracing::debug!("NATS connection: {event}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_may_hold_a_login() {
        let login = |user: &str, password: Option<&str>| Some((user.to_owned(), password.map(str::to_owned)));
        assert_eq!(login_of_url("nats://a:4222,nats://me:p%40ss@b"), login("me", Some("p@ss")));
        assert_eq!(login_of_url("tls://secret@a"), login("secret", None));
        assert_eq!(login_of_url("a:4222,b:4222"), None);
    }
}
