//! The registry of request variables: nginx's and APISIX's names, resolved when configuration is
//! compiled.
//!
//! A name is parsed once into a [`Variable`]; at request time whoever knows the request (a
//! [`VariableSource`]) reads the value of that variable, lazily. Sources: nginx's variable index
//! (<https://nginx.org/en/docs/varindex.html>) and APISIX's own variables
//! (docs/en/latest/apisix-variable.md).
//!
//! **Invariant:** a `Variable` holds a name that made sense, never a free string that somebody has
//! to look up later. Adding a variable here makes the compiler point at each source that does not
//! know it yet.

use std::fmt;

use crate::body_vars::{BodyValue, PostPath};

/// Declares the variables without a parameter: the enum, `parse` and `Display` from one table.
macro_rules! variables {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal $(| $alias:literal)*, )*) => {
        /// A request variable, by meaning.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum Variable {
            $( $(#[$doc])* $variant, )*
            /// `http_<name>`: a request header field. Holds the field name in lower case with `-`
            /// for `_`; compare with [`names_field`], because a client may send either.
            Header(Box<str>),
            /// `sent_http_<name>`: a field of the response sent to the client; named as `Header`.
            SentHeader(Box<str>),
            /// `upstream_http_<name>`: a field of the upstream's response; named as `Header`.
            UpstreamHeader(Box<str>),
            /// `arg_<name>`: a query argument, as written. nginx ignores its case, APISIX's `vars`
            /// do not: that is the reader's choice.
            Arg(Box<str>),
            /// `cookie_<name>`: a cookie, as written; case as for `Arg`.
            Cookie(Box<str>),
            /// `post_arg_<name>`: a field of a form in the body, as written (APISIX).
            PostArg(Box<str>),
            /// `post_arg.<path>`: what a path finds in a body of JSON or a form (APISIX).
            PostPath(PostPath),
            /// `uri_param_<name>`: a parameter of the route's path, as written (APISIX).
            UriParam(Box<str>),
            /// `graphql_operation` and so on: of a GraphQL document in the request (APISIX).
            Graphql(GraphqlPart),
        }

        /// Variables without a parameter.
        fn parse_plain(name: &str) -> Option<Variable> {
            match name {
                $( $name $(| $alias)* => Some(Variable::$variant), )*
                _ => None,
            }
        }

        impl fmt::Display for Variable {
            /// Writes the variable's name without the `$`.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $( Self::$variant => f.write_str($name), )*
                    Self::Header(name) => write_field(f, HEADER_PREFIX, name),
                    Self::SentHeader(name) => write_field(f, SENT_HEADER_PREFIX, name),
                    Self::UpstreamHeader(name) => write_field(f, UPSTREAM_HEADER_PREFIX, name),
                    Self::Arg(name) => write!(f, "{ARG_PREFIX}{name}"),
                    Self::Cookie(name) => write!(f, "{COOKIE_PREFIX}{name}"),
                    Self::PostArg(name) => write!(f, "{POST_ARG_PREFIX}{name}"),
                    Self::PostPath(path) => write!(f, "{POST_PATH_PREFIX}{path}"),
                    Self::UriParam(name) => write!(f, "{URI_PARAM_PREFIX}{name}"),
                    Self::Graphql(part) => f.write_str(part.name()),
                }
            }
        }

        /// All variables without a parameter, for tests and listings.
        pub const PLAIN_NAMES: &[&str] = &[$($name),*];
    };
}

