//! The configuration file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::rules::Checked;
use super::{ConfigError, LogFormat, LogLevel};
use crate::ledger::GroupBy;

/// The file: the flags' names, with the dots as sections.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct File {
    #[serde(deserialize_with = "name_of_value")]
    pub(super) group_by: Option<GroupBy>,
    pub(super) max_groups: Option<usize>,
    #[serde(deserialize_with = "duration")]
    pub(super) retain: Option<Duration>,
    #[serde(deserialize_with = "one_or_more")]
    pub(super) probe: Vec<String>,
    pub(super) verify: Vec<Checked>,
    pub(super) web: Web,
    pub(super) log: Log,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Web {
    #[serde(deserialize_with = "one_or_more")]
    pub(super) listen_address: Vec<String>,
    pub(super) insecure: Option<bool>,
    pub(super) config: WebConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WebConfig {
    pub(super) file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    #[serde(deserialize_with = "name_of_value")]
    pub(super) level: Option<LogLevel>,
    #[serde(deserialize_with = "name_of_value")]
    pub(super) format: Option<LogFormat>,
}

fn name_of_value<'de, D: Deserializer<'de>, T: ValueEnum>(input: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(input)?;
    T::from_str(&text, false).map(Some).map_err(|_| {
        let names: Vec<_> = T::value_variants()
            .iter()
            .filter_map(|value| Some(value.to_possible_value()?.get_name().to_owned()))
            .collect();
        D::Error::custom(format!("`{text}` is none of: {}", names.join(", ")))
    })
}

fn duration<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(input)?;
    let parsed = humantime::parse_duration(&text);
    parsed.map(Some).map_err(|error| D::Error::custom(format!("`{text}` is no duration such as \"10m\": {error}")))
}

fn one_or_more<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let wrong = || D::Error::custom("must be a string or a list of strings");
    match toml::Value::deserialize(input)? {
        toml::Value::String(one) => Ok(vec![one]),
        toml::Value::Array(all) => {
            all.into_iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

/// Reads it.
pub(super) fn read(path: &Path) -> Result<File, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
    toml::from_str(&text).map_err(|error| ConfigError::Malformed { path: path.to_owned(), error: Box::new(error) })
}
