//! What APISIX tells of a GraphQL document: its first definition.

use apollo_parser::Parser;
use apollo_parser::cst::{Definition, OperationType, Selection, SelectionSet};

/// Selections and values within each other; every level takes room on the stack.
const DEPTH_MAX: usize = 100;

/// The first definition of a document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Operation {
    /// Its name; empty if it has none.
    pub(super) name: String,
    /// `query`, `mutation` or `subscription`; a fragment is none of them.
    pub(super) kind: Option<&'static str>,
    /// The names, not the aliases, of the fields at its top level; of fragments theirs.
    pub(super) root_fields: Vec<String>,
}

/// Reads a document; `None` if it is malformed, empty, or defines types.
pub(super) fn parse(document: &str) -> Option<Operation> {
    let tree = Parser::new(document).recursion_limit(DEPTH_MAX).parse();
    if tree.errors().len() > 0 {
        return None;
    }
    let mut first = None;
    for definition in tree.document().definitions() {
        let read = match definition {
            Definition::OperationDefinition(operation) => Operation {
                name: operation.name().map(|name| name.text().to_string()).unwrap_or_default(),
                kind: Some(operation.operation_type().as_ref().map_or("query", word)),
                root_fields: root_fields(operation.selection_set()),
            },
            Definition::FragmentDefinition(fragment) => Operation {
                name: fragment.fragment_name()?.name()?.text().to_string(),
                kind: None,
                root_fields: root_fields(fragment.selection_set()),
            },
            _ => return None,
        };
        first.get_or_insert(read);
    }
    first
}

fn word(operation: &OperationType) -> &'static str {
    if operation.mutation_token().is_some() {
        "mutation"
    } else if operation.subscription_token().is_some() {
        "subscription"
    } else {
        "query"
    }
}

fn root_fields(set: Option<SelectionSet>) -> Vec<String> {
    let Some(set) = set else { return Vec::new() };
    let name = |selection| match selection {
        Selection::Field(field) => field.name(),
        Selection::FragmentSpread(spread) => spread.fragment_name().and_then(|name| name.name()),
        // It has no name, and APISIX stumbles over it.
        Selection::InlineFragment(_) => None,
    };
    set.selections().filter_map(name).map(|name| name.text().to_string()).collect()
}
