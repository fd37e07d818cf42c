#!/usr/bin/env bash
# Side by side with etcd: five members each, on this host and this disk, in
# turn, with the same loop, keys and sizes (`kv739 bench`). Prints a table of
# ratios as markdown, and keeps every result as JSON for plot.py. Needs
# Debian's etcd-server and etcd-client, and python3.
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() {
  cat <<'TEXT'
usage: tests/benchmark/compare.sh [OPTION...]

  --rounds N       alternating rounds (5); the table has median, lowest, highest
  --seconds S      that each row is measured (5), after --warmup S (1)
  --rows A,B,...   rows to run (all): put-unary-1 put-unary-64 put-unary-256
                   put-threads-64 put-async-1000 get-unary-64 get-threads-64
                   a-threads-64 b-threads-64 c-threads-64 e-threads-64
                   f-threads-64 p99
  --curve          also the rows of the pictures of plot.py
  --keys N         100000, of 16 bytes; --value-size N (256)
  --out DIR        where the JSON goes (a new folder below .local/compare)

The row p99 is an open loop of puts, Poisson, at SATURATION (0.9) of what etcd
carried in the same round with 256 in flight. Environment: KV739_BUILD
(build/release), KV739_SETTINGS (a settings file of the servers), PORTS (where
the ports of the servers begin, 23700).
TEXT
}
die() { echo "compare.sh: $*" >&2; exit 2; }

ALL_ROWS=(put-unary-1 put-unary-64 put-unary-256 put-threads-64 put-async-1000 get-unary-64
  get-threads-64 a-threads-64 b-threads-64 c-threads-64 e-threads-64 f-threads-64 p99)
rounds=5 seconds=5 warmup=1 keys=100000 value_size=256 rows=("${ALL_ROWS[@]}") curve='' out=''
number() { [[ $2 =~ ^[0-9]+([.][0-9]+)?$ ]] || die "$1 takes a number, not '$2'"; echo "$2"; }
while (($#)); do
  case $1 in
    --rounds) rounds=$(number "$1" "${2:-}"); shift ;;
    --seconds) seconds=$(number "$1" "${2:-}"); shift ;;
    --warmup) warmup=$(number "$1" "${2:-}"); shift ;;
    --keys) keys=$(number "$1" "${2:-}"); shift ;;
    --value-size) value_size=$(number "$1" "${2:-}"); shift ;;
    --rows) IFS=, read -ra rows <<<"${2:-}"; shift ;;
    --out) out=${2:?--out takes a folder}; shift ;;
    --curve) curve=1 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "what is $1?" ;;
  esac
  shift
done
for row in "${rows[@]}"; do
  [[ " ${ALL_ROWS[*]} " == *" $row "* ]] || die "no such row: $row (${ALL_ROWS[*]})"
done

build=${KV739_BUILD:-build/release}
ports=${PORTS:-23700}
saturation=${SATURATION:-0.9}
kv739=$build/client/command/kv739
for program in "$kv739" "$build/server/kv739d"; do
  [[ -x $program ]] || die "$program is missing: ./run build"
done
for program in etcd etcdctl python3; do
  command -v "$program" >/dev/null || die "$program is missing: apt-get install etcd-server etcd-client python3"
