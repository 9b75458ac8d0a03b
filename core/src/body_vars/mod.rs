//! Variables whose values come from the body: `post_arg_<name>`, `post_arg.<path>`, and of a
//! GraphQL document `graphql_operation`, `graphql_name` and `graphql_root_fields`.
//!
//! What is read of which content type follows APISIX (apisix/core/ctx.lua and request.lua). A body
//! is parsed when a variable asks for it, once per request. What cannot be parsed has no values.

mod form;
mod graphql;
mod multipart;
mod path;
mod path_syntax;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cell::OnceCell;

use serde_json::Value as Json;

pub use self::path::PostPath;
use crate::vars::{GraphqlPart, Variable};

const JSON: &[u8] = b"application/json";
const FORM: &[u8] = b"application/x-www-form-urlencoded";
const MULTIPART: &[u8] = b"multipart/form-data";

/// Values of one field of a form, or fields of a form under a `JSONPath`; further ones are as if
/// they were not there.
const FIELDS_MAX: usize = 10_000;

/// A value that is not only text.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Text, or any bytes.
    Bytes(Cow<'a, [u8]>),
    /// A field of a form without `=`: there, but without text (`true` in Lua).
    Flag,
    /// A value in a JSON body.
    Json(&'a Json),
    /// Several values.
    List(Vec<Value<'a>>),
}

/// What is known of a variable of the body.
#[derive(Debug, Clone, PartialEq)]
pub enum BodyValue<'a> {
    /// Nothing before the body has been read.
    Unread,
    /// There is no such value.
    Absent,
    /// There is.
    Present(Value<'a>),
}

impl<'a> From<Option<Value<'a>>> for BodyValue<'a> {
    fn from(value: Option<Value<'a>>) -> Self {
        value.map_or(Self::Absent, Self::Present)
    }
}

/// How long a body may be for its variables to have values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// For `post_arg_<name>` and `post_arg.<path>`: APISIX's
    /// `apisix.max_post_args_readable_size`.
    pub post_args: u64,
    /// For `graphql_*`: APISIX's `graphql.max_size`.
    pub graphql: u64,
}

impl Default for BodyLimits {
    /// APISIX's limits: 64 MiB and 1 MiB.
    fn default() -> Self {
        Self { post_args: 64 << 20, graphql: 1 << 20 }
    }
}

impl BodyLimits {
    /// Bytes of the body that are of use to any variable: who reads it need keep no more than one
    /// byte beyond them.
    pub fn most(&self) -> u64 {
        self.post_args.max(self.graphql)
    }
}

/// What of a request's head decides how its body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BodyRequest<'a> {
    /// Method.
    pub method: &'a [u8],
    /// Query string without `?`: `GET` has its GraphQL document in the argument `query`.
    pub query: Option<&'a [u8]>,
    /// Value of `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// Length of the body if it is known; 0 if there is none.
    pub content_length: Option<u64>,
}

/// The variables of one request's body.
///
/// Made from the head; [`set_body`](Self::set_body) when the body is there. Until then a variable
/// that needs it is [`Unread`](BodyValue::Unread), unless the head says that it has no value.
#[derive(Debug)]
pub struct BodyVars<'a> {
    request: BodyRequest<'a>,
    limits: BodyLimits,
    body: Option<&'a [u8]>,
    /// The body as `post_arg.` sees it, where that takes a tree.
    tree: OnceCell<Option<Json>>,
    parts: OnceCell<Vec<multipart::Part>>,
    graphql: OnceCell<Option<graphql::Operation>>,
}

/// How `post_arg.<path>` reads a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Form,
    Multipart,
}

/// A source of bytes that may not be there yet.
enum Bytes<'a> {
    Unread,
    Absent,
    There(&'a [u8]),
}

impl<'a> BodyVars<'a> {
    /// The variables of a request whose body has not been read.
    pub fn new(request: BodyRequest<'a>, limits: BodyLimits) -> Self {
        Self {
            request,
            limits,
            body: None,
            tree: OnceCell::new(),
            parts: OnceCell::new(),
            graphql: OnceCell::new(),
        }
    }

    /// The body, decoded from its framing; what was known of an earlier one is forgotten.
    pub fn set_body(&mut self, body: &'a [u8]) {
        *self = Self { body: Some(body), ..Self::new(self.request, self.limits) };
    }

