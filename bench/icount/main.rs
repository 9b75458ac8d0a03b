//! Work to count instructions of, one scenario per run:
//! `valgrind --tool=callgrind --collect-atstart=no --toggle-collect=osmia_icount_measured
//! osmia-icount SCENARIO`. `osmia-bench instructions` does that for all of them.
//!
//! The number of iterations is fixed and nothing depends on the clock, the network or chance, so
//! that two runs of one binary count the same.

#![allow(clippy::expect_used, clippy::panic)] // a scenario that cannot run is a defect here

mod exchange;
mod heads;
mod net;

use std::process::ExitCode;

// That of the `osmia` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Iterations that are counted.
const ITERATIONS: u32 = 1000;
/// Iterations before: tables grow, caches of the thread are filled.
const WARM_UP: u32 = 100;

/// What callgrind counts: everything that is called from here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "Rust" fn osmia_icount_measured(work: &mut dyn FnMut(u32)) {
    work(ITERATIONS);
}

fn scenarios() -> Vec<(&'static str, heads::Make)> {
    let mut all = heads::scenarios();
    all.extend(exchange::scenarios());
    all
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("list"), None) => {
            println!("iterations {ITERATIONS}");
            for (name, _) in scenarios() {
                println!("{name}");
            }
            ExitCode::SUCCESS
        }
        (Some(wanted), None) => {
            let Some((_, make)) = scenarios().into_iter().find(|(name, _)| *name == wanted) else {
                eprintln!("osmia-icount: no scenario {wanted:?}; `list` lists them");
                return ExitCode::FAILURE;
            };
            let mut work = make();
            work(WARM_UP);
            osmia_icount_measured(&mut *work);
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: osmia-icount list | SCENARIO");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_runs_and_has_a_name_of_its_own() {
        let mut names: Vec<_> = scenarios().iter().map(|(name, _)| *name).collect();
        for (_, make) in scenarios() {
            make()(3);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
