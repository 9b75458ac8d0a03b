//! The main direction of an exchange: from the upstream's first byte to the client's last.

use std::cell::Cell;
use std::task::Poll;
use std::time::{Duration, Instant};

use osmia_core::http1::body::BodyLength;
use osmia_core::http1::response::Asked;
use osmia_core::http1::write::{self, ConnectionField, ResponseRewrite};
use osmia_core::http1::{Body, HeadError, ResponseHead};
use osmia_core::limits::INTERIM_RESPONSES;
use osmia_core::reply::Failure;

use super::side::{Limit, Side, wait};
use crate::buf::{Buf, Class};
use crate::net::{Net, Rx, Tx};
use crate::worker::Worker;
use crate::worker::deadline::Slot;

/// A send this small is left to complete by itself: the socket's buffer has room for it, and the
/// client's next request says that it arrived.
const DEFERRED_SEND: usize = 4 * 1024;

/// What a response is passed on with.
pub struct Relay<'a, N: Net> {
    /// The worker.
    pub worker: &'a Worker<N>,
    /// The connection's slot.
    pub slot: &'a Slot,
    /// From here.
    pub upstream: &'a mut N::Rx,
    /// To here.
    pub client: &'a mut N::Tx,
    /// Parsed here.
    pub head: &'a mut ResponseHead,
    /// Heads are written here.
    pub out: &'a mut Vec<u8>,
    /// What the request decides.
    pub request: RequestTraits,
    /// Silence allowed from the upstream.
    pub read_timeout: Duration,
    /// Filled as the response proceeds.
    pub progress: &'a mut Delivery,
    /// When something came last of the upstream, on the worker's clock.
    pub heard: &'a Cell<u64>,
}

/// What of a request decides how its response is delivered.
#[derive(Debug, Clone, Copy)]
pub struct RequestTraits {
    /// How the response is read.
    pub asked: Asked,
    /// The client speaks HTTP/1.1: it understands chunks and interim responses.
    pub http11: bool,
    /// The client and the gateway both want to keep the connection.
    pub keep_alive: bool,
    /// The log wants the response's head.
    pub keep_head: bool,
    /// The log wants to know when the head was complete.
    pub timed: bool,
}

/// How far a response got.
#[derive(Debug, Clone, Default)]
pub struct Delivery {
    /// The final head is on its way to the client: nothing else can be said any more.
    pub begun: bool,
    /// To the client, the end of the connection is the end of the body.
    pub until_close: bool,
    /// Status of the final head; 0 before.
    pub status: u16,
    /// Bytes of body sent to the client, with their framing.
    pub body_bytes: u64,
    /// Bytes sent to the client in all.
    pub sent_bytes: u64,
    /// When the final head was complete; see [`RequestTraits::timed`].
    pub head_at: Option<Instant>,
    /// The upstream's final head; see [`RequestTraits::keep_head`].
    pub head: Vec<u8>,
}

/// A response that was delivered to its end.
#[derive(Debug, Clone, Copy)]
pub struct Delivered {
    /// The upstream's connection can serve another request.
    pub upstream_reusable: bool,
    /// The client was told that its connection is closed.
    pub closes: bool,
    /// The response did not fit into a small buffer.
    pub large: bool,
    /// The protocol was switched.
    pub upgraded: bool,
}

/// The final head, with what came behind it.
struct Received {
    buf: Buf,
}

