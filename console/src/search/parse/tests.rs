//! The grammar by table, and that no text at all makes it panic.

use std::ops::Bound;

use proptest::prelude::*;

use super::super::query::{Flag, NumberField, TextField, TimeField};
use super::*;

fn now() -> Timestamp {
    "2026-03-12T09:30:00Z".parse().unwrap()
}

/// A query in a short form that shows its structure.
fn shown(query: &Query) -> String {
    let all = |parts: &[Query], sign: &str| parts.iter().map(shown).collect::<Vec<_>>().join(sign);
    match query {
        Query::And(parts) => format!("({})", all(parts, " & ")),
        Query::Or(parts) => format!("({})", all(parts, " | ")),
        Query::Not(part) => format!("!{}", shown(part)),
        Query::Term(term) => condition(&term.condition),
    }
}

fn condition(condition: &Condition) -> String {
    let sign = |contains: bool| if contains { '~' } else { '=' };
    match condition {
        Condition::Text { field, contains, text } => format!("{}{}{text}", field.name(), sign(*contains)),
        Condition::Metadata { key, contains, text } => format!("metadata.{key}{}{text}", sign(*contains)),
        Condition::Number { field, within } => format!("{}{}", field.name(), bounds(within)),
        Condition::Amount { within } => format!("amount{}", bounds(within)),
        Condition::Time { field, from, before } => {
            let end = |time: &Option<Timestamp>| {
                time.map_or_else(|| "*".to_owned(), |time| time.strftime("%m-%d").to_string())
            };
            format!("{}[{}..{}[", field.name(), end(from), end(before))
        }
        Condition::Flag(flag) => flag.name().to_owned(),
        Condition::Word(word) => word.clone(),
    }
}

fn bounds((from, to): &(Bound<i64>, Bound<i64>)) -> String {
    let from = match from {
        Bound::Included(value) => format!("[{value}"),
        Bound::Excluded(value) => format!("]{value}"),
        Bound::Unbounded => "]*".to_owned(),
    };
    let to = match to {
        Bound::Included(value) => format!("{value}]"),
        Bound::Excluded(value) => format!("{value}["),
        Bound::Unbounded => "*[".to_owned(),
    };
    format!("{from}..{to}")
}

#[track_caller]
fn reads(text: &str, expected: &str) {
    assert_eq!(parse(text, now()).map(|query| shown(&query)).as_deref(), Ok(expected), "{text}");
}

#[track_caller]
fn fails(text: &str, column: usize, message: &str) -> BadQuery {
    let error = parse(text, now()).expect_err(text);
    assert_eq!(error.column, column, "{text}: {error}");
    assert!(error.message.contains(message), "{text}: {error}");
    error
}

#[test]
fn terms_are_joined_by_and_which_binds_closer_than_or() {
    reads("ana ruiz", "(ana & ruiz)");
    reads("a AND b or c", "((a & b) | c)");
    reads("a (b OR c)", "(a & (b | c))");
    reads("NOT a b", "(!a & b)");
    reads("-(a b) --c", "(!(a & b) & !!c)");
    reads("(ana)", "ana");
}

