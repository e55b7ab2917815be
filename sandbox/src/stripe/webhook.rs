//! Deliveries: signed like Stripe's, over plain HTTP, to an endpoint on one's own machine.

use std::io;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::settings::Webhook;

/// How long the endpoint may take.
const WITHIN: Duration = Duration::from_secs(10);

/// The `Stripe-Signature` header of a delivery: `t=…,v1=…`.
pub fn signature(secret: &str, at: i64, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        unreachable!("a MAC takes keys of any length")
    };
    mac.update(format!("{at}.").as_bytes());
    mac.update(body);
    let hex = mac.finalize().into_bytes().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("t={at},v1={hex}")
}

/// Posts `body` to the endpoint. Whether it answered 2xx.
///
/// # Errors
///
/// When it cannot be reached, is not an `http:` address, or does not answer in time.
pub(super) async fn deliver(webhook: &Webhook, at: i64, body: &[u8]) -> io::Result<bool> {
    tokio::time::timeout(WITHIN, post(webhook, at, body)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn post(webhook: &Webhook, at: i64, body: &[u8]) -> io::Result<bool> {
    let bad = || io::Error::new(io::ErrorKind::InvalidInput, "the webhook's address is not http://host:port/path");
    let rest = webhook.url.strip_prefix("http://").ok_or_else(bad)?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json; charset=utf-8\r\n\
         Content-Length: {}\r\nUser-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\n\
         Stripe-Signature: {}\r\nConnection: close\r\n\r\n",
        body.len(),
        signature(&webhook.secret, at, body),
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key is the whole secret, prefix included, over the digits of the time, a full stop and the body.
    #[test]
    fn a_delivery_is_signed_over_its_time_and_its_bytes() {
        let header = signature("whsec_test", 1_700_000_000, b"{}");
        assert!(header.starts_with("t=1700000000,v1=") && header.len() == "t=1700000000,v1=".len() + 64);
        assert_ne!(header, signature("test", 1_700_000_000, b"{}"));
        assert_ne!(header, signature("whsec_test", 1_700_000_000, b"{ }"));
    }
}
