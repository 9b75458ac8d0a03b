//! A request as rules see it: variables and what the router asks for, before anything is known of
//! its response.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell, RefMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use base64::Engine as _;

use crate::body_vars::{BodyLimits, BodyRequest, BodyValue, BodyVars};
use crate::forwarded::{self, Trust};
use crate::http1::fields::{self, Field};
use crate::http1::request::split_port;
use crate::http1::{BodyLength, Known, RequestHead};
use crate::origin::Origin;
use crate::path::{self, Normalized, PathError, PathOptions};
use crate::reply::Failure;
use crate::router::{Matched, Request};
use crate::tls::{Certificates, TlsPeer};
use crate::vars::{Variable, VariableSource, names_field};

/// A request, by nginx's rules for variables.
#[derive(Debug, Clone, Copy)]
pub struct RequestVariables<'a> {
    /// The head.
    pub request: &'a RequestHead,
    /// What it was parsed from.
    pub buf: &'a [u8],
    /// The client.
    pub client: SocketAddr,
    /// Its address without port, as text.
    pub client_ip: &'a [u8],
    /// Where it was accepted.
    pub listener: SocketAddr,
    /// What is special about the connection.
    pub origin: Option<&'a Origin>,
    /// What the client's own `X-Forwarded-*` and `Forwarded` are worth.
    pub trust: Trust,
    /// Name of this machine.
    pub hostname: &'a [u8],
    /// Requests so far on the connection.
    pub connection_requests: u32,
    /// The client's TLS; `None`: it speaks without.
    pub tls: Option<&'a TlsPeer>,
}

impl<'a> RequestVariables<'a> {
    /// The first request of a client on this machine, for who makes a request up.
    pub fn local(request: &'a RequestHead, buf: &'a [u8]) -> Self {
        Self {
            request,
            buf,
            client: (Ipv4Addr::LOCALHOST, 0).into(),
            client_ip: b"127.0.0.1",
            listener: (Ipv4Addr::LOCALHOST, 80).into(),
            origin: None,
            trust: Trust::Unset,
            hostname: b"",
            connection_requests: 1,
            tls: None,
        }
    }

