//! JSON Schemas of the resources, and validation against them in APISIX's words.
//!
//! Two things judge a value. The rules in `run` write defaults into it and say what is wrong in the
//! words of APISIX's validator, which knows a handful of things that JSON Schema does not: a string
//! `$secret://` or `$env://` stands for a value that is not known yet, an empty array is an empty
//! object. What they accept, the `jsonschema` crate must accept as well, unless one of those
//! leniencies was needed; it knows every keyword of every draft. Where a schema has no keyword but
//! those that the rules cover (`coverage`), as the resources' own, asking it would only take time.

mod compile;
mod coverage;
mod definitions;
mod equal;
mod kinds;
mod run;
mod words;

use std::fmt;

use serde_json::Value;

use compile::Tree;
use run::Run;

pub use kinds::{named, of, of_secret, validator, validator_of_secret, with_meta};

/// How deep a schema or a value may be nested, the limit of `serde_json`'s own parser.
pub const MAX_NESTING: usize = 128;

/// A schema, compiled.
pub struct Validator {
    tree: Tree,
    /// `None`: the rules cover the schema.
    judge: Option<jsonschema::Validator>,
    /// Said of every value when the schema itself is wrong.
    unusable: Option<String>,
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validator").field("unusable", &self.unusable).finish_non_exhaustive()
    }
}

impl Validator {
    /// Compiles a schema. Its draft is what `$schema` names, without that draft 7, or draft 4 where
    /// `exclusiveMinimum` is a flag. The error says what is wrong with the schema; references to
    /// other documents are refused, nothing is fetched.
    pub fn new(schema: &Value) -> Result<Self, String> {
        if !nested_within(schema, MAX_NESTING) {
            return Err(format!("the schema is nested deeper than {MAX_NESTING} levels"));
        }
        // It also says what is wrong with a schema.
        let judge = judge(schema)?;
        let tree = Tree::new(schema)?;
        Ok(Self { tree, judge: (!coverage::covers(schema)).then_some(judge), unusable: None })
    }

    /// A validator that refuses everything, for a schema that [`Validator::new`] refused.
    pub fn refusing(reason: String) -> Self {
        Self { tree: Tree::never(), judge: None, unusable: Some(reason) }
    }

    /// Writes the schema's defaults into `value` and checks it. The error is what APISIX says about
    /// the first rule that is broken, fields taken by name; `value` may hold some defaults then.
    ///
    /// An empty array where an object is wanted becomes an empty object and vice versa: clients of
    /// APISIX send both for both.
    pub fn check(&self, value: &mut Value) -> Result<(), String> {
        if let Some(reason) = &self.unusable {
            return Err(reason.clone());
        }
        if !nested_within(value, MAX_NESTING) {
            return Err(format!("nested deeper than {MAX_NESTING} levels"));
        }
        let mut run = Run::new(&self.tree);
        run.root(value)?;
        match &self.judge {
            Some(judge) if !run.lenient && !judge.is_valid(value) => Err(said(judge, value)),
            _ => Ok(()),
        }
    }

    /// Whether `value` with the schema's defaults is valid.
    pub fn is_valid(&self, value: &Value) -> bool {
        self.check(&mut value.clone()).is_ok()
    }
}

/// Checks a value that keeps its form: [`Validator::check`] without the defaults.
pub fn validate(validator: &Validator, value: &Value) -> Result<(), String> {
    validator.check(&mut value.clone())
}

/// Writes the defaults of `schema` into `value`. A value that the schema refuses stays as it is, as
/// does one whose schema is wrong. Callers with more than one value compile the schema once and use
/// [`Validator::check`].
pub fn fill_defaults(schema: &Value, value: &mut Value) {
    let mut copy = value.clone();
    if Validator::new(schema).and_then(|validator| validator.check(&mut copy)).is_ok() {
        *value = copy;
    }
}

/// The crate's validator. Formats are left to the rules: APISIX passes over those it does not know.
fn judge(schema: &Value) -> Result<jsonschema::Validator, String> {
    let build = |draft: Option<jsonschema::Draft>| {
        let mut options = jsonschema::options().should_validate_formats(false);
        if let Some(draft) = draft {
            options = options.with_draft(draft);
        }
        options.build(schema)
    };
    let built = if schema.get("$schema").is_some() {
        build(None)
    } else {
        build(Some(jsonschema::Draft::Draft7))
            .or_else(|error| build(Some(jsonschema::Draft::Draft4)).map_err(|_| error))
    };
    built.map_err(|error| match error.instance_path().as_str() {
        "" => format!("invalid JSON schema: {error}"),
        path => format!("invalid JSON schema at {path}: {error}"),
    })
}

/// The crate's words, for a rule that APISIX's validator does not have.
fn said(judge: &jsonschema::Validator, value: &Value) -> String {
    let Some(error) = judge.iter_errors(value).next() else {
        return "does not match the schema".to_owned();
    };
    match error.instance_path().as_str() {
        "" => error.to_string(),
        path => format!("{error} (at {path})"),
    }
}

/// Whether arrays and objects lie at most `levels` deep in each other.
fn nested_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => {
            levels > 0 && items.iter().all(|item| nested_within(item, levels - 1))
        }
        Value::Object(map) => {
            levels > 0 && map.values().all(|field| nested_within(field, levels - 1))
        }
        _ => true,
    }
}

#[cfg(test)]
pub(crate) mod tests;
