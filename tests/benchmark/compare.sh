#!/usr/bin/env bash
# Puts and linearizable gets, side by side with etcd: five members each, on
# this host and this disk, in turn, with the same sizes and the same requests
# in flight. Prints a table of ratios; needs Debian's etcd-server.
#
#   tests/benchmark/compare.sh [ROUNDS] [SECONDS] [IN_FLIGHT...]
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-3}
seconds=${2:-4}
shift $(($# > 2 ? 2 : $#))
in_flight=("$@")
[ ${#in_flight[@]} -gt 0 ] || in_flight=(1 64 256)
build=${KV739_BUILD:-build/release}
bench=$build/tests/benchmark/cluster_bench
work=$(mktemp -d "${TMPDIR:-/tmp}/kv739-compare.XXXXXX")
pids=()
stop() {
  [ ${#pids[@]} -eq 0 ] || kill -9 "${pids[@]}" 2>/dev/null || true
  wait "${pids[@]}" 2>/dev/null || true
  pids=()
}
trap 'stop; rm -rf "$work"' EXIT

start_etcd() {
  local peers="" i
  for i in 1 2 3 4 5; do peers+="${peers:+,}m$i=http://127.0.0.1:$((23900 + i))"; done
  for i in 1 2 3 4 5; do
    etcd --name "m$i" --data-dir "$work/etcd$i" --log-level error --logger zap \
      --initial-cluster "$peers" --initial-cluster-state new \
      --initial-advertise-peer-urls "http://127.0.0.1:$((23900 + i))" \
      --listen-peer-urls "http://127.0.0.1:$((23900 + i))" \
      --listen-client-urls "http://127.0.0.1:$((23700 + i))" \
      --advertise-client-urls "http://127.0.0.1:$((23700 + i))" \
      >"$work/etcd$i.log" 2>&1 &
    pids+=($!)
  done
  local endpoints="127.0.0.1:23701,127.0.0.1:23702,127.0.0.1:23703,127.0.0.1:23704,127.0.0.1:23705"
  for _ in $(seq 100); do
    leader=$(ETCDCTL_API=3 etcdctl --endpoints "$endpoints" endpoint status 2>/dev/null |
      awk -F', ' '$5 == "true" {print $1; exit}') && [ -n "$leader" ] && return
    sleep 0.1
  done
  echo "etcd did not elect a leader" >&2
  exit 1
}

start_kv739() {
  local i
  : >"$work/cluster.conf"
  for i in 1 2 3 4 5; do
    echo "localhost:$((24700 + i)) metrics=$((24800 + i)) http=$((24900 + i))" >>"$work/cluster.conf"
  done
  for i in 1 2 3 4 5; do
    "$build/server/kv739d" --cluster "$work/cluster.conf" --listen "localhost:$((24700 + i))" \
      --data "$work/kv739-$i" ${KV739_SETTINGS:+--settings "$KV739_SETTINGS"} >"$work/kv739-$i.log" 2>&1 &
    pids+=($!)
  done
  "$build/client/command/kv739" -c "$work/cluster.conf" status --wait --timeout 20000 >/dev/null
}

endpoints=()
for i in 1 2 3 4 5; do endpoints+=(--endpoint "localhost:$((24700 + i))"); done

run() { # target operation in_flight
  local args=(--target "$1" --operation "$2" --in-flight "$3" --seconds "$seconds" --warmup 1)
  for pid in "${pids[@]}"; do args+=(--pid "$pid"); done
  case $1 in
    etcd) args+=(--endpoint "$leader") ;;
    unary) args+=("${endpoints[@]}") ;;
    *) args+=(-c "$work/cluster.conf") ;;
  esac
  "$bench" "${args[@]}" | tee -a "$work/results.jsonl" >&2
}

for round in $(seq "$rounds"); do
  start_etcd
  for n in "${in_flight[@]}"; do
    run etcd put "$n"
    run etcd get "$n"
  done
  stop
  rm -rf "$work"/etcd*
  start_kv739
  for n in "${in_flight[@]}"; do
    for target in unary threads async; do
      run "$target" put "$n"
      run "$target" get "$n"
    done
  done
  stop
  rm -rf "$work"/kv739-*
done

cp "$work/results.jsonl" "${KV739_RESULTS:-/dev/null}"
# Median of the rounds, and the ratio to etcd at the same operation and the
# same number in flight.
awk '
function field(name,   m) {
  if (match($0, "\"" name "\":\"?[^,\"}]*")) {
    m = substr($0, RSTART, RLENGTH); sub(/^[^:]*:"?/, "", m); return m
  }
}
{
  key = field("operation") " " sprintf("%5d", field("in_flight")) " " field("target")
  count[key]++
  rate[key, count[key]] = field("per_second") + 0
  p50[key, count[key]] = field("p50_us") + 0
  p99[key, count[key]] = field("p99_us") + 0
  cpu[key, count[key]] = field("cpu_us_per_op") + 0
}
function median(table, key,   n, i, j, t, v) {
  n = count[key]
  for (i = 1; i <= n; i++) v[i] = table[key, i]
  for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (v[j] < v[i]) { t = v[i]; v[i] = v[j]; v[j] = t }
  low = v[1]; high = v[n]
  return v[int((n + 1) / 2)]
}
END {
  printf "%-4s %9s %-8s %10s %19s %9s %9s %9s %8s\n", "op", "in flight", "target", "per second", "min..max", "p50 us", "p99 us", "cpu us/op", "x etcd"
  n = 0
  for (key in count) keys[++n] = key
  for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (keys[j] < keys[i]) { t = keys[i]; keys[i] = keys[j]; keys[j] = t }
  for (i = 1; i <= n; i++) {
    split(keys[i], part, " ")
    r = median(rate, keys[i]); range = low ".." high
    base = part[1] " " sprintf("%5d", part[2]) " etcd"
    printf "%-4s %9d %-8s %10d %19s %9.0f %9.0f %9.1f %8.2f\n", part[1], part[2], part[3], r, range,
      median(p50, keys[i]), median(p99, keys[i]), median(cpu, keys[i]), r / median(rate, base)
  }
}' "$work/results.jsonl"
