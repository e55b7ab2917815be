//! Waiting for a condition with a deadline. Nothing in these tests sleeps and hopes.

use std::time::{Duration, Instant};

/// How long most things may take. They take milliseconds; a busy machine gets the rest.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(25);

/// Asks until the answer is `Ok`. At the deadline, fails with the last reason why not.
pub async fn until<T>(what: &str, within: Duration, mut asked: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        let reason = match asked().await {
            Ok(value) => return value,
            Err(reason) => reason,
        };
        assert!(began.elapsed() < within, "{what}: not within {within:?}: {reason}");
        tokio::time::sleep(EVERY).await;
    }
}
