#!/usr/bin/env bash
# Draws perf/flamegraph.svg: the gateway under load from wrk, sampled by perf. Options are those of
# `osmia-bench profile`, for example: perf/flamegraph.sh --body 64k --contender nginx
set -euo pipefail
cd "$(dirname "$0")/.."
cargo="${CARGO:-cargo}"
command -v perf >/dev/null || { echo "perf is not installed: apt-get install linux-perf" >&2; exit 1; }
command -v wrk >/dev/null || { echo "wrk is not installed: apt-get install wrk" >&2; exit 1; }
"$cargo" build --release -p osmia -p osmia-bench
"$cargo" build --release -p osmia-bench --example osmia-flame
target="${CARGO_TARGET_DIR:-target}/release"
exec "$target/osmia-bench" profile --flame "$target/examples/osmia-flame" "$@"
