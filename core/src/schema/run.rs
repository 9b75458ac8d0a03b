//! Checks a value against the compiled rules, and writes defaults into it while doing so.
//!
//! Order and texts are those of the validator that APISIX uses (`jsonschema` for Lua), with one
//! difference: where that one goes through a Lua table in no particular order, this one goes by
//! name, so that the same mistake always gives the same answer.

use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::compile::{
    Additional, ArrayRules, Condition, Dependency, Id, Items, Node, NumberRules, ObjectRules,
    Rules, StringRules, Tree, Type,
};
use super::equal::{duplicates, equal};
use super::words;

/// How deep schemas may lie in each other before one is taken for endless (`$ref` to itself).
const MAX_DEPTH: usize = 256;

/// Schemas visited for one value. A body of 1.5 MiB that lists items needs less; recursive schemas
/// with alternatives can ask for any number.
const MAX_STEPS: u32 = 20_000_000;

type Outcome = Result<(), String>;

/// One check of one value.
pub(super) struct Run<'t> {
    tree: &'t Tree,
    /// Alternatives that are being tried; their texts are not needed.
    trying: u32,
    depth: usize,
    steps: u32,
    /// Set when the check was given up; everything fails from then on.
    pub gave_up: bool,
    /// Whether something passed that JSON Schema itself would refuse: a reference to a secret, or
    /// an empty array for an object, which Lua cannot tell apart.
    pub lenient: bool,
}

impl<'t> Run<'t> {
    pub fn new(tree: &'t Tree) -> Self {
        Self { tree, trying: 0, depth: 0, steps: 0, gave_up: false, lenient: false }
    }

    /// Checks against the root schema.
    pub fn root(&mut self, value: &mut Value) -> Outcome {
        let outcome = self.check(0, value);
        if self.gave_up {
            return Err("too many steps: the schema refers to itself without end, or the value is too large".to_owned());
        }
        outcome
    }

    fn check(&mut self, id: Id, value: &mut Value) -> Outcome {
        let tree = self.tree;
        let rules = match &tree.nodes[id] {
            Node::Always(true) => return Ok(()),
            Node::Always(false) => return self.fail(|| words::ALWAYS_FALSE.to_owned()),
            Node::Rules(rules) => rules,
        };
        self.steps += 1;
        if self.depth >= MAX_DEPTH || self.steps >= MAX_STEPS {
            self.gave_up = true;
        }
        if self.gave_up {
            return Err(String::new());
        }
        self.depth += 1;
        let outcome = self.rules(rules, value);
        self.depth -= 1;
        outcome
    }

    fn rules(&mut self, rules: &Rules, value: &mut Value) -> Outcome {
        if is_secret(rules, value) {
            self.lenient = true;
            return Ok(());
        }
        self.types(rules, value)?;
        if let Some(object) = &rules.object {
            self.object_rules(object, value)?;
        }
        if let (Some(array), Value::Array(items)) = (&rules.array, &mut *value) {
            self.array(array, items)?;
        }
        if let (Some(string), Value::String(_)) = (&rules.string, &*value) {
            self.string(string, value)?;
        }
        if let (Some(bounds), Value::Number(number)) = (&rules.number, &*value) {
            self.number(bounds, number)?;
        }
        if let Some(allowed) = &rules.enumeration
            && !allowed.iter().any(|allowed| equal(allowed, value))
        {
            return self.fail(|| words::NOT_IN_ENUM.to_owned());
        }
        self.choices(rules, value)?;
        if let Some(format) = &rules.format
            && !format.matches(value)
        {
            let found = value.as_str().unwrap_or_default();
            return self.fail(|| format!("expect valid {} format but got: {found}", format.name));
        }
        if let Some(constant) = &rules.constant
            && !equal(constant, value)
        {
            return self.fail(|| words::CONSTANT.to_owned());
        }
        rules.contains.map_or(Ok(()), |contains| self.contains(contains, value))
    }

    fn types(&mut self, rules: &Rules, value: &mut Value) -> Outcome {
        if rules.types.is_empty() || rules.types.iter().any(|known| has_type(*known, value)) {
            return Ok(());
        }
        if let Some(other) = empty_table(rules, value) {
            // Within an alternative the value is not this one's to change.
            if self.trying == 0 {
                *value = other;
            } else {
                self.lenient = true;
            }
            return Ok(());
        }
        let found = words::lua_type(value);
        let names = || rules.types.iter().map(|known| known.name()).collect::<Vec<_>>().join(", ");
        let of = if rules.type_list { "one of " } else { "" };
        self.fail(|| format!("wrong type: expected {of}{}, got {found}", names()))
    }

