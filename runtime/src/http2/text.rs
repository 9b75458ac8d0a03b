//! Heads between HTTP/2 and the HTTP/1.1 that the request's life is written for.

use std::fmt::Write as _;

use h2::ext::Protocol;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use osmia_core::grpc;
use osmia_core::http1::chunked::is_forbidden_trailer;
use osmia_core::http1::write::Sink;
use osmia_core::http1::{Field, Known, RequestHead, ResponseHead};

/// Why a request of HTTP/2 cannot be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// `:authority` and `Host` differ (RFC 9113, section 8.3.1).
    #[error(":authority and Host differ")]
    Authority,
    /// An extended CONNECT for something else than WebSocket (RFC 8441).
    #[error("extended CONNECT for an unknown protocol")]
    Protocol,
    /// Neither `http` nor `https`.
    #[error(":scheme is neither http nor https")]
    Scheme,
    /// Something in a head has no form in the other version.
    #[error("cannot be expressed in the other version of HTTP")]
    Form,
}

/// Writes `request` down. `ended`: it has no body.
pub fn request(out: &mut impl Sink, request: &Request<()>, ended: bool) -> Result<(), TextError> {
    let headers = request.headers();
    let uri = request.uri();
    let authority = authority(uri, headers)?;
    // It is known of a URI with an authority only.
    let foreign = |scheme| scheme != "http" && scheme != "https";
    if uri.authority().is_some()
        && request.method() != Method::CONNECT
        && uri.scheme_str().is_none_or(foreign)
    {
        return Err(TextError::Scheme);
    }
    let upgrade = match request.extensions().get::<Protocol>() {
        None => false,
        Some(protocol) if protocol.as_str() == "websocket" => true,
        Some(_) => return Err(TextError::Protocol),
    };
    let is_connect = request.method() == Method::CONNECT && !upgrade;
    out.put(if upgrade { b"GET" } else { request.method().as_str().as_bytes() });
    out.put(b" ");
    match uri.path_and_query() {
        _ if is_connect => out.put(authority),
        Some(target) if !target.as_str().is_empty() => out.put(target.as_str().as_bytes()),
        _ => out.put(b"/"),
    }
    out.put(b" HTTP/1.1\r\nhost: ");
    out.put(authority);
    out.put(b"\r\n");
    // A body of which it is said that it is empty, and which has not ended, may turn out longer.
    let empty = headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0");
    for (name, value) in headers {
        if empty && !ended && *name == CONTENT_LENGTH {
            continue;
        }
        if !matches!(*name, HOST | COOKIE | TE | TRANSFER_ENCODING | CONNECTION | UPGRADE) {
            put_field(out, name, value);
        }
    }
    put_cookies(out, headers);
    if upgrade {
        // The key proves something between speakers of HTTP/1.1 only: any will do.
        out.put(b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: ");
        out.put(websocket_key().as_bytes());
        out.put(b"\r\n");
    } else if !ended && (empty || !headers.contains_key(CONTENT_LENGTH)) {
        out.put(b"transfer-encoding: chunked\r\n");
    }
    out.put(b"\r\n");
    Ok(())
}

/// 16 random bytes in base64 (RFC 6455, section 4.1).
fn websocket_key() -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(fastrand::u128(..).to_ne_bytes())
}

fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a [u8], TextError> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(TextError::Authority);
    }
    match (uri.authority().map(|authority| authority.as_str().as_bytes()), host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(TextError::Authority)
        }
        (Some(authority), _) => Ok(authority),
        (None, host) => Ok(host.unwrap_or_default()),
    }
}

/// HTTP/2 may cut it into pieces, HTTP/1.1 has one field (RFC 9113, section 8.2.3).
fn put_cookies(out: &mut impl Sink, headers: &HeaderMap) {
    for (at, value) in headers.get_all(COOKIE).iter().enumerate() {
        out.put(if at == 0 { b"cookie: " } else { b"; " });
        out.put(value.as_bytes());
    }
    if headers.contains_key(COOKIE) {
        out.put(b"\r\n");
    }
}