variables! {
    /// Client address.
    RemoteAddr = "remote_addr",
    /// Client port.
    RemotePort = "remote_port",
    /// Address of the connection, before any replacement by a trusted `X-Forwarded-For`.
    RealipRemoteAddr = "realip_remote_addr",
    /// Port of the connection, before any replacement.
    RealipRemotePort = "realip_remote_port",
    /// Client in the PROXY protocol header, without port.
    ProxyProtocolAddr = "proxy_protocol_addr",
    /// Its port.
    ProxyProtocolPort = "proxy_protocol_port",
    /// What the client connected to according to the PROXY protocol header, without port.
    ProxyProtocolServerAddr = "proxy_protocol_server_addr",
    /// Its port.
    ProxyProtocolServerPort = "proxy_protocol_server_port",
    /// `X-Forwarded-For` as the client sent it (APISIX); the next four likewise.
    OriginalXForwardedFor = "original_x_forwarded_for",
    /// `X-Forwarded-Proto`.
    OriginalXForwardedProto = "original_x_forwarded_proto",
    /// `X-Forwarded-Host`.
    OriginalXForwardedHost = "original_x_forwarded_host",
    /// `X-Forwarded-Port`.
    OriginalXForwardedPort = "original_x_forwarded_port",
    /// `Forwarded`.
    OriginalForwarded = "original_forwarded",
    /// User name of Basic authentication.
    RemoteUser = "remote_user",
    /// Local time in the Common Log Format: `02/Jan/2006:15:04:05 +0000`.
    TimeLocal = "time_local",
    /// Local time in ISO 8601: `2006-01-02T15:04:05+00:00`.
    TimeIso8601 = "time_iso8601",
    /// Seconds since the epoch with milliseconds: `1136214245.000`.
    Msec = "msec",
    /// Host of the request: from the request line, else `Host`, lower case, without port.
    Host = "host",
    /// Name of this machine.
    Hostname = "hostname",
    /// The request line as received. `request_line` is APISIX's name for it.
    Request = "request" | "request_line",
    /// Method. `method` is APISIX's name for it.
    RequestMethod = "request_method" | "method",
    /// Target as received, with arguments.
    RequestUri = "request_uri",
    /// Normalised path without arguments.
    Uri = "uri" | "document_uri",
    /// Query string; not set when there is none.
    Args = "args" | "query_string",
    /// `?` when there is a query string, else empty.
    IsArgs = "is_args",
    /// `http` or `https`.
    Scheme = "scheme",
    /// `on` for TLS, else empty.
    Https = "https",
    /// `HTTP/1.0`, `HTTP/1.1` ...
    ServerProtocol = "server_protocol",
    /// Address that accepted the connection.
    ServerAddr = "server_addr",
    /// Port that accepted the connection.
    ServerPort = "server_port",
    /// Name of the virtual server.
    ServerName = "server_name",
    /// `Content-Type` of the request.
    ContentType = "content_type",
    /// `Content-Length` of the request.
    ContentLength = "content_length",
    /// Status of the response sent.
    Status = "status",
    /// Bytes of the response body sent to the client.
    BodyBytesSent = "body_bytes_sent",
    /// Bytes sent to the client, head included.
    BytesSent = "bytes_sent",
    /// Bytes of the request: line, head and body.
    RequestLength = "request_length",
    /// Seconds with milliseconds from the first byte of the request to now.
    RequestTime = "request_time",
    /// `OK` when the request was completed, else empty.
    RequestCompletion = "request_completion",
    /// Serial number of the connection.
    Connection = "connection",
    /// Requests so far on the connection.
    ConnectionRequests = "connection_requests",
    /// Age of the connection in seconds with milliseconds.
    ConnectionTime = "connection_time",
    /// Process id.
    Pid = "pid",
    /// `p` when the request was pipelined, else `.`.
    Pipe = "pipe",
    /// Achieved compression ratio.
    GzipRatio = "gzip_ratio",
    /// Version of the program; the name is nginx's.
    NginxVersion = "nginx_version",
    /// Address of the node, or of all nodes tried, separated by `, `.
    UpstreamAddr = "upstream_addr",
    /// Status of the node's response; as `upstream_addr` for several.
    UpstreamStatus = "upstream_status",
    /// Seconds with milliseconds until the node's response was read; as above for several.
    UpstreamResponseTime = "upstream_response_time",
    /// Seconds with milliseconds until the connection stood; as above for several.
    UpstreamConnectTime = "upstream_connect_time",
    /// Seconds with milliseconds until the node's response head; as above for several.
    UpstreamHeaderTime = "upstream_header_time",
    /// Bytes of the node's response body; as above for several.
    UpstreamResponseLength = "upstream_response_length",
    /// Bytes received from the node; as above for several.
    UpstreamBytesReceived = "upstream_bytes_received",
    /// Bytes sent to the node; as above for several.
    UpstreamBytesSent = "upstream_bytes_sent",
    /// Scheme towards the node (APISIX).
    UpstreamScheme = "upstream_scheme",
    /// `Host` towards the node (APISIX).
    UpstreamHost = "upstream_host",
    /// Rewritten target towards the node; empty when it is the client's (APISIX).
    UpstreamUri = "upstream_uri",
    /// Address of the node picked last (APISIX).
    BalancerIp = "balancer_ip",
    /// Port of the node picked last (APISIX).
    BalancerPort = "balancer_port",
    /// Id of the matched route (APISIX).
    RouteId = "route_id",
    /// Name of the matched route (APISIX).
    RouteName = "route_name",
    /// Id of the route's service (APISIX).
    ServiceId = "service_id",
    /// Name of the route's service (APISIX).
    ServiceName = "service_name",
    /// User name of the authenticated consumer (APISIX).
    ConsumerName = "consumer_name",
    /// Group of the authenticated consumer (APISIX).
    ConsumerGroupId = "consumer_group_id",
    /// `TLSv1.2` or `TLSv1.3`. This one and the next are set on TLS connections only.
    SslProtocol = "ssl_protocol",
    /// The cipher suite, by its name in OpenSSL.
    SslCipher = "ssl_cipher",
    /// The name that the client asked for (SNI).
    SslServerName = "ssl_server_name",
    /// The protocol that was agreed upon (ALPN).
    SslAlpnProtocol = "ssl_alpn_protocol",
    /// `r` when the session was resumed, else `.`.
    SslSessionReused = "ssl_session_reused",
    /// `SUCCESS`, `FAILED:reason` or `NONE`.
    SslClientVerify = "ssl_client_verify",
    /// Subject of the client's certificate (RFC 2253).
    SslClientSDn = "ssl_client_s_dn",
    /// Issuer of the client's certificate (RFC 2253).
    SslClientIDn = "ssl_client_i_dn",
    /// Serial number of the client's certificate, in upper-case hexadecimal digits.
    SslClientSerial = "ssl_client_serial",
    /// SHA-1 of the client's certificate, in lower-case hexadecimal digits.
    SslClientFingerprint = "ssl_client_fingerprint",
    /// The client's certificate in PEM, each line but the first behind a tab.
    SslClientCert = "ssl_client_cert",
    /// The client's certificate in PEM.
    SslClientRawCert = "ssl_client_raw_cert",
    /// The client's certificate in PEM, URL-encoded.
    SslClientEscapedCert = "ssl_client_escaped_cert",
    /// Unique id of the request: 32 hexadecimal digits. `apisix_request_id` is APISIX's name.
    RequestId = "request_id" | "apisix_request_id",
}

