//! One request and its response.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use osmia_core::grpc;
use osmia_core::health::Outcome;
use osmia_core::http1::request::split_port;
use osmia_core::http1::response::Asked;
use osmia_core::http1::write::{self, RequestRewrite, Sink};
use osmia_core::http1::{Body, BodyLength, RequestHead, ResponseHead};
use osmia_core::reply::{Failure, Source};
use osmia_core::request::{BodyState, RequestVariables, View};
use osmia_core::router::{Hit, Matched};
use osmia_core::snapshot::{Node, Snapshot, Upstream, UpstreamProtocol};

use super::attempts::Attempts;
use super::balance::{self, Target};
use super::connect::{self, Destination};
use super::connection::Downstream;
use super::prebody;
use super::reply;
use super::response::{Delivered, Delivery, Relay, RequestTraits, may_defer};
use super::side::{Limit, Uploading, Watch, wait};
use super::tunnel;
use super::upload::Upload;
use crate::buf::{Buf, Class};
use crate::log::{AccessLog, Record};
use crate::net::{Transport, Tx};
use crate::worker::deadline::Direction;
use crate::worker::upstreams::UpstreamConn;
use crate::worker::{Scratch, Worker};

/// What becomes of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The next request may come.
    KeepAlive,
    /// Close it, reading on for a while so that what was sent arrives; no more than this many
    /// bytes.
    Linger(u64),
    /// Close it once everything is sent.
    Close,
    /// Close it at once: the other side is gone, or must see that the response is cut short.
    Abort,
    /// The same where only a reset tells a cut response from a complete one.
    Reset,
}

/// Serves the request whose head was parsed from `buf` into `scratch`.
pub async fn run<N: Transport>(
    worker: &Worker<N>,
    down: &mut Downstream<N>,
    scratch: &mut Scratch,
    mut buf: Buf,
) -> Disposition {
    let started = worker.log.as_ref().filter(|_| down.listener.access_log).map(|_| Instant::now());
    let Scratch { request, response, out } = scratch;
    down.requests += 1;
    worker.stats.requests.add(1);
    let local = worker.snapshot();
    let mut exchange = Exchange {
        worker,
        body: Body::new(request.body, true, &worker.settings.limits),
        request,
        response,
        out,
        delivery: Delivery::default(),
        attempts: Attempts { began: started, ..Attempts::default() },
        body_received: 0,
        told_to_go_on: false,
        tunnelled: (0, 0),
    };
    let result = exchange.serve(down, &mut buf, local.get()).await;
    let disposition = exchange.conclude(down, &buf, result).await;
    if let (Some(log), Some(started)) = (&worker.log, started) {
        log.write(&Record {
            client: &down.client,
            listener: &down.listener,
            origin: down.origin.as_deref(),
            connection_requests: down.requests,
            tls: down.tls.as_deref(),
            request: exchange.request,
            response: exchange.response,
            buf: buf.bytes(),
            delivery: &exchange.delivery,
            attempts: &exchange.attempts,
            body_received: exchange.body_received + exchange.tunnelled.0,
            started,
            ended: Instant::now(),
            unix_seconds: worker.clock.unix_seconds(),
            server: &worker.settings.server,
            hostname: &worker.settings.hostname,
        });
    }
    down.eager_send = !may_defer(&exchange.delivery);
    disposition
}

struct Exchange<'a, 's, N: Transport> {
    worker: &'a Worker<N>,
    request: &'a RequestHead,
    response: &'a mut ResponseHead,
    out: &'a mut Vec<u8>,
    body: Body,
    delivery: Delivery,
    attempts: Attempts<'s>,
    body_received: u64,
    /// The client was told to send its body.
    told_to_go_on: bool,
    tunnelled: (u64, u64),
}

