//! One connection, from accepted to closed: bounded head, bounded idle time, bounded time to take an answer, bounded
//! age, and a close that does not lose the answer.

use std::convert::Infallible;
use std::future::poll_fn;
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::answer::closing;
use crate::options::Options;
use crate::stream::Bounded;

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
    /// Each answer is the last of its connection.
    pub leaving: CancellationToken,
    /// Finish the request in hand, take no other.
    pub stop: CancellationToken,
    /// Drop everything.
    pub abort: CancellationToken,
}

/// Serves requests until the sender leaves, is too slow, the connection is old, or `ending` says so.
pub async fn run(stream: TcpStream, app: Router, options: &Options, ending: Ending) {
    tokio::select! {
        () = ending.abort.cancelled() => {}
        () = tokio::time::sleep(options.connection_age_max()) => {
            tracing::debug!("connection dropped: it does not end");
        }
        () = run_to_end(stream, app, options, &ending) => {}
    }
}

async fn run_to_end(stream: TcpStream, app: Router, options: &Options, Ending { leaving, stop, .. }: &Ending) {
    // Answers are small and complete; waiting to fill a packet would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("cannot set TCP_NODELAY: {error}");
    }
    // `poll_without_shutdown` wants futures that can be moved, hence the box.
    let old_at = Instant::now() + options.connection_age();
    let service = service_fn(move |request| {
        let answer = app.clone().oneshot(request);
        let leaving = leaving.clone();
        Box::pin(async move {
            let answer = answer.await.into_response();
            let is_last = leaving.is_cancelled() || Instant::now() >= old_at;
            Ok::<_, Infallible>(if is_last { closing(answer) } else { answer })
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout())
        .max_header_size(options.header_bytes_max)
        .max_headers(options.headers_max)
        .max_buf_size(options.header_bytes_max.max(BUFFER_BYTES))
        .serve_connection(TokioIo::new(Bounded::new(stream, options.answer_timeout())), service);

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
    if stream.is_stalled() {
        reset(&stream.into_inner());
        return;
    }
    let stream = stream.into_inner();
    // Whoever does not close in time is cut off by dropping the stream.
    tokio::time::timeout(LINGER, linger(stream)).await.unwrap_or_default();
}

/// Lets the system forget the connection when it is dropped. It would otherwise keep what was not taken, and go on
/// offering it, for minutes.
fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!("cannot set SO_LINGER: {error}");
    }
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;

    /// A connection to `app` with a short life, and what ends when it does.
    async fn connected(app: Router) -> (TcpStream, tokio::task::JoinHandle<()>) {
        let options =
            Options { header_timeout_ms: 100, body_timeout_ms: 1, append_timeout_ms: 1, ..Options::default() };
        let options = Options { check_timeout_ms: 1, ..options };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let [leaving, stop, abort] = std::array::from_fn(|_| CancellationToken::new());
        let ending = Ending { leaving, stop, abort };
        let ended = tokio::spawn(async move { run(stream, app, &options, ending).await });
        (sender, ended)
    }

    #[tokio::test]
    async fn a_busy_connection_ends_with_an_answer_that_says_so() {
        let app = Router::new().route("/", get(async || "well"));
        let (mut sender, ended) = connected(app).await;
        let started = Instant::now();
        let mut answers = 0;
        loop {
            assert!(started.elapsed() < Duration::from_secs(20), "the connection has no end");
            sender.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("not closed without a word");
            let mut answer = [0; 1024];
            let bytes = sender.read(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer[..bytes]).into_owned();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            answers += 1;
            if answer.contains("connection: close") {
                break;
            }
        }
        assert!(answers > 1, "the first answer is not the last");
        assert_eq!(sender.read(&mut [0; 16]).await.unwrap(), 0, "nothing follows");
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_does_not_end_is_dropped() {
        let app = Router::new().route("/", get(std::future::pending::<()>));
        let (mut sender, ended) = connected(app).await;
        sender.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("dropped in time").unwrap();
    }
}