const HEADER_PREFIX: &str = "http_";
const SENT_HEADER_PREFIX: &str = "sent_http_";
const UPSTREAM_HEADER_PREFIX: &str = "upstream_http_";
const ARG_PREFIX: &str = "arg_";
const COOKIE_PREFIX: &str = "cookie_";
const POST_ARG_PREFIX: &str = "post_arg_";
const POST_PATH_PREFIX: &str = "post_arg.";
const URI_PARAM_PREFIX: &str = "uri_param_";

/// What is told of a GraphQL document: of its first definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GraphqlPart {
    /// `query`, `mutation` ...
    Operation,
    /// The operation's name; empty if it has none.
    Name,
    /// The names of the fields at the top level: a list.
    RootFields,
}

impl GraphqlPart {
    const ALL: [Self; 3] = [Self::Operation, Self::Name, Self::RootFields];

    /// The variable's name.
    fn name(self) -> &'static str {
        match self {
            Self::Operation => "graphql_operation",
            Self::Name => "graphql_name",
            Self::RootFields => "graphql_root_fields",
        }
    }
}

impl Variable {
    /// The variable called `name` (without `$`), or `None` when there is no such variable.
    ///
    /// Names are case-insensitive, as in nginx; the part after `arg_` and `cookie_` keeps its case.
    /// The variables of bodies and of the route's path are not nginx's: their case matters.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(own) = Self::parse_own(name) {
            return Some(own);
        }
        if let Some(arg) = strip_prefix(name, ARG_PREFIX) {
            return Some(Self::Arg(arg.into()));
        }
        if let Some(cookie) = strip_prefix(name, COOKIE_PREFIX) {
            return Some(Self::Cookie(cookie.into()));
        }
        for (prefix, build) in [
            (HEADER_PREFIX, Self::Header as fn(Box<str>) -> Self),
            (SENT_HEADER_PREFIX, Self::SentHeader),
            (UPSTREAM_HEADER_PREFIX, Self::UpstreamHeader),
        ] {
            if let Some(field) = strip_prefix(name, prefix) {
                return Some(build(field.to_ascii_lowercase().replace('_', "-").into()));
            }
        }
        parse_plain(&name.to_ascii_lowercase())
    }

    /// A variable with a parameter that nginx does not have.
    fn parse_own(name: &str) -> Option<Self> {
        let rest = |prefix| name.strip_prefix(prefix).filter(|rest: &&str| !rest.is_empty());
        if let Some(field) = rest(POST_ARG_PREFIX) {
            return Some(Self::PostArg(field.into()));
        }
        if let Some(path) = rest(POST_PATH_PREFIX) {
            return PostPath::parse(path).map(Self::PostPath);
        }
        if let Some(parameter) = rest(URI_PARAM_PREFIX) {
            return Some(Self::UriParam(parameter.into()));
        }
        GraphqlPart::ALL.into_iter().find(|part| part.name() == name).map(Self::Graphql)
    }

    /// Whether the value comes from [`VariableSource::body_value`]: the variables of the body, and
    /// of a GraphQL document wherever it is.
    pub fn is_of_body(&self) -> bool {
        matches!(self, Self::PostArg(_) | Self::PostPath(_) | Self::Graphql(_))
    }

    /// Whether the value consists of digits, letters and simple punctuation made by the gateway
    /// itself, so that it needs no escaping in a log line. `false` when in doubt.
    pub(crate) fn is_clean(&self) -> bool {
        matches!(
            self,
            Self::RemoteAddr
                | Self::RemotePort
                | Self::RealipRemoteAddr
                | Self::RealipRemotePort
                | Self::ProxyProtocolAddr
                | Self::ProxyProtocolPort
                | Self::ProxyProtocolServerAddr
                | Self::ProxyProtocolServerPort
                | Self::TimeLocal
                | Self::TimeIso8601
                | Self::Msec
                | Self::Scheme
                | Self::Https
                | Self::IsArgs
                | Self::ServerProtocol
                | Self::ServerAddr
                | Self::ServerPort
                | Self::Status
                | Self::BodyBytesSent
                | Self::BytesSent
                | Self::RequestLength
                | Self::RequestTime
                | Self::RequestCompletion
                | Self::Connection
                | Self::ConnectionRequests
                | Self::ConnectionTime
                | Self::Pid
                | Self::Pipe
                | Self::UpstreamAddr
                | Self::UpstreamScheme
                | Self::UpstreamStatus
                | Self::UpstreamResponseTime
                | Self::UpstreamConnectTime
                | Self::UpstreamHeaderTime
                | Self::UpstreamResponseLength
                | Self::UpstreamBytesReceived
                | Self::UpstreamBytesSent
                | Self::BalancerPort
                | Self::RequestId
        )
    }
}

