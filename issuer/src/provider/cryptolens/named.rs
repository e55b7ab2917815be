//! How a license is named: by its number in the product, or by its number in the account. Pure.

use crate::provider::ProviderError;

/// A license's name. The two kinds of numbers overlap: a name says which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// `5` or `Id=5`.
    Id(u64),
    /// `globalId=812345`.
    Global(u64),
}

/// Reads a name.
pub(super) fn named(text: &str) -> Result<Named, ProviderError> {
    let (kind, number) = text.trim().split_once('=').unwrap_or(("id", text.trim()));
    let number = number.trim().parse::<u64>().ok().filter(|number| *number > 0);
    let kind = kind.trim();
    match number {
        Some(id) if kind.eq_ignore_ascii_case("id") => Ok(Named::Id(id)),
        Some(id) if kind.eq_ignore_ascii_case("globalId") => Ok(Named::Global(id)),
        // Not repeated: somebody may have given the key itself.
        _ => Err(ProviderError::Refused {
            reason:
                "a license at Cryptolens is named by its number in the product, as `5` or `Id=5`, or by its number in \
                     the account, as `globalId=812345`"
                    .to_owned(),
        }),
    }
}

/// Reads a product's number.
pub(super) fn product(text: &str) -> Result<u64, ProviderError> {
    text.trim().parse().ok().filter(|id| *id > 0).ok_or_else(|| ProviderError::Refused {
        reason: format!("`{text}` is not a product of Cryptolens: its products have whole numbers"),
    })
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => write!(f, "Id={id}"),
            Self::Global(id) => write!(f, "globalId={id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_say_of_which_kind_they_are() {
        for id in ["5", " 5 ", "Id=5", "id = 5", "ID=5"] {
            assert_eq!(named(id).unwrap(), Named::Id(5), "{id}");
        }
        assert_eq!(named("globalId=812345").unwrap(), Named::Global(812_345));
        for bad in ["", "0", "-5", "5.0", "GlobalId=", "key=5", "ABCDE-FGHIJ-KLMNO-PQRST"] {
            let error = named(bad).unwrap_err().to_string();
            assert!(!error.contains("ABCDE"), "{error}");
        }
        assert!(product("3349").is_ok() && product("pro").is_err() && product("0").is_err());
    }
}
