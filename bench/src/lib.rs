//! Benchmarks: the upstream, the bare relay, the load generators, and the harness that compares
//! Osmia with its peers on one machine.
//!
//! `osmia-bench run` is the entry point; `perf/README.md` tells how to read what it prints.

pub mod grpc;
pub mod load;
pub mod relay;
pub mod upstream;