/// The non-empty rest of `name` after `prefix`, which is compared without case.
fn strip_prefix<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = name.split_at_checked(prefix.len())?;
    (head.eq_ignore_ascii_case(prefix) && !rest.is_empty()).then_some(rest)
}

/// Writes the name of a header variable the way configurations spell it.
fn write_field(f: &mut fmt::Formatter<'_>, prefix: &str, field: &str) -> fmt::Result {
    f.write_str(prefix)?;
    field.split('-').enumerate().try_for_each(|(i, part)| {
        if i > 0 {
            f.write_str("_")?;
        }
        f.write_str(part)
    })
}

/// Whether the header variable that holds `variable` (as in [`Variable::Header`]) means the header
/// field called `field`: without regard to case, `_` and `-` being the same, as in nginx.
pub fn names_field(variable: &str, field: &[u8]) -> bool {
    variable.len() == field.len()
        && variable.bytes().zip(field).all(|(want, &have)| {
            let have = if have == b'_' { b'-' } else { have.to_ascii_lowercase() };
            want == have
        })
}

/// What can tell the value of a variable: one request, usually.
pub trait VariableSource {
    /// Appends the value of `variable` to `out` as it is, without any escaping.
    ///
    /// Returns `false`, having appended nothing, when the variable is not set for this request (no
    /// such header, no upstream was tried ...). An empty value that is set returns `true`: logs and
    /// expressions tell the two apart.
    fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool;

