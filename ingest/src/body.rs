//! Reading a body no longer than the limit, in bounded time and bounded memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is set aside for a body before its first byte has come: a stranger's announcement is only believed this far.
const CAPACITY_FIRST: usize = 16 * 1024;

/// A body in memory. It counts against the budget until it is dropped.
pub struct Buffered {
    /// The bytes exactly as received.
    pub bytes: Vec<u8>,
    /// Its share of the budget.
    pub share: Option<OwnedSemaphorePermit>,
}

/// Why a body could not be read.
#[derive(Debug)]
pub enum BodyError {
    /// It is, or says that it is, larger than the limit.
    TooLarge {
        /// The size that was announced, in bytes.
        announced: Option<u64>,
    },
    /// It did not arrive in time.
    TooSlow,
    /// There is no memory left for it now.
    OverBudget,
    /// The connection broke, or what came is not HTTP.
    Interrupted,
}

/// Limits for reading one body.
pub struct Limits {
    /// Largest body, in bytes.
    pub bytes_max: usize,
    /// Longest time.
    pub timeout: Duration,
    /// What all bodies may use together: one permit is one byte.
    pub budget: Arc<Semaphore>,
}

/// Reads a whole body. One that announces more than the limit is refused before anything of it is read, any other as
/// soon as it passes the limit.
pub async fn read(headers: &HeaderMap, body: Body, limits: &Limits) -> Result<Buffered, BodyError> {
    let announced = announced_bytes(headers);
    let bytes_max = u64::try_from(limits.bytes_max).unwrap_or(u64::MAX);
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        return Err(BodyError::TooLarge { announced });
    }
    let announced = announced.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(limits.bytes_max);
    let reading = read_within(body, CAPACITY_FIRST.min(announced), limits);
    tokio::time::timeout(limits.timeout, reading).await.unwrap_or(Err(BodyError::TooSlow))
}

async fn read_within(body: Body, capacity: usize, limits: &Limits) -> Result<Buffered, BodyError> {
    let mut bytes = Vec::with_capacity(capacity);
    let mut share: Option<OwnedSemaphorePermit> = None;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| BodyError::Interrupted)?;
        if chunk.len() > limits.bytes_max - bytes.len() {
            return Err(BodyError::TooLarge { announced: None });
        }
        let wanted = u32::try_from(chunk.len()).map_err(|_| BodyError::OverBudget)?;
        let more = Arc::clone(&limits.budget).try_acquire_many_owned(wanted).map_err(|_| BodyError::OverBudget)?;
        match &mut share {
            Some(share) => share.merge(more),
            None => share = Some(more),
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Buffered { bytes, share })
}

/// What `Content-Length` says. A value that is no number never gets here: the HTTP library refuses it.
fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(bytes_max: usize, budget: usize) -> Limits {
        Limits { bytes_max, timeout: Duration::from_secs(5), budget: Arc::new(Semaphore::new(budget)) }
    }

    fn chunked(chunks: &[&'static [u8]]) -> Body {
        let chunks: Vec<Result<&'static [u8], std::io::Error>> = chunks.iter().copied().map(Ok).collect();
        Body::from_stream(futures::stream::iter(chunks))
    }

    #[tokio::test]
    async fn the_limit_itself_is_taken_and_one_byte_more_is_not() {
        let taken = read(&HeaderMap::new(), chunked(&[b"ab", b"cd"]), &limits(4, 100)).await.ok().unwrap();
        assert_eq!(taken.bytes, b"abcd");
        let refused = read(&HeaderMap::new(), chunked(&[b"ab", b"cde"]), &limits(4, 100)).await;
        assert!(matches!(refused, Err(BodyError::TooLarge { announced: None })));
    }

    #[tokio::test]
    async fn an_announced_size_over_the_limit_is_refused_unread() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, 5.into());
        let never = Body::from_stream(futures::stream::pending::<Result<&'static [u8], std::io::Error>>());
        let refused = read(&headers, never, &limits(4, 100)).await;
        assert!(matches!(refused, Err(BodyError::TooLarge { announced: Some(5) })));
    }

    #[tokio::test]
    async fn the_budget_is_given_back_with_the_body() {
        let limits = limits(4, 4);
        let first = read(&HeaderMap::new(), chunked(&[b"ab", b"c"]), &limits).await.ok().unwrap();
        let second = read(&HeaderMap::new(), chunked(&[b"ab"]), &limits).await;
        assert!(matches!(second, Err(BodyError::OverBudget)));
        drop(first);
        assert_eq!(limits.budget.available_permits(), 4);
    }
}