#[test]
fn the_examples_of_the_manual_are_read() {
    reads("is:no-key amount>=50 created:-7d", "(is:no-key & amount[50000..*[ & created[03-05..03-12[)");
    reads("status:grace expires<=+3d", "(status=grace & expires[*..03-15[)");
    reads(r#"email~"@acme.com" -is:test"#, "(email~@acme.com & !is:test)");
    reads(r#"key="ITVBC-GXXNU-GSMTK-NIJBT""#, "key=ITVBC-GXXNU-GSMTK-NIJBT");
    reads("Id=2 or Id=3", "(id=2 | id=3)");
    reads("customer.id=3", "customer.id=3");
    reads("created >= 2026-01-01", "created[01-01..*[");
    reads("notes:vip", "notes=vip");
}

#[test]
fn fields_and_flags_are_known_in_any_case_and_metadata_keys_keep_theirs() {
    reads("EMAIL:Ana@Example.com", "email=Ana@Example.com");
    reads("Is:No_Key HAS:case", "(is:no-key & has:case)");
    reads("metadata.Skm_Key_Id=88121", "metadata.Skm_Key_Id=88121");
}

#[test]
fn ranges_include_both_ends() {
    reads("amount:10..20.50", "amount[10000..20500]");
    reads("seats:2..5", "seats[2..5]");
    reads("created:2026-03-01..2026-03-02", "created[03-01..03-03[");
    reads(r#"created:"2026-03-01".."2026-03-02""#, "created[03-01..03-03[");
    reads(r#"created:2026-03-01.."2026-03-02""#, "created[03-01..03-03[");
}

#[test]
fn not_equal_is_the_opposite_of_equal() {
    reads("seats!=3", "!seats[3..3]");
    reads("provider != builtin", "!provider=builtin");
}

#[test]
fn quotes_keep_spaces_operators_and_escaped_quotes() {
    reads(r#"name:"Ana \"A\" Ruiz" "or""#, r#"(name=Ana "A" Ruiz & or)"#);
    reads("order", "order");
    reads("android", "android");
}

#[test]
fn every_field_and_flag_of_the_table_is_read() {
    for (name, _) in TextField::ALL {
        assert!(parse(&format!("{name}:x"), now()).is_ok(), "{name}");
    }
    for (name, _) in NumberField::ALL {
        assert!(parse(&format!("{name}>1"), now()).is_ok(), "{name}");
    }
    for (name, _) in TimeField::ALL {
        assert!(parse(&format!("{name}<today"), now()).is_ok(), "{name}");
    }
    for (name, _) in Flag::ALL {
        assert!(parse(name, now()).is_ok(), "{name}");
    }
}

#[test]
fn mistakes_are_pointed_at() {
    fails("", 1, "nothing to search");
    fails("a OR", 5, "missing at the end");
    fails("AND a", 1, "missing before this operator");
    fails("a AND OR b", 7, "missing before this operator");
    fails("(a", 1, "never closed");
    fails("a)", 2, "never opened");
    fails("()", 2, "missing before this bracket");
    fails("name:\"a", 6, "never closed");
    fails("ana \"\"", 5, "nothing between");
    fails("name:", 6, "value is missing");
    fails("name>a", 5, "text is compared");
    fails("amount~5", 7, "is for text");
    fails("amount>=fifty", 9, "an amount");
    fails("created:soon", 9, "a date");
    fails("seats:1..x", 10, "whole number");
    fails("seats:1..", 10, "no end");
    fails("seats:..2", 7, "no beginning");
    fails("seats>1..2", 6, "written with");
    fails("name:a..b", 9, "a range needs");
    fails("a ! b", 3, "only known in");
    fails("is>grace", 3, "written with");
    fails(":a", 1, "expected here");
}

#[test]
fn unknown_fields_and_flags_suggest_the_closest_known() {
    assert_eq!(fails("a emial:x", 3, "no field `emial`").suggestion.as_deref(), Some("email"));
    assert_eq!(fails("paiduntil<today", 1, "no field").suggestion.as_deref(), Some("paid_until"));
    assert_eq!(fails("is:nokey", 4, "no such flag").suggestion.as_deref(), Some("is:no-key"));
    assert_eq!(fails("zzzzzzzz:x", 1, "no field").suggestion, None);
}

#[test]
fn the_caret_stands_under_the_mistake() {
    let text = "é\temial:x";
    let error = parse(text, now()).unwrap_err();
    assert_eq!(error.caret(text).to_string(), "é emial:x\n  ^");
}

#[test]
fn depth_and_number_of_terms_are_bounded() {
    fails(&"(".repeat(500), DEPTH_MAX + 2, "nests");
    fails(&"-".repeat(500), DEPTH_MAX + 2, "nests");
    fails(&"NOT ".repeat(200), DEPTH_MAX * 4 + 5, "nests");
    fails(&"a ".repeat(TERMS_MAX + 1), TERMS_MAX * 2 + 1, "at most");
    reads(&format!("{}a{}", "(".repeat(DEPTH_MAX), ")".repeat(DEPTH_MAX)), "a");
}

/// Pieces that queries are made of, so that random texts get deep into the grammar.
fn piece() -> impl Strategy<Value = String> {
    let fixed = [
        "(",
        ")",
        "-",
        "\"",
        "..",
        ":",
        "=",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        "~",
        "!",
        " ",
        " OR ",
        " and ",
        "NOT ",
        "is:",
        "has:",
        "no-key",
        "amount",
        "created",
        "email",
        "seats",
        "metadata.",
        "today",
        "-7d",
        "2026-03-01",
        "5",
        "\\",
    ];
    prop_oneof![proptest::sample::select(fixed.to_vec()).prop_map(str::to_owned), any::<char>().prop_map(String::from),]
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_errors_point_into_the_text(pieces in prop::collection::vec(piece(), 0..60)) {
        let text = pieces.concat();
        if let Err(error) = parse(&text, now()) {
            prop_assert!((1..=text.chars().count() + 1).contains(&error.column), "{error}");
        }
        let _ = super::super::read(&text, now());
    }

    #[test]
    fn a_query_in_brackets_means_the_same(pieces in prop::collection::vec(piece(), 1..20)) {
        let text = pieces.concat();
        if let Ok(query) = parse(&text, now()) {
            let bracketed = parse(&format!("({text})"), now());
            // Only a text that already nests as deep as it may differs.
            if let Ok(bracketed) = bracketed {
                prop_assert_eq!(shown(&bracketed), shown(&query));
            }
        }
    }
}
