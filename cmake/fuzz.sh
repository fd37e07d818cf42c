# shellcheck shell=bash
# ./run fuzz [--seconds N] [TARGET...]: runs the targets of tests/fuzz under
# libFuzzer. Part of ./run. What is found meanwhile is kept in
# .local/fuzz/<target>; inputs for good are in tests/fuzz/corpus.

fuzz_targets() { sed -n 's/^set(fuzz_targets \(.*\))$/\1/p' tests/fuzz/CMakeLists.txt; }

# fuzz_one TARGET SECONDS: one line about it; false when something was found.
fuzz_one() {
  local target=$1 seconds=$2 work=$STATE/fuzz/$1 log=$STATE/log/fuzz-$1.log result=0
  mkdir -p "$work/corpus" "$work/found"
  # The corpus in git is read, new inputs go to the first folder. gRPC is built
  # without the sanitizers, so leaks in its own threads are not ours to judge.
  ASAN_OPTIONS=allocator_may_return_null=1:detect_odr_violation=0 UBSAN_OPTIONS=print_stacktrace=1 \
    "build/fuzz/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -max_len=4096 -len_control=5 \
    -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 -artifact_prefix="$work/found/" \
    "$work/corpus" "tests/fuzz/corpus/$target" >"$log" 2>&1 || result=$?
  awk -v target="$target" -v failed="$result" '
    /INITED/ { for (i = 1; i < NF; i++) if ($i == "cov:") first = $(i + 1) }
    / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") last = $(i + 1) }
    /stat::number_of_executed_units/ { runs = $2 }
    /Test unit written to/ { input = $NF }
    END {
      printf "%-16s %9d executions, %6d edges covered, %5d of them new, %s\n", target, runs, last,
        last - first, failed ? "FOUND: " input : "nothing found"
    }' "$log"
  if ((result)); then grep -m 3 -E 'found:|broken invariant|ERROR:|runtime error' "$log" >&2 || true; fi
  return "$result"
}

command_fuzz() {
  local seconds=60 targets=() known target failed=()
  while (($#)); do
    case $1 in
      --seconds) [[ ${2:-} =~ ^[0-9]+$ ]] || usage_error "--seconds takes a number"; seconds=$2; shift ;;
      -*) usage_error "fuzz takes --seconds N and targets" ;;
      *) targets+=("$1") ;;
    esac
    shift
  done
  read -ra known < <(fuzz_targets)
  ((${#targets[@]})) || targets=("${known[@]}")
  for target in "${targets[@]}"; do
    [[ " ${known[*]} " == *" $target "* ]] || usage_error "no such target: $target (${known[*]})"
  done
  install_packages build fuzz
  build fuzz "${targets[@]/#/fuzz_}"
  for target in "${targets[@]}"; do
    say "fuzzing $target for $seconds s"
    fuzz_one "$target" "$seconds" || failed+=("$target")
  done
  if ((${#failed[@]})); then die "findings in ${failed[*]}: inputs in $STATE/fuzz"; fi
}
