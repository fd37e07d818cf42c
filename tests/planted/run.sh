#!/usr/bin/env bash
# run.sh [--no-build] [NAME...]: builds the preset `planted`, sees that its tests
# pass with no bug planted, then plants each bug of bugs.txt (or those named)
# and runs test programs until one fails. Prints a table; exits 1 when a bug is
# not found or takes more than LIMIT seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly TABLE=tests/planted/bugs.txt
readonly BUILD=build/planted
readonly LIMIT=600
readonly JOBS=${KV739_JOBS:-$(nproc)}
# From fast to slow; each runs to its first failure. After them those that only
# the table names.
readonly PROGRAMS=(raft_parts_test raft_paper_test raft_script_test kv_state_machine_test
  kv_exactly_once_test kv_session_table_test kv_snapshot_test kv_engine_test client_engine_test
  wal_test wal_thread_test host_test quiet_host_test kv_replay_test wal_crash_test wal_damage_test
  host_snapshot_test client_engine_random_test crash_points_test cluster_sim_test shapes_sim_test)
# The simulator of whole clusters, and the seeds that it is given.
readonly SIMULATOR=kv739-sim
readonly SEEDS=${KV739_PLANTED_SEEDS:-150}

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'run.sh: %s\n' "$*" >&2; exit 1; }

# Of PROGRAMS and the table, each once.
programs() {
  { printf '%s\n' "${PROGRAMS[@]}"; grep -v '^#' "$TABLE" | cut -d'|' -f2 | tr -s ' ' '\n'; } |
    awk -v simulator="$SIMULATOR" 'NF && $1 != simulator && !seen[$1]++'
}
names() { grep -v '^#' "$TABLE" | cut -d'|' -f1 | tr -d ' '; }
field() { grep "^$1 |" "$TABLE" | cut -d'|' -f"$2" | sed 's/^ *//;s/ *$//'; }

check_table() {
  local in_code
  in_code=$(grep -rhoE 'KV739_PLANTED\([A-Z][A-Za-z0-9_]+\)' raft kv server client |
    sed -E 's/.*\((.*)\)/\1/' | sort -u)
  diff <(names | sort) <(printf '%s\n' "$in_code") >&2 || die "$TABLE and the code name different bugs"
}

have_simulator() { [[ -n $(find "$BUILD/tests" -name "$SIMULATOR" -type f) ]]; }

# run PROGRAM: to its first failure; output to $log. 124: it took too long, which
# finds nothing.
run() {
  local path
  path=$(find "$BUILD/tests" -name "$1" -type f)
  [[ $path ]] || die "$1 is not built"
  if [[ $1 == "$SIMULATOR" ]]; then
    timeout "$LIMIT" "$path" --seeds "1-$SEEDS" >"$log" 2>&1
  else
    timeout "$LIMIT" "$path" --gtest_fail_fast >"$log" 2>&1
  fi
}

# What failed, from the output of a program.
reason() {
  local found
  found=$(grep -m1 -oE '^\[  FAILED  \] [A-Za-z0-9_./]+' "$log" | sed 's/.*\] //' || true)
  if [[ -z $found ]]; then
    found=$(grep -oE '^\[ RUN      \] [A-Za-z0-9_./]+' "$log" | tail -1 | sed 's/.*\] //' || true)
    [[ $found ]] && found+=" (the process stops)"
  fi
  # Of the simulator: the seed and the property.
  [[ $found ]] || found=$(grep -m1 -E '^seed [0-9]+ broke' "$log" |
    sed -E 's/^(seed [0-9]+) broke.* s: /\1: /;s/ broke: /: /' | cut -c1-80 || true)
  printf '%s' "${found:-?}"
}

build=1
if [[ ${1:-} == --no-build ]]; then build= && shift; fi
check_table
if [[ $build ]]; then
  cmake --preset planted >/dev/null
  mapfile -t targets < <(programs)
  if ninja -C "$BUILD" -t query "$SIMULATOR" >/dev/null 2>&1; then targets+=("$SIMULATOR"); fi
  cmake --build --preset planted -j "$JOBS" --target "${targets[@]}" -- --quiet
fi
mapfile -t programs < <(programs)
if have_simulator; then programs+=("$SIMULATOR"); fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT

say "no bug planted: all must pass"
unset KV739_PLANTED_BUG
for program in "${programs[@]}"; do
  run "$program" || { tail -30 "$log" >&2; die "$program fails with no bug planted: $(reason)"; }
done

if (($#)); then wanted=("$@"); else mapfile -t wanted < <(names); fi
missed=()
printf '| bug | what it does | found by | s |\n|---|---|---|---|\n'
for bug in "${wanted[@]}"; do
  grep -q "^$bug |" "$TABLE" || die "no such bug: $bug"
  export KV739_PLANTED_BUG=$bug
  read -ra first <<<"$(field "$bug" 2)"
  begin=$SECONDS found=
  declare -A asked=()
  for program in "${first[@]}" "${programs[@]}"; do
    [[ ${asked[$program]:-} ]] && continue
    asked[$program]=1
    status=0
    run "$program" || status=$?
    if ((status != 0 && status != 124)); then
      found="\`$program\`: $(reason)"
      break
    fi
  done
  spent=$((SECONDS - begin))
  printf '| %s | %s | %s | %s |\n' "$bug" "$(field "$bug" 3)" "${found:-**not found**}" "$spent"
  if [[ -z $found ]] || ((spent > LIMIT)); then missed+=("$bug"); fi
done
say "$((${#wanted[@]} - ${#missed[@]})) of ${#wanted[@]} found"
if ((${#missed[@]})); then die "not found: ${missed[*]}"; fi
