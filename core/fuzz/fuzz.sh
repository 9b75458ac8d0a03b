#!/bin/sh
# Fuzzes every target for some time: core/fuzz/fuzz.sh [seconds per target] [target...]
# Needs cargo-fuzz. The stable toolchain is told to accept the sanitizer flags. What is found is
# left in core/fuzz/artifacts; make it a seed once it is mended.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- request_head response_head chunked path expression body_vars proxy_protocol
for target in "$@"; do
    mkdir -p "core/fuzz/corpus/$target"
    echo "fuzzing $target for $seconds s"
    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir core/fuzz "$target" \
        "core/fuzz/corpus/$target" "core/fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -dict=core/fuzz/http1.dict -max_len=4096 \
        -print_final_stats=1
done
