//! Lists: filters, order and pages.

use jiff::Timestamp;

use super::fields::Refusal;
use super::settings::{EmailComparison, MetadataFilters, Settings};

/// What a list is of, to its filters.
pub(super) trait Listed {
    /// What kind of value a field holds; `None` for no filter by it.
    fn kind(field: &str) -> Option<Kind>;

    /// Its values. Several for a list of texts, none for null.
    fn values(&self, field: &str) -> Vec<String>;

    /// Keys and values.
    fn metadata(&self) -> Vec<(&str, &str)>;

    /// When it was made.
    fn created_at(&self) -> Timestamp;

    /// What the free text of `query` looks at.
    fn text(&self) -> String;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// As text, ignoring case where the settings say so.
    Email,
    /// May be asked without an operator.
    Id,
    Moment,
    Flag,
}

/// A query that was understood.
#[derive(Debug)]
pub(super) struct Query {
    page: usize,
    limit: usize,
    newest_first: bool,
    text: Option<String>,
    filters: Vec<Filter>,
}

#[derive(Debug)]
struct Filter {
    field: String,
    kind: Kind,
    operator: Operator,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Starts,
    Ends,
    Contains,
    Lacks,
    Among,
    NotAmong,
    After,
    NotBefore,
    Before,
    NotAfter,
}

const METADATA_KEY: &str = "metadata.key";
const METADATA_VALUE: &str = "metadata.value";

impl Query {
    pub(super) fn read<T: Listed>(parameters: &[(String, String)], settings: &Settings) -> Result<Self, Refusal> {
        let mut query =
            Self { page: 1, limit: settings.page_size, newest_first: false, text: None, filters: Vec::new() };
        for (name, value) in parameters {
            match name.as_str() {
                "page" => query.page = number(name, value, usize::MAX)?,
                "limit" => query.limit = number(name, value, 100)?,
                "sort" => query.newest_first = newest_first(value)?,
                "query" => query.text = Some(value.to_lowercase()),
                _ => query.filters.push(Filter::read::<T>(name, value)?),
            }
        }
        Ok(query)
    }

    /// The page of those that fit.
    pub(super) fn page<'a, T: Listed>(&self, all: impl Iterator<Item = &'a T>, settings: &Settings) -> Vec<&'a T> {
        let mut fitting: Vec<_> = all.filter(|listed| self.fits(*listed, settings)).collect();
        fitting.sort_by_key(|listed| listed.created_at());
        if self.newest_first {
            fitting.reverse();
        }
        let skipped = (self.page - 1).saturating_mul(self.limit);
        fitting.into_iter().skip(skipped).take(self.limit).collect()
    }

    fn fits<T: Listed>(&self, listed: &T, settings: &Settings) -> bool {
        let text_fits = self.text.as_ref().is_none_or(|text| listed.text().to_lowercase().contains(text));
        let by_metadata = |filter: &&Filter| filter.field == METADATA_KEY || filter.field == METADATA_VALUE;
        let mut others = self.filters.iter().filter(|filter| !by_metadata(filter));
        text_fits
            && others.all(|filter| filter.fits(&listed.values(&filter.field), settings))
            && metadata_fits(&self.filters.iter().filter(by_metadata).collect::<Vec<_>>(), listed, settings)
    }
}

fn metadata_fits<T: Listed>(filters: &[&Filter], listed: &T, settings: &Settings) -> bool {
    let entries = listed.metadata();
    let one_fits = |filter: &Filter, (key, value): (&str, &str)| {
        let looked_at = if filter.field == METADATA_KEY { key } else { value };
        filter.fits(&[looked_at.to_owned()], settings)
    };
    match settings.metadata_filters {
        _ if filters.is_empty() => true,
        MetadataFilters::SameEntry => entries.iter().any(|entry| filters.iter().all(|filter| one_fits(filter, *entry))),
        MetadataFilters::AnyEntry => filters.iter().all(|filter| entries.iter().any(|entry| one_fits(filter, *entry))),
    }
}

