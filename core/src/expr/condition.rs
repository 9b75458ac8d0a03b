//! One condition: a variable, an operator, a constant.
//!
//! The rules are Lua's: values of different types are never equal, a missing value is `nil`, and a
//! `null` in a body is not.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value as Json;

use super::pattern::Pattern;
use super::{Seen, Verdict, number};
use crate::body_vars::{BodyValue, Value};
use crate::net_set::NetSet;
use crate::vars::{Variable, VariableSource};

/// Bytes of a value that an explanation shows.
const SHOWN_MAX: usize = 256;

#[derive(Debug, Clone)]
pub(super) struct Condition {
    /// `None`: there is no such variable, so it never has a value.
    variable: Option<Variable>,
    test: Test,
    negated: bool,
    text: Box<str>,
}

#[derive(Debug, Clone)]
pub(super) enum Test {
    Equal(Constant),
    NotEqual(Constant),
    /// With a constant that is no number it never holds.
    Order(Order, Option<f64>),
    Matches(Pattern),
    /// The texts are sorted.
    In {
        texts: Box<[Box<[u8]>]>,
        others: Box<[Constant]>,
    },
    Has(Constant),
    Address(NetSet),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// A constant of a condition.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Constant {
    /// A missing operand, or `null`, which as an operand is `nil`.
    Nil,
    /// `null` in a list.
    Null,
    Bool(bool),
    Number(f64),
    Text(Box<[u8]>),
    /// A list or object: equal to no other one.
    Table,
}

/// A value to compare; missing ones are `None` around it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scalar<'a> {
    Null,
    Bool(bool),
    Number(f64),
    Text(&'a [u8]),
    Table,
}

impl Constant {
    pub(super) fn operand(operand: Option<&Json>) -> Self {
        match operand {
            None | Some(Json::Null) => Self::Nil,
            Some(value) => Self::item(value),
        }
    }

    fn item(value: &Json) -> Self {
        match value {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => Self::Text(text.as_bytes().into()),
            Json::Array(_) | Json::Object(_) => Self::Table,
        }
    }

    /// Lua's `==`, which converts nothing.
    #[allow(clippy::float_cmp, reason = "Lua compares numbers like that")]
    fn is(&self, value: Option<Scalar<'_>>) -> bool {
        match (self, value) {
            (Self::Nil, None) | (Self::Null, Some(Scalar::Null)) => true,
            (Self::Bool(a), Some(Scalar::Bool(b))) => *a == b,
            (Self::Number(a), Some(Scalar::Number(b))) => *a == b,
            (Self::Text(a), Some(Scalar::Text(b))) => **a == *b,
            _ => false,
        }
    }

    /// `==` of expressions: a number is compared to the number that the value is.
    fn equals(&self, value: Option<Scalar<'_>>) -> bool {
        match self {
            Self::Number(_) => {
                let number = value.and_then(Scalar::number);
                number.is_some() && self.is(number.map(Scalar::Number))
            }
            _ => self.is(value),
        }
    }
}

impl<'a> Scalar<'a> {
    /// `tonumber`.
    fn number(self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Text(text) => number::parse(text),
            Self::Null | Self::Bool(_) | Self::Table => None,
        }
    }

    /// What a regular expression is matched with: numbers and `true` as Lua writes them.
    fn text(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Number(number) => Some(Cow::Owned(number::text(number).into_bytes())),
            Self::Bool(true) => Some(Cow::Borrowed(b"true")),
            // `false` counts as missing; of `null` and tables Lua would write an address.
            Self::Bool(false) | Self::Null | Self::Table => None,
        }
    }

    fn of_json(value: &'a Json) -> Self {
        match value {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => Self::Text(text.as_bytes()),
            Json::Array(_) | Json::Object(_) => Self::Table,
        }
    }

    fn of(value: &'a Value<'_>) -> Self {
        match value {
            Value::Bytes(bytes) => Self::Text(bytes),
            Value::Flag => Self::Bool(true),
            Value::Json(value) => Self::of_json(value),
            Value::List(_) => Self::Table,
        }
    }
}

impl Test {
    /// `in`; an operand that is no list contains nothing.
    pub(super) fn any_of(operand: Option<&Vec<Json>>) -> Self {
        let (mut texts, mut others) = (Vec::new(), Vec::new());
        for item in operand.into_iter().flatten() {
            match Constant::item(item) {
                Constant::Text(text) => texts.push(text),
                other => others.push(other),
            }
        }
        texts.sort_unstable();
        Self::In { texts: texts.into(), others: others.into() }
    }

