# shellcheck shell=bash
# ./run bench [--update-baseline] [PROGRAM...]: runs the benchmarks of parts
# and names those that have changed by more than 10 % since the baseline. Part
# of ./run. Figures are divided by a calibration loop of the same run, so that
# they hold on other machines too.

bench_programs() { sed -n 's/^kv739_benchmark(\([a-z_]*\).*/\1/p' tests/benchmark/CMakeLists.txt; }

# What of a program stands for the rest, where all of it takes long or is not
# ours: each repetition of apply_bench begins by filling a store.
bench_filter() {
  case $1 in
    apply_bench) echo 'BM_Calibration|/rocksdb_(no|one)_session/(16|256)/' ;;
    snapshot_bench) echo 'BM_Calibration|BM_FetchSnapshot' ;;
    *) echo . ;;
  esac
}

# bench_one PROGRAM FILE: repetitions of all its benchmarks, shuffled, so that
# what disturbs the machine disturbs all of them alike.
bench_one() {
  local log=$STATE/log/bench-$1.log repetitions=9
  [[ $1 != snapshot_bench ]] || repetitions=3  # a gibibyte each
  "$BUILD/tests/benchmark/$1" --benchmark_filter="$(bench_filter "$1")" \
    --benchmark_repetitions="$repetitions" --benchmark_min_time=0.05 \
    --benchmark_enable_random_interleaving=true \
    --benchmark_out="$2" --benchmark_out_format=json >"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; die "$1 failed (all of it: $log)"; }
}

command_bench() {
  local update='' programs=() known program folder=$STATE/bench round result=0
  while (($#)); do
    case $1 in
      --update-baseline) update=--update ;;
      -*) usage_error "bench takes --update-baseline and names of programs" ;;
      *) programs+=("$1") ;;
    esac
    shift
  done
  mapfile -t known < <(bench_programs)
  for program in ${programs[@]+"${programs[@]}"}; do
    case $program in
      wal_bench | upkeep_bench)
        usage_error "$program is run by hand, see docs/performance.md: build/release/tests/benchmark/$program" ;;
    esac
    [[ " ${known[*]} " == *" $program "* ]] || usage_error "no such program: $program (${known[*]})"
  done
  ((${#programs[@]})) || programs=("${known[@]}")
  install_packages build
  command -v python3 >/dev/null || install_packages bench
  build release "${programs[@]}"
  rm -rf "$folder"
  mkdir -p "$folder" "$STATE/log"
  # What differs is measured again, twice at most; a new baseline three times.
  for round in 1 2 3; do
    for program in ${programs[@]+"${programs[@]}"}; do
      say "$program, run $round"
      bench_one "$program" "$folder/$program.$round.json"
    done
    [[ $update ]] ||
      mapfile -t programs < <(python3 tests/benchmark/check_baseline.py --suspects "$folder")
  done
  python3 tests/benchmark/check_baseline.py $update "$folder" || result=$?
  say 'run by hand: wal_bench (the log on a disk), upkeep_bench (real servers), and for whole clusters' \
    'kv739 bench and tests/benchmark/compare.sh; see docs/performance.md'
  return "$result"
}
