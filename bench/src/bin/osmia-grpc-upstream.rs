//! The upstream of the benchmark's gRPC part.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;

/// An HTTP/2 server (prior knowledge) that answers every request as a unary gRPC call.
#[derive(Debug, Parser)]
#[command(name = "osmia-grpc-upstream", version)]
struct Args {
    /// Address to listen on; port 0 takes a free one, which is printed.
    #[arg(long, default_value = "127.0.0.1:9082")]
    listen: SocketAddr,
}

fn main() -> ExitCode {
    let listen = Args::parse().listen;
    match osmia_bench::grpc::run(listen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "osmia-grpc-upstream: cannot serve {listen}: {error} (choose another with --listen)"
            );
            ExitCode::FAILURE
        }
    }
}
