//! Replies that the gateway makes itself: one table from cause to status and body.

use thiserror::Error;

use crate::http1::{BodyError, HeadError};
use crate::path::PathError;

/// Who is to blame for a request that was not proxied; decides what is logged and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The client.
    Downstream,
    /// The node the request was sent to.
    Upstream,
    /// Configuration, or the gateway's own limits.
    Gateway,
}

/// Why a request did not get its upstream's response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Failure {
    /// The request head is refused.
    #[error("request head refused: {0}")]
    RequestHead(HeadError),
    /// The request body breaks its framing.
    #[error("request body refused: {0}")]
    RequestBody(BodyError),
    /// The path cannot be normalised.
    #[error("request path refused: {0}")]
    Path(PathError),
    /// The body is longer than `client_max_body_size`.
    #[error("request body larger than client_max_body_size")]
    BodyTooLarge,
    /// The host needs a certificate of the client, which has shown none.
    #[error("client certificate was not present")]
    NoClientCertificate,
    /// The client's certificate is not one that the host accepts.
    #[error("client certificate is not accepted")]
    BadClientCertificate,
    /// The host needs a certificate of the client, and the connection was made for another name.
    #[error("host differs from the name that the TLS connection was made for")]
    WrongServerName,
    /// The client speaks HTTP where TLS is expected.
    #[error("plain HTTP request on a TLS port")]
    PlainHttp,
    /// The client was silent for too long.
    #[error("client timed out")]
    ClientTimeout,
    /// The client went away.
    #[error("client closed the connection")]
    ClientGone,
    /// No route matches.
    #[error("no route matches")]
    NoRoute,
    /// The route has no upstream with a usable node.
    #[error("no valid upstream node")]
    NoNode,
    /// The route names an upstream that does not exist.
    #[error("the route's upstream does not exist")]
    NoUpstream,
    /// The certificate that the upstream is to be shown does not exist.
    #[error("the upstream's client certificate does not exist")]
    NoCertificate,
    /// The route names a service that does not exist.
    #[error("the route's service does not exist")]
    NoService,
    /// The route names a plugin configuration that does not exist.
    #[error("the route's plugin_config does not exist")]
    NoPluginConfig,
    /// There is no configuration yet.
    #[error("no configuration yet")]
    NotConfigured,
    /// Something that the route needs cannot be used; the Control API lists it.
    #[error("the route needs what this gateway cannot do, see the Control API")]
    Quarantined,
    /// No connection to a node could be established.
    #[error("cannot connect to the upstream node")]
    Connect,
    /// Establishing a connection took too long.
    #[error("connecting to the upstream node timed out")]
    ConnectTimeout,
    /// The node closed or reset the connection before any of its response.
    #[error("upstream node closed the connection before its response")]
    UpstreamClosed,
    /// The node vouches that it has not looked at the request (RFC 9113, section 8.7).
    #[error("upstream node refused the request unprocessed")]
    UpstreamRefused,
    /// The node sent something that is not HTTP/1.
    #[error("invalid response from the upstream node: {0}")]
    ResponseHead(HeadError),
    /// The response body breaks its framing.
    #[error("invalid response body from the upstream node: {0}")]
    ResponseBody(BodyError),
    /// The node closed or reset the connection within its response.
    #[error("upstream node closed the connection before the end of its response")]
    ResponseTruncated,
    /// The node did not take the request in time.
    #[error("sending to the upstream node timed out")]
    SendTimeout,
    /// The node did not answer in time.
    #[error("reading from the upstream node timed out")]
    ReadTimeout,
    /// The call has taken as long as its client allows (`grpc-timeout`).
    #[error("the call's grpc-timeout has passed")]
    CallTimeout,
    /// The gateway is out of descriptors or memory.
    #[error("gateway out of resources")]
    Overload,
    /// The gateway stops.
    #[error("gateway shutting down")]
    Shutdown,
    /// A defect in the gateway: a panic, contained to this connection.
    #[error("internal error")]
    Internal,
}

macro_rules! page {
    ($title:literal) => {
        concat!(
            "<html>\r\n<head><title>",
            $title,
            "</title></head>\r\n<body>\r\n<center><h1>",
            $title,
            "</h1></center>\r\n<hr><center>osmia</center>\r\n</body>\r\n</html>\r\n"
        )
    };
}

