//! What every resource carries besides its purpose.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields;
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
    /// Takes the field if it is one of these; says whether it is.
    pub(super) fn take(&mut self, name: &str, value: &Value) -> Result<bool, Violation> {
        match name {
            "id" => self.id = Some(Id::from_json(value)?),
            "name" => self.name = Some(fields::bounded(value, 1, 256)?.to_owned()),
            "desc" => self.desc = Some(fields::bounded(value, 0, 256)?.to_owned()),
            "labels" => self.labels = labels(value)?,
            "create_time" => self.create_time = Some(timestamp(value)?),
            "update_time" => self.update_time = Some(timestamp(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn timestamp(value: &Value) -> Result<i64, Violation> {
    fields::integer(value, i64::MIN, i64::MAX)
}

fn labels(value: &Value) -> Result<BTreeMap<String, String>, Violation> {
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
