//! The grammar of expressions: the one place that knows it.

use serde_json::Value;

use super::condition::{Condition, Constant, Order, Test};
use super::pattern::Pattern;
use super::{Expr, ExprError, Group, Joined, Node, number};
use crate::net_set::{BadAddress, NetSet};
use crate::vars::Variable;

/// Lists in lists; as deep as parsed JSON may be.
const DEPTH_MAX: usize = 128;

pub(super) fn expression(rules: &[Value]) -> Result<Expr, ExprError> {
    let mut compiler = Compiler::default();
    let root = match rules.first() {
        None => {
            Node::Group(Group { joined_by: Joined::And, negated: false, nodes: Box::default() })
        }
        Some(first) if list(first).is_some() || logic(first).is_some() => {
            compiler.node(rules, 0)?
        }
        Some(_) => return Err(ExprError::Brackets),
    };
    Ok(Expr { root, invalid_patterns: compiler.invalid_patterns.into() })
}

/// A Lua table as a list: the fields of an object are not numbered, so Lua sees one without items.
pub(super) fn list(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) => Some(items),
        Value::Object(_) => Some(&[]),
        _ => None,
    }
}

/// A logical operator: how it joins, and whether it negates.
fn logic(value: &Value) -> Option<(Joined, bool)> {
    let name = value.as_str()?;
    let (bare, negated) = name.strip_prefix('!').map_or((name, false), |bare| (bare, true));
    if bare.eq_ignore_ascii_case("and") {
        Some((Joined::And, negated))
    } else if bare.eq_ignore_ascii_case("or") {
        Some((Joined::Or, negated))
    } else {
        None
    }
}

#[derive(Debug, Default)]
struct Compiler {
    invalid_patterns: Vec<String>,
}

impl Compiler {
    /// A condition, a list of them, or some joined by a logical operator.
    fn node(&mut self, rules: &[Value], depth: usize) -> Result<Node, ExprError> {
        if depth > DEPTH_MAX {
            return Err(ExprError::TooDeep);
        }
        let first = rules.first().ok_or(ExprError::TooShort)?;
        let (joined_by, negated, operands) = if list(first).is_some() {
            (Joined::And, false, rules)
        } else if let Some((joined_by, negated)) = logic(first) {
            if rules.len() <= 2 {
                return Err(ExprError::TooShort);
            }
            (joined_by, negated, &rules[1..])
        } else {
            return self.condition(rules).map(|condition| Node::Condition(Box::new(condition)));
        };
        let nodes: Result<Box<[Node]>, _> = operands
            .iter()
            .map(|operand| self.node(list(operand).ok_or(ExprError::Invalid)?, depth + 1))
            .collect();
        Ok(Node::Group(Group { joined_by, negated, nodes: nodes? }))
    }

    fn condition(&mut self, parts: &[Value]) -> Result<Condition, ExprError> {
        let (name, negated, operator, operand) = match parts {
            [name, not, operator, operand] => {
                if not != "!" {
                    return Err(ExprError::BadNot);
                }
                (name, true, operator, Some(operand))
            }
            [name, operator, rest @ ..] => (name, false, operator, rest.first()),
            _ => return Err(ExprError::Invalid),
        };
        let variable = match name {
            Value::String(name) => Variable::parse(name),
            // APISIX stores it, and fails each request that meets it.
            Value::Number(_) => None,
            _ => return Err(ExprError::Invalid),
        };
        let operator = match operator {
            Value::String(text) => text.to_ascii_lowercase(),
            Value::Number(number) => number::text(number.as_f64().unwrap_or(f64::NAN)),
            _ => return Err(ExprError::Invalid),
        };
        let test = match (self.test(&operator, operand)?, operand) {
            (Some(test), _) => test,
            // Without a third part the second one is the value, in the lower case of operators.
            (None, None) => Test::Equal(Constant::Text(operator.into_bytes().into())),
            (None, Some(_)) => return Err(ExprError::Operator(operator)),
        };
        let text = Value::from(parts).to_string();
        Ok(Condition::new(variable, test, negated, text))
    }

    /// The test that `operator` is; `None` if there is no such operator.
    fn test(&mut self, operator: &str, operand: Option<&Value>) -> Result<Option<Test>, ExprError> {
        let order = |order| Test::Order(order, operand.and_then(as_number));
        Ok(Some(match operator {
            "==" => Test::Equal(Constant::operand(operand)),
            "~=" => Test::NotEqual(Constant::operand(operand)),
            ">" => order(Order::Greater),
            ">=" => order(Order::GreaterOrEqual),
            "<" => order(Order::Less),
            "<=" => order(Order::LessOrEqual),
            "~~" => Test::Matches(self.pattern(operand, false)),
            "~*" => Test::Matches(self.pattern(operand, true)),
            "in" => Test::any_of(operand.and_then(Value::as_array)),
            "has" => Test::Has(Constant::operand(operand)),
            "ipmatch" => Test::Address(addresses(operand)?),
            _ => return Ok(None),
        }))
    }

    fn pattern(&mut self, operand: Option<&Value>, ignore_case: bool) -> Pattern {
        let compiled = match operand {
            Some(Value::String(text)) => Pattern::compile(text, ignore_case),
            Some(Value::Number(number)) => {
                Pattern::compile(&number::text(number.as_f64().unwrap_or(f64::NAN)), ignore_case)
            }
            other => {
                let other = other.unwrap_or(&Value::Null);
                Err(format!("invalid regular expression '{other}': not a text"))
            }
        };
        compiled.unwrap_or_else(|error| {
            self.invalid_patterns.push(error);
            Pattern::invalid()
        })
    }
}

/// What Lua's `tonumber` makes of an operand.
fn as_number(operand: &Value) -> Option<f64> {
    match operand {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => number::parse(text.as_bytes()),
        _ => None,
    }
}

/// The operand of `ipmatch`: an address or network, or a list of them.
fn addresses(operand: Option<&Value>) -> Result<NetSet, ExprError> {
    let items = match operand.ok_or(ExprError::Invalid)? {
        Value::String(text) if text.is_empty() => &[],
        Value::Array(items) => items.as_slice(),
        Value::Object(_) => &[],
        one => std::slice::from_ref(one),
    };
    if items.is_empty() {
        return Err(ExprError::NoAddress);
    }
    let bad = |item: &Value| BadAddress(item.to_string());
    let texts: Result<Vec<&str>, _> =
        items.iter().map(|item| item.as_str().ok_or_else(|| bad(item))).collect();
    NetSet::parse(texts?).map_err(|BadAddress(text)| bad(&text.into()).into())
}