impl<'s, N: Transport> Exchange<'_, 's, N> {
    async fn serve(
        &mut self,
        down: &mut Downstream<N>,
        buf: &mut Buf,
        snapshot: Option<&'s Snapshot>,
    ) -> Result<Delivered, Failure> {
        self.split_first_part(down, buf)?;
        let (matched, hash) = self.find_route(down, buf, snapshot).await?;
        let route = matched.route;
        self.attempts.matched = Some(matched);
        self.attempts.hash = hash;
        self.check_body_size()?;
        let upstream = route.upstream.as_deref().map_err(|failure| *failure)?;
        self.attempts.upstream = Some(upstream);
        let target = Target {
            upstream,
            down: snapshot.and_then(|snapshot| snapshot.health.down(upstream.slot)),
            counted: snapshot.and_then(|snapshot| snapshot.health.counted(upstream.slot)),
            timeouts: route.timeout().unwrap_or(upstream.timeout),
            websocket: route.enable_websocket,
        };
        let is_call = upstream.protocol == UpstreamProtocol::Grpc;
        if is_call
            && let Some(value) = self.request.value(buf.bytes(), "grpc-timeout")
            && let Some(timeout) = grpc::timeout(value)
        {
            down.slot.set(Direction::Call, self.worker.clock.now_ms(), timeout);
        }
        let outcome = self.proxy(down, buf, target).await;
        if is_call {
            down.slot.clear(Direction::Call);
        }
        outcome
    }

    /// Separates what came with the head: the body's first part stays behind the head, what
    /// belongs to the next request is set aside. A receive is armed if the request is complete.
    fn split_first_part(&mut self, down: &mut Downstream<N>, buf: &mut Buf) -> Result<(), Failure> {
        let head = self.request.len;
        if buf.len() > head {
            let accepted =
                self.body.accept(&mut buf.bytes_mut()[head..]).map_err(Failure::RequestBody)?;
            if head + accepted.consumed < buf.len() {
                down.early = Some(Buf::copy_of(&buf.bytes()[head + accepted.consumed..]));
            }
            buf.truncate(head + accepted.kept);
            self.body_received = accepted.consumed as u64;
        }
        if self.body.is_done() && down.early.is_none() {
            down.arm(self.worker);
        }
        Ok(())
    }

    /// The route for the request, and the hash of its balancer's key. When that depends on the
    /// body, the body is read first.
    async fn find_route(
        &mut self,
        down: &mut Downstream<N>,
        buf: &mut Buf,
        snapshot: Option<&'s Snapshot>,
    ) -> Result<(Matched<'s>, u32), Failure> {
        let Snapshot { router, certificates, .. } = snapshot.ok_or(Failure::NoRoute)?;
        let mut view = self.view(down, buf)?;
        view.admit(certificates)?;
        match router.find(&view, &mut ()) {
            Some(Hit::Matched(matched)) => return Ok((matched, balance::hash(matched, &mut view))),
            Some(Hit::NeedsBody) => {}
            None => return Err(Failure::NoRoute),
        }
        self.check_body_size()?;
        let worker = self.worker;
        let most = worker.settings.view.body.most();
        let reading = prebody::Reading {
            request: self.request,
            body: &mut self.body,
            received: &mut self.body_received,
            most,
        };
        let complete = reading.run(worker, down, buf).await?;
        self.told_to_go_on = self.request.expect_continue;
        let payload = prebody::payload(
            self.request,
            buf.bytes().get(self.request.len..).unwrap_or_default(),
            &worker.settings.limits,
        );
        let state = if complete { BodyState::Read(&payload) } else { BodyState::TooLong };
        let mut view = self.view(down, buf)?.with_body(state);
        match router.find(&view, &mut ()) {
            Some(Hit::Matched(matched)) => Ok((matched, balance::hash(matched, &mut view))),
            _ => Err(Failure::NoRoute),
        }
    }

    /// The request as rules see it.
    fn view<'v>(&'v self, down: &'v Downstream<N>, buf: &'v Buf) -> Result<View<'v>, Failure> {
        let head = RequestVariables {
            request: self.request,
            buf: buf.bytes(),
            client: down.client.addr,
            client_ip: down.client.ip(),
            listener: down.listener.addr,
            origin: down.origin.as_deref(),
            trust: down.trust(self.worker),
            hostname: &self.worker.settings.hostname,
            connection_requests: down.requests,
            tls: down.tls.as_deref(),
        };
        View::new(head, &self.worker.settings.view).map_err(Failure::Path)
    }

    fn check_body_size(&self) -> Result<(), Failure> {
        let limit = self.worker.settings.client_max_body_bytes;
        let length = match self.request.body {
            BodyLength::Known(length) => length,
            _ => self.body.payload(),
        };
        if limit > 0 && length > limit { Err(Failure::BodyTooLarge) } else { Ok(()) }
    }

    /// Tries nodes until one answers or no further try is allowed (nginx
    /// `proxy_next_upstream error timeout`, as APISIX sets it up).
    async fn proxy(
        &mut self,
        down: &mut Downstream<N>,
        buf: &Buf,
        target: Target<'s>,
    ) -> Result<Delivered, Failure> {
        let Target { upstream, .. } = target;
        let give_up = upstream
            .retry_timeout
            .map(|limit| self.worker.clock.now_ms() + limit.as_millis() as u64);
        let mut retries = upstream.retries;
        let mut replayed = false;
        let mut pick =
            balance::pick(self.worker, &target, &self.attempts).ok_or(Failure::NoNode)?;
        loop {
            let node = upstream.nodes.get(pick.index).ok_or(Failure::NoNode)?;
            let plan = Plan { node, target, fresh: replayed };
            let failure = match self.try_node(down, buf, plan).await {
                Ok(delivered) => {
                    balance::release(self.worker, upstream, &pick, true);
                    balance::observe(
                        self.worker,
                        &target,
                        &pick,
                        Outcome::Status(self.attempts.status),
                    );
                    return Ok(delivered);
                }
                Err(failure) => failure,
            };
            self.blame(failure, upstream, node);
            self.attempts.status = failure.status();
            let repeatable = self.may_repeat(failure, buf);
            let stale = matches!(failure, Failure::UpstreamClosed | Failure::UpstreamRefused);
            if repeatable && self.attempts.reused && stale && !replayed {
                // The node closed a kept connection while the request was on its way: that says
                // nothing about the node.
                replayed = true;
                self.worker.stats.replays.add(1);
                self.attempts.next();
                continue;
            }
            balance::release(self.worker, upstream, &pick, failure.source() != Source::Upstream);
            if failure.source() == Source::Upstream {
                balance::observe(self.worker, &target, &pick, balance::outcome_of(failure));
            }
            let late = give_up.is_some_and(|at| self.worker.clock.now_ms() >= at);
            if !repeatable || retries == 0 || late {
                return Err(failure);
            }
            retries -= 1;
            self.attempts.tried.insert(pick.index);
            pick = balance::pick(self.worker, &target, &self.attempts).ok_or(failure)?;
            self.worker.stats.retries.add(1);
            self.attempts.next();
        }
    }

    /// Whether the request can be sent again: nobody has acted on it, or acting twice does no harm
    /// (RFC 9110, section 9.2.2), all of it is still at hand, and the client has no response yet.
    fn may_repeat(&self, failure: Failure, buf: &Buf) -> bool {
        failure.allows_retry()
            && !self.delivery.begun
            && !self.attempts.streamed
            && (!self.attempts.sent
                || failure == Failure::UpstreamRefused
                || self.request.is_idempotent(buf.bytes()))
    }

    fn blame(&self, failure: Failure, upstream: &Upstream, node: &Node) {
        if failure.source() == Source::Upstream {
            self.worker.stats.upstream_errors.add(1);
            tracing::warn!(upstream = %upstream.id, node = %node.label, "{failure}");
        }
    }

    async fn try_node(
        &mut self,
        down: &mut Downstream<N>,
        buf: &Buf,
        plan: Plan<'s>,
    ) -> Result<Delivered, Failure> {
        self.attempts.node = Some(plan.node);
        self.attempts.sent = false;
        let mut up = self.acquire(down, buf, &plan).await?;
        self.attempts.connect_time = self.time_since_attempt();
        self.send_request(down, buf, &plan, &mut up);
        let (delivered, uploaded) = self.deliver(down, buf, &plan, &mut up).await?;
        self.attempts.status = self.delivery.status;
        if delivered.upgraded {
            self.tunnel(down, &mut up, &plan).await;
        } else if delivered.upstream_reusable && uploaded && !up.multiplexed {
            up.large = delivered.large;
            let now = self.worker.clock.now_ms();
            let (pool, limits) = (plan.node.pool, plan.target.upstream.keepalive);
            self.worker.upstreams.borrow_mut().put(pool, limits, up, now);
        }
        Ok(delivered)
    }

    /// A kept connection to the node, or a new one.
    async fn acquire(
        &mut self,
        down: &mut Downstream<N>,
        buf: &Buf,
        plan: &Plan<'s>,
    ) -> Result<UpstreamConn<N>, Failure> {
        let name = plan.target.upstream.tls.as_ref().map(|_| self.server_name(buf, plan));
        let preamble = connect::preamble(plan.target.upstream, down);
        let to = Destination { upstream: plan.target.upstream, node: plan.node, name };
        let multiplexed = to.upstream.protocol != UpstreamProtocol::Http1;
        if !plan.fresh
            && preamble.is_none()
            && !multiplexed
            && let Some(kept) = self.worker.upstreams.borrow_mut().take(plan.node.pool, name)
        {
            self.attempts.reused = true;
            return Ok(kept);
        }
        self.attempts.reused = false;
        let limit = Limit {
            timeout: plan.target.timeouts.connect,
            failure: Failure::ConnectTimeout,
            after_upload: false,
        };
        if multiplexed || name.is_some() {
            // In a box: few requests need the room, and all would have it in their task.
            let opened = Box::pin(connect::layered(self.worker, down, to, preamble, limit)).await?;
            self.attempts.reused = opened.reused;
            return Ok(opened.conn);
        }
        let (mut side, slot) = connect::watch(down);
        let mut connecting = pin!(connect::connect(&self.worker.net, plan.node, preamble));
        let connected =
            wait(self.worker, slot, &mut side, limit, |cx| connecting.as_mut().poll(cx)).await?;
        self.worker.stats.connects.add(1);
        connected.map(UpstreamConn::new).map_err(|error| connect::failure(&error))
    }

    /// What the node has to be by its certificate: the host it is asked for (nginx
    /// `proxy_ssl_name`, as APISIX sets it up).
    fn server_name<'b>(&self, buf: &'b Buf, plan: &Plan<'b>) -> &'b [u8]
    where
        's: 'b,
    {
        split_port(self.attempts.host(plan.node, self.request, buf.bytes())).0
    }

    /// Sends the rewritten head, and behind it what is there of the body.
    fn send_request(
        &mut self,
        down: &Downstream<N>,
        buf: &Buf,
        plan: &Plan<'s>,
        up: &mut UpstreamConn<N>,
    ) {
        let bytes = buf.bytes();
        let rewrite = RequestRewrite {
            host: self.attempts.host(plan.node, self.request, bytes),
            target: None,
            client_ip: down.client.ip(),
            scheme: if down.tls.is_some() { b"https" } else { b"http" },
            server_port: down.listener.port.as_bytes(),
            trust: down.trust(self.worker),
            upgrade: self.upgrades(plan),
        };
        let mut out = Buf::new(Class::Small);
        write::request_head(&mut out, self.request, bytes, &rewrite);
        out.put(bytes.get(self.request.len..).unwrap_or_default());
        self.attempts.sent = true;
        up.requests += 1;
        up.conn.tx.start(out);
        up.arm();
        down.slot.want_nudge();
    }

    /// Time of the attempt so far, if the log wants it in detail.
    fn time_since_attempt(&self) -> Option<Duration> {
        let wanted = self.worker.log.as_ref().is_some_and(AccessLog::times_upstream);
        self.attempts.began.filter(|_| wanted).map(|began| began.elapsed())
    }

    fn upgrades(&self, plan: &Plan<'s>) -> bool {
        self.request.upgrade && plan.target.websocket
    }

    /// Uploads what is left of the body while the response is waited for and passed on. The second
    /// value tells whether the whole request was sent.
    async fn deliver(
        &mut self,
        down: &mut Downstream<N>,
        buf: &Buf,
        plan: &Plan<'s>,
        up: &mut UpstreamConn<N>,
    ) -> Result<(Delivered, bool), Failure> {
        let traits = RequestTraits {
            asked: Asked { head: self.request.is_head(buf.bytes()), upgrade: self.upgrades(plan) },
            http11: self.request.http11,
            keep_alive: self.request.keep_alive && down.may_stay(self.worker),
            keep_head: self.worker.log.as_ref().is_some_and(AccessLog::reads_response_head),
            timed: self.attempts.connect_time.is_some(),
        };
        let waits = self.request.expect_continue && !self.told_to_go_on;
        if !self.body.is_done() && waits && !down.conn.tx.is_busy() {
            down.conn.tx.start(Buf::copy_of(b"HTTP/1.1 100 Continue\r\n\r\n"));
        }
        let heard = Cell::new(self.worker.clock.now_ms());
        let relay = Relay::<N> {
            worker: self.worker,
            slot: &down.slot,
            upstream: &mut up.conn.rx,
            client: &mut down.conn.tx,
            head: self.response,
            out: self.out,
            request: traits,
            read_timeout: plan.target.timeouts.read,
            progress: &mut self.delivery,
            heard: &heard,
        };
        if self.body.is_done() {
            let mut side = Watch::<N> {
                client: &mut down.conn.rx,
                upstream: Some(&mut up.conn.tx),
                early: &mut down.early,
                slot: &down.slot,
            };
            return Ok((relay.run(&mut side).await?, true));
        }
        self.attempts.streamed = true;
        let complete = Cell::new(false);
        // To either side of a call of gRPC the other may have nothing to say for a long time.
        let patient = plan.target.upstream.protocol == UpstreamProtocol::Grpc;
        let upload = Upload::<N> {
            worker: self.worker,
            slot: &down.slot,
            client: &mut down.conn.rx,
            upstream: &mut up.conn.tx,
            body: &mut self.body,
            early: &mut down.early,
            send_timeout: plan.target.timeouts.send,
            received: &mut self.body_received,
            complete: &complete,
            idle: patient.then_some((plan.target.timeouts.read, &heard)),
        };
        // In a box: most requests have no such upload, and all would have its room in their task.
        let mut upload = Box::pin(upload.run());
        let mut side = Uploading { upload: upload.as_mut(), ended: false, complete: &complete };
        let delivered = relay.run(&mut side).await?;
        Ok((delivered, side.ended || complete.get()))
    }

    async fn tunnel(
        &mut self,
        down: &mut Downstream<N>,
        up: &mut UpstreamConn<N>,
        plan: &Plan<'s>,
    ) {
        let traffic = tunnel::Traffic::default();
        let early = down.early.take();
        tunnel::run(
            self.worker,
            &down.slot,
            &mut down.conn,
            &mut up.conn,
            early,
            plan.target.timeouts.read,
            &traffic,
        )
        .await;
        self.tunnelled = (traffic.from_client.get(), traffic.to_client.get());
        self.delivery.body_bytes += self.tunnelled.1;
        self.delivery.sent_bytes += self.tunnelled.1;
    }

    /// Replies if nothing was sent yet, and decides what becomes of the connection.
    async fn conclude(
        &mut self,
        down: &mut Downstream<N>,
        buf: &Buf,
        result: Result<Delivered, Failure>,
    ) -> Disposition {
        let complete = self.body.is_done();
        match result {
            Ok(delivered) if delivered.upgraded => Disposition::Abort,
            Ok(_) if !complete => Disposition::Linger(u64::MAX),
            Ok(delivered) if delivered.closes => Disposition::Close,
            Ok(_) => Disposition::KeepAlive,
            Err(Failure::ClientGone) => {
                if !self.delivery.begun {
                    self.delivery.status = Failure::ClientGone.status();
                }
                Disposition::Abort
            }
            Err(_) if self.delivery.until_close => Disposition::Reset,
            Err(_) if self.delivery.begun => Disposition::Abort,
            Err(failure) => self.reply(down, buf, failure, complete).await,
        }
    }

    async fn reply(
        &mut self,
        down: &mut Downstream<N>,
        buf: &Buf,
        failure: Failure,
        complete: bool,
    ) -> Disposition {
        let close = !complete
            || !self.request.keep_alive
            || !down.may_stay(self.worker)
            || self.worker.is_draining()
            || failure.source() == Source::Downstream;
        let head_only = self.request.is_head(buf.bytes());
        let statuses = match failure.source() {
            Source::Upstream => self.attempts.statuses(),
            _ => String::new(),
        };
        let reply = if reply::is_grpc(self.request, buf.bytes()) {
            reply::build_grpc(self.worker, failure)
        } else {
            reply::build(self.worker, failure, close, head_only, &statuses)
        };
        self.delivery.status = failure.status();
        self.delivery.sent_bytes = reply.len() as u64;
        self.delivery.body_bytes = if head_only { 0 } else { failure.body().1.len() as u64 };
        if down.send(self.worker, reply).await.is_err() {
            return Disposition::Abort;
        }
        match (close, complete) {
            (false, _) => Disposition::KeepAlive,
            (true, true) => Disposition::Close,
            (true, false) => Disposition::Linger(u64::MAX),
        }
    }
}

/// What is fixed for one attempt.
struct Plan<'a> {
    node: &'a Node,
    target: Target<'a>,
    /// Do not use a kept connection.
    fresh: bool,
}
