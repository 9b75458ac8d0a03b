//! Turns a JSON Schema into the tree of rules that [`super::run`] walks.
//!
//! Only keywords that APISIX's validator knows become rules here; the `jsonschema` crate, which
//! sees every value after this tree accepted it, knows them all. What is malformed was refused by
//! the crate before, so that this code may pass over it.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// A rule's position in [`Tree::nodes`].
pub(super) type Id = usize;

/// The rules of one schema document, the root first.
#[derive(Debug)]
pub(super) struct Tree {
    pub nodes: Vec<Node>,
}

/// One schema.
#[derive(Debug)]
pub(super) enum Node {
    /// A schema of `true` or `false`.
    Always(bool),
    Rules(Box<Rules>),
}

/// The keywords of one schema, in the order in which APISIX's validator looks at them.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Names as written in `type`; empty: any.
    pub types: Vec<Type>,
    /// Whether `type` is a list, which changes the text.
    pub type_list: bool,
    pub object: Option<ObjectRules>,
    pub array: Option<ArrayRules>,
    pub string: Option<StringRules>,
    pub number: Option<NumberRules>,
    pub enumeration: Option<Vec<Value>>,
    pub all_of: Vec<Id>,
    pub any_of: Vec<Id>,
    /// The alternatives' `required`, as they end the text of a failed `anyOf`.
    pub any_of_required: String,
    pub one_of: Vec<Id>,
    pub condition: Option<Condition>,
    pub not: Option<Id>,
    pub format: Option<Format>,
    pub constant: Option<Value>,
    pub contains: Option<Id>,
    /// Whether checking may write into the value: there is a `default` in here.
    pub writes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    Null,
}

impl Type {
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Null => "null",
        }
    }

    fn named(value: &Value) -> Option<Self> {
        [
            Self::Object,
            Self::Array,
            Self::String,
            Self::Integer,
            Self::Number,
            Self::Boolean,
            Self::Null,
        ]
        .into_iter()
        .find(|known| value.as_str() == Some(known.name()))
    }
}

#[derive(Debug, Default)]
pub(super) struct ObjectRules {
    /// Sorted by name.
    pub properties: Vec<(Box<str>, Id)>,
    pub defaults: Vec<(Box<str>, Value)>,
    pub required: Vec<Box<str>>,
    pub dependencies: Vec<(Box<str>, Dependency)>,
    pub patterns: Vec<(Pattern, Id)>,
    pub additional: Additional,
    pub min: Option<u64>,
    pub max: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Dependency {
    Properties(Vec<Box<str>>),
    Schema(Id),
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) enum Additional {
    #[default]
    Allowed,
    Forbidden,
    Schema(Id),
}

#[derive(Debug, Default)]
pub(super) struct ArrayRules {
    pub min: Option<u64>,
    pub max: Option<u64>,
    pub items: Items,
    pub unique: bool,
}

#[derive(Debug, Default)]
pub(super) enum Items {
    #[default]
    Any,
    Each(Id),
    Tuple(Vec<Id>, Additional),
}

#[derive(Debug, Default)]
pub(super) struct StringRules {
    pub min: Option<u64>,
    pub max: Option<u64>,
    pub pattern: Option<Pattern>,
}

/// Bounds, each with the number as it was written.
#[derive(Debug, Default)]
pub(super) struct NumberRules {
    pub minimum: Option<serde_json::Number>,
    pub exclusive_minimum: Option<serde_json::Number>,
    pub maximum: Option<serde_json::Number>,
    pub exclusive_maximum: Option<serde_json::Number>,
    pub multiple_of: Option<serde_json::Number>,
}

#[derive(Debug)]
pub(super) struct Condition {
    pub test: Id,
    pub then: Option<Id>,
    pub otherwise: Option<Id>,
}

/// A regular expression, matched by the `jsonschema` crate, whose engine takes look-around.
#[derive(Debug)]
pub(super) struct Pattern {
    pub text: Box<str>,
    /// `None` for `.*`, which matches everything.
    matcher: Option<jsonschema::Validator>,
}

impl Pattern {
    fn new(text: &str) -> Result<Self, String> {
        let matcher = match text {
            ".*" => None,
            _ => Some(leaf(&serde_json::json!({ "pattern": text }))?),
        };
        Ok(Self { text: text.into(), matcher })
    }

