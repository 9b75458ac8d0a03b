//! A peer: the smallest proxy on the pingora crate that does the same work as the others in
//! `bench/peers`. One worker thread, keep-alive on both sides, the same forwarded headers.

use std::net::SocketAddr;

use async_trait::async_trait;
use clap::Parser;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Idle upstream connections that are kept: more than any benchmark has clients under load.
const POOL: usize = 1024;

/// Forwards every request to one upstream.
#[derive(Debug, Parser)]
#[command(name = "osmia-peer-pingora", version)]
struct Args {
    /// Address to listen on.
    #[arg(long)]
    listen: SocketAddr,
    /// Address to forward to.
    #[arg(long)]
    upstream: SocketAddr,
}

struct Forward {
    upstream: SocketAddr,
    /// `X-Forwarded-Port`.
    port: String,
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        (): &mut (),
    ) -> Result<()> {
        let client = session.client_addr().and_then(|addr| addr.as_inet()).map(SocketAddr::ip);
        if let Some(client) = client {
            let client = client.to_string();
            let chain = match request.headers.get("X-Forwarded-For").map(|value| value.to_str()) {
                Some(Ok(earlier)) => format!("{earlier}, {client}"),
                _ => client.clone(),
            };
            request.insert_header("X-Real-IP", client)?;
            request.insert_header("X-Forwarded-For", chain)?;
        }
        if let Some(host) = request.headers.get("Host").cloned() {
            request.insert_header("X-Forwarded-Host", host)?;
        }
        request.insert_header("X-Forwarded-Proto", "http")?;
        request.insert_header("X-Forwarded-Port", self.port.as_str())
    }
}

fn main() {
    let args = Args::parse();
    let settings =
        ServerConf { threads: 1, upstream_keepalive_pool_size: POOL, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, settings);
    server.bootstrap();
    let forward = Forward { upstream: args.upstream, port: args.listen.port().to_string() };
    let mut service = http_proxy_service(&server.configuration, forward);
    service.add_tcp(&args.listen.to_string());
    server.add_service(service);
    server.run_forever();
}