impl Filter {
    /// `field[operator]=value`; ids and flags do without the operator too.
    fn read<T: Listed>(name: &str, value: &str) -> Result<Self, Refusal> {
        let (field, operator) = match name.split_once('[') {
            Some((field, rest)) => (field, rest.strip_suffix(']').and_then(Operator::read)),
            None => (name, Some(Operator::Equal)),
        };
        let kind = match field {
            METADATA_KEY | METADATA_VALUE => Some(Kind::Text),
            _ => T::kind(field),
        };
        let Some(kind) = kind else { return Err(Refusal::bad(format!("there is no filter `{field}`"))) };
        let bare = !name.contains('[');
        match operator.filter(|operator| kind.takes(*operator) && !(bare && matches!(kind, Kind::Text | Kind::Email))) {
            Some(operator) if kind.reads(value) => {
                Ok(Self { field: field.to_owned(), kind, operator, value: value.to_owned() })
            }
            Some(_) => Err(Refusal::bad(format!("the value of `{name}` does not fit"))),
            None => Err(Refusal::bad(format!("`{name}` has no operator that fits"))),
        }
    }

    fn fits(&self, values: &[String], settings: &Settings) -> bool {
        match self.operator {
            Operator::Unequal => !self.any(values, Operator::Equal, settings),
            Operator::Lacks => !self.any(values, Operator::Contains, settings),
            Operator::NotAmong => !self.any(values, Operator::Among, settings),
            other => self.any(values, other, settings),
        }
    }

    fn any(&self, values: &[String], operator: Operator, settings: &Settings) -> bool {
        let fold = |text: &str| match (self.kind, settings.email_comparison) {
            (Kind::Email, EmailComparison::IgnoringCase) | (Kind::Id | Kind::Flag, _) => text.to_lowercase(),
            _ => text.to_owned(),
        };
        let wanted = fold(&self.value);
        values.iter().any(|value| match self.kind {
            Kind::Moment => compare_times(operator, value, &wanted),
            Kind::Text | Kind::Email | Kind::Id | Kind::Flag => compare(operator, &fold(value), &wanted),
        })
    }
}

fn compare(operator: Operator, value: &str, wanted: &str) -> bool {
    match operator {
        Operator::Equal => value == wanted,
        Operator::Starts => value.starts_with(wanted),
        Operator::Ends => value.ends_with(wanted),
        Operator::Contains => value.contains(wanted),
        Operator::Among => wanted.split(',').any(|wanted| value == wanted.trim()),
        _ => false,
    }
}

fn compare_times(operator: Operator, value: &str, wanted: &str) -> bool {
    let (Ok(value), Ok(wanted)) = (value.parse::<Timestamp>(), wanted.parse::<Timestamp>()) else { return false };
    match operator {
        Operator::Equal => value == wanted,
        Operator::After => value > wanted,
        Operator::NotBefore => value >= wanted,
        Operator::Before => value < wanted,
        Operator::NotAfter => value <= wanted,
        _ => false,
    }
}

impl Kind {
    fn takes(self, operator: Operator) -> bool {
        let ordering =
            matches!(operator, Operator::After | Operator::NotBefore | Operator::Before | Operator::NotAfter);
        let equality = matches!(operator, Operator::Equal | Operator::Unequal);
        match self {
            Self::Text | Self::Email | Self::Id => !ordering,
            Self::Moment => ordering || equality,
            Self::Flag => equality,
        }
    }

    fn reads(self, value: &str) -> bool {
        match self {
            Self::Moment => value.parse::<Timestamp>().is_ok(),
            Self::Flag => matches!(value, "true" | "false"),
            Self::Text | Self::Email | Self::Id => true,
        }
    }
}

impl Operator {
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "eq" => Self::Equal,
            "ne" => Self::Unequal,
            "sw" => Self::Starts,
            "ew" => Self::Ends,
            "cn" => Self::Contains,
            "nc" => Self::Lacks,
            "in" => Self::Among,
            "nin" => Self::NotAmong,
            "gt" => Self::After,
            "gte" => Self::NotBefore,
            "lt" => Self::Before,
            "lte" => Self::NotAfter,
            _ => return None,
        })
    }
}

fn number(name: &str, value: &str, max: usize) -> Result<usize, Refusal> {
    let number = value.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| Refusal::bad(format!("`{name}` is not a number from 1 up to what is allowed")))
}

fn newest_first(value: &str) -> Result<bool, Refusal> {
    match value {
        "createdAt" => Ok(false),
        "-createdAt" => Ok(true),
        _ => Err(Refusal::bad("`sort` is neither `createdAt` nor `-createdAt`")),
    }
}
