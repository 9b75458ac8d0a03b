//! The `osmia` binary.

use std::process::ExitCode;

// Small objects come and go with every connection; see perf/README.md, "What was found".
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    osmia::allocator::tune();
    osmia::cli::main()
}
