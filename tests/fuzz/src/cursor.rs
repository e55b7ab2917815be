//! Cursors of pages: any text is read as one or refused, and what is read is what was written.

use jiff::Timestamp;
use keyledger_console::page::{cursor as written, request};
use keyledger_projector::read::PageRequest;

/// What is said of every text that is no cursor.
const REFUSAL: &str = "`after`: must be `next` of the page before";

/// Reads any text as a cursor, and writes any text as one.
pub fn cursor(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(sort_key) = read(&text) {
        assert!(is_sort_key(&sort_key), "{sort_key:?}");
        assert_eq!(written(&sort_key), text, "each sort key has one cursor");
    }
    let made = written(&text);
    assert!(
        made.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')),
        "{made} stands in a URL as it is"
    );
    match read(&made) {
        Some(sort_key) => assert_eq!(sort_key, text),
        None => assert!(!is_sort_key(&text) || text.len() > 512, "{text:?} is refused"),
    }
}

fn read(after: &str) -> Option<String> {
    let page = PageRequest { limit: 7, after: Some(after.to_owned()) };
    let read = request(&page);
    assert_eq!(read.as_ref().ok().map(|page| &page.after), request(&page).as_ref().ok().map(|page| &page.after));
    match read {
        Ok(page) => {
            assert_eq!(page.limit, 7);
            page.after
        }
        Err(problem) => {
            assert_eq!(problem.to_string(), REFUSAL, "what was sent is not repeated");
            None
        }
    }
}

/// A position in 20 digits or a time to the nanosecond, a slash, and a name.
fn is_sort_key(text: &str) -> bool {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let Some((place, name)) = text.split_once('/') else { return false };
    let is_time = || place.len() == 30 && place.parse::<Timestamp>().is_ok();
    !name.is_empty() && (digits(place, 20) || is_time())
}
