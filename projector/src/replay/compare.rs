//! Two views held against each other, row by row, of whichever engine they are. One row of each is in memory.

use std::cmp::Ordering;

use super::{DIFFERENCES_MAX, Difference, beside};
use crate::db::Db;
use crate::digest;
use crate::place::Place;
use crate::{ViewsError, sql};

/// Every table that differs.
pub(super) async fn all(live: &mut Db, side: &Place) -> Result<Vec<Difference>, ViewsError> {
    let mut side = beside::reading(side).await?;
    let compared = tables(live, &mut side).await;
    sql::closing(side, compared).await
}

async fn tables(live: &mut Db, side: &mut Db) -> Result<Vec<Difference>, ViewsError> {
    let mut differences = Vec::new();
    for table in digest::TABLES {
        differences.extend(compare(table, live, side).await?);
    }
    Ok(differences)
}

/// Walks both tables in the order of their keys, holding one row of each.
async fn compare(table: &digest::Table, live: &mut Db, side: &mut Db) -> Result<Option<Difference>, ViewsError> {
    let mut found =
        Difference { table: table.name.to_owned(), only_live: 0, only_rebuilt: 0, changed: 0, keys: Vec::new() };
    let (mut left, mut right) = (digest::Rows::of(table, live), digest::Rows::of(table, side));
    let (mut a, mut b) = (left.next().await?, right.next().await?);
    loop {
        let order = match (&a, &b) {
            (None, None) => break,
            (Some(x), Some(y)) => x.key.cmp(&y.key),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
        };
        let differing = match order {
            Ordering::Equal if a == b => None,
            Ordering::Equal => {
                found.changed += 1;
                a.as_ref()
            }
            Ordering::Less => {
                found.only_live += 1;
                a.as_ref()
            }
            Ordering::Greater => {
                found.only_rebuilt += 1;
                b.as_ref()
            }
        };
        found.keys.extend(differing.filter(|_| found.keys.len() < DIFFERENCES_MAX).map(ToString::to_string));
        if order.is_le() {
            a = left.next().await?;
        }
        if order.is_ge() {
            b = right.next().await?;
        }
    }
    let differs = found.only_live + found.only_rebuilt + found.changed > 0;
    Ok(differs.then_some(found))
}