    /// Whether a string value matches.
    pub fn matches(&self, value: &Value) -> bool {
        self.matcher.as_ref().is_none_or(|matcher| matcher.is_valid(value))
    }

    /// Whether a property's name matches.
    pub fn matches_name(&self, name: &str) -> bool {
        self.matcher.as_ref().is_none_or(|matcher| matcher.is_valid(&Value::from(name)))
    }
}

/// One of the formats that APISIX's validator checks.
#[derive(Debug)]
pub(super) struct Format {
    pub name: &'static str,
    matcher: jsonschema::Validator,
}

impl Format {
    fn named(name: &str) -> Result<Option<Self>, String> {
        const CHECKED: [&str; 8] =
            ["email", "ipv4", "ipv6", "hostname", "uuid", "date", "date-time", "uri"];
        let Some(name) = CHECKED.into_iter().find(|known| *known == name) else {
            return Ok(None);
        };
        let matcher = leaf(&serde_json::json!({ "format": name }))?;
        Ok(Some(Self { name, matcher }))
    }

    pub fn matches(&self, value: &Value) -> bool {
        self.matcher.is_valid(value)
    }
}

/// The crate's validator of one keyword. 2020-12 knows every format above.
fn leaf(schema: &Value) -> Result<jsonschema::Validator, String> {
    jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(schema)
        .map_err(|error| error.to_string())
}

impl Tree {
    /// The rules of `schema`, which the crate accepted before.
    pub fn new(schema: &Value) -> Result<Self, String> {
        let mut compiler = Compiler { root: schema, nodes: Vec::new(), by_ref: HashMap::new() };
        compiler.schema(schema)?;
        Ok(Self { nodes: compiler.nodes })
    }

    /// A schema that refuses everything.
    pub fn never() -> Self {
        Self { nodes: vec![Node::Always(false)] }
    }

    /// Whether checking against `id` may write defaults.
    pub fn writes(&self, id: Id) -> bool {
        matches!(&self.nodes[id], Node::Rules(rules) if rules.writes)
    }
}

struct Compiler<'s> {
    root: &'s Value,
    nodes: Vec<Node>,
    /// Schemas that a `$ref` names, by its text, so that a schema may contain itself.
    by_ref: HashMap<&'s str, Id>,
}

