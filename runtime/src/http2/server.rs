//! A client's connection of HTTP/2: its streams, and when it ends.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Method, Request};
use osmia_core::http1::HeadError;
use osmia_core::http1::response::Asked;
use osmia_core::http2::Misuse;
use osmia_core::reply::Failure;

use super::io::{Io, Watch};
use super::{stream, text};
use crate::buf::{Buf, Class};
use crate::http::connection::{self, Downstream, Idle};
use crate::http::exchange::{self, Disposition};
use crate::http::greet::within;
use crate::net::{Conn, Transport, Tx};
use crate::worker::Worker;
use crate::worker::deadline::Direction;

/// Most streams at once (nginx `http2_max_concurrent_streams`).
const STREAMS: u32 = 128;
/// What a client may send on a stream before anything of it was passed on.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams that a client may open and give up before anybody has looked at them. `h2` ends the
/// connection beyond it (CVE-2023-44487); it may be all that a client may have open.
const RESETS: usize = 2 * STREAMS as usize;
/// How long a connection may take to end after it was told to.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves a connection of which `received` was received, until it ends.
pub async fn serve<N: Transport>(worker: Rc<Worker<N>>, conn: Conn<N>, idle: Idle, received: Buf) {
    let settings = &worker.settings;
    idle.slot.set(Direction::Main, worker.clock.now_ms(), settings.downstream.header);
    let io = Io::new(conn, received, true);
    let watch = io.watch();
    let head_bytes = u32::try_from(settings.limits.head_bytes).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(head_bytes)
        .max_send_buffer_size(crate::buf::LARGE)
        .max_pending_accept_reset_streams(RESETS)
        .enable_connect_protocol();
    let handshake = builder.handshake::<_, Buf>(io);
    let Some(Ok(connection)) = within(&idle.slot, handshake).await else {
        worker.stats.refused.add(1);
        return;
    };
    let mut client = Client { worker, connection, idle, watch, ending: false, rests: false };
    poll_fn(|cx| client.poll(cx)).await;
}

struct Client<N: Transport> {
    worker: Rc<Worker<N>>,
    connection: Connection<Io<N>, Buf>,
    idle: Idle,
    watch: Rc<Watch>,
    /// It was told that no more streams are accepted.
    ending: bool,
    /// It has no streams, and a deadline.
    rests: bool,
}

impl<N: Transport> Client<N> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.connection.poll_accept(cx) {
                // What comes with a flood, or without a preface, is not looked at any more.
                Poll::Ready(Some(Ok((request, respond)))) if self.watch.verdict().is_none() => {
                    self.begin(request, respond);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(client = %self.idle.addr, "HTTP/2: {error}");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
            }
            // What follows may have something to say, which is only said when polled again.
            if !self.look_after() {
                return Poll::Pending;
            }
            if self.ending && self.idle.slot.is_expired(Direction::Main) {
                return Poll::Ready(());
            }
        }
    }

    /// Deadlines, the drain, and floods. Whether there is something to be sent, or accepted.
    fn look_after(&mut self) -> bool {
        let Self { worker, idle, watch, .. } = self;
        let slot = &idle.slot;
        if slot.take_nudge() {
            watch.refill();
        }
        if watch.is_counting() {
            slot.want_nudge();
        }
        if let Some(verdict) = watch.verdict().filter(|_| !self.ending) {
            worker.stats.refused.add(1);
            tracing::info!(client = %idle.addr, "HTTP/2: {verdict}");
            self.connection.abrupt_shutdown(match verdict {
                Misuse::Flood => Reason::ENHANCE_YOUR_CALM,
                Misuse::Preface => Reason::PROTOCOL_ERROR,
            });
            return self.end();
        }
        let has_streams = self.connection.has_streams();
        if has_streams && std::mem::replace(&mut self.rests, false) && !self.ending {
            slot.clear(Direction::Main);
        } else if !has_streams && !std::mem::replace(&mut self.rests, true) && !self.ending {
            let timeout = worker.settings.downstream.keepalive;
            slot.set(Direction::Main, worker.clock.now_ms(), timeout);
        }
        if self.ending {
            return slot.is_expired(Direction::Main) && !has_streams;
        }
        let limit = worker.settings.downstream.keepalive_requests;
        let spent = limit > 0 && idle.requests >= limit;
        if worker.is_draining() || spent || slot.is_expired(Direction::Main) {
            self.connection.graceful_shutdown();
            return self.end();
        }
        false
    }

    fn end(&mut self) -> bool {
        self.ending = true;
        self.idle.slot.set(Direction::Main, self.worker.clock.now_ms(), FAREWELL);
        true
    }

    /// Serves a request as a task of its own.
    fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Buf>) {
        self.idle.requests += 1;
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, ());
        let ended = body.is_end_stream();
        let mut head = Buf::new(Class::Small);
        let written = text::request(&mut head, &request, ended);
        let asked = Asked {
            head: request.method() == Method::HEAD,
            upgrade: request.extensions().get::<h2::ext::Protocol>().is_some(),
        };
        let length = request.headers().get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let length = length.filter(|length: &u64| *length > 0);
        let (rx, tx) = stream::downstream(body, length, respond, asked);
        let idle = self.idle.for_stream(&self.worker);
        let down = Downstream::new(&self.worker, N::stream(rx, tx), idle);
        let refused = written.err().map(|error| {
            tracing::info!(client = %self.idle.addr, "HTTP/2 request: {error}");
            Failure::RequestHead(HeadError::InvalidHost)
        });
        let task = serve_stream(Rc::clone(&self.worker), down, head, refused);
        let task = connection::guarded(Rc::clone(&self.worker), task).map(|_| ());
        self.worker.net.spawn(task);
    }
}

/// One request and its response.
async fn serve_stream<N: Transport>(
    worker: Rc<Worker<N>>,
    mut down: Downstream<N>,
    head: Buf,
    refused: Option<Failure>,
) {
    down.attach().await;
    let mut scratch = worker.take_scratch();
    scratch.request.reset();
    let parsed = match refused {
        Some(failure) => Err(failure),
        None => match scratch.request.parse(head.bytes(), &worker.settings.limits) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::RequestHead(HeadError::StartLine)),
            Err(error) => Err(Failure::RequestHead(error)),
        },
    };
    scratch.request.http2 = true;
    let disposition = match parsed {
        Ok(()) => exchange::run(&worker, &mut down, &mut scratch, head).await,
        Err(failure) => connection::refuse(&worker, &mut down, &mut scratch, failure, &head).await,
    };
    worker.give_scratch(scratch);
    match disposition {
        Disposition::Abort | Disposition::Reset => down.conn.tx.reset(),
        // What is left of the request's body is of no interest any more, and the client is told.
        Disposition::KeepAlive | Disposition::Close | Disposition::Linger(_) => {
            let _ = down.flush(&worker).await;
        }
    }
}
