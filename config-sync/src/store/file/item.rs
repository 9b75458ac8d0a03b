//! One resource of a standalone file: its text as it is stored, and its place in the store.

use std::fmt;

use osmia_core::resource::{Id, Key, Kind};
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde_json::Value;

use super::transcode::{Json, JsonKey};

/// What was read of one item besides its text.
#[derive(Debug, Default)]
struct Facts {
    /// Whether it is an object at all.
    object: bool,
    /// JSON text of `id`.
    id: Vec<u8>,
    username: Option<String>,
    /// JSON text of `modifiedIndex`.
    index: Vec<u8>,
    /// JSON texts of `host`, `hosts`, `uri` and `uris`, where they may be worth a word.
    matching: Vec<(&'static str, Vec<u8>)>,
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReadItem {
    /// `None` when there is no place for it: its id cannot be part of a key.
    pub(super) path: Option<String>,
    /// The id for messages.
    pub(super) id: String,
    /// JSON text.
    pub(super) value: Vec<u8>,
    /// `modifiedIndex` of the standalone Admin API.
    pub(super) index: Option<i64>,
    /// What is worth a warning.
    pub(super) notes: Vec<String>,
}

/// Reads the item at `position`, counted from 0, of the list `collection`.
///
/// Ids are APISIX's: the item's own, of a consumer its `username`, else `arr_1`, `arr_2` and so on.
/// An item that is wrong in itself is read as well; whoever compiles it says what is wrong.
pub(super) struct ReadSeed {
    pub(super) collection: &'static str,
    pub(super) position: usize,
}

/// The key and the value as they are stored of one item of a list, or why there are none.
pub(crate) fn read_item(
    collection: &'static str,
    position: usize,
    item: &Value,
) -> Result<(Key, Value), String> {
    let read = ReadSeed { collection, position }.deserialize(item);
    let read = read.map_err(|error| error.to_string())?;
    let key = read.path.as_deref().and_then(Key::parse);
    let key = key.ok_or_else(|| {
        let given =
            item.get("id").map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
        format!("invalid secret id: {}", given.unwrap_or_default())
    })?;
    let value = serde_json::from_slice(&read.value).map_err(|error| error.to_string())?;
    Ok((key, value))
}

impl<'de> DeserializeSeed<'de> for ReadSeed {
    type Value = ReadItem;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ReadItem, D::Error> {
        let mut value = Vec::with_capacity(512);
        let mut facts = Facts::default();
        let is_route = self.collection == Kind::Route.collection();
        let visitor = ItemVisitor { out: &mut value, facts: &mut facts, is_route };
        deserializer.deserialize_any(visitor)?;
        Ok(self.place(value, &facts))
    }
}

impl ReadSeed {
    /// Gives the item its place, and its `id` back as APISIX stores it.
    fn place(self, mut value: Vec<u8>, facts: &Facts) -> ReadItem {
        let numbered = Id::from_position(self.position);
        let given = text_id(&facts.id);
        let credential = given.as_ref().is_some_and(|id| id.contains('/'));
        let wanted = match self.collection {
            "consumers" if !credential => facts.username.clone().or(given),
            _ => given,
        };
        let key = |id: &str| Key::parse(&format!("{}/{id}", self.collection));
        // An id that is no key stays in the text, where it is found wrong.
        let (key, usable) = match wanted.as_deref().and_then(key) {
            Some(key) => (Some(key), true),
            None => (key(numbered.as_str()), facts.id.is_empty()),
        };
        if facts.object {
            let own = key.as_ref().filter(|_| usable);
            push_id(&mut value, own, &facts.id);
        }
        let id = wanted.unwrap_or_else(|| numbered.to_string());
        ReadItem {
            path: key.map(|key| key.path()),
            id: id.chars().take(64).collect(),
            value,
            index: serde_json::from_slice(&facts.index).ok(),
            notes: facts
                .matching
                .iter()
                .flat_map(|(name, text)| never_matching(name, text))
                .collect(),
        }
    }
}

/// Closes the object, with `id` as its last member: the key's own id, which a consumer has under
/// another name, or what was given.
fn push_id(value: &mut Vec<u8>, key: Option<&Key>, given: &[u8]) {
    let own = match key {
        Some(key) if key.kind != Kind::Consumer => {
            serde_json::to_vec(key.own_id()).unwrap_or_default()
        }
        _ => given.to_vec(),
    };
    if !own.is_empty() {
        if value.len() > 1 {
            value.push(b',');
        }
        value.extend_from_slice(b"\"id\":");
        value.extend_from_slice(&own);
    }
    value.push(b'}');
}

/// An id as text, from JSON: a string that is not empty, or a positive integer. `None` when there
/// is none, and for what cannot be one.
fn text_id(json: &[u8]) -> Option<String> {
    if json.first() == Some(&b'"') {
        return serde_json::from_slice(json).ok().filter(|id: &String| !id.is_empty());
    }
    let number: serde_json::Number = serde_json::from_slice(json).ok()?;
    let whole = number.as_u64().or_else(|| {
        // Lua has one type of numbers: 1.0 is 1.
        number.as_f64().filter(|n| n.fract() == 0.0 && (0.0..9e15).contains(n)).map(|n| n as u64)
    });
    whole.filter(|id| *id > 0).map(|id| id.to_string())
}

struct ItemVisitor<'a> {
    out: &'a mut Vec<u8>,
    facts: &'a mut Facts,
    is_route: bool,
}

impl ItemVisitor<'_> {
    /// Reads one member, whose key is at the end of the text from `start` on. Returns whether it
    /// stays in the text.
    fn member<'de, A: MapAccess<'de>>(
        &mut self,
        map: &mut A,
        start: usize,
    ) -> Result<bool, A::Error> {
        let taken = match &self.out[start..] {
            b"\"id\"" => Some(&mut self.facts.id),
            b"\"modifiedIndex\"" => Some(&mut self.facts.index),
            _ => None,
        };
        if let Some(place) = taken {
            place.clear();
            map.next_value_seed(Json(place))?;
            if place == b"null" {
                place.clear();
            }
            return Ok(false);
        }
        let matching = match &self.out[start..] {
            b"\"host\"" => Some("host"),
            b"\"hosts\"" => Some("hosts"),
            b"\"uri\"" => Some("uri"),
            b"\"uris\"" => Some("uris"),
            _ => None,
        };
        let is_username = &self.out[start..] == b"\"username\"";
        self.out.push(b':');
        let from = self.out.len();
        map.next_value_seed(Json(self.out))?;
        let text = &self.out[from..];
        match matching.filter(|_| self.is_route) {
            Some(name) if is_suspicious(name, text) => {
                self.facts.matching.push((name, text.to_vec()));
            }
            _ => {}
        }
        if is_username {
            self.facts.username = text_id(text);
        }
        Ok(true)
    }
}