impl<'s> Compiler<'s> {
    fn schema(&mut self, schema: &'s Value) -> Result<Id, String> {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return self.reference(reference);
        }
        let id = self.reserve();
        self.fill(id, schema)?;
        Ok(id)
    }

    fn reserve(&mut self) -> Id {
        self.nodes.push(Node::Always(true));
        self.nodes.len() - 1
    }

    fn fill(&mut self, id: Id, schema: &'s Value) -> Result<(), String> {
        self.nodes[id] = match schema {
            Value::Object(map) => {
                let mut rules = Box::new(self.rules(map)?);
                rules.writes = writes(map);
                Node::Rules(rules)
            }
            Value::Bool(always) => Node::Always(*always),
            _ => Node::Always(true),
        };
        Ok(())
    }

    /// A schema within the same document. The keywords beside `$ref` do not count, as in draft 7;
    /// what this does not find (`$id`, `$anchor`) is left to the crate.
    fn reference(&mut self, reference: &'s str) -> Result<Id, String> {
        if let Some(id) = self.by_ref.get(reference) {
            return Ok(*id);
        }
        let target = reference
            .strip_prefix('#')
            .and_then(|pointer| self.root.pointer(&percent_decoded(pointer)));
        let id = self.reserve();
        self.by_ref.insert(reference, id);
        match target {
            Some(Value::Object(map)) if map.contains_key("$ref") => {
                // A reference to a reference: the rules of both are one `allOf`.
                let inner = self.schema(target.unwrap_or(&Value::Null))?;
                let rules = Rules { all_of: vec![inner], writes: true, ..Rules::default() };
                self.nodes[id] = Node::Rules(Box::new(rules));
            }
            Some(target) => self.fill(id, target)?,
            None => {}
        }
        Ok(id)
    }

    fn rules(&mut self, map: &'s Map<String, Value>) -> Result<Rules, String> {
        let mut rules = Rules::default();
        match map.get("type") {
            Some(Value::Array(names)) => {
                rules.types = names.iter().filter_map(Type::named).collect();
                rules.type_list = true;
            }
            Some(name) => rules.types = Type::named(name).into_iter().collect(),
            None => {}
        }
        rules.object = self.object(map)?;
        rules.array = self.array(map)?;
        rules.string = string(map)?;
        rules.number = number(map);
        rules.enumeration = map.get("enum").and_then(Value::as_array).cloned();
        rules.all_of = self.list(map.get("allOf"))?;
        rules.any_of = self.list(map.get("anyOf"))?;
        rules.any_of_required = required_of(map.get("anyOf"));
        rules.one_of = self.list(map.get("oneOf"))?;
        if let Some(test) = map.get("if") {
            let test = self.schema(test)?;
            let then = self.optional(map.get("then"))?;
            let otherwise = self.optional(map.get("else"))?;
            rules.condition = Some(Condition { test, then, otherwise });
        }
        rules.not = self.optional(map.get("not"))?;
        if let Some(name) = map.get("format").and_then(Value::as_str) {
            rules.format = Format::named(name)?;
        }
        rules.constant = map.get("const").cloned();
        rules.contains = self.optional(map.get("contains"))?;
        Ok(rules)
    }

    fn optional(&mut self, schema: Option<&'s Value>) -> Result<Option<Id>, String> {
        schema.map(|schema| self.schema(schema)).transpose()
    }

    fn list(&mut self, schemas: Option<&'s Value>) -> Result<Vec<Id>, String> {
        let schemas = schemas.and_then(Value::as_array);
        schemas.into_iter().flatten().map(|schema| self.schema(schema)).collect()
    }

    fn additional(&mut self, schema: Option<&'s Value>) -> Result<Additional, String> {
        Ok(match schema {
            Some(Value::Bool(false)) => Additional::Forbidden,
            Some(schema @ Value::Object(_)) => Additional::Schema(self.schema(schema)?),
            _ => Additional::Allowed,
        })
    }

    fn object(&mut self, map: &'s Map<String, Value>) -> Result<Option<ObjectRules>, String> {
        const KEYWORDS: [&str; 7] = [
            "properties",
            "additionalProperties",
            "patternProperties",
            "minProperties",
            "maxProperties",
            "dependencies",
            "required",
        ];
        if !KEYWORDS.iter().any(|keyword| map.contains_key(*keyword)) {
            return Ok(None);
        }
        let mut rules = ObjectRules {
            required: names(map.get("required")),
            min: bound(map, "minProperties"),
            max: bound(map, "maxProperties"),
            ..ObjectRules::default()
        };
        for (name, schema) in entries(map.get("properties")) {
            let id = self.schema(schema)?;
            rules.properties.push((name.as_str().into(), id));
            // `null` is no default in Lua.
            if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
                rules.defaults.push((name.as_str().into(), default.clone()));
            }
        }
        rules.properties.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, dependency) in entries(map.get("dependencies")) {
            let dependency = match dependency {
                Value::Array(_) => Dependency::Properties(names(Some(dependency))),
                schema => Dependency::Schema(self.schema(schema)?),
            };
            rules.dependencies.push((name.as_str().into(), dependency));
        }
        for (pattern, schema) in entries(map.get("patternProperties")) {
            rules.patterns.push((Pattern::new(pattern)?, self.schema(schema)?));
        }
        rules.additional = self.additional(map.get("additionalProperties"))?;
        Ok(Some(rules))
    }

    fn array(&mut self, map: &'s Map<String, Value>) -> Result<Option<ArrayRules>, String> {
        const KEYWORDS: [&str; 4] = ["items", "minItems", "maxItems", "uniqueItems"];
        if !KEYWORDS.iter().any(|keyword| map.contains_key(*keyword)) {
            return Ok(None);
        }
        let items = match map.get("items") {
            // `items` means "the rest" beside `prefixItems` (2020-12): the crate's.
            _ if map.contains_key("prefixItems") => Items::Any,
            Some(list @ Value::Array(_)) => {
                Items::Tuple(self.list(Some(list))?, self.additional(map.get("additionalItems"))?)
            }
            Some(schema) => Items::Each(self.schema(schema)?),
            None => Items::Any,
        };
        Ok(Some(ArrayRules {
            min: bound(map, "minItems"),
            max: bound(map, "maxItems"),
            items,
            unique: map.get("uniqueItems") == Some(&Value::Bool(true)),
        }))
    }
}

