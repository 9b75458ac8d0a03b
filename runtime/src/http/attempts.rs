//! What is tried to get a response.

use std::time::{Duration, Instant};

use osmia_core::http1::RequestHead;
use osmia_core::node_set::NodeSet;
use osmia_core::router::Matched;
use osmia_core::snapshot::{Node, PassHost, Upstream};

/// What was tried to get a response; for retries and for the log.
#[derive(Debug, Default)]
pub struct Attempts<'s> {
    /// The matched route.
    pub matched: Option<Matched<'s>>,
    /// Its upstream.
    pub upstream: Option<&'s Upstream>,
    /// The node last tried.
    pub node: Option<&'s Node>,
    /// Status of the last attempt: the node's, or what its failure amounts to.
    pub status: u16,
    /// Attempts before the last.
    pub failed: Vec<FailedAttempt<'s>>,
    /// Until the connection of the last attempt stood.
    pub connect_time: Option<Duration>,
    /// Nodes that failed.
    pub(super) tried: NodeSet,
    /// Hash of the balancer's key, if it has one.
    pub(super) hash: u32,
    /// The request, or a part of it, was handed to a connection in the last attempt.
    pub(super) sent: bool,
    /// The last attempt used a kept connection.
    pub(super) reused: bool,
    /// More of the body was read than is kept: the request cannot be repeated.
    pub(super) streamed: bool,
    /// When the last attempt began, if somebody wants to know.
    pub began: Option<Instant>,
}

/// An attempt that another one followed.
#[derive(Debug)]
pub struct FailedAttempt<'s> {
    /// The node tried.
    pub node: &'s Node,
    /// What its failure amounts to.
    pub status: u16,
    /// How long it took; zero when nobody wants to know.
    pub took: Duration,
}

impl<'s> Attempts<'s> {
    /// The `Host` towards `node`.
    pub fn host<'b>(&self, node: &'b Node, request: &RequestHead, buf: &'b [u8]) -> &'b [u8]
    where
        's: 'b,
    {
        let host = match self.upstream.map(|upstream| &upstream.pass_host) {
            Some(PassHost::Node) => node.authority.as_bytes(),
            Some(PassHost::Rewrite(host)) => host.as_bytes(),
            Some(PassHost::Pass) | None => request.host.get(buf),
        };
        // An HTTP/1.0 client may leave it out; the upstream is spoken to in HTTP/1.1.
        if host.is_empty() { node.authority.as_bytes() } else { host }
    }

    /// What each attempt came to, as nginx writes `$upstream_status`.
    pub(super) fn statuses(&self) -> String {
        let failed = self.failed.iter().map(|attempt| attempt.status);
        let all = failed.chain(self.node.map(|_| self.status));
        all.map(|status| status.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Another attempt begins.
    pub(super) fn next(&mut self) {
        if let Some(node) = self.node {
            let took = self.began.map(|began| began.elapsed()).unwrap_or_default();
            self.failed.push(FailedAttempt { node, status: self.status, took });
        }
        self.began = self.began.map(|_| Instant::now());
    }
}
