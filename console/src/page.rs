//! Cursors: opaque text that names the row a page ended with.

use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use keyledger_projector::read::{self, PageRequest};

use crate::model::Page;
use crate::problem::Problem;

/// No row's sort key is longer, bytes.
const SORT_KEY_MAX: usize = 512;

/// The page asked for, with the cursor read back to the views' sort key.
///
/// # Errors
///
/// [`Problem::Invalid`] when `after` is not a `next` of ours.
pub fn request(page: &PageRequest) -> Result<PageRequest, Problem> {
    let after = page.after.as_deref().map(|cursor| sort_key(cursor).ok_or_else(bad_cursor)).transpose()?;
    Ok(PageRequest { limit: page.limit, after })
}

/// A time as the views write it: `2026-03-01T00:00:00.000000000Z`.
const TIME_CHARS: usize = 30;

/// The cursor that asks for what comes after a sort key.
pub fn cursor(sort_key: &str) -> String {
    BASE64URL_NOPAD.encode(sort_key.as_bytes())
}

/// A page of the views with other rows and a readable cursor.
pub fn page<R, T>(page: read::Page<R>, row: impl FnMut(R) -> T) -> Page<T> {
    let next = page.next.as_deref().map(cursor);
    Page { data: page.data.into_iter().map(row).collect(), next }
}

/// The views sort by a position in 20 digits, or by a time, and then by a name: anything else was made up, and would
/// silently answer wrong.
fn sort_key(cursor: &str) -> Option<String> {
    if cursor.len() > SORT_KEY_MAX * 2 {
        return None;
    }
    let text = String::from_utf8(BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?).ok()?;
    let (place, name) = text.split_once('/')?;
    let is_position = place.len() == 20 && place.bytes().all(|b| b.is_ascii_digit());
    let is_time = || place.len() == TIME_CHARS && place.parse::<Timestamp>().is_ok();
    (!name.is_empty() && (is_position || is_time())).then_some(text)
}

fn bad_cursor() -> Problem {
    Problem::parameter("after", "must be `next` of the page before")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(cursor: &str) -> Result<Option<String>, Problem> {
        request(&PageRequest { limit: 0, after: Some(cursor.to_owned()) }).map(|page| page.after)
    }

    #[test]
    fn a_cursor_reads_back() {
        for key in ["00000000000000000042/default:-:live:cus_1", "2026-08-10T07:50:02.000000000Z/kl_cas_1"] {
            assert_eq!(after(&cursor(key)).unwrap().as_deref(), Some(key));
        }
    }

    #[test]
    fn made_up_cursors_are_refused() {
        for bad in [
            "",
            "42",
            "zzz!",
            &cursor("42/x"),
            &cursor("2026-08-10/x"),
            &cursor("00000000000000000042/"),
            &cursor("x"),
            &"A".repeat(5000),
        ] {
            assert!(after(bad).is_err(), "{bad}");
        }
    }
}