    /// Appends the value of `variable`; `false` when it is not set, or not the request's.
    #[inline]
    pub fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        let request = self.request;
        match variable {
            Variable::RemoteAddr => put(out, self.client_ip),
            Variable::RemotePort => port(out, self.client.port()),
            Variable::RealipRemoteAddr => match self.origin {
                None => put(out, self.client_ip),
                Some(origin) => origin.append_peer(out),
            },
            Variable::RealipRemotePort => {
                let real = self.origin.and_then(|origin| origin.peer).unwrap_or(self.client);
                port(out, real.port())
            }
            Variable::ProxyProtocolAddr
            | Variable::ProxyProtocolPort
            | Variable::ProxyProtocolServerAddr
            | Variable::ProxyProtocolServerPort => {
                self.origin.is_some_and(|origin| origin.append_announced(variable, out))
            }
            Variable::OriginalXForwardedFor => self.original("x-forwarded-for", out),
            Variable::OriginalXForwardedProto => self.original("x-forwarded-proto", out),
            Variable::OriginalXForwardedHost => self.original("x-forwarded-host", out),
            Variable::OriginalXForwardedPort => self.original("x-forwarded-port", out),
            Variable::OriginalForwarded => self.original("forwarded", out),
            Variable::RemoteUser => self.remote_user(out),
            Variable::Host => {
                let start = out.len();
                put(out, split_port(request.host.get(self.buf)).0);
                out[start..].make_ascii_lowercase();
                true
            }
            Variable::Request => self.append_request_line(out),
            Variable::RequestMethod => nonempty(out, request.method.get(self.buf)),
            Variable::RequestUri => nonempty(out, request.target.get(self.buf)),
            Variable::Uri => {
                let (path, _) = path::split_query(request.path_query.get(self.buf));
                path::normalize(path).is_ok_and(|path| nonempty(out, &path))
            }
            Variable::Args => self.query().is_some_and(|query| put(out, query)),
            Variable::IsArgs => put(out, if self.query().is_some() { b"?" } else { b"" }),
            Variable::Arg(name) => self.argument(name).is_some_and(|value| put(out, value)),
            Variable::Cookie(name) => self.cookie(name).is_some_and(|value| put(out, value)),
            Variable::Header(name) => header(&request.fields, self.buf, name, out),
            Variable::ContentType => header(&request.fields, self.buf, "content-type", out),
            Variable::ContentLength => header(&request.fields, self.buf, "content-length", out),
            Variable::Scheme => put(out, if self.tls.is_some() { b"https" } else { b"http" }),
            Variable::Https => put(out, if self.tls.is_some() { b"on" } else { b"" }),
            Variable::ServerProtocol => {
                let version: &[u8] = match (request.http2, request.http11) {
                    (true, _) => b"HTTP/2.0",
                    (false, true) => b"HTTP/1.1",
                    (false, false) => b"HTTP/1.0",
                };
                put(out, version)
            }
            Variable::ServerAddr => match self.origin.and_then(|origin| origin.socket.as_deref()) {
                Some(path) => put(out, path.as_bytes()),
                None => put(out, self.listener.ip().to_string().as_bytes()),
            },
            Variable::ServerPort => port(out, self.listener.port()),
            // The only server block that APISIX has.
            Variable::ServerName => put(out, b"_"),
            Variable::Hostname => put(out, self.hostname),
            Variable::ConnectionRequests => number(out, u64::from(self.connection_requests)),
            Variable::NginxVersion => put(out, env!("CARGO_PKG_VERSION").as_bytes()),
            _ => self.tls.is_some_and(|tls| tls.append(variable, out)),
        }
    }

    fn append_request_line(&self, out: &mut Vec<u8>) -> bool {
        let line = self.request_line();
        match line.strip_suffix(b"1.1").filter(|_| self.request.http2) {
            Some(before) => put(out, before) && put(out, b"2.0"),
            None => put(out, line),
        }
    }

    /// A field as the client sent it; set, if empty, like nginx's copy of it.
    fn original(&self, name: &str, out: &mut Vec<u8>) -> bool {
        header(&self.request.fields, self.buf, name, out);
        true
    }

    /// A field of which the gateway may know better than the client, as upstreams see it too.
    fn forwarded(&self, known: Known, name: &str, out: &mut Vec<u8>) -> bool {
        let (request, buf) = (self.request, self.buf);
        if known == Known::XForwardedFor {
            return self.trust.keeps_chain() && header(&request.fields, buf, name, out);
        }
        if self.trust.put_sent(out, request, buf, known) {
            return true;
        }
        let host = request.host.get(buf);
        match known {
            Known::XForwardedProto => self.append(&Variable::Scheme, out),
            Known::XForwardedHost => nonempty(out, host),
            Known::XForwardedPort => match split_port(host).1.filter(|port| !port.is_empty()) {
                Some(port) => put(out, port),
                None => self.append(&Variable::ServerPort, out),
            },
            _ => false,
        }
    }

    /// The request line as it came; of a refused head, what there is of it.
    fn request_line(&self) -> &'a [u8] {
        let buf = self.buf.trim_ascii_start();
        let end = buf.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        &buf[..end.unwrap_or(buf.len())]
    }

    /// The query string; nginx takes `/?` for a request without arguments.
    pub fn query(&self) -> Option<&'a [u8]> {
        path::split_query(self.request.path_query.get(self.buf)).1.filter(|args| !args.is_empty())
    }

    /// An argument, as it came.
    fn argument(&self, name: &str) -> Option<&'a [u8]> {
        self.query()?.split(|byte| *byte == b'&').find_map(|pair| {
            let mut parts = pair.splitn(2, |byte| *byte == b'=');
            let key = parts.next()?;
            key.eq_ignore_ascii_case(name.as_bytes()).then(|| parts.next().unwrap_or_default())
        })
    }

    fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        fields::values(&self.request.fields, self.buf, "cookie").find_map(|line| {
            line.split(|byte| *byte == b';').find_map(|pair| {
                let pair = pair.trim_ascii_start();
                let rest = pair.strip_prefix(name.as_bytes())?;
                rest.strip_prefix(b"=")
            })
        })
    }

    /// The user name of `Authorization: Basic`.
    fn remote_user(&self, out: &mut Vec<u8>) -> bool {
        let decode = || {
            let value = self.request.value(self.buf, "authorization")?;
            let (scheme, encoded) = value.split_at_checked(6)?;
            if !scheme.eq_ignore_ascii_case(b"basic ") {
                return None;
            }
            let decoded =
                base64::engine::general_purpose::STANDARD.decode(encoded.trim_ascii()).ok()?;
            let end = decoded.iter().position(|byte| *byte == b':')?;
            Some(decoded[..end].to_vec())
        };
        decode().is_some_and(|user| put(out, &user))
    }
}

/// How rules see requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ViewOptions {
    /// What routes see of a path.
    pub path: PathOptions,
    /// How long bodies may be that rules look into.
    pub body: BodyLimits,
}

/// What is at hand of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyState<'a> {
    /// Nothing yet.
    #[default]
    Unread,
    /// It is too long to be looked into.
    TooLong,
    /// All of it, without framing.
    Read(&'a [u8]),
}

/// A request as APISIX's rules see it: routes, expressions, keys of balancers.
#[derive(Debug)]
pub struct View<'a> {
    head: RequestVariables<'a>,
    host: Cow<'a, [u8]>,
    path: Normalized<'a>,
    method: &'a str,
    limits: BodyLimits,
    body: BodyState<'a>,
    /// Few routes ask for one.
    body_variables: OnceCell<Box<BodyVars<'a>>>,
    scratch: RefCell<Vec<u8>>,
    /// The route that serves it, once there is one: for its parameters.
    pub matched: Option<Matched<'a>>,
}

