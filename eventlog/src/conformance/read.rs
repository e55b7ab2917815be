//! Reading events.

use super::{Factory, fill, positions};
use crate::log::Append;
use crate::testing::event;

/// Pages by position; what is beyond the end is empty, not an error.
pub async fn a_page_begins_after_its_position_and_keeps_its_limit(place: &impl Factory) {
    let log = place.open().await;
    assert_eq!(log.read_after(0, 10).await.unwrap(), []);
    fill(&*log, "a", 5).await;
    assert_eq!(positions(&log.read_after(0, 2).await.unwrap()), [1, 2]);
    assert_eq!(positions(&log.read_after(2, 2).await.unwrap()), [3, 4]);
    assert_eq!(positions(&log.read_after(4, 2).await.unwrap()), [5]);
    for (after, limit) in [(5, 2), (6, 2), (u64::MAX, 2), (u64::MAX - 1, usize::MAX), (0, 0)] {
        assert_eq!(log.read_after(after, limit).await.unwrap(), [], "after {after}, limit {limit}");
    }
    assert_eq!(log.read_after(0, usize::MAX).await.unwrap().len(), 5);
}

/// Pages one stream by version, whatever stands between.
pub async fn a_stream_is_paged_by_version(place: &impl Factory) {
    let log = place.open().await;
    for number in 0..4 {
        let batch = vec![event(&format!("a{number}"), "a", ""), event(&format!("b{number}"), "b", "")];
        log.append(Append::events(batch)).await.unwrap();
    }
    let stream = "b".into();
    assert_eq!(positions(&log.read_stream(&stream, 0, 3).await.unwrap()), [2, 4, 6]);
    assert_eq!(positions(&log.read_stream(&stream, 3, 3).await.unwrap()), [8]);
    assert_eq!(log.read_stream(&stream, 4, 3).await.unwrap(), []);
    assert_eq!(log.read_stream(&stream, u64::MAX, 3).await.unwrap(), []);
    assert_eq!(log.read_stream(&"nobody's".into(), 0, 3).await.unwrap(), []);
}

/// One event, by id or by position; `None` is an ordinary answer.
pub async fn an_event_is_found_by_id_and_by_position(place: &impl Factory) {
    let log = place.open().await;
    fill(&*log, "a", 3).await;
    let found = log.find(&"a_1".into()).await.unwrap().unwrap();
    assert_eq!((found.position, found.data.as_slice()), (2, &b"1"[..]));
    assert_eq!(log.at(2).await.unwrap(), Some(found));
    assert_eq!(log.find(&"A_1".into()).await.unwrap(), None);
    for position in [0, 4, u64::MAX] {
        assert_eq!(log.at(position).await.unwrap(), None, "{position}");
    }
}

/// A body of several megabytes is kept, and pages of them still come to an end.
pub async fn an_event_with_a_large_body_is_kept_whole(place: &impl Factory) {
    let log = place.open().await;
    for number in 0..6_u8 {
        let body = vec![number; 4 * 1024 * 1024];
        log.append(Append::events(vec![event(&number.to_string(), "s", body)])).await.unwrap();
    }
    let mut seen = Vec::new();
    while let Some(last) = {
        let after = seen.len() as u64;
        let page = log.read_after(after, 100).await.unwrap();
        seen.extend(page.iter().map(|event| (event.position, event.data.len(), event.data[0])));
        page.last().map(|event| event.position)
    } {
        assert_eq!(last, seen.len() as u64);
    }
    let expected: Vec<_> = (0..6_u8).map(|number| (u64::from(number) + 1, 4 * 1024 * 1024, number)).collect();
    assert_eq!(seen, expected);
}
