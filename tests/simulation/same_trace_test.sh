#!/usr/bin/env bash
# One seed gives one trace, in any process: addresses and the seeds of hash
# tables differ from process to process. Usage: same_trace_test.sh KV739_SIM
set -euo pipefail
readonly SIM=$1
trace() { "$SIM" --seed "$1" --seconds 16 --trace | grep -v '^kv739-sim:'; }
for seed in 3 41 59 78; do
  one=$(trace "$seed" | sha256sum)
  two=$(trace "$seed" | sha256sum)
  [[ $one == "$two" ]] || { echo "seed $seed: two traces" >&2; exit 1; }
done
[[ $(trace 3 | wc -l) -gt 100 ]] || { echo "the trace is empty" >&2; exit 1; }
