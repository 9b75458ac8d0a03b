//! What every resource carries besides its purpose.

use std::collections::BTreeMap;

use super::fields::{self, Object};
use super::{Id, Violation};

/// Fields common to all resources.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Meta {
    /// The resource's own `id` field. Who stores the resource decides on the id that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// `name`: 1 to 256 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `desc`: up to 256 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desc: Option<String>,
    /// `labels`: values of 1 to 256 characters without spaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `create_time`, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_time: Option<i64>,
    /// `update_time`, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_time: Option<i64>,
}

impl Meta {
    /// The fields read here.
    pub(super) const FIELDS: [&str; 6] =
        ["id", "name", "desc", "labels", "create_time", "update_time"];

    pub(super) fn from_object(map: &Object) -> Result<Self, Violation> {
        let timestamp = |value| fields::integer(value, i64::MIN, i64::MAX);
        Ok(Self {
            id: fields::optional(map, "id", Id::from_json)?,
            name: fields::optional(map, "name", |v| fields::bounded(v, 1, 256))?.map(str::to_owned),
            desc: fields::optional(map, "desc", |v| fields::bounded(v, 0, 256))?.map(str::to_owned),
            labels: fields::optional(map, "labels", labels)?.unwrap_or_default(),
            create_time: fields::optional(map, "create_time", timestamp)?,
            update_time: fields::optional(map, "update_time", timestamp)?,
        })
    }
}

fn labels(value: &serde_json::Value) -> Result<BTreeMap<String, String>, Violation> {
    let label = |value| {
        let text = fields::bounded(value, 1, 256)?;
        if text.contains(char::is_whitespace) {
            return Err(Violation::Pattern { pattern: r"^\S+$", found: text.to_owned() });
        }
        Ok(text.to_owned())
    };
    let entry = |(key, value): (&String, _)| match label(value) {
        Ok(text) => Ok((key.clone(), text)),
        Err(cause) => Err(Violation::Entry { key: key.clone(), cause: Box::new(cause) }),
    };
    fields::object(value)?.iter().map(entry).collect()
}
