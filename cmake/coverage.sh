# shellcheck shell=bash
# ./run coverage: which lines of raft/ and kv/ the unit and simulation tests
# run. Part of ./run. Reads what gcov says; a line counts once, however many
# programs it is in, and has run when it ran in any of them.

readonly COVERAGE_GOAL=95  # per cent of the lines, in each folder
readonly COVERAGE_FOLDERS=(raft kv)
# Deterministic programs that are there for these two folders.
readonly COVERAGE_TESTS='^((raft|kv)_.*_test|cluster_sim_test|shapes_sim_test|fuzz_regression_test)$'

# coverage_lines: "FILE LINE 0|1" of every line that has code, from the
# counters of the objects of both folders and of the tests (inline functions).
coverage_lines() {
  # Names are absolute, or (with ccache's base_dir) relative to the build folder.
  # Objects of the two folders count also when no program has them.
  (cd build/coverage &&
    find raft kv tests \( -path 'tests/*.gcda' -o -path 'raft/*.gcno' -o -path 'kv/*.gcno' \) -print0 |
    xargs -0 -r -n 8 gcov --relative-only --source-prefix "$OLDPWD" --stdout 2>/dev/null) |
    awk -F: '
      $2 + 0 == 0 && $3 == "Source" {
        file = $4; sub(/^(\.\.\/)+/, "", file); wanted = file ~ /^(raft|kv)\//
      }
      wanted && $2 + 0 > 0 {
        count = $1; gsub(/[ *]/, "", count)
        if (count == "-") next
        line = file " " ($2 + 0)
        if (count !~ /^[#=]/) ran[line] = 1
        else if (!(line in ran)) ran[line] = 0
      }
      END { for (line in ran) print line, ran[line] }'
}

# coverage_report: figures of each folder and file, lines that did not run;
# false when a folder is below the goal.
coverage_report() {
  sort -k1,1 -k2,2n | awk -v goal="$COVERAGE_GOAL" -v folders="${COVERAGE_FOLDERS[*]}" '
    {
      split($1, part, "/"); folder = part[1]
      all[folder]++; run[folder] += $3; file_all[$1]++; file_run[$1] += $3
      if (!(($1) in seen)) { seen[$1] = 1; files[++count] = $1 }
      if ($3 == 0) missing[$1] = missing[$1] " " $2
    }
    END {
      for (i = 1; i <= count; i++) {
        f = files[i]
        printf "%-28s %4d of %4d  %5.1f %%%s%s\n", f, file_run[f], file_all[f],
          100 * file_run[f] / file_all[f], missing[f] == "" ? "" : "  not run:", missing[f]
      }
      n = split(folders, wanted, " ")
      for (i = 1; i <= n; i++) {
        f = wanted[i]
        share = all[f] ? 100 * run[f] / all[f] : 0
        printf "%-28s %4d of %4d  %5.1f %%\n", f "/", run[f], all[f], share
        if (share < goal) bad = 1
      }
      exit bad
    }'
}

command_coverage() {
  (($# == 0)) || usage_error "coverage takes no arguments"
  install_packages build
  local targets
  configure coverage
  mapfile -t targets < <(ctest --preset coverage -N -R "$COVERAGE_TESTS" |
    sed -n 's/^ *Test *#[0-9]*: //p')
  ((${#targets[@]})) || die "no tests to run"
  build coverage "${targets[@]}"
  find build/coverage -name '*.gcda' -delete
  say "running ${#targets[@]} test programs, counting lines"
  ctest --preset coverage --parallel "${KV739_TEST_JOBS:-2}" --no-tests=error \
    -R "$COVERAGE_TESTS" >"$STATE/log/coverage.log" 2>&1 ||
    { tail -n 20 "$STATE/log/coverage.log" >&2; die "tests failed"; }
  coverage_lines | coverage_report ||
    die "less than $COVERAGE_GOAL % of the lines of a folder run in its tests"
}