impl<N: Net> Relay<'_, N> {
    /// Waits for the response and delivers it.
    pub async fn run(mut self, side: &mut impl Side) -> Result<Delivered, Failure> {
        let Received { mut buf } = self.receive_head(side).await?;
        if self.head.status == 101 {
            return self.switch(side, buf).await;
        }
        let plan = Plan::new(self.head, self.request, self.worker.is_draining());
        let mut body =
            Body::new(self.head.body, plan.framing == self.head.body, &self.worker.settings.limits);
        self.write_head(&buf, plan.connection, plan.framing);
        buf.advance(self.head.len);
        let mut state = BodyState { rechunk: plan.rechunk, extra: false, large: buf.is_large() };
        state.take(&mut body, &mut buf)?;
        let body_bytes = buf.len();
        self.flush_client(side).await?;
        self.send_with_head(buf, side).await?;
        self.count(body_bytes);
        while !body.is_done() {
            if !self.forward_part(side, &mut body, &mut state).await? {
                break;
            }
        }
        Ok(Delivered {
            upstream_reusable: self.head.keep_alive && body.is_done() && !state.extra,
            closes: plan.connection == ConnectionField::Close || !self.request.keep_alive,
            large: state.large,
            upgraded: false,
        })
    }

    /// Receives until a final head is complete. Interim heads are passed on, but for `100`: the
    /// gateway answers expectations itself.
    async fn receive_head(&mut self, side: &mut impl Side) -> Result<Received, Failure> {
        self.head.reset();
        let mut interim = 0;
        // A kept connection that ends before any of the response may just have been old.
        let mut closed = Failure::UpstreamClosed;
        loop {
            let mut buf = match self.receive(side, true).await {
                Ok(Some(buf)) => buf,
                Ok(None) | Err(Failure::UpstreamClosed) => return Err(closed),
                Err(failure) => return Err(failure),
            };
            closed = Failure::ResponseTruncated;
            loop {
                let limits = &self.worker.settings.limits;
                let complete = self
                    .head
                    .parse(buf.bytes(), self.request.asked, limits)
                    .map_err(Failure::ResponseHead)?;
                if !complete {
                    break;
                }
                if !self.head.is_interim() {
                    return Ok(Received { buf });
                }
                interim += 1;
                if interim > INTERIM_RESPONSES {
                    return Err(Failure::ResponseHead(HeadError::UnexpectedStatus));
                }
                self.forward_interim(&buf, side).await?;
                buf.advance(self.head.len);
                self.head.reset();
            }
            if buf.room() == 0 {
                buf.grow(buf.len());
            }
            self.upstream.start(buf, false);
        }
    }

    async fn forward_interim(&mut self, buf: &Buf, side: &mut impl Side) -> Result<(), Failure> {
        if self.head.status == 100 || !self.request.http11 {
            return Ok(());
        }
        self.out.clear();
        write::interim_head(self.out, self.head, buf.bytes());
        self.flush_client(side).await?;
        self.progress.sent_bytes += self.out.len() as u64;
        self.client.start(Buf::copy_of(self.out));
        Ok(())
    }

    /// The next bytes of the upstream; `None`: it closed the connection.
    async fn receive(
        &mut self,
        side: &mut impl Side,
        is_head: bool,
    ) -> Result<Option<Buf>, Failure> {
        if !self.upstream.is_armed() {
            let class = if is_head { Class::Small } else { Class::Large };
            self.upstream.start(Buf::new(class), false);
        }
        let limit =
            Limit { timeout: self.read_timeout, failure: Failure::ReadTimeout, after_upload: true };
        let (upstream, client) = (&mut *self.upstream, &mut *self.client);
        let mut client_failed = false;
        let (result, buf) = wait(self.worker, self.slot, side, limit, |cx| {
            if !is_head && client.is_busy() {
                client_failed |= matches!(client.poll(cx), Poll::Ready(Err(_)));
            }
            upstream.poll(cx)
        })
        .await?;
        if client_failed {
            return Err(Failure::ClientGone);
        }
        match result {
            Ok(received) if received > 0 => {
                self.heard.set(self.worker.clock.now_ms());
                Ok(Some(buf))
            }
            Ok(_) => Ok(None),
            Err(error) if is_head && error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Err(Failure::UpstreamRefused)
            }
            Err(_) if is_head => Err(Failure::UpstreamClosed),
            Err(_) => Err(Failure::ResponseTruncated),
        }
    }

    fn write_head(&mut self, buf: &Buf, connection: ConnectionField, framing: BodyLength) {
        let mut extra = [0; 32];
        let extra = self.upstream_status_line(&mut extra);
        self.out.clear();
        let settings = &self.worker.settings;
        self.worker.clock.with_date(|date| {
            let rewrite = ResponseRewrite {
                server: settings.server.as_bytes(),
                date,
                connection,
                framing,
                extra,
            };
            write::response_head(self.out, self.head, buf.bytes(), &rewrite);
        });
        self.progress.begun = true;
        self.progress.until_close = framing == BodyLength::UntilClose;
        self.progress.status = self.head.status;
        self.progress.head_at = self.request.timed.then(Instant::now);
        if self.request.keep_head {
            self.progress.head = buf.bytes()[..self.head.len].to_vec();
        }
    }

    /// `X-APISIX-Upstream-Status`, on 5xx unless the settings want it always.
    fn upstream_status_line<'b>(&self, line: &'b mut [u8; 32]) -> &'b [u8] {
        const NAME: &[u8] = b"X-APISIX-Upstream-Status: ";
        let status = self.head.status;
        if status < 500 && !self.worker.settings.show_upstream_status {
            return b"";
        }
        let digit = |divisor: u16| b'0' + (status / divisor % 10) as u8;
        line[..NAME.len()].copy_from_slice(NAME);
        line[NAME.len()..NAME.len() + 5].copy_from_slice(&[
            digit(100),
            digit(10),
            digit(1),
            b'\r',
            b'\n',
        ]);
        &line[..NAME.len() + 5]
    }

    /// Sends the written head and `body` in one piece where there is room for the head.
    async fn send_with_head(&mut self, mut body: Buf, side: &mut impl Side) -> Result<(), Failure> {
        self.progress.sent_bytes += self.out.len() as u64;
        if body.prepend(self.out) {
            self.client.start(body);
            return Ok(());
        }
        self.client.start(Buf::copy_of(self.out));
        if !body.is_empty() {
            self.flush_client(side).await?;
            self.client.start(body);
        }
        Ok(())
    }

    /// Forwards the next part of the body; `false`: the upstream's end was the body's end.
    async fn forward_part(
        &mut self,
        side: &mut impl Side,
        body: &mut Body,
        state: &mut BodyState,
    ) -> Result<bool, Failure> {
        let Some(mut buf) = self.receive(side, false).await? else {
            if !body.ends_with_connection() {
                return Err(Failure::ResponseTruncated);
            }
            if state.rechunk {
                self.flush_client(side).await?;
                self.client.start(Buf::copy_of(b"0\r\n\r\n"));
                self.count(5);
            }
            return Ok(false);
        };
        state.large = true;
        state.take(body, &mut buf)?;
        if !buf.is_empty() {
            self.flush_client(side).await?;
            self.count(buf.len());
            self.client.start(buf);
        }
        Ok(true)
    }

    fn count(&mut self, body_bytes: usize) {
        self.progress.body_bytes += body_bytes as u64;
        self.progress.sent_bytes += body_bytes as u64;
    }

    /// Waits until the client has taken what was sent.
    async fn flush_client(&mut self, side: &mut impl Side) -> Result<(), Failure> {
        if !self.client.is_busy() {
            return Ok(());
        }
        let limit = Limit {
            timeout: self.worker.settings.downstream.send,
            failure: Failure::ClientTimeout,
            after_upload: false,
        };
        let client = &mut *self.client;
        loop {
            let before = client.sent();
            let flushed = wait(self.worker, self.slot, side, limit, |cx| client.poll(cx)).await;
            // A slow client is none that stands still.
            if !matches!(flushed, Err(Failure::ClientTimeout)) || client.sent() == before {
                return flushed?.map_err(|_| Failure::ClientGone);
            }
        }
    }

    /// `101 Switching Protocols`: passes the head and what came with it on.
    async fn switch(&mut self, side: &mut impl Side, mut buf: Buf) -> Result<Delivered, Failure> {
        self.write_head(&buf, ConnectionField::Upgrade, self.head.body);
        buf.advance(self.head.len);
        self.flush_client(side).await?;
        self.count(buf.len());
        self.send_with_head(buf, side).await?;
        self.flush_client(side).await?;
        Ok(Delivered { upstream_reusable: false, closes: true, large: false, upgraded: true })
    }
}

