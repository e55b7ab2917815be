//! What we write into the notes of a license, and find there again. Pure.
//!
//! The notes are the one text that the create call itself takes, so the reference stands there, first:
//!
//! ```text
//! ref:kl-0123…; stripe_subscription_id:sub_1; stripe_customer_id:cus_1; what people noted
//! ```
//!
//! Searches of the engine match parts of texts, perhaps in any case; what they find is therefore read here again.

use super::wire::License;
use crate::provider::Sale;

/// The engine takes no more.
pub(super) const NOTES_MAX: usize = 500;

/// The data object that holds the reference too, for when people edit the notes. Its name is short: the engine's limit is
/// said to be 100 here and 10 there.
pub(super) const SECOND_PLACE: &str = "kl_ref";

/// The data object that the engine's own integration with Stripe writes: the subscription item that a license was made for.
pub(super) const THEIR_ITEM: &str = "cryptolens_stripesubscriptionitemid";

const REFERENCE: &str = "ref";

const SUBSCRIPTION: &str = "stripe_subscription_id";

const TRANSACTION: &str = "stripe_transaction_id";

const CUSTOMER: &str = "stripe_customer_id";

/// How references of ours begin.
const OURS: &str = "kl-";

/// `ref:kl-…;`, as it stands in the notes.
pub(super) fn mark(reference: &str) -> String {
    format!("{REFERENCE}:{reference};")
}

/// Whether a text can stand inside a search expression: a quote would end it.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:;-".contains(&byte))
}

/// Everything that stands before what people noted.
pub(super) fn marks(reference: &str, sale: &Sale, customer: Option<&str>) -> String {
    let transaction =
        if sale.purchase.starts_with("sub_") { None } else { sale.payment.as_ref().or(Some(&sale.purchase)) };
    let subscription = sale.purchase.starts_with("sub_").then_some(&sale.purchase);
    let rest = [
        (SUBSCRIPTION, subscription.map(String::as_str)),
        (TRANSACTION, transaction.map(String::as_str)),
        (CUSTOMER, customer),
    ];
    let mut texts = vec![mark(reference)];
    for (name, value) in rest {
        if let Some(value) = value.filter(|value| is_plain(value) && !value.contains(';')) {
            texts.push(format!("{name}:{value};"));
        }
    }
    texts.join(" ")
}

/// The notes of a new license: what people note is cut where there is no room.
pub(super) fn of_new(marks: &str, noted: &str) -> String {
    cut(format!("{marks} {noted}").trim_end(), NOTES_MAX)
}

/// The notes of a license that others made: all that stands there stays. `None` where there is no room for the reference.
pub(super) fn taken_over(marks: &str, reference: &str, present: &str) -> Option<String> {
    if references(present).any(|found| found == reference) {
        return Some(present.to_owned());
    }
    let wholes = [marks.to_owned(), mark(reference)].map(|first| format!("{first} {present}").trim_end().to_owned());
    wholes.into_iter().find(|whole| length(whole) <= NOTES_MAX)
}

/// The references in the notes.
pub(super) fn references(notes: &str) -> impl Iterator<Item = &str> {
    values(notes, REFERENCE)
}

/// All references that a license carries, in both places.
pub(super) fn carried(license: &License) -> impl Iterator<Item = &str> {
    references(license.notes()).chain(license.texts(SECOND_PLACE))
}

/// The one of ours that a license carries.
pub(super) fn ours(license: &License) -> Option<&str> {
    carried(license).find(|reference| reference.starts_with(OURS))
}

/// What Stripe calls the sale that a license is for.
pub(super) fn purchase(license: &License) -> Option<String> {
    let noted = values(license.notes(), SUBSCRIPTION).chain(values(license.notes(), TRANSACTION)).next();
    noted.or_else(|| license.texts(THEIR_ITEM).next()).map(str::to_owned)
}