/// Whether checking against the schema may write: there is a default below it. A `$ref` counts as
/// one, for what it names may not be compiled yet.
fn writes(map: &Map<String, Value>) -> bool {
    const DATA: [&str; 7] =
        ["enum", "const", "required", "default", "examples", "definitions", "$defs"];
    let schemas = map.iter().filter(|(keyword, _)| !DATA.contains(&keyword.as_str()));
    schemas.into_iter().any(|(_, schema)| contains_default(schema))
}

/// Whether a schema, or a list of them, holds a `default` or a `$ref` anywhere. A property of that
/// name gives a false alarm, which costs a copy and nothing else.
fn contains_default(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => {
            map.contains_key("default")
                || map.contains_key("$ref")
                || map.values().any(contains_default)
        }
        Value::Array(items) => items.iter().any(contains_default),
        _ => false,
    }
}

fn entries(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

fn names(value: Option<&Value>) -> Vec<Box<str>> {
    let names = value.and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).map(Into::into).collect()
}

/// A length or count; drafts write whole numbers, some with a fraction of zero.
fn bound(map: &Map<String, Value>, keyword: &str) -> Option<u64> {
    let value = map.get(keyword)?;
    value.as_u64().or_else(|| value.as_f64().map(|float| float as u64))
}

fn string(map: &Map<String, Value>) -> Result<Option<StringRules>, String> {
    let pattern = map.get("pattern").and_then(Value::as_str).map(Pattern::new).transpose()?;
    let rules = StringRules { min: bound(map, "minLength"), max: bound(map, "maxLength"), pattern };
    let used = rules.min.is_some() || rules.max.is_some() || rules.pattern.is_some();
    Ok(used.then_some(rules))
}

fn number(map: &Map<String, Value>) -> Option<NumberRules> {
    let get = |keyword: &str| match map.get(keyword) {
        Some(Value::Number(number)) => Some(number.clone()),
        _ => None,
    };
    let mut rules = NumberRules {
        minimum: get("minimum"),
        exclusive_minimum: get("exclusiveMinimum"),
        maximum: get("maximum"),
        exclusive_maximum: get("exclusiveMaximum"),
        multiple_of: get("multipleOf"),
    };
    // Draft 4: a flag that belongs to the bound.
    if map.get("exclusiveMinimum") == Some(&Value::Bool(true)) {
        rules.exclusive_minimum = rules.minimum.take();
    }
    if map.get("exclusiveMaximum") == Some(&Value::Bool(true)) {
        rules.exclusive_maximum = rules.maximum.take();
    }
    let used = rules.minimum.is_some()
        || rules.exclusive_minimum.is_some()
        || rules.maximum.is_some()
        || rules.exclusive_maximum.is_some()
        || rules.multiple_of.is_some();
    used.then_some(rules)
}

/// `: ["a","b"] or ["c"]` from the alternatives that require fields; empty when none does.
fn required_of(alternatives: Option<&Value>) -> String {
    let alternatives = alternatives.and_then(Value::as_array).into_iter().flatten();
    let lists = alternatives.filter_map(|schema| schema.get("required")).map(Value::to_string);
    let lists: Vec<_> = lists.collect();
    if lists.is_empty() { String::new() } else { format!(": {}", lists.join(" or ")) }
}

/// `%41` becomes `A`; what is not such an escape, or not UTF-8 then, stays.
fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%').then(|| tail.get(..2)).flatten();
        let decoded = escaped
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}
