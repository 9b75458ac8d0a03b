//! Tests of a route besides host, path and method.

use std::net::IpAddr;

use serde_json::Value;

use super::request::Request;
use crate::expr::{Explanation, Expr, ExprError};
use crate::net_set::{BadAddress, NetSet};

/// What else a request must fulfil; few routes have any of it.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// `remote_addr` or `remote_addrs`; empty: any client.
    clients: NetSet,
    vars: Option<Expr>,
    /// `remote_addrs` and `vars` as they are configured.
    source: (Vec<String>, Vec<Value>),
}

/// Why conditions cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// `remote_addr` or `remote_addrs`.
    #[error("remote_addrs: {0}")]
    Client(#[from] BadAddress),
    /// `vars`.
    #[error("vars: {0}")]
    Vars(#[from] ExprError),
}

impl PartialEq for Conditions {
    /// What is configured decides, the rest follows from it.
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Conditions {}

impl Conditions {
    /// The conditions of a route with these `remote_addrs` and `vars`; `None` when there are none.
    pub fn compile(clients: &[String], vars: &[Value]) -> Result<Option<Self>, ConditionError> {
        if clients.is_empty() && vars.is_empty() {
            return Ok(None);
        }
        let vars_compiled = if vars.is_empty() { None } else { Some(Expr::compile(vars)?) };
        Ok(Some(Self {
            clients: NetSet::parse(clients.iter().map(String::as_str))?,
            vars: vars_compiled,
            source: (clients.to_vec(), vars.to_vec()),
        }))
    }

    /// The addresses and networks of clients, as configured.
    pub fn clients(&self) -> &[String] {
        &self.source.0
    }

    /// The expression over variables.
    pub fn vars(&self) -> Option<&Expr> {
        self.vars.as_ref()
    }

    /// Regular expressions in `vars` that cannot be used, and why.
    pub fn invalid_patterns(&self) -> &[String] {
        self.vars.as_ref().map(Expr::invalid_patterns).unwrap_or_default()
    }

    /// Why `vars` do not hold for a request.
    pub fn explain(&self, request: &impl Request) -> Option<Explanation> {
        self.vars.as_ref()?.explain(request, &mut request.scratch())
    }

    /// Whether requests of this client are admitted; one without address is in no network.
    pub(super) fn admits(&self, client: Option<IpAddr>) -> bool {
        self.clients.is_empty() || client.is_some_and(|client| self.clients.contains(client))
    }
}
