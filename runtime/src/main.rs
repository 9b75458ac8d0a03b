//! The `osmia` binary.

use std::process::ExitCode;

// Chosen by measurement, see perf/README.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    osmia::cli::main()
}
