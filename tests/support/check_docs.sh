#!/usr/bin/env bash
# Pages name what is there: tests (Suite.Name; with `program: Suite.Name`, of
# that program; or `Suite.*`), tests of ctest that are `fault_...`, files of the
# tree, functions Class::Name, and pages that they link to. An argument is the
# tree to look at, instead of the one that this is in.
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"
failed=0
complain() { echo "$1"; failed=1; }

pages=(README.md docs/*.md)
sources=$(grep -rE '^TEST(_F|_P)?\(' -A1 --include='*.cc' tests |
  sed -E 's/^([^:]*)\.cc[:-]/\1.cc /' | tr '\n' ' ' |
  grep -oE '[^ ]+\.cc TEST(_F|_P)?\([A-Za-z0-9_]+, *([^ ]+\.cc +)?[A-Za-z0-9_]+' |
  sed -E 's/^([^ ]+) TEST(_F|_P)?\(([A-Za-z0-9_]+), *([^ ]+\.cc +)?/\1 \3./')
tests=$(sed 's/.* //' <<<"$sources" | sort -u)
suites=$(sed 's/\..*//' <<<"$tests" | sort -u)
programs=$(cat $(find tests/ -name CMakeLists.txt))

# Suite.Name, wherever it stands.
names=$(grep -hoE '\b[A-Z][A-Za-z0-9]+\.[A-Z][A-Za-z0-9]+\b' "${pages[@]}" | sort -u)
while read -r name; do
  [ -z "$name" ] || complain "pages name a test that is not there: $name"
done < <(comm -23 <(echo "$names") <(echo "$tests"))
while read -r suite; do
  grep -qxF "${suite%.\*}" <<<"$suites" || complain "pages name tests that are not there: $suite"
done < <(grep -hoE '`[A-Z][A-Za-z0-9]+\.\*`' "${pages[@]}" | tr -d '`' | sort -u || true)

# Of the program that is named: one of its own, in a file that this has.
while IFS=' ' read -r program name; do
  files=$(awk -v name="$name" '$2 == name { print $1 }' <<<"$sources")
  found=
  for file in $files; do
    base=$(basename "$file")
    if [ "${base%.cc}" = "$program" ] ||
      grep -A8 "kv739_test($program " "$(dirname "$file")/CMakeLists.txt" 2>/dev/null |
      awk 'NR > 1 && /kv739_.*test\(/ { exit } { print }' | grep -qw "$base"; then
      found=1
    fi
  done
  [ -n "$found" ] || complain "pages name a test that $program does not have: $name"
done < <(grep -hoE '`[a-z0-9_]+: [A-Z][A-Za-z0-9]+\.[A-Z][A-Za-z0-9]+`' "${pages[@]}" |
  tr -d '`:' | sort -u || true)

while read -r test; do
  grep -qw "$test" <<<"$programs" || complain "pages name a test that is not there: $test"
done < <(grep -hoE '`fault_[a-z]+`' "${pages[@]}" | tr -d '`' | sort -u || true)

# Files, and functions of tests.
while read -r file; do
  [ -e "$file" ] || complain "pages name a file that is not there: $file"
done < <(grep -hoE '`(raft|kv|server|client|proto|tests)/[A-Za-z0-9_/.]+`' "${pages[@]}" |
  tr -d '`' | sort -u || true)
while read -r function; do
  # Class::Name: both are words of the code.
  grep -rqwF "${function%::*}" raft kv server client tests &&
    grep -rqF "${function#*::}(" raft kv server client tests ||
    complain "pages name a function that is not there: $function"
done < <(grep -hoE '`[A-Z][A-Za-z0-9]+::[A-Z][A-Za-z0-9]+`' "${pages[@]}" | tr -d '`' | sort -u || true)

for page in "${pages[@]}"; do
  while read -r link; do
    [ -e "$(dirname "$page")/$link" ] || complain "$page links to $link, which is not there"
  done < <(grep -oE '\]\([^)#]+' "$page" | sed 's/^](//' | grep -vE '^https?:' || true)
done
exit $failed