    /// The value of `variable`.
    pub fn value(&self, variable: &Variable) -> BodyValue<'_> {
        match variable {
            Variable::PostArg(name) => self.post_arg(name),
            Variable::PostPath(path) => self.post_path(path),
            Variable::Graphql(part) => self.graphql(*part),
            _ => BodyValue::Absent,
        }
    }

    /// The body, if it is not empty and not longer than `limit`.
    fn bytes(&self, limit: u64) -> Bytes<'a> {
        let length = self.body.map_or(self.request.content_length, |body| Some(body.len() as u64));
        match (self.body, length) {
            (_, Some(length)) if length == 0 || length > limit => Bytes::Absent,
            (Some(body), _) => Bytes::There(body),
            (None, _) => Bytes::Unread,
        }
    }

    fn post_arg(&self, name: &str) -> BodyValue<'_> {
        if !self.request.content_type.is_some_and(|text| text.starts_with(FORM)) {
            return BodyValue::Absent;
        }
        match self.bytes(self.limits.post_args) {
            Bytes::Unread => BodyValue::Unread,
            Bytes::Absent => BodyValue::Absent,
            Bytes::There(body) => form::values(body, name.as_bytes()).next().into(),
        }
    }

    fn post_path(&self, path: &PostPath) -> BodyValue<'_> {
        let Some(format) = self.format() else { return BodyValue::Absent };
        let body = match self.bytes(self.limits.post_args) {
            Bytes::Unread => return BodyValue::Unread,
            Bytes::Absent => return BodyValue::Absent,
            Bytes::There(body) => body,
        };
        if path.finds_many() {
            let found = self.tree(format, body).map(|tree| path.find(tree)).unwrap_or_default();
            let list: Vec<_> = found.into_iter().map(Value::Json).collect();
            return Some(list).filter(|list| !list.is_empty()).map(Value::List).into();
        }
        if format == Format::Json {
            let value = self.tree(format, body).and_then(|tree| path.follow(tree));
            return value.map(Value::Json).into();
        }
        path.single_name().and_then(|name| self.field(format, body, name.as_bytes())).into()
    }

    /// How the body is read: the content type need only contain one of these.
    fn format(&self) -> Option<Format> {
        let content_type = self.request.content_type?;
        let has = |name| memchr::memmem::find(content_type, name).is_some();
        [(JSON, Format::Json), (FORM, Format::Form), (MULTIPART, Format::Multipart)]
            .into_iter()
            .find_map(|(name, format)| has(name).then_some(format))
    }

    /// The field `name`: of a form all its values, of a body of parts the first.
    fn field(&self, format: Format, body: &'a [u8], name: &[u8]) -> Option<Value<'a>> {
        if format == Format::Multipart {
            let (_, range) = self.parts(body).iter().find(|(part, _)| **part == *name)?;
            return Some(Value::Bytes(Cow::Borrowed(&body[range.clone()])));
        }
        let mut values: Vec<_> = form::values(body, name).take(FIELDS_MAX).collect();
        if values.len() > 1 { Some(Value::List(values)) } else { values.pop() }
    }

    fn parts(&self, body: &[u8]) -> &[multipart::Part] {
        self.parts.get_or_init(|| {
            let boundary = self.request.content_type.and_then(multipart::boundary);
            boundary.map(|boundary| multipart::parts(body, &boundary)).unwrap_or_default()
        })
    }

    /// The body as a tree; a form is an object of its fields.
    fn tree(&self, format: Format, body: &'a [u8]) -> Option<&Json> {
        let tree = self.tree.get_or_init(|| match format {
            Format::Json => serde_json::from_slice(body).ok(),
            Format::Form => Some(form_tree(body)),
            Format::Multipart => {
                let parts = self.parts(body).iter().rev();
                // Of parts with the same name the first one stays.
                Some(
                    parts
                        .map(|(name, range)| (text(name), Json::from(text(&body[range.clone()]))))
                        .collect(),
                )
            }
        });
        tree.as_ref()
    }

    fn graphql(&self, part: GraphqlPart) -> BodyValue<'_> {
        let document = match self.request.method {
            b"GET" => Bytes::Absent,
            b"POST" => match self.bytes(self.limits.graphql) {
                Bytes::Unread => return BodyValue::Unread,
                other => other,
            },
            _ => return BodyValue::Absent,
        };
        let operation = self.graphql.get_or_init(|| {
            let document = match document {
                Bytes::There(body) => self.posted_document(body),
                _ => self.queried_document(),
            };
            graphql::parse(std::str::from_utf8(&document?).ok()?)
        });
        let Some(operation) = operation else { return BodyValue::Absent };
        let bytes = |text: &'_ str| Value::Bytes(Cow::Owned(text.as_bytes().to_vec()));
        match part {
            GraphqlPart::Name => Some(bytes(&operation.name)).into(),
            GraphqlPart::Operation => operation.kind.map(bytes).into(),
            GraphqlPart::RootFields => {
                let fields = operation.root_fields.iter().map(|field| bytes(field));
                BodyValue::Present(Value::List(fields.collect()))
            }
        }
    }

    /// The document in a body: the body itself, or in JSON its field `query`.
    fn posted_document(&self, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        // No more and no less: APISIX takes JSON with a charset for a document.
        if self.request.content_type != Some(JSON) {
            return Some(Cow::Borrowed(body));
        }
        match serde_json::from_slice::<Json>(body).ok()?.get_mut("query")?.take() {
            Json::String(text) => Some(Cow::Owned(text.into_bytes())),
            _ => None,
        }
    }

    /// The document in the argument `query`.
    fn queried_document(&self) -> Option<Cow<'a, [u8]>> {
        if self.request.method != b"GET" {
            return None;
        }
        match form::values(self.request.query?, b"query").next()? {
            Value::Bytes(text) => Some(text),
            _ => None,
        }
    }
}

fn form_tree(body: &[u8]) -> Json {
    let mut fields = serde_json::Map::new();
    for (name, value) in form::all(body).take(FIELDS_MAX) {
        let value = match value {
            Value::Bytes(bytes) => text(&bytes).into(),
            _ => Json::Bool(true),
        };
        match fields.entry(text(&name)) {
            serde_json::map::Entry::Vacant(vacant) => drop(vacant.insert(value)),
            serde_json::map::Entry::Occupied(mut occupied) => match occupied.get_mut() {
                Json::Array(values) => values.push(value),
                single => *single = Json::Array(vec![single.take(), value]),
            },
        }
    }
    Json::Object(fields)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
