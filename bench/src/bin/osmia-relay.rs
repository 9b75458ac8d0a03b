//! The bare relay: the practical limit that Osmia is compared with.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;

/// Relays bytes unmodified between clients and one upstream, one upstream connection per client
/// connection, on one `io_uring` loop (kernel 6.1 or newer).
#[derive(Debug, Parser)]
#[command(name = "osmia-relay", version)]
struct Args {
    /// Address to listen on; port 0 takes a free one, which is printed.
    #[arg(long)]
    listen: SocketAddr,
    /// Address that every connection is relayed to.
    #[arg(long)]
    upstream: SocketAddr,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match osmia_bench::relay::run(args.listen, args.upstream) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("osmia-relay: {error}");
            ExitCode::FAILURE
        }
    }
}