    /// The value of a variable that [is of the body](Variable::is_of_body). Who reads bodies
    /// answers with a [`BodyVars`](crate::body_vars::BodyVars).
    fn body_value(&self, _variable: &Variable) -> BodyValue<'_> {
        BodyValue::Absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plain_name_parses_and_prints_itself() {
        for name in PLAIN_NAMES {
            let variable = Variable::parse(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(variable.to_string(), *name);
            assert_eq!(Variable::parse(&name.to_ascii_uppercase()), Some(variable));
        }
    }

    #[test]
    fn aliases_mean_the_same() {
        for (alias, name) in [
            ("query_string", "args"),
            ("document_uri", "uri"),
            ("apisix_request_id", "request_id"),
            ("request_line", "request"),
            ("method", "request_method"),
        ] {
            assert_eq!(Variable::parse(alias), Variable::parse(name), "{alias}");
        }
    }

    #[test]
    fn parameters_are_kept() {
        assert_eq!(Variable::parse("http_X_Api_Key"), Some(Variable::Header("x-api-key".into())));
        assert_eq!(Variable::parse("http_x-api-key"), Some(Variable::Header("x-api-key".into())));
        assert_eq!(
            Variable::parse("sent_http_content_type"),
            Some(Variable::SentHeader("content-type".into()))
        );
        assert_eq!(
            Variable::parse("upstream_http_server"),
            Some(Variable::UpstreamHeader("server".into()))
        );
        assert_eq!(Variable::parse("arg_userId"), Some(Variable::Arg("userId".into())));
        assert_eq!(Variable::parse("cookie_a.b"), Some(Variable::Cookie("a.b".into())));
        assert_eq!(Variable::parse("http_x_y").unwrap().to_string(), "http_x_y");
        assert_eq!(Variable::parse("arg_userId").unwrap().to_string(), "arg_userId");
    }

    #[test]
    fn variables_of_the_body_keep_their_case() {
        for name in [
            "post_arg_userId",
            "post_arg.a.B",
            "post_arg.messages[*].content[0]['x']..y",
            "uri_param_userId",
            "graphql_operation",
            "graphql_name",
            "graphql_root_fields",
        ] {
            let variable = Variable::parse(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(variable.to_string(), name);
            assert_eq!(variable.is_of_body(), !name.starts_with("uri_"), "{name}");
            assert_eq!(Variable::parse(&name.to_ascii_uppercase()), None, "{name}");
        }
        assert!(!Variable::Host.is_of_body());
    }

    #[test]
    fn unknown_names_are_none() {
        for name in ["", "nope", "http_", "arg_", "cookie_", "remote_addr ", "äöü", "httpé_x"] {
            assert_eq!(Variable::parse(name), None, "{name:?}");
        }
        for name in ["post_arg_", "post_arg.", "post_arg.a[", "uri_param_", "graphql_x", "graphql_"]
        {
            assert_eq!(Variable::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn fields_are_compared_as_nginx_does() {
        assert!(names_field("x-api-key", b"X-Api-Key"));
        assert!(names_field("x-api-key", b"x_API_key"));
        assert!(!names_field("x-api-key", b"x-api-keys"));
        assert!(!names_field("x-api-key", b"x.api.key"));
    }
}
