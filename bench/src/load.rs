//! A load generator that is cheap enough to run beside what it measures: requests are made before the clock starts, one
//! thread sends them all, and of an answer no more is read than its status and its length.

use std::cell::{Cell, RefCell};
use std::fs;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::future::try_join_all;
use keyledger_ingest::signature;
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant as Moment, sleep_until, timeout};

use crate::service::WEBHOOK_SECRET;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// The largest head of an answer.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Each connection sends its next as soon as it has its answer.
    Answered,
    /// So many a second, whether answers come or not, as long as a connection is free. What waits for one counts from when
    /// it was due.
    PerSecond(u32),
}

/// What became of one request.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// When it was sent, or when it was due if that was before.
    pub began: Instant,
    /// When the last byte of its answer was here.
    pub ended: Instant,
    /// The status.
    pub status: u16,
}

/// What became of all requests.
#[derive(Debug)]
pub struct Sent {
    /// In the order of the requests.
    pub each: Vec<Exchange>,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Processor time that sending took.
    pub cpu: Duration,
}

impl Sent {
    /// How long they took.
    pub fn latencies(&self) -> Spread {
        Spread::of(self.each.iter().map(|exchange| exchange.ended - exchange.began))
    }

    /// Every one must have been answered with 200.
    ///
    /// # Errors
    ///
    /// With how many were not, and how one of them was.
    pub fn all_taken(&self) -> Result<()> {
        let refused: Vec<u16> = self.each.iter().map(|it| it.status).filter(|status| *status != 200).collect();
        let Some(status) = refused.first() else { return Ok(()) };
        bail!("{} of {} requests were not answered with 200, but {status}", refused.len(), self.each.len())
    }
}

/// Samples of a time, sorted.
#[derive(Clone, Debug)]
pub struct Spread(Vec<Duration>);

impl Spread {
    /// Of these samples.
    pub fn of(samples: impl Iterator<Item = Duration>) -> Self {
        let mut sorted: Vec<Duration> = samples.collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    /// The sample that `percent` of them are not above, in milliseconds; 0 of none.
    pub fn percentile_ms(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1) - 1;
        self.0.get(rank).map_or(0.0, |sample| sample.as_secs_f64() * 1000.0)
    }
}

/// So many in this time, a second.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub fn per_second(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

/// The middle one of some figures; 0 of none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// A webhook request, signed now: to be sent within the tolerance of the signature.
pub fn webhook(body: &[u8]) -> Vec<u8> {
    let signature = signature::sign(&Secret::new(WEBHOOK_SECRET.to_owned()), body, SystemClock.now());
    let head = format!(
        "POST /webhooks/stripe HTTP/1.1\r\nHost: bench\r\nUser-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\n\
         Accept: */*; q=0.5, application/xml\r\nContent-Type: application/json; charset=utf-8\r\n\
         Cache-Control: no-cache\r\n{}: {signature}\r\nContent-Length: {}\r\n\r\n",
        signature::HEADER,
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Sends requests to an `http://` address over so many connections, from a thread of its own.
///
/// # Errors
///
/// When a connection fails, or an answer is no HTTP.
pub async fn send(address: &str, requests: Vec<Vec<u8>>, connections: usize, pace: Pace) -> Result<Sent> {
    let address = address.strip_prefix("http://").context("not an http address")?.to_owned();
    let (done, sent) = oneshot::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let sent = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
            let sending = async { send_here(&address, &requests, connections, pace).await };
            tokio::task::LocalSet::new().block_on(&runtime, sending)
        });
        // Nobody waits any more when this fails.
        let _ = done.send(sent);
    });
    sent.await.context("the sending thread died")?
}