impl<'de> Visitor<'de> for ItemVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a resource")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.facts.object = true;
        self.out.push(b'{');
        let mut end = self.out.len();
        loop {
            let start = self.out.len();
            if map.next_key_seed(JsonKey(self.out))?.is_none() {
                break;
            }
            if self.member(&mut map, start)? {
                end = self.out.len();
                self.out.push(b',');
            } else {
                self.out.truncate(start);
            }
        }
        // The closing brace comes with the id.
        self.out.truncate(end);
        Ok(())
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        Json(self.out).visit_seq(items)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        Json(self.out).visit_bool(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        Json(self.out).visit_i64(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        Json(self.out).visit_u64(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        Json(self.out).visit_f64(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        Json(self.out).visit_str(value)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Json(self.out).visit_unit()
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Json(self.out).visit_unit()
    }
}

/// A cheap look whether [`never_matching`] may have something to say.
fn is_suspicious(name: &str, json: &[u8]) -> bool {
    match name {
        "uri" => !matches!(json, [b'"', b'/' | b'*', ..]),
        "uris" => true,
        _ => json.contains(&b':'),
    }
}

/// What no request can match, which is valid but hardly meant.
fn never_matching(name: &str, json: &[u8]) -> Vec<String> {
    let values: Vec<String> = serde_json::from_slice(json)
        .or_else(|_| serde_json::from_slice(json).map(|one| vec![one]))
        .unwrap_or_default();
    let note = |value: &String| match name {
        "uri" | "uris" if !value.starts_with(['/', '*']) => {
            Some(format!("uri \"{value}\" never matches: paths start with /"))
        }
        "host" | "hosts" if value.contains(':') && !value.ends_with(']') => {
            Some(format!("host \"{value}\" never matches: hosts are compared without the port"))
        }
        _ => None,
    };
    values.iter().filter_map(note).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(collection: &'static str, value: &Value) -> ReadItem {
        ReadSeed { collection, position: 2 }.deserialize(value).unwrap()
    }

    fn stored(collection: &'static str, value: &Value) -> (Option<String>, Value) {
        let item = read(collection, value);
        (item.path, serde_json::from_slice(&item.value).unwrap())
    }

    #[test]
    fn ids_are_those_of_apisix() {
        let cases = [
            ("routes", json!({"id": "a", "uri": "/"}), "routes/a", json!({"uri": "/", "id": "a"})),
            ("routes", json!({"id": 7}), "routes/7", json!({"id": "7"})),
            ("routes", json!({"id": 7.0}), "routes/7", json!({"id": "7"})),
            ("routes", json!({}), "routes/arr_3", json!({"id": "arr_3"})),
            ("routes", json!({"id": null}), "routes/arr_3", json!({"id": "arr_3"})),
            (
                "consumers",
                json!({"username": "jack"}),
                "consumers/jack",
                json!({"username": "jack"}),
            ),
            (
                "consumers",
                json!({"id": "x", "username": "jack"}),
                "consumers/jack",
                json!({"id": "x", "username": "jack"}),
            ),
            (
                "consumers",
                json!({"id": "jack/credentials/c1", "plugins": {}}),
                "consumers/jack/credentials/c1",
                json!({"id": "c1", "plugins": {}}),
            ),
            (
                "plugin_metadata",
                json!({"id": "http-logger", "log_format": {}}),
                "plugin_metadata/http-logger",
                json!({"log_format": {}, "id": "http-logger"}),
            ),
            (
                "secrets",
                json!({"id": "vault/1", "uri": "http://v"}),
                "secrets/vault/1",
                json!({"id": "vault/1", "uri": "http://v"}),
            ),
            (
                "services",
                json!({"id": "1/graphql_cost_decorations/2"}),
                "services/1/graphql_cost_decorations/2",
                json!({"id": "2"}),
            ),
        ];
        for (collection, value, path, expected) in cases {
            assert_eq!(stored(collection, &value), (Some(path.to_owned()), expected), "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_passed_on_with_a_place() {
        for id in [json!("a/b"), json!(0), json!(-1), json!(1.5), json!(true), json!({}), json!("")]
        {
            let value = json!({"id": id, "uri": "/"});
            assert_eq!(stored("routes", &value), (Some("routes/arr_3".to_owned()), value));
        }
        for value in [json!("x"), json!(1), json!(-1.5), json!(null), json!([1]), json!(true)] {
            let path = Some("routes/arr_3".to_owned());
            assert_eq!(stored("routes", &value), (path, value));
        }
        assert_eq!(read("secrets", &json!({"id": "1"})).path, None);
        assert_eq!(read("secrets", &json!({})).path, None);
    }

    #[test]
    fn the_index_is_taken_out() {
        let item = read("routes", &json!({"modifiedIndex": 4, "id": "a", "uri": "/"}));
        assert_eq!((item.index, &item.value[..]), (Some(4), &br#"{"uri":"/","id":"a"}"#[..]));
        assert_eq!(read("routes", &json!({"modifiedIndex": "x"})).index, None);
    }

    #[test]
    fn points_out_what_cannot_match() {
        let value = json!({"uris": ["a", "/b", "*"], "hosts": ["h:80", "[::1]", "h"]});
        let expected = [
            "host \"h:80\" never matches: hosts are compared without the port",
            "uri \"a\" never matches: paths start with /",
        ];
        let mut notes = read("routes", &value).notes;
        notes.sort();
        assert_eq!(notes, expected);
        assert!(read("routes", &json!({"uri": "/a:b", "host": "h"})).notes.is_empty());
        assert_eq!(read("routes", &json!({"uri": "a", "host": "h:1"})).notes.len(), 2);
        assert!(read("services", &value).notes.is_empty());
        assert!(read("routes", &json!({"uri": 1, "hosts": [":", 1]})).notes.is_empty());
    }
}
