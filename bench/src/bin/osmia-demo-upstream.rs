//! The demo and benchmark upstream. `make run` starts it beside the gateway.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;

/// A small, fast HTTP/1.1 server to put behind the gateway.
///
/// Paths: /bytes/N, /chunked/N, /upload, /delay/MS, /sse, /sse/N; anything else answers who was
/// asked for what.
#[derive(Debug, Parser)]
#[command(name = "osmia-demo-upstream", version)]
struct Args {
    /// Address to listen on; port 0 takes a free one, which is printed.
    #[arg(long, default_value = "127.0.0.1:9081")]
    listen: SocketAddr,
}

fn main() -> ExitCode {
    match osmia_bench::upstream::run(Args::parse().listen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("osmia-demo-upstream: {error}");
            ExitCode::FAILURE
        }
    }
}