/// Whether the last send of a response may complete unobserved.
pub fn may_defer(delivery: &Delivery) -> bool {
    delivery.sent_bytes as usize <= DEFERRED_SEND
}

/// How a response goes out.
struct Plan {
    framing: BodyLength,
    /// A close-delimited body is given chunks, so that the client's connection can be kept.
    rechunk: bool,
    connection: ConnectionField,
}

impl Plan {
    fn new(head: &ResponseHead, request: RequestTraits, draining: bool) -> Self {
        let framing = match (head.body, request.http11) {
            (BodyLength::UntilClose, true) => BodyLength::Chunked,
            (BodyLength::Chunked, false) => BodyLength::UntilClose,
            (body, _) => body,
        };
        let keep = request.keep_alive && !draining && framing != BodyLength::UntilClose;
        Self {
            framing,
            rechunk: framing == BodyLength::Chunked && head.body == BodyLength::UntilClose,
            connection: match (keep, request.http11) {
                (true, true) => ConnectionField::Implied,
                (true, false) => ConnectionField::KeepAlive,
                (false, _) => ConnectionField::Close,
            },
        }
    }
}

struct BodyState {
    rechunk: bool,
    /// The upstream sent more than its response: its connection is out of step.
    extra: bool,
    large: bool,
}

impl BodyState {
    /// Leaves in `buf` what is to be sent of it.
    fn take(&mut self, body: &mut Body, buf: &mut Buf) -> Result<(), Failure> {
        let accepted = body.accept(buf.bytes_mut()).map_err(Failure::ResponseBody)?;
        self.extra |= accepted.consumed < buf.len();
        buf.truncate(accepted.kept);
        if self.rechunk && !buf.is_empty() {
            let (line, start) = write::chunk_size_line(buf.len());
            // Both fit: the line into the room of the head that was there or the headroom, the
            // line end into the tailroom.
            let fits = buf.prepend(&line[start..]) && buf.append(b"\r\n");
            debug_assert!(fits, "a received buffer has head- and tailroom");
        }
        Ok(())
    }
}
