//! Paths into a body, `post_arg.<path>`: names with dots, or `JSONPath` (lua-jsonpath in APISIX).

use std::fmt;

use serde_json::Value;

use super::path_syntax;

/// Values that one step may yield; beyond it they are not looked at.
const FOUND_MAX: usize = 65_536;

/// A path into a body.
///
/// With `[`, `*` or `..` in it, it is a `JSONPath` and yields a list of all it finds; else it leads
/// from field to field and yields one value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PostPath {
    text: Box<str>,
    steps: Box<[Step]>,
    finds_many: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Step {
    /// Looks at all levels below as well (`..`).
    pub(super) deep: bool,
    pub(super) selectors: Vec<Selector>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Selector {
    Name(String),
    Index(i64),
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    },
    All,
    /// Any of the lists of tests holds as a whole.
    Filter(Vec<Vec<Test>>),
}

/// A test of an item, `@.a.b == 'x'`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Test {
    pub(super) path: Vec<String>,
    pub(super) compare: Option<(Compare, Literal)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Literal {
    Text(String),
    /// The bits of the number, which can be compared for equality.
    Number(u64),
    Bool(bool),
    Null,
}

impl PostPath {
    /// Reads a path; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let finds_many = text.contains(['[', '*']) || text.contains("..");
        let steps = if finds_many {
            path_syntax::steps(text)?
        } else {
            // APISIX splits at brackets too.
            let names = text.split(['.', '(', ')']).filter(|name| !name.is_empty());
            names.map(|name| Step::name(name.to_owned())).collect()
        };
        (!steps.is_empty()).then(|| Self { text: text.into(), steps: steps.into(), finds_many })
    }

    /// Whether the value is a list of what was found.
    pub(super) fn finds_many(&self) -> bool {
        self.finds_many
    }

    /// The name, if that is all.
    pub(super) fn single_name(&self) -> Option<&str> {
        match (&*self.steps, self.finds_many) {
            ([Step { selectors, .. }], false) => match selectors.as_slice() {
                [Selector::Name(name)] => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// The value that a path without wildcards leads to.
    pub(super) fn follow<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.steps.iter().try_fold(root, |value, step| match step.selectors.as_slice() {
            [Selector::Name(name)] => value.as_object()?.get(name),
            _ => None,
        })
    }

    /// All values that the path finds, in order.
    pub(super) fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![root];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in found {
                step.select(value, &mut next);
            }
            found = next;
        }
        found
    }
}

impl fmt::Display for PostPath {
    /// Writes the path as it was configured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Step {
    pub(super) fn name(name: String) -> Self {
        Self { deep: false, selectors: vec![Selector::Name(name)] }
    }

    /// Adds what is found in `value`. The depth of a body is limited where it is parsed.
    fn select<'a>(&self, value: &'a Value, found: &mut Vec<&'a Value>) {
        for selector in &self.selectors {
            selector.select(value, found);
        }
        found.truncate(FOUND_MAX);
        if self.deep && found.len() < FOUND_MAX {
            children(value).for_each(|child| self.select(child, found));
        }
    }
}

fn children(value: &Value) -> impl Iterator<Item = &Value> {
    let items = value.as_array().into_iter().flatten();
    items.chain(value.as_object().into_iter().flat_map(serde_json::Map::values))
}

impl Selector {
    fn select<'a>(&self, value: &'a Value, found: &mut Vec<&'a Value>) {
        match self {
            Self::Name(name) => found.extend(value.get(name.as_str())),
            Self::Index(index) => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                let at = if *index < 0 { index.saturating_add(items.len() as i64) } else { *index };
                found.extend(usize::try_from(at).ok().and_then(|at| items.get(at)));
            }
            Self::Slice { start, end, step } => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                slice(items.len() as i64, *start, *end, *step, |at| found.extend(items.get(at)));
            }
            Self::All => found.extend(children(value)),
            Self::Filter(any) => found.extend(
                children(value)
                    .filter(|item| any.iter().any(|all| all.iter().all(|t| t.holds(item)))),
            ),
        }
    }
}

/// The positions of a slice, as RFC 9535 has them.
fn slice(len: i64, start: Option<i64>, end: Option<i64>, step: i64, mut take: impl FnMut(usize)) {
    let from_end = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
    if step > 0 {
        let mut at = start.map_or(0, from_end).clamp(0, len);
        let end = end.map_or(len, from_end).clamp(0, len);
        while at < end {
            take(at as usize);
            at = at.saturating_add(step);
        }
    } else if step < 0 {
        let mut at = start.map_or(len - 1, from_end).clamp(-1, len - 1);
        let end = end.map_or(-1, from_end).clamp(-1, len - 1);
        while at > end {
            take(at as usize);
            at = at.saturating_add(step);
        }
    }
}

impl Test {
    fn holds(&self, item: &Value) -> bool {
        let value = self.path.iter().try_fold(item, |value, name| value.get(name.as_str()));
        match (value, &self.compare) {
            (value, None) => !matches!(value, None | Some(Value::Null | Value::Bool(false))),
            (None, Some((compare, _))) => *compare == Compare::NotEqual,
            (Some(value), Some((compare, literal))) => compare.holds(value, literal),
        }
    }
}

impl Compare {
    fn holds(self, value: &Value, literal: &Literal) -> bool {
        let order = match (value, literal) {
            (Value::Number(a), Literal::Number(b)) => {
                a.as_f64().and_then(|a| a.partial_cmp(&f64::from_bits(*b)))
            }
            (Value::String(a), Literal::Text(b)) => Some(a.as_str().cmp(b)),
            (Value::Bool(a), Literal::Bool(b)) => (a == b).then_some(std::cmp::Ordering::Equal),
            (Value::Null, Literal::Null) => Some(std::cmp::Ordering::Equal),
            _ => None,
        };
        match self {
            Self::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
            Self::NotEqual => !order.is_some_and(std::cmp::Ordering::is_eq),
            Self::Less => order.is_some_and(std::cmp::Ordering::is_lt),
            Self::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
            Self::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
            Self::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
        }
    }
}
