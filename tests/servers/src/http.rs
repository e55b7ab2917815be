//! HTTP clients of tests: for servers on loopback, with no proxy between, and without certificates.

use std::sync::Once;

use reqwest::{Client, ClientBuilder};

/// A client with the usual settings.
///
/// # Panics
///
/// When it cannot be made, which a test cannot mend.
pub fn client() -> Client {
    builder().build().unwrap_or_else(|error| panic!("cannot make an HTTP client: {error}"))
}

/// For a test that needs settings of its own.
pub fn builder() -> ClientBuilder {
    static ONCE: Once = Once::new();
    // An error says that the process has chosen a TLS implementation already.
    ONCE.call_once(|| _ = rustls::crypto::ring::default_provider().install_default());
    Client::builder().no_proxy().tls_certs_only([])
}
