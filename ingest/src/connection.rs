//! One connection, from accepted to closed: bounded head, bounded idle time, and a close that does not lose the answer.

use std::future::poll_fn;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::options::Options;

/// Bytes of a connection's buffer, where a larger head is not allowed.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long and how much a sender is listened to after its last answer. A connection closed with unread bytes is
/// reset, and a reset can overtake the answer: a sender still busy with its body would never see our 413.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;
const LINGER_BUFFER_BYTES: usize = 16 * 1024;

/// What tells a connection to end.
#[derive(Clone)]
pub struct Ending {
    /// Finish the request in hand, take no other.
    pub stop: CancellationToken,
    /// Drop everything.
    pub abort: CancellationToken,
}

/// Serves requests until the sender leaves, is too slow, or `ending` says so.
pub async fn run(stream: TcpStream, app: Router, options: &Options, ending: Ending) {
    tokio::select! {
        () = ending.abort.cancelled() => {}
        () = run_to_end(stream, app, options, &ending.stop) => {}
    }
}

async fn run_to_end(stream: TcpStream, app: Router, options: &Options, stop: &CancellationToken) {
    // Answers are small and complete; waiting to fill a packet would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("cannot set TCP_NODELAY: {error}");
    }
    // `poll_without_shutdown` wants futures that can be moved, hence the box.
    let service = service_fn(move |request| Box::pin(app.clone().oneshot(request)));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout())
        .max_header_size(options.header_bytes_max)
        .max_headers(options.headers_max)
        .max_buf_size(options.header_bytes_max.max(BUFFER_BYTES))
        .serve_connection(TokioIo::new(stream), service);

    let mut is_stopping = false;
    let ended = loop {
        tokio::select! {
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
            () = stop.cancelled(), if !is_stopping => {
                is_stopping = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        // A head that is no HTTP, a timeout, a reset: every day's business on a public address.
        tracing::debug!("connection ended: {error}");
    }
    let stream = connection.into_parts().io.into_inner();
    // Whoever does not close in time is cut off by dropping the stream.
    tokio::time::timeout(LINGER, linger(stream)).await.unwrap_or_default();
}

/// Closes our side, then reads and throws away what the sender still sends.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut thrown_away = 0;
    let mut buffer = vec![0; LINGER_BUFFER_BYTES];
    while thrown_away < LINGER_BYTES_MAX {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(bytes) => thrown_away += bytes,
        }
    }
}