async fn send_here(address: &str, requests: &[Vec<u8>], connections: usize, pace: Pace) -> Result<Sent> {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(Connection::open(address).await?);
    }
    let cpu = cpu_of_thread()?;
    let next = Rc::new(Cell::new(0));
    let each = RefCell::new(vec![None; requests.len()]);
    let began = Instant::now();
    try_join_all(open.into_iter().map(async |mut connection| {
        loop {
            let index = next.get();
            let Some(request) = requests.get(index) else { return anyhow::Ok(()) };
            next.set(index + 1);
            let due = wait_for_turn(pace, began, index).await;
            let status = connection.exchange(request).await?;
            each.borrow_mut()[index] = Some(Exchange { began: due, ended: Instant::now(), status });
        }
    }))
    .await?;
    let elapsed = began.elapsed();
    let each: Option<Vec<Exchange>> = each.into_inner().into_iter().collect();
    Ok(Sent { each: each.context("a request was left out")?, elapsed, cpu: cpu_of_thread()?.saturating_sub(cpu) })
}

/// When a request begins: now, or in the past if it is late. A timer that wakes late is not the fault of who is measured.
async fn wait_for_turn(pace: Pace, began: Instant, index: usize) -> Instant {
    let Pace::PerSecond(rate) = pace else { return Instant::now() };
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let due = began + Duration::from_secs(1) * index / rate;
    if Instant::now() >= due {
        return due;
    }
    sleep_until(Moment::from_std(due)).await;
    Instant::now()
}

/// Processor time of this thread so far.
fn cpu_of_thread() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").context("the kernel does not count threads' time")?;
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok()).context("an odd schedstat")?;
    Ok(Duration::from_nanos(nanoseconds))
}

/// One connection that is kept alive, and opened again when an answer ends it.
#[derive(Debug)]
pub struct Connection {
    address: String,
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects to `host:port`.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub async fn open(address: &str) -> Result<Self> {
        let stream = connect(address).await?;
        Ok(Self { address: address.to_owned(), stream, answer: Vec::with_capacity(HEAD_BYTES_MAX) })
    }

    /// Sends one request, waits for its whole answer and gives its status.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or what comes is no HTTP.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        timeout(PATIENCE, self.try_exchange(request)).await.context("no answer in time")?
    }

    async fn try_exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        let head = loop {
            if let Some(head) = Head::read(&self.answer)? {
                break head;
            }
            ensure!(self.stream.read_buf(&mut self.answer).await? > 0, "the connection was closed without an answer");
        };
        while self.answer.len() < head.bytes + head.body_bytes {
            ensure!(self.stream.read_buf(&mut self.answer).await? > 0, "an answer was cut short");
        }
        if head.is_last {
            self.stream = connect(&self.address).await?;
        }
        Ok(head.status)
    }
}

async fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What must be known of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// With the empty line.
    bytes: usize,
    body_bytes: usize,
    /// Whether the connection ends with this answer.
    is_last: bool,
}

impl Head {
    /// Nothing when it is not complete yet.
    fn read(answer: &[u8]) -> Result<Option<Self>> {
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            ensure!(answer.len() < HEAD_BYTES_MAX, "the head of an answer has no end");
            return Ok(None);
        };
        let text = std::str::from_utf8(&answer[..end])?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let mut head = Self { status: status.context("no status")?, bytes: end + 4, body_bytes: 0, is_last: false };
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| anyhow!("an odd header: {line}"))?;
            if name.eq_ignore_ascii_case("content-length") {
                head.body_bytes = value.trim().parse()?;
            } else if name.eq_ignore_ascii_case("connection") {
                head.is_last = value.trim().eq_ignore_ascii_case("close");
            } else {
                ensure!(!name.eq_ignore_ascii_case("transfer-encoding"), "an answer of unknown length");
            }
        }
        Ok(Some(head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_answer_status_and_length_are_read() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 7\r\nConnection: close\r\n\r\nsorry..";
        let head = Head::read(answer).unwrap().unwrap();
        assert_eq!(head, Head { status: 503, bytes: answer.len() - 7, body_bytes: 7, is_last: true });
        assert_eq!(Head::read(&answer[..30]).unwrap(), None);
        assert!(Head::read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn a_percentile_is_a_sample() {
        let spread = Spread::of((1..=200).rev().map(Duration::from_millis));
        let shown = [0, 50, 99, 100].map(|percent| format!("{:.1}", spread.percentile_ms(percent)));
        assert_eq!(shown, ["1.0", "100.0", "198.0", "200.0"]);
        assert!(Spread::of(std::iter::empty()).percentile_ms(50).abs() < f64::EPSILON);
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
