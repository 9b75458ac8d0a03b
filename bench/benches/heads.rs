//! Micro-benchmarks of heads and paths: `cargo bench -p osmia-bench`.

#![allow(missing_docs)] // what criterion's macros define

#[path = "../icount/heads.rs"]
mod heads;

use criterion::{Criterion, criterion_group, criterion_main};

fn heads(criterion: &mut Criterion) {
    for (name, make) in heads::scenarios() {
        let mut work = make();
        criterion.bench_function(name, |bencher| bencher.iter(|| work(1)));
    }
}

criterion_group!(benches, heads);
criterion_main!(benches);
