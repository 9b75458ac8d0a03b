//! What the router asks of a request, and what it says about it.

use std::cell::RefMut;
use std::net::IpAddr;
use std::sync::Arc;

use super::PathPattern;
use crate::snapshot::Route;
use crate::vars::VariableSource;

/// A request as the router sees it, with its variables.
pub trait Request: VariableSource {
    /// Host in lower case and without port.
    fn host(&self) -> &[u8];
    /// Host as received, with its port.
    fn full_host(&self) -> &[u8];
    /// Normalised path.
    fn path(&self) -> &[u8];
    /// Method as received.
    fn method(&self) -> &str;
    /// Address of the client; `None`: it has none, over a Unix domain socket.
    fn client(&self) -> Option<IpAddr>;
    /// Room for values of variables. It is asked for once at a time.
    fn scratch(&self) -> RefMut<'_, Vec<u8>>;
}

/// What a lookup comes to, if anything.
#[derive(Debug, Clone, Copy)]
pub enum Hit<'r> {
    /// This route serves the request.
    Matched(Matched<'r>),
    /// The next route depends on the request's body, which has not been read.
    NeedsBody,
}

/// A route that serves a request.
#[derive(Debug, Clone, Copy)]
pub struct Matched<'r> {
    /// The route.
    pub route: &'r Arc<Route>,
    /// Which of its patterns matched.
    pub pattern: u32,
}

impl<'r> Matched<'r> {
    /// The pattern that matched.
    pub fn uri(&self) -> Option<&'r PathPattern> {
        self.route.uris.get(self.pattern as usize)
    }
}

/// How a candidate fared. The tests are made in the order of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its methods are others.
    Method,
    /// The client's address is not among its `remote_addrs`.
    RemoteAddr,
    /// Its hosts are others; only where hosts are not looked up first.
    Host,
    /// Its `vars` do not hold.
    Vars,
    /// Whether its `vars` hold depends on the body, which has not been read.
    NeedsBody,
    /// The path does not match behind the prefix.
    Path,
    /// It serves the request.
    Matched,
}

/// Sees each candidate in the order in which they are tried. `()` sees nothing and costs nothing.
pub trait Observer {
    /// `route` was tried with its pattern number `pattern`.
    fn tried(&mut self, route: &Arc<Route>, pattern: usize, verdict: Verdict);
}

impl Observer for () {
    fn tried(&mut self, _: &Arc<Route>, _: usize, _: Verdict) {}
}