done
out=${out:-.local/compare/$(date +%Y%m%d-%H%M%S)}
mkdir -p "$out"
work=$(mktemp -d "${TMPDIR:-/tmp}/kv739-compare.XXXXXX")
pids=()
stop() {
  ((${#pids[@]})) || return 0
  kill -9 "${pids[@]}" 2>/dev/null || true
  wait "${pids[@]}" 2>/dev/null || true
  pids=()
}
trap 'stop; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

etcd_endpoints=$(for i in 1 2 3 4 5; do printf '%slocalhost:%d' "$([[ $i == 1 ]] || echo ,)" $((ports + i)); done)

start_etcd() {
  local i peers='' client peer
  for i in 1 2 3 4 5; do peers+="${peers:+,}m$i=http://127.0.0.1:$((ports + 10 + i))"; done
  for i in 1 2 3 4 5; do
    client=http://127.0.0.1:$((ports + i)) peer=http://127.0.0.1:$((ports + 10 + i))
    etcd --name "m$i" --data-dir "$work/etcd$i" --log-level error --logger zap \
      --initial-cluster "$peers" --initial-cluster-state new \
      --initial-advertise-peer-urls "$peer" --listen-peer-urls "$peer" \
      --listen-client-urls "$client" --advertise-client-urls "$client" >"$work/etcd$i.log" 2>&1 &
    pids+=($!)
  done
  for _ in $(seq 100); do
    ETCDCTL_API=3 etcdctl --endpoints "$etcd_endpoints" endpoint status 2>/dev/null |
      grep -q ', true,' && return
    sleep 0.1
  done
  cat "$work"/etcd*.log >&2
  die "etcd did not elect a leader"
}

start_kv739() {
  local i
  for i in 1 2 3 4 5; do
    echo "localhost:$((ports + 20 + i)) metrics=$((ports + 30 + i)) http=$((ports + 40 + i))"
  done >"$work/cluster.conf"
  for i in 1 2 3 4 5; do
    "$build/server/kv739d" --cluster "$work/cluster.conf" --listen "localhost:$((ports + 20 + i))" \
      --data "$work/kv739-$i" ${KV739_SETTINGS:+--settings "$KV739_SETTINGS"} >"$work/kv739-$i.log" 2>&1 &
    pids+=($!)
  done
  "$kv739" -c "$work/cluster.conf" status --wait --timeout 20000 >/dev/null
}

# Those that answer are ours: where a port was taken, somebody else would be
# measured, and loaded.
check_alive() {
  local pid
  for pid in "${pids[@]}"; do
    kill -0 "$pid" 2>/dev/null && continue
    tail -n 3 "$work"/*.log >&2
    die "a server has ended; are the ports from $ports on free? (PORTS=...)"
  done
}

# The sum of some metrics over our five servers, a line each.
metrics() {
  local i
  for i in 1 2 3 4 5; do
    exec 3<>"/dev/tcp/localhost/$((ports + 30 + i))"
    printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
    cat <&3
    exec 3>&-
  done | awk '
    { name = $1; sub(/[{].*/, "", name) }
    name ~ /^kv739_(wal_entries|wal_syncs|raft_messages_sent)_total$/ { sum[name] += $2 }
    END { for (name in sum) print name, sum[name] }'
}

# bench SYSTEM ARGUMENTS...
bench() {
  local system=$1
  shift
  local where=(-c "$work/cluster.conf" bench)
  [[ $system == kv739 ]] || where=(bench --target etcd --endpoint "$etcd_endpoints")
  "$kv739" "${where[@]}" --keys "$keys" --value-size "$value_size" "$@"
}

# measure SYSTEM ROW ARGUMENTS...: one result, out/ROW.SYSTEM.ROUND.json.
measure() {
  local system=$1 row=$2 file=$out/$2.$1.$round.json before=''
  shift 2
  [[ $system == etcd ]] || before=$(metrics)
  bench "$system" --seconds "$seconds" --warmup "$warmup" --seed "$round" \
    --pid "$(IFS=,; echo "${pids[*]}")" --json "$file" "$@" >"$work/table"
  [[ $system == etcd ]] || { echo "$before"; echo ---; metrics; } >"$out/$row.$system.$round.metrics"
  printf '%s: round %s, %-16s %-6s %s ops/s, p99 %s ms\n' "$(date +%T)" "$round" "$row" "$system" \
    "$(field "$file" ops_per_second)" "$(field "$file" p99_ms)" >&2
}
field() { python3 -c 'import json, sys; print("%.4g" % json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"; }

# row SYSTEM ROW: etcd has one mode, that of all rows.
row() {
  local system=$1 name=$2 rate workload mode in_flight
  if [[ $name == p99 ]]; then
    if [[ $system == etcd ]]; then
      [[ -f $out/put-unary-256.etcd.$round.json ]] || row etcd put-unary-256
    fi
    rate=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["ops_per_second"] * float(sys.argv[2]))' \
      "$out/put-unary-256.etcd.$round.json" "$saturation")
    workload=put mode=unary in_flight=1000
  else
    IFS=- read -r workload mode in_flight <<<"$name"
  fi
  local arguments=(--workload "$workload" --in-flight "$in_flight")
  [[ -z ${rate:-} ]] || arguments+=(--rate "$rate")
  [[ $system == etcd ]] || arguments+=(--mode "$mode")
  measure "$system" "$name" "${arguments[@]}"
}

# The rows of the pictures: puts in closed loops of many sizes, then open loops
# at parts of the most that was reached.
curves() {
  local system=$1 modes=(unary) mode n part best rate arguments
  [[ $system == etcd ]] || modes=(unary threads async)
  for mode in "${modes[@]}"; do
    best=0
    arguments=(--workload put)
    [[ $system == etcd ]] || arguments+=(--mode "$mode")
    for n in 1 4 16 64 256 1000; do
      measure "$system" "curve-$mode-$n" "${arguments[@]}" --in-flight "$n"
      best=$(python3 -c 'import json, sys; print(max(float(sys.argv[2]), json.load(open(sys.argv[1]))["ops_per_second"]))' \
        "$out/curve-$mode-$n.$system.$round.json" "$best")
    done
    for part in 0.1 0.3 0.5 0.7 0.8 0.9; do
      rate=$(python3 -c 'import sys; print(float(sys.argv[1]) * float(sys.argv[2]))' "$best" "$part")
      measure "$system" "open-$mode-$part" "${arguments[@]}" --in-flight 1000 --rate "$rate"
    done
  done
}

for round in $(seq "$rounds"); do
  for system in etcd kv739; do
    "start_$system"
    check_alive
    bench "$system" --load --seconds 0 2>&1 | sed "s/^/$system: /" >&2
    for name in "${rows[@]}"; do row "$system" "$name"; done
    [[ -z $curve ]] || curves "$system"
    stop
    rm -rf "$work"/etcd* "$work"/kv739-*
  done
done
python3 tests/benchmark/compare_table.py "$out" | tee "$out/table.md"
echo "results: $out" >&2