    /// Whether it holds for a value that is not a list, or missing.
    fn holds(&self, value: Option<Scalar<'_>>) -> bool {
        match self {
            Self::Equal(constant) => constant.equals(value),
            Self::NotEqual(constant) => !constant.equals(value),
            Self::Order(order, limit) => {
                let number = value.and_then(Scalar::number);
                number.zip(*limit).is_some_and(|(number, limit)| order.holds(number, limit))
            }
            Self::Matches(pattern) => {
                value.and_then(Scalar::text).is_some_and(|text| pattern.is_match(&text))
            }
            Self::In { texts, others } => match value {
                Some(Scalar::Text(text)) => {
                    texts.binary_search_by(|item| (**item).cmp(text)).is_ok()
                }
                other => others.iter().any(|item| item.is(other)),
            },
            Self::Has(_) => false,
            Self::Address(set) => match value {
                Some(Scalar::Text(text)) => set.contains_text(text),
                _ => false,
            },
        }
    }

    fn holds_for(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Has(constant), Value::List(items)) => {
                items.iter().any(|item| constant.is(Some(Scalar::of(item))))
            }
            (Self::Has(constant), Value::Json(Json::Array(items))) => {
                items.iter().any(|item| constant.is(Some(Scalar::of_json(item))))
            }
            _ => self.holds(Some(Scalar::of(value))),
        }
    }
}

impl Order {
    fn holds(self, number: f64, limit: f64) -> bool {
        match self {
            Self::Greater => number > limit,
            Self::GreaterOrEqual => number >= limit,
            Self::Less => number < limit,
            Self::LessOrEqual => number <= limit,
        }
    }
}

impl Condition {
    pub(super) fn new(variable: Option<Variable>, test: Test, negated: bool, text: String) -> Self {
        Self { variable, test, negated, text: text.into() }
    }

    pub(super) fn variable(&self) -> Option<&Variable> {
        self.variable.as_ref()
    }

    pub(super) fn eval(&self, source: &impl VariableSource, scratch: &mut Vec<u8>) -> Verdict {
        let holds = match &self.variable {
            None => self.test.holds(None),
            Some(variable) if variable.is_of_body() => match source.body_value(variable) {
                BodyValue::Unread => return Verdict::NeedsBody,
                BodyValue::Absent => self.test.holds(None),
                BodyValue::Present(value) => self.test.holds_for(&value),
            },
            Some(variable) => {
                with_text(source, variable, scratch, |text| self.test.holds(text.map(Scalar::Text)))
            }
        };
        Verdict::of(holds != self.negated)
    }

    /// The value that it is about.
    pub(super) fn seen(&self, source: &impl VariableSource, scratch: &mut Vec<u8>) -> Seen {
        match &self.variable {
            None => Seen::Absent,
            Some(variable) if variable.is_of_body() => match source.body_value(variable) {
                BodyValue::Unread => Seen::Unread,
                BodyValue::Absent => Seen::Absent,
                BodyValue::Present(value) => Seen::Value(clipped(&shown(&value))),
            },
            Some(variable) => with_text(source, variable, scratch, |text| {
                text.map_or(Seen::Absent, |text| Seen::Value(clipped(text)))
            }),
        }
    }
}

impl fmt::Display for Condition {
    /// Writes it as it is configured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Calls `f` with the value, which stands in `scratch` for that long.
fn with_text<T>(
    source: &impl VariableSource,
    variable: &Variable,
    scratch: &mut Vec<u8>,
    f: impl FnOnce(Option<&[u8]>) -> T,
) -> T {
    let start = scratch.len();
    let is_set = source.append(variable, scratch);
    let result = f(scratch.get(start..).filter(|_| is_set));
    scratch.truncate(start);
    result
}

fn shown<'a>(value: &'a Value<'_>) -> Cow<'a, [u8]> {
    match value {
        Value::Bytes(bytes) => Cow::Borrowed(bytes),
        Value::Flag => Cow::Borrowed(b"true"),
        Value::Json(Json::String(text)) => Cow::Borrowed(text.as_bytes()),
        Value::Json(value) => Cow::Owned(value.to_string().into_bytes()),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(shown).collect();
            let mut text = b"[".to_vec();
            text.extend(items.join(&b", "[..]));
            text.push(b']');
            Cow::Owned(text)
        }
    }
}

fn clipped(text: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&text[..text.len().min(SHOWN_MAX)]);
    if text.len() > SHOWN_MAX { format!("{shown}...") } else { shown.into_owned() }
}
