//! Expressions over variables: `vars` of routes, `_meta.filter` of plugins, `match` of
//! traffic-split and others (lua-resty-expr, which APISIX uses).
//!
//! A list of conditions, all of which must hold; a condition is `[name, operator, value]`,
//! `[name, "!", operator, value]` or `[name, value]`; a list that begins with `AND`, `OR`, `!AND`
//! or `!OR` joins those behind it.
//!
//! Compiled once ([`Expr::compile`]), constants included. [`Expr::eval`] allocates only for
//! variables of the body, and for regular expressions that go back (look-around, back references).

mod compile;
mod condition;
pub(crate) mod number;
pub(crate) mod pattern;
mod pcre;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;
use thiserror::Error;

use self::condition::Condition;
use crate::net_set::BadAddress;
use crate::vars::{Variable, VariableSource};

/// Why a list is no expression, in the words of lua-resty-expr where it has any.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExprError {
    /// A single condition, or no list at all.
    #[error("rule should be wrapped inside brackets")]
    Brackets,
    /// An empty condition, or a logical operator with fewer than two operands.
    #[error("rule too short")]
    TooShort,
    /// Four parts, of which the second is not `!`.
    #[error("bad 'not' expression")]
    BadNot,
    /// Not a condition.
    #[error("invalid expression")]
    Invalid,
    /// No such operator.
    #[error("invalid operator '{0}'")]
    Operator(String),
    /// `ipmatch` with an empty list or text.
    #[error("invalid ip address")]
    NoAddress,
    /// `ipmatch` with something that is no address; as JSON.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// Lists in lists beyond any use.
    #[error("expression nested too deeply")]
    TooDeep,
}

/// What an expression says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// That depends on the body, which has not been read.
    NeedsBody,
}

impl Verdict {
    fn of(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }

    fn negated_if(self, negated: bool) -> Self {
        match self {
            Self::True if negated => Self::False,
            Self::False if negated => Self::True,
            same => same,
        }
    }
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Expr {
    root: Node,
    invalid_patterns: Box<[String]>,
}

#[derive(Debug, Clone)]
enum Node {
    Group(Group),
    Condition(Box<Condition>),
}

#[derive(Debug, Clone)]
struct Group {
    joined_by: Joined,
    negated: bool,
    nodes: Box<[Node]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joined {
    And,
    Or,
}

/// Why an expression does not hold: the first condition that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The condition as it is configured. Of `!AND` and `!OR` the whole: nothing in it failed.
    pub condition: String,
    /// What was there instead.
    pub seen: Seen,
}

/// The value that a condition saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The variable has no value, or there is no such variable.
    Absent,
    /// The variable's value is in the body, which has not been read.
    Unread,
    /// This one; clipped if it is long. What is not text is written as JSON.
    Value(String),
    /// Several: the condition is a negated group.
    Group,
}

impl Expr {
    /// Compiles an expression; an empty list always holds.
    ///
    /// An invalid regular expression is no error: APISIX takes it, and its condition never holds.
    /// See [`invalid_patterns`](Self::invalid_patterns).
    pub fn compile(rules: &[Value]) -> Result<Self, ExprError> {
        compile::expression(rules)
    }

    /// Compiles an expression that is a list, or an object, in which Lua sees an empty list.
    pub fn from_json(expression: &Value) -> Result<Self, ExprError> {
        Self::compile(compile::list(expression).ok_or(ExprError::Brackets)?)
    }

    /// Whether it holds for `source`. What is in `scratch` stays.
    ///
    /// [`Verdict::NeedsBody`] only if what is known already does not decide.
    pub fn eval(&self, source: &impl VariableSource, scratch: &mut Vec<u8>) -> Verdict {
        self.root.eval(source, scratch)
    }

    /// Why it does not hold, or cannot be told yet; `None` if it holds.
    pub fn explain(
        &self,
        source: &impl VariableSource,
        scratch: &mut Vec<u8>,
    ) -> Option<Explanation> {
        self.root.explain(source, scratch)
    }

    /// What is wrong with its invalid regular expressions; each message names one. For a warning,
    /// or for who would rather refuse them.
    pub fn invalid_patterns(&self) -> &[String] {
        &self.invalid_patterns
    }

    /// Whether it may need the body.
    pub fn reads_body(&self) -> bool {
        self.root.any_variable(&mut Variable::is_of_body)
    }

    /// Calls `f` for each variable in it.
    pub fn for_each_variable<'a>(&'a self, mut f: impl FnMut(&'a Variable)) {
        self.root.any_variable(&mut |variable| {
            f(variable);
            false
        });
    }
}

impl fmt::Display for Expr {
    /// Writes it as JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl Node {
    fn eval(&self, source: &impl VariableSource, scratch: &mut Vec<u8>) -> Verdict {
        match self {
            Self::Condition(condition) => condition.eval(source, scratch),
            Self::Group(group) => {
                let decisive = Verdict::of(group.joined_by == Joined::Or);
                let mut outcome = decisive.negated_if(true);
                for node in &group.nodes {
                    match node.eval(source, scratch) {
                        Verdict::NeedsBody => outcome = Verdict::NeedsBody,
                        verdict if verdict == decisive => {
                            return decisive.negated_if(group.negated);
                        }
                        _ => {}
                    }
                }
                outcome.negated_if(group.negated)
            }
        }
    }

    fn explain(&self, source: &impl VariableSource, scratch: &mut Vec<u8>) -> Option<Explanation> {
        let verdict = self.eval(source, scratch);
        match self {
            _ if verdict == Verdict::True => None,
            Self::Condition(condition) => Some(Explanation {
                condition: condition.to_string(),
                seen: condition.seen(source, scratch),
            }),
            Self::Group(group) if group.negated => {
                let is_unread = verdict == Verdict::NeedsBody;
                let seen = if is_unread { Seen::Unread } else { Seen::Group };
                Some(Explanation { condition: self.to_string(), seen })
            }
            Self::Group(group) => {
                // A condition that failed tells more than one that waits for the body before it.
                let blamed = |node: &&Node| node.eval(source, scratch) == verdict;
                let node = group.nodes.iter().find(blamed)?;
                node.explain(source, scratch)
            }
        }
    }

    fn any_variable<'a>(&'a self, f: &mut impl FnMut(&'a Variable) -> bool) -> bool {
        match self {
            Self::Condition(condition) => condition.variable().is_some_and(f),
            Self::Group(group) => group.nodes.iter().any(|node| node.any_variable(f)),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = match self {
            Self::Condition(condition) => return condition.fmt(f),
            Self::Group(group) => group,
        };
        let name = match (group.joined_by, group.negated) {
            (Joined::And, false) => None,
            (Joined::And, true) => Some("\"!AND\""),
            (Joined::Or, false) => Some("\"OR\""),
            (Joined::Or, true) => Some("\"!OR\""),
        };
        f.write_str("[")?;
        f.write_str(name.unwrap_or_default())?;
        for (at, node) in group.nodes.iter().enumerate() {
            let separator = if at > 0 || name.is_some() { "," } else { "" };
            write!(f, "{separator}{node}")?;
        }
        f.write_str("]")
    }
}
