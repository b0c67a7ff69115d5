//! Values that are given, or derived.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A value, or `auto`: derived from the rest of the configuration, the data and, for a precision, this processor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Auto<T = f64> {
    /// Derived.
    #[default]
    Auto,
    /// Given.
    Value(T),
}

impl<T> Auto<T> {
    /// The value that is given, or what `derive` makes.
    pub(crate) fn or_derived(self, derive: impl FnOnce() -> T) -> T {
        match self {
            Self::Auto => derive(),
            Self::Value(value) => value,
        }
    }
}

impl<T: fmt::Display> fmt::Display for Auto<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Value(value) => value.fmt(f),
        }
    }
}

impl<T: FromStr<Err = String>> FromStr for Auto<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Value).map_err(|error| format!("{error}, or auto")),
        }
    }
}

impl Serialize for Auto {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Value(value) => serializer.serialize_f64(*value),
        }
    }
}

impl<'de> Deserialize<'de> for Auto {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Auto;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number or \"auto\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Auto, E> {
                match text {
                    "auto" => Ok(Auto::Auto),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_f64<E>(self, value: f64) -> Result<Auto, E> {
                Ok(Auto::Value(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Auto, E> {
                Ok(Auto::Value(value as f64))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
