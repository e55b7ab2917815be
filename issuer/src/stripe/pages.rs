//! Lists, page by page, newest first.

use futures::{Stream, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::client::{Client, Read, StripeError, says, unreadable};

/// Elements of a page: as many as Stripe gives.
const PAGE: &str = "100";

/// One page of a list.
#[derive(Debug)]
pub struct Page {
    /// The elements, byte for byte as Stripe wrote them.
    pub elements: Vec<Box<RawValue>>,
    /// There are more.
    pub has_more: bool,
    /// When it was so.
    pub at: Timestamp,
}

#[derive(Deserialize)]
struct List {
    data: Vec<Box<RawValue>>,
    has_more: bool,
}

#[derive(Deserialize)]
struct Identified {
    id: String,
}

impl Client {
    /// The pages of a list, newest first, read one by one as they are asked for. After an error there are no more.
    pub fn pages<'c>(
        &'c self,
        path: &'c str,
        query: &'c [(&'c str, String)],
    ) -> impl Stream<Item = Result<Page, StripeError>> + Send + 'c {
        stream::try_unfold(Some(None::<String>), move |cursor| async move {
            let Some(after) = cursor else { return Ok(None) };
            let page = self.page_after(path, query, after.as_deref()).await?;
            let next = page.cursor()?;
            Ok(Some((page, next.map(Some))))
        })
    }

    /// The page of a list that follows an element; the first without one.
    pub(super) async fn page_after(
        &self,
        path: &str,
        query: &[(&str, String)],
        after: Option<&str>,
    ) -> Result<Page, StripeError> {
        let mut asked = query.to_vec();
        asked.push(("limit", PAGE.to_owned()));
        asked.extend(after.map(|after| ("starting_after", after.to_owned())));
        self.page(path, &asked).await
    }
}

impl Page {
    pub(super) fn of(read: &Read) -> Result<Self, serde_json::Error> {
        let list: List = serde_json::from_slice(&read.body)?;
        Ok(Self { elements: list.data, has_more: list.has_more, at: read.at })
    }

    /// The elements, read.
    ///
    /// # Errors
    ///
    /// [`StripeError::Unavailable`]: they are no JSON, so what came is no answer.
    pub fn values(&self) -> Result<Vec<Value>, StripeError> {
        let read = |element: &RawValue| serde_json::from_str(element.get());
        self.elements
            .iter()
            .map(|element| read(element))
            .collect::<Result<_, _>>()
            .map_err(|error| unreadable(says(&error)))
    }

    /// Where the next page begins, if there is one.
    pub(super) fn cursor(&self) -> Result<Option<String>, StripeError> {
        let Some(last) = self.elements.last().filter(|_| self.has_more) else { return Ok(None) };
        let last: Identified = serde_json::from_str(last.get()).map_err(|error| unreadable(says(&error)))?;
        Ok(Some(last.id))
    }

    /// This page and those that follow, as one list; cut at `max` elements, and saying so.
    pub(super) async fn rest(
        self,
        client: &Client,
        path: &str,
        query: &[(&str, String)],
        max: usize,
    ) -> Result<Value, StripeError> {
        let mut all = self.values()?;
        let mut next = self.cursor()?;
        while let Some(after) = next.take() {
            if all.len() >= max {
                return Ok(json!({"object": "list", "data": all, "has_more": true, "url": path}));
            }
            let page = client.page_after(path, query, Some(&after)).await?;
            all.extend(page.values()?);
            next = page.cursor()?;
        }
        Ok(json!({"object": "list", "data": all, "has_more": false, "url": path}))
    }
}

/// All elements of a list; `None` if there are more than `max`.
pub(super) async fn collect(
    client: &Client,
    path: &str,
    query: &[(&str, String)],
    max: usize,
) -> Result<Option<Vec<Value>>, StripeError> {
    let pages = client.pages(path, query);
    futures::pin_mut!(pages);
    let mut all = Vec::new();
    while let Some(page) = pages.try_next().await? {
        all.extend(page.values()?);
        if all.len() > max {
            return Ok(None);
        }
    }
    Ok(Some(all))
}