fn put_field(out: &mut impl Sink, name: &HeaderName, value: &HeaderValue) {
    out.put(name.as_str().as_bytes());
    out.put(b": ");
    out.put(value.as_bytes());
    out.put(b"\r\n");
}

/// Writes `response` down. `bodiless`: nothing follows, so that its length has to be said.
pub fn response(out: &mut impl Sink, response: &Response<()>, bodiless: bool, chunked: bool) {
    let status = response.status();
    let mut line = String::with_capacity(48);
    let reason = status.canonical_reason().unwrap_or("");
    let _ = write!(line, "HTTP/1.1 {} {reason}\r\n", status.as_str());
    out.put(line.as_bytes());
    for (name, value) in response.headers() {
        if !matches!(*name, TRANSFER_ENCODING | CONNECTION | UPGRADE) {
            put_field(out, name, value);
        }
    }
    if chunked {
        out.put(b"transfer-encoding: chunked\r\n");
    } else if bodiless && !response.headers().contains_key(CONTENT_LENGTH) {
        out.put(b"content-length: 0\r\n");
    }
    out.put(b"\r\n");
}

/// Writes the fields behind a body down, as the end of its chunks.
pub fn trailers(out: &mut impl Sink, trailers: Option<&HeaderMap>) {
    out.put(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if !is_forbidden_trailer(name.as_str().as_bytes()) {
            put_field(out, name, value);
        }
    }
    out.put(b"\r\n");
}

/// Reads the fields behind a body.
pub fn read_trailers(lines: &[u8]) -> Option<HeaderMap> {
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(lines, &mut slots)
    else {
        return None;
    };
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        map.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    (!map.is_empty()).then_some(map)
}

/// The fields of a head that have a place in HTTP/2 (RFC 9113, section 8.2.2).
fn fields(fields: &[Field], buf: &[u8], skip: impl Fn(Known) -> bool) -> Option<HeaderMap> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        if field.known.is_hop_by_hop()
            || matches!(field.known, Known::TransferEncoding | Known::Connection | Known::Upgrade)
            || skip(field.known)
        {
            continue;
        }
        let name = HeaderName::from_bytes(field.name.get(buf)).ok()?;
        map.append(name, HeaderValue::from_bytes(field.value.get(buf)).ok()?);
    }
    Some(map)
}

/// The response whose head is in `buf`.
pub fn to_response(head: &ResponseHead, buf: &[u8]) -> Result<Response<()>, TextError> {
    let mut response = Response::new(());
    let switched = head.status == 101;
    // What HTTP/1.1 calls switching is success here (RFC 8441, section 5).
    let status = if switched { 200 } else { head.status };
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| TextError::Form)?;
    *response.headers_mut() = fields(&head.fields, buf, |_| false).ok_or(TextError::Form)?;
    let headers = response.headers_mut();
    if switched {
        headers.remove("sec-websocket-accept");
    }
    // To gRPC a head that is the whole response is a trailer section.
    if headers
        .get(CONTENT_TYPE)
        .is_some_and(|media_type| grpc::is_media_type(media_type.as_bytes()))
        && headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0")
    {
        headers.remove(CONTENT_LENGTH);
    }
    Ok(response)
}

/// The request whose head is in `buf`, for a node that is reached over `https` or not. `grpc`: it
/// says that it understands trailers, as gRPC demands.
pub fn to_request(
    head: &RequestHead,
    buf: &[u8],
    https: bool,
    grpc: bool,
) -> Result<Request<()>, TextError> {
    let host = head.host.get(buf);
    let target = head.path_query.get(buf);
    let uri = Uri::builder()
        .scheme(if https { "https" } else { "http" })
        .authority(host)
        .path_and_query(if target.is_empty() { b"/" } else { target })
        .build()
        .map_err(|_| TextError::Form)?;
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() =
        Method::from_bytes(head.method.get(buf)).map_err(|_| TextError::Form)?;
    *request.uri_mut() = uri;
    let skip = |known| matches!(known, Known::Host | Known::Expect);
    *request.headers_mut() = fields(&head.fields, buf, skip).ok_or(TextError::Form)?;
    if grpc {
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(request)
}