impl<'a> View<'a> {
    /// Looks at a request; its path may be one that is refused.
    #[inline]
    pub fn new(head: RequestVariables<'a>, options: &ViewOptions) -> Result<Self, PathError> {
        let (path, _query) = path::split_query(head.request.path_query.get(head.buf));
        let (host, _port) = split_port(head.request.host.get(head.buf));
        let has_upper = host.iter().any(u8::is_ascii_uppercase);
        Ok(Self {
            head,
            host: if has_upper { host.to_ascii_lowercase().into() } else { host.into() },
            path: options.path.normalize(path)?,
            method: str::from_utf8(head.request.method.get(head.buf)).unwrap_or_default(),
            limits: options.body,
            body: BodyState::Unread,
            body_variables: OnceCell::new(),
            scratch: RefCell::default(),
            matched: None,
        })
    }

    /// The same request, of whose body this is at hand.
    #[must_use]
    pub fn with_body(mut self, body: BodyState<'a>) -> Self {
        self.body = body;
        self.body_variables = OnceCell::new();
        self
    }

    /// Whether a client under TLS may ask for this; see [`TlsPeer::admit`].
    pub fn admit(&self, certificates: &Certificates) -> Result<(), Failure> {
        let Some(tls) = self.head.tls else { return Ok(()) };
        let host = String::from_utf8_lossy(&self.host);
        tls.admit(certificates, &host, &String::from_utf8_lossy(&self.path.uri))
    }

    /// What a parameter of the route's path took.
    fn parameter(&self, name: &str) -> Option<&[u8]> {
        self.matched?.uri()?.capture(name, self.path.for_routes())
    }

    fn body_variables(&self) -> BodyVars<'a> {
        let RequestVariables { request, buf, .. } = self.head;
        let request = BodyRequest {
            method: request.method.get(buf),
            query: self.head.query(),
            content_type: request.value(buf, "content-type"),
            content_length: match (self.body, request.body) {
                (BodyState::TooLong, _) => Some(u64::MAX),
                (_, BodyLength::Known(length)) => Some(length),
                _ => None,
            },
        };
        let mut variables = BodyVars::new(request, self.limits);
        if let BodyState::Read(body) = self.body {
            variables.set_body(body);
        }
        variables
    }

    /// The first argument called `name`, decoded (`ngx.req.get_uri_args`).
    fn argument(&self, name: &str, out: &mut Vec<u8>) -> bool {
        let mut pairs = form_urlencoded::parse(self.head.query().unwrap_or_default());
        pairs.find(|(key, _)| key == name).is_some_and(|(_, value)| put(out, value.as_bytes()))
    }
}

impl Request for View<'_> {
    #[inline]
    fn host(&self) -> &[u8] {
        &self.host
    }

    fn full_host(&self) -> &[u8] {
        self.head.request.host.get(self.head.buf)
    }

    #[inline]
    fn path(&self) -> &[u8] {
        self.path.for_routes()
    }

    #[inline]
    fn method(&self) -> &str {
        self.method
    }

    fn client(&self) -> IpAddr {
        self.head.client.ip().to_canonical()
    }

    fn scratch(&self) -> RefMut<'_, Vec<u8>> {
        self.scratch.borrow_mut()
    }
}

impl VariableSource for View<'_> {
    fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        match variable {
            Variable::Uri => put(out, &self.path.uri),
            // APISIX hands out the normalised path with the arguments.
            Variable::RequestUri => {
                put(out, &self.path.uri);
                if let Some(query) = self.head.query() {
                    put(out, b"?");
                    put(out, query);
                }
                true
            }
            Variable::Arg(name) => self.argument(name, out),
            Variable::Header(name) => match forwarded::known(name) {
                Some(known) => self.head.forwarded(known, name, out),
                None => self.head.append(variable, out),
            },
            Variable::RouteId => self.matched.is_some_and(|it| put(out, it.route.id.as_bytes())),
            Variable::RouteName => {
                self.matched.is_some_and(|it| put(out, it.route.name.as_bytes()))
            }
            Variable::UriParam(name) => self.parameter(name).is_some_and(|value| put(out, value)),
            _ => self.head.append(variable, out),
        }
    }

    fn body_value(&self, variable: &Variable) -> BodyValue<'_> {
        self.body_variables.get_or_init(|| Box::new(self.body_variables())).value(variable)
    }
}

/// A field's values, separated as nginx does.
pub fn header(head: &[Field], buf: &[u8], name: &str, out: &mut Vec<u8>) -> bool {
    let mut found = false;
    for field in head.iter().filter(|field| names_field(name, field.name.get(buf))) {
        if found {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(field.value.get(buf));
        found = true;
    }
    found
}

/// Appends; always set.
pub fn put(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    out.extend_from_slice(bytes);
    true
}

/// Appends; set unless empty.
fn nonempty(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    put(out, bytes);
    !bytes.is_empty()
}

/// Appends a port; 0 stands for none, which is set and empty.
fn port(out: &mut Vec<u8>, port: u16) -> bool {
    if port == 0 { put(out, b"") } else { number(out, port.into()) }
}

/// Appends a number.
pub fn number(out: &mut Vec<u8>, value: u64) -> bool {
    put(out, itoa::Buffer::new().format(value).as_bytes())
}