    fn object_rules(&mut self, rules: &ObjectRules, value: &mut Value) -> Outcome {
        match value {
            Value::Object(_) => self.object(rules, value),
            // An empty array is an object without fields.
            Value::Array(items) if items.is_empty() => {
                let mut object = Value::Object(Map::new());
                self.object(rules, &mut object)?;
                if object.as_object().is_some_and(|map| !map.is_empty()) {
                    *value = object;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn object(&mut self, rules: &ObjectRules, value: &mut Value) -> Outcome {
        let Value::Object(map) = value else { return Ok(()) };
        let mut others = !rules.patterns.is_empty();
        for (name, field) in map.iter_mut() {
            match property(rules, name) {
                Some(id) => self
                    .check(id, field)
                    .or_else(|cause| self.fail(|| words::property(name, &cause)))?,
                None => others = true,
            }
        }
        for name in &rules.required {
            if !map.contains_key(&**name) {
                return self.fail(|| words::missing(name));
            }
        }
        for (name, default) in &rules.defaults {
            if let Entry::Vacant(place) = map.entry(&**name) {
                place.insert(default.clone());
            }
        }
        for (name, dependency) in &rules.dependencies {
            self.dependency(name, dependency, value)?;
        }
        let Value::Object(map) = value else { return Ok(()) };
        if others {
            self.other_properties(rules, map)?;
        }
        let count = map.len() as u64;
        if let Some(min) = rules.min.filter(|min| count < *min) {
            return self.fail(|| format!("expect object to have at least {min} properties"));
        }
        if let Some(max) = rules.max.filter(|max| count > *max) {
            return self.fail(|| format!("expect object to have at most {max} properties"));
        }
        Ok(())
    }

    fn dependency(&mut self, name: &str, dependency: &Dependency, value: &mut Value) -> Outcome {
        if value.get(name).is_none() {
            return Ok(());
        }
        match dependency {
            Dependency::Properties(others) => {
                match others.iter().find(|other| value.get(&***other).is_none()) {
                    Some(other) => self.fail(|| {
                        format!("property \"{other}\" is required when \"{name}\" is set")
                    }),
                    None => Ok(()),
                }
            }
            Dependency::Schema(id) => self.check(*id, value).or_else(|cause| {
                self.fail(|| format!("failed to validate dependent schema for \"{name}\": {cause}"))
            }),
        }
    }

    /// `patternProperties`, and `additionalProperties` for fields that are no properties.
    fn other_properties(&mut self, rules: &ObjectRules, map: &mut Map<String, Value>) -> Outcome {
        for (name, field) in map.iter_mut() {
            let mut matched = property(rules, name).is_some();
            for (pattern, id) in &rules.patterns {
                if pattern.matches_name(name) {
                    matched = true;
                    let pattern = &pattern.text;
                    self.check(*id, field).or_else(|cause| {
                        self.fail(|| {
                            format!("failed to validate {name} (matching \"{pattern}\"): {cause}")
                        })
                    })?;
                }
            }
            match rules.additional {
                Additional::Allowed => {}
                _ if matched => {}
                Additional::Forbidden => {
                    return self.fail(|| format!("additional properties forbidden, found {name}"));
                }
                Additional::Schema(id) => self.check(id, field).or_else(|cause| {
                    self.fail(|| format!("failed to validate additional property {name}: {cause}"))
                })?,
            }
        }
        Ok(())
    }

    fn array(&mut self, rules: &ArrayRules, items: &mut [Value]) -> Outcome {
        let count = items.len() as u64;
        if let Some(min) = rules.min.filter(|min| count < *min) {
            return self.fail(|| format!("expect array to have at least {min} items"));
        }
        if let Some(max) = rules.max.filter(|max| count > *max) {
            return self.fail(|| format!("expect array to have at most {max} items"));
        }
        match &rules.items {
            Items::Any => {}
            Items::Each(id) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.item(*id, index, item)?;
                }
            }
            Items::Tuple(ids, additional) => self.tuple(ids, *additional, items)?,
        }
        if rules.unique
            && items.len() > 1
            && let Some((a, b)) = duplicates(items)
        {
            let (a, b) = (a + 1, b + 1);
            return self.fail(|| format!("expected unique items but items {a} and {b} are equal"));
        }
        Ok(())
    }

    fn item(&mut self, id: Id, index: usize, item: &mut Value) -> Outcome {
        self.check(id, item).or_else(|cause| self.fail(|| words::item(index, &cause)))
    }

    fn tuple(&mut self, ids: &[Id], additional: Additional, items: &mut [Value]) -> Outcome {
        for (index, item) in items.iter_mut().enumerate() {
            match (ids.get(index), additional) {
                (Some(id), _) => self.item(*id, index, item)?,
                (None, Additional::Allowed) => {}
                (None, Additional::Forbidden) => {
                    return self.fail(|| words::EXTRA_ITEMS.to_owned());
                }
                (None, Additional::Schema(id)) => self.check(id, item).or_else(|cause| {
                    let position = index + 1;
                    self.fail(|| format!("failed to validate additional item {position}: {cause}"))
                })?,
            }
        }
        Ok(())
    }

    fn string(&mut self, rules: &StringRules, value: &Value) -> Outcome {
        let text = value.as_str().unwrap_or_default();
        if rules.min.is_some() || rules.max.is_some() {
            let length = text.chars().count() as u64;
            if let Some(min) = rules.min.filter(|min| length < *min) {
                return self
                    .fail(|| format!("string too short, expected at least {min}, got {length}"));
            }
            if let Some(max) = rules.max.filter(|max| length > *max) {
                return self
                    .fail(|| format!("string too long, expected at most {max}, got {length}"));
            }
        }
        match &rules.pattern {
            Some(pattern) if !pattern.matches(value) => {
                self.fail(|| words::failed_pattern(&pattern.text, text))
            }
            _ => Ok(()),
        }
    }

    fn number(&mut self, rules: &NumberRules, number: &Number) -> Outcome {
        let found = number.as_f64().unwrap_or(f64::NAN);
        type Breaks = fn(f64, f64) -> bool;
        let bounds: [(&Option<Number>, Breaks, &str); 4] = [
            (&rules.minimum, |found, bound| found < bound, "at least"),
            (&rules.exclusive_minimum, |found, bound| found <= bound, "greater than"),
            (&rules.maximum, |found, bound| found > bound, "at most"),
            (&rules.exclusive_maximum, |found, bound| found >= bound, "smaller than"),
        ];
        for (bound, breaks, what) in bounds {
            let Some(bound) = bound else { continue };
            if breaks(found, bound.as_f64().unwrap_or(f64::NAN)) {
                let (number, bound) = (words::number(number), words::number(bound));
                return self.fail(|| format!("expected {number} to be {what} {bound}"));
            }
        }
        if let Some(unit) = &rules.multiple_of
            && !is_multiple(found, unit.as_f64().unwrap_or(f64::NAN))
        {
            let (number, unit) = (words::number(number), words::number(unit));
            return self.fail(|| format!("expected {number} to be a multiple of {unit}"));
        }
        Ok(())
    }

    /// The keywords that combine schemas.
    fn choices(&mut self, rules: &Rules, value: &mut Value) -> Outcome {
        for (index, id) in rules.all_of.iter().enumerate() {
            self.check(*id, value)
                .or_else(|cause| self.fail(|| format!("allOf {} failed: {cause}", index + 1)))?;
        }
        if !rules.any_of.is_empty() && !rules.any_of.iter().any(|id| self.try_on(*id, value)) {
            let required = &rules.any_of_required;
            return self.fail(|| format!("{}{required}", words::NO_ALTERNATIVE));
        }
        if !rules.one_of.is_empty() {
            self.one_of(&rules.one_of, value)?;
        }
        if let Some(condition) = &rules.condition {
            self.condition(condition, value)?;
        }
        match rules.not {
            Some(id) if self.matches(id, value) => self.fail(|| words::NOT.to_owned()),
            _ => Ok(()),
        }
    }

    fn one_of(&mut self, ids: &[Id], value: &mut Value) -> Outcome {
        let mut matched = None;
        let mut written = None;
        for (index, id) in ids.iter().enumerate() {
            let mut copy = self.tree.writes(*id).then(|| value.clone());
            if !self.quietly(*id, copy.as_mut().unwrap_or(value)) {
                continue;
            }
            if let Some(first) = matched.replace(index + 1) {
                let second = index + 1;
                return self.fail(|| {
                    "value should match only one schema, but matches both schemas ".to_owned()
                        + &format!("{first} and {second}")
                });
            }
            written = copy;
        }
        if let Some(written) = written {
            *value = written;
        }
        if matched.is_none() {
            return self.fail(|| words::ONE_OF_NONE.to_owned());
        }
        Ok(())
    }

    fn condition(&mut self, condition: &Condition, value: &mut Value) -> Outcome {
        let (branch, text) = if self.matches(condition.test, value) {
            (condition.then, words::THEN)
        } else {
            (condition.otherwise, words::ELSE)
        };
        match branch {
            Some(id) if !self.try_on(id, value) => self.fail(|| text.to_owned()),
            _ => Ok(()),
        }
    }

    fn contains(&mut self, id: Id, value: &Value) -> Outcome {
        let empty_object = value.as_object().is_some_and(Map::is_empty);
        let Some(items) = value.as_array() else {
            return if empty_object {
                self.fail(|| words::CONTAINS_EMPTY.to_owned())
            } else {
                Ok(())
            };
        };
        if items.is_empty() {
            return self.fail(|| words::CONTAINS_EMPTY.to_owned());
        }
        if items.iter().any(|item| self.quietly(id, &mut item.clone())) {
            return Ok(());
        }
        self.fail(|| words::CONTAINS.to_owned())
    }

    /// Whether `value` fits; it keeps the defaults only if it does.
    fn try_on(&mut self, id: Id, value: &mut Value) -> bool {
        if !self.tree.writes(id) {
            return self.quietly(id, value);
        }
        let mut copy = value.clone();
        let fits = self.quietly(id, &mut copy);
        if fits {
            *value = copy;
        }
        fits
    }

    /// Whether `value` fits; it never changes.
    fn matches(&mut self, id: Id, value: &mut Value) -> bool {
        if self.tree.writes(id) {
            return self.quietly(id, &mut value.clone());
        }
        self.quietly(id, value)
    }

    fn quietly(&mut self, id: Id, value: &mut Value) -> bool {
        self.trying += 1;
        let fits = self.check(id, value).is_ok();
        self.trying -= 1;
        fits
    }

    /// An error; its text is made only when somebody will read it.
    fn fail(&self, text: impl FnOnce() -> String) -> Outcome {
        Err(if self.trying == 0 && !self.gave_up { text() } else { String::new() })
    }
}

fn property(rules: &ObjectRules, name: &str) -> Option<Id> {
    let found = rules.properties.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
    Some(rules.properties[found].1)
}

/// A reference to a secret or to an environment variable stands where a string may; what it names
/// is not known here.
fn is_secret(rules: &Rules, value: &Value) -> bool {
    let Value::String(text) = value else { return false };
    let string = rules.types.is_empty() || (rules.types == [Type::String] && !rules.type_list);
    let environment = text.as_bytes().get(..7);
    let environment = environment.is_some_and(|start| start.eq_ignore_ascii_case(b"$env://"));
    string && (environment || text.starts_with("$secret://"))
}

fn has_type(wanted: Type, value: &Value) -> bool {
    match wanted {
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Boolean => value.is_boolean(),
        Type::Null => value.is_null(),
        Type::Number => value.is_number(),
        Type::Integer => match value {
            Value::Number(number) if number.is_f64() => {
                number.as_f64().is_some_and(|float| float.fract() == 0.0)
            }
            value => value.is_number(),
        },
    }
}

/// In Lua `{}` and `[]` are one thing: the other of the two where the schema wants it.
fn empty_table(rules: &Rules, value: &Value) -> Option<Value> {
    let wants = |wanted| rules.types.contains(&wanted);
    match value {
        Value::Array(items) if items.is_empty() && wants(Type::Object) => {
            Some(Value::Object(Map::new()))
        }
        Value::Object(map) if map.is_empty() && wants(Type::Array) => {
            Some(Value::Array(Vec::new()))
        }
        _ => None,
    }
}

/// Whether `value` is a whole multiple of `unit`, as exactly as binary fractions can tell.
fn is_multiple(value: f64, unit: f64) -> bool {
    if unit.fract() == 0.0 {
        return value % unit == 0.0;
    }
    let quotient = value / unit;
    let rounded = (quotient + 0.5).floor();
    let tolerance = 1e-12 * if rounded == 0.0 { 1.0 } else { rounded.abs() };
    (quotient - rounded).abs() <= tolerance
}