/// What Stripe calls the customer whose license it is.
pub(super) fn customers(license: &License) -> impl Iterator<Item = &str> {
    values(license.notes(), CUSTOMER)
}

/// The values of `name:value;`, wherever they stand; a name that is the end of a longer word is another.
fn values<'a>(notes: &'a str, name: &'static str) -> impl Iterator<Item = &'a str> {
    // What comes after the last semicolon is not closed, and is no value.
    let parts = notes.split(';').zip(notes.match_indices(';')).map(|(part, _)| part);
    parts.filter_map(move |part| {
        part.match_indices(name).find_map(|(at, _)| {
            let before = part[..at].chars().next_back();
            let is_word = before.is_none_or(|last| !last.is_alphanumeric() && last != '_');
            part[at + name.len()..].strip_prefix(':').filter(|_| is_word)
        })
    })
}

/// The engine counts as UTF-16 does.
fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

/// The beginning of a text, as much as the engine takes.
pub(super) fn cut(text: &str, most: usize) -> String {
    let mut left = most;
    let fits = |char: &char| {
        let width = char.len_utf16();
        let fits = width <= left;
        left = if fits { left - width } else { 0 };
        fits
    };
    text.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sale(purchase: &str, payment: Option<&str>) -> Sale {
        Sale { purchase: purchase.to_owned(), item: "si_1".to_owned(), payment: payment.map(str::to_owned) }
    }

    fn found(notes: &str) -> Vec<&str> {
        references(notes).collect()
    }

    #[test]
    fn the_reference_is_first_and_people_come_last() {
        let marks = marks("kl-1", &sale("sub_1", None), Some("cus_1"));
        assert_eq!(marks, "ref:kl-1; stripe_subscription_id:sub_1; stripe_customer_id:cus_1;");
        let one_off = super::marks("kl-1", &sale("cs_1", Some("pi_1")), None);
        assert_eq!(one_off, "ref:kl-1; stripe_transaction_id:pi_1;");
        assert_eq!(of_new(&one_off, ""), one_off);
        assert_eq!(of_new("ref:kl-1;", "a; b"), "ref:kl-1; a; b");
        let long = of_new(&marks, &"é😀".repeat(400));
        assert!(length(&long) <= NOTES_MAX && length(&long) >= NOTES_MAX - 1);
        assert_eq!(found(&long), ["kl-1"]);
    }

    #[test]
    fn only_whole_references_count() {
        assert_eq!(found("ref:kl-1;"), ["kl-1"]);
        assert_eq!(found("by hand, ref:kl-1; ref:kl-2;"), ["kl-1", "kl-2"]);
        for other in ["", "ref:kl-1", "xref:kl-1;", "my_ref:kl-1;", "Ref:kl-1;", "ref kl-1;"] {
            assert!(found(other).is_empty(), "{other}");
        }
        assert_eq!(found("ref:kl-11;"), ["kl-11"]);
        assert_eq!(found("xref:a; ref:sub_1:si_2:0;"), ["sub_1:si_2:0"]);
    }

    #[test]
    fn what_stands_there_stays() {
        let taken = |present: &str| taken_over("ref:kl-1; stripe_subscription_id:sub_1;", "kl-1", present);
        assert_eq!(taken("for Jane").as_deref(), Some("ref:kl-1; stripe_subscription_id:sub_1; for Jane"));
        assert_eq!(taken("for Jane; ref:kl-1;").as_deref(), Some("for Jane; ref:kl-1;"));
        let tight = "x".repeat(480);
        assert_eq!(taken(&tight), Some(format!("ref:kl-1; {tight}")));
        assert_eq!(taken(&"x".repeat(495)), None);
    }

    #[test]
    fn nothing_that_ends_an_expression_is_searched_for() {
        assert!(is_plain("kl-1") && is_plain("si_1"));
        for text in ["", "a\"b", "a b", "a)", "é"] {
            assert!(!is_plain(text), "{text}");
        }
    }
}