impl Failure {
    /// The status of the reply; 499 is only logged, as in nginx: the client is gone.
    pub fn status(self) -> u16 {
        match self {
            Self::RequestHead(error) => error.status(),
            Self::RequestBody(error) => error.status(),
            Self::Path(_)
            | Self::NoClientCertificate
            | Self::BadClientCertificate
            | Self::WrongServerName
            | Self::PlainHttp => 400,
            Self::BodyTooLarge => 413,
            Self::ClientTimeout => 408,
            Self::ClientGone => 499,
            Self::NoRoute | Self::NoService => 404,
            Self::NoNode
            | Self::NoPluginConfig
            | Self::NotConfigured
            | Self::Quarantined
            | Self::Overload
            | Self::Shutdown => 503,
            Self::NoUpstream
            | Self::NoCertificate
            | Self::Connect
            | Self::UpstreamClosed
            | Self::UpstreamRefused
            | Self::ResponseHead(_)
            | Self::ResponseBody(_)
            | Self::ResponseTruncated => 502,
            Self::ConnectTimeout | Self::SendTimeout | Self::ReadTimeout | Self::CallTimeout => 504,
            Self::Internal => 500,
        }
    }

    /// The status of a call of gRPC that it ends (gRPC, "statuscodes", and for statuses of HTTP
    /// "http-grpc-status-mapping").
    pub fn grpc_status(self) -> u8 {
        match self {
            Self::BodyTooLarge | Self::Overload => 8,
            Self::ClientTimeout
            | Self::ConnectTimeout
            | Self::SendTimeout
            | Self::ReadTimeout
            | Self::CallTimeout => 4,
            Self::NoRoute | Self::NoService => 12,
            Self::NoClientCertificate | Self::BadClientCertificate => 16,
            Self::ClientGone => 1,
            _ => match self.status() {
                400..=500 => 13,
                _ => 14,
            },
        }
    }

    /// Who is to blame.
    pub fn source(self) -> Source {
        match self {
            Self::RequestHead(_)
            | Self::RequestBody(_)
            | Self::Path(_)
            | Self::BodyTooLarge
            | Self::NoClientCertificate
            | Self::BadClientCertificate
            | Self::WrongServerName
            | Self::PlainHttp
            | Self::ClientTimeout
            | Self::CallTimeout
            | Self::ClientGone => Source::Downstream,
            Self::NoRoute
            | Self::NoNode
            | Self::NoUpstream
            | Self::NoCertificate
            | Self::NoService
            | Self::NoPluginConfig
            | Self::NotConfigured
            | Self::Quarantined
            | Self::Overload
            | Self::Shutdown
            | Self::Internal => Source::Gateway,
            _ => Source::Upstream,
        }
    }

    /// Whether another node may be tried, as far as the failure goes (nginx
    /// `proxy_next_upstream error timeout`: not for a response that is complete and wrong). Whether
    /// the request may be repeated is for the caller to say.
    pub fn allows_retry(self) -> bool {
        matches!(
            self,
            Self::Connect
                | Self::ConnectTimeout
                | Self::UpstreamClosed
                | Self::UpstreamRefused
                | Self::ResponseTruncated
                | Self::SendTimeout
                | Self::ReadTimeout
        )
    }

    /// The body of the reply and its media type.
    ///
    /// Routing failures are JSON, as in APISIX; the others are the error pages that nginx makes
    /// there.
    pub fn body(self) -> (&'static str, &'static str) {
        const PLAIN: &str = "text/plain; charset=utf-8";
        match self {
            Self::NoRoute => (PLAIN, "{\"error_msg\":\"404 Route Not Found\"}\n"),
            Self::Quarantined => (PLAIN, "{\"error_msg\":\"503 Route Not Usable\"}\n"),
            Self::PlainHttp => (
                "text/html; charset=utf-8",
                page!("400 The plain HTTP request was sent to HTTPS port"),
            ),
            _ => ("text/html; charset=utf-8", page(self.status())),
        }
    }
}

/// The reason phrase of a status (RFC 9110, section 15).
pub fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Not Allowed",
        408 => "Request Timeout",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

fn page(status: u16) -> &'static str {
    match status {
        400 => page!("400 Bad Request"),
        404 => page!("404 Not Found"),
        405 => page!("405 Not Allowed"),
        408 => page!("408 Request Timeout"),
        413 => page!("413 Request Entity Too Large"),
        414 => page!("414 Request-URI Too Large"),
        417 => page!("417 Expectation Failed"),
        431 => page!("431 Request Header Fields Too Large"),
        501 => page!("501 Not Implemented"),
        502 => page!("502 Bad Gateway"),
        503 => page!("503 Service Temporarily Unavailable"),
        504 => page!("504 Gateway Time-out"),
        505 => page!("505 HTTP Version Not Supported"),
        _ => page!("500 Internal Server Error"),
    }
}
