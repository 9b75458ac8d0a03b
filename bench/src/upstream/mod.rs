//! The demo and benchmark upstream: one thread, `io_uring` where the kernel offers it, else epoll.
//!
//! It has to cost far less per request than any proxy under test, so that the proxy is what
//! saturates: common bodies are built once and leave in one write together with their head.

mod connection;
mod reply;
mod request;

use std::io::{self, Write};
use std::net::SocketAddr;

use monoio::net::{ListenerOpts, TcpListener};
use monoio::{FusionDriver, FusionRuntime, RuntimeBuilder};

pub use reply::pattern_byte;

/// Connections that may wait for `accept`.
const BACKLOG: i32 = 4096;
/// Submission queue entries: one batch for every connection of the largest benchmark.
const RING_ENTRIES: u32 = 1024;

/// Why the upstream cannot run.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No event loop: neither `io_uring` nor epoll could be set up.
    #[error("cannot set up an event loop: {0}")]
    Runtime(io::Error),
    /// The address is taken or not ours.
    #[error("cannot listen on {addr}: {source} (choose another with --listen)")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Serves `addr` for ever. Prints `listening on <address>` once connections are taken.
pub fn run(addr: SocketAddr) -> Result<(), UpstreamError> {
    macro_rules! serve {
        ($runtime:expr) => {
            $runtime.block_on(accept_loop(addr))
        };
    }
    match build_runtime().map_err(UpstreamError::Runtime)? {
        FusionRuntime::Uring(mut runtime) => serve!(runtime),
        FusionRuntime::Legacy(mut runtime) => serve!(runtime),
    }
}

type TimedRuntime = FusionRuntime<
    monoio::time::TimeDriver<monoio::IoUringDriver>,
    monoio::time::TimeDriver<monoio::LegacyDriver>,
>;

/// Kernels before 6.1 refuse the ring flags; they get a plain ring.
fn build_runtime() -> io::Result<TimedRuntime> {
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    let builder = || RuntimeBuilder::<FusionDriver>::new().with_entries(RING_ENTRIES);
    match builder().uring_builder(ring).enable_timer().build() {
        Ok(runtime) => Ok(runtime),
        Err(_) => builder().enable_timer().build(),
    }
}

async fn accept_loop(addr: SocketAddr) -> Result<(), UpstreamError> {
    let options = ListenerOpts::new().reuse_port(false).backlog(BACKLOG);
    let listen_error = |source| UpstreamError::Listen { addr, source };
    let listener = TcpListener::bind_with_config(addr, &options).map_err(listen_error)?;
    let bound = listener.local_addr().map_err(listen_error)?;
    let mut out = io::stdout();
    // Whoever started us may have closed the pipe; serving goes on without the line.
    let _ = writeln!(out, "listening on {bound}").and_then(|()| out.flush());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                monoio::spawn(connection::serve(stream));
            }
            // Out of descriptors, most likely: give those in use the time to come back.
            Err(_) => monoio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}
