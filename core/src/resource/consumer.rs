//! Consumers, their credentials and their groups (admin-api.md, "Consumer", "Credential",
//! "Consumer group").

use serde_json::{Map, Value};

use super::fields;
use super::{Id, Meta, Violation};

/// Longest `username`, in characters.
const NAME_CHARS: usize = 256;

/// A consumer as configured.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Consumer {
    /// Id, description, labels, times; there is no `name`.
    #[serde(flatten)]
    pub meta: Meta,
    /// `username`, by which it is known: 1 to 256 characters of `[a-zA-Z0-9_-]`.
    pub username: String,
    /// `group_id`: a consumer group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_id: Option<Id>,
    /// `plugins`: configuration by plugin name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub plugins: Map<String, Value>,
}

/// A credential of a consumer.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Credential {
    /// Name, description, labels, times; the id may be `{username}/credentials/{id}`, then it is
    /// in [`Credential::path`].
    #[serde(flatten)]
    pub meta: Meta,
    /// `id` when it has the consumer's name before it.
    #[serde(rename = "id", skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `plugins`: one authentication plugin at most.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub plugins: Map<String, Value>,
}

/// A consumer group: plugins that its consumers share.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct ConsumerGroup {
    /// Id, name, description, labels, times.
    #[serde(flatten)]
    pub meta: Meta,
    /// `plugins`: configuration by plugin name.
    pub plugins: Map<String, Value>,
}

fields::from_value!(Consumer, Credential, ConsumerGroup);

impl Consumer {
    /// Checks a JSON object and takes the consumer from it.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        let mut consumer = Self::default();
        fields::each(map, |name, value| consumer.take(name, value))?;
        if consumer.username.is_empty() {
            return Err(Violation::Missing("username"));
        }
        Ok(consumer)
    }

    fn take(&mut self, name: &str, value: &Value) -> Result<bool, Violation> {
        match name {
            "username" => self.username = username(value)?,
            "group_id" => self.group_id = Some(Id::from_json(value)?),
            "plugins" => self.plugins = fields::plugins(value)?,
            "name" => return Ok(false),
            _ => return self.meta.take(name, value),
        }
        Ok(true)
    }
}

fn username(value: &Value) -> Result<String, Violation> {
    let text = fields::bounded(value, 1, NAME_CHARS)?;
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) {
        return Ok(text.to_owned());
    }
    Err(Violation::Pattern { pattern: r"^[a-zA-Z0-9_\-]+$", found: text.to_owned() })
}

impl Credential {
    /// Checks a JSON object and takes the credential from it.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let map = fields::object(value)?;
        let mut credential = Self::default();
        fields::each(map, |name, value| credential.take(name, value))?;
        Ok(credential)
    }

    fn take(&mut self, name: &str, value: &Value) -> Result<bool, Violation> {
        match name {
            "id" => match value.as_str().filter(|text| is_path(text)) {
                Some(path) => self.path = Some(path.to_owned()),
                None => return self.meta.take(name, value),
            },
            "plugins" => {
                self.plugins = fields::plugins(value)?;
                if self.plugins.len() > 1 {
                    return Err(Violation::TooManyProperties(1));
                }
            }
            _ => return self.meta.take(name, value),
        }
        Ok(true)
    }
}

/// Whether an id is `{username}/credentials/{id}`.
fn is_path(text: &str) -> bool {
    let plain = |text: &str, more: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    let parts = text.split_once("/credentials/");
    (15..=128).contains(&text.len())
        && parts.is_some_and(|(owner, id)| plain(owner, b"-_") && plain(id, b"-_."))
}

impl ConsumerGroup {
    /// Checks a JSON object and takes the group from it.
    pub fn from_json(value: &Value) -> Result<Self, Violation> {
        let (meta, plugins) = super::plugins::holder(value, Meta::take)?;
        Ok(Self { meta, plugins })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn takes_consumers() {
        let value = json!({"username": "jack_1-a", "group_id": 2, "desc": "d", "labels": {"a": "b"},
            "plugins": {"key-auth": {"key": "k"}}, "create_time": 1, "id": "jack_1-a"});
        let consumer = Consumer::from_json(&value).unwrap();
        assert_eq!((consumer.username.as_str(), consumer.plugins.len()), ("jack_1-a", 1));
        assert_eq!(consumer.group_id.unwrap().as_str(), "2");
    }

    #[test]
    fn refuses_consumers_in_the_words_of_apisix() {
        let cases = [
            (json!({}), "property \"username\" is required"),
            (
                json!({"username": "a b"}),
                "property \"username\" validation failed: failed to match pattern \
                 \"^[a-zA-Z0-9_\\-]+$\" with \"a b\"",
            ),
            (json!({"username": "a", "name": "b"}), "additional properties forbidden, found name"),
            (
                json!({"username": "a", "plugins": [1]}),
                "property \"plugins\" validation failed: wrong type: expected object, got table",
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(Consumer::from_json(&value).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn credentials_have_either_form_of_id_and_one_plugin() {
        let own = Credential::from_json(&json!({"id": "c-1", "name": "n"})).unwrap();
        assert_eq!(own.meta.id.unwrap().as_str(), "c-1");
        let id = "jack/credentials/c.1";
        let full = Credential::from_json(&json!({"id": id})).unwrap();
        assert_eq!((full.path.as_deref(), &full.meta.id), (Some(id), &None));
        assert_eq!(serde_json::to_value(full).unwrap(), json!({"id": id}));
        for bad in ["jack/credentials/", "a b/credentials/c", "jack/other/c12345"] {
            assert!(Credential::from_json(&json!({"id": bad})).is_err(), "{bad}");
        }
        let two = json!({"plugins": {"key-auth": {}, "basic-auth": {}}});
        assert_eq!(
            Credential::from_json(&two).unwrap_err().to_string(),
            "property \"plugins\" validation failed: expect object to have at most 1 properties"
        );
    }
}
