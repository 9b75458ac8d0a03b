//! Replies of the gateway's own.

use osmia_core::grpc;
use osmia_core::http1::RequestHead;
use osmia_core::http1::write::Sink;
use osmia_core::reply::{Failure, reason};

use crate::buf::Buf;
use crate::net::Net;
use crate::worker::Worker;

/// Whether a request is a call of gRPC.
pub fn is_grpc(request: &RequestHead, buf: &[u8]) -> bool {
    request.http2 && request.value(buf, "content-type").is_some_and(grpc::is_media_type)
}

/// The complete reply to a call of gRPC: its status in place of one of HTTP, which a client of gRPC
/// would have to guess from (gRPC, "PROTOCOL-HTTP2", Trailers-Only).
pub fn build_grpc<N: Net>(worker: &Worker<N>, failure: Failure) -> Buf {
    let message = failure.to_string();
    let mut buf = Buf::with_room(512 + 3 * message.len());
    buf.put(b"HTTP/1.1 200 OK\r\nDate: ");
    worker.clock.with_date(|date| buf.put(date));
    buf.put(b"\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\nServer: ");
    buf.put(worker.settings.server.as_bytes());
    buf.put(b"\r\ngrpc-status: ");
    buf.put(failure.grpc_status().to_string().as_bytes());
    buf.put(b"\r\ngrpc-message: ");
    // Percent-encoded, as far as these texts need it.
    buf.put(message.replace('%', "%25").as_bytes());
    buf.put(b"\r\n\r\n");
    buf
}

/// The complete reply for `failure`. `head_only`: without its body, as for `HEAD`. `statuses`:
/// those of all attempts, empty when no node is to blame.
pub fn build<N: Net>(
    worker: &Worker<N>,
    failure: Failure,
    close: bool,
    head_only: bool,
    statuses: &str,
) -> Buf {
    let (media_type, body) = failure.body();
    let status = failure.status();
    let mut buf = Buf::with_room(512 + body.len() + statuses.len());
    buf.put(b"HTTP/1.1 ");
    buf.put(status.to_string().as_bytes());
    buf.put(b" ");
    buf.put(reason(status).as_bytes());
    buf.put(b"\r\nDate: ");
    worker.clock.with_date(|date| buf.put(date));
    buf.put(b"\r\nContent-Type: ");
    buf.put(media_type.as_bytes());
    buf.put(b"\r\nContent-Length: ");
    buf.put(body.len().to_string().as_bytes());
    buf.put(b"\r\nServer: ");
    buf.put(worker.settings.server.as_bytes());
    if !statuses.is_empty() {
        buf.put(b"\r\nX-APISIX-Upstream-Status: ");
        buf.put(statuses.as_bytes());
    }
    buf.put(if close { b"\r\nConnection: close\r\n\r\n" } else { b"\r\n\r\n" });
    if !head_only {
        buf.put(body.as_bytes());
    }
    buf
}
