#!/usr/bin/env bash
# Every test that the documentation names exists, and every page that a page
# links to.
set -euo pipefail
cd "$(dirname "$0")/../.."
failed=0
tests=$(grep -rhoE '^TEST(_F|_P)?\([A-Za-z0-9_]+, *[A-Za-z0-9_]+' tests |
  sed -E 's/^TEST(_F|_P)?\(//; s/, */./')
while read -r name; do
  grep -qxF "$name" <<<"$tests" || { echo "docs name a test that is not there: $name"; failed=1; }
done < <(grep -hoE '`[A-Z][A-Za-z0-9]+\.[A-Z][A-Za-z0-9]+`' docs/consistency.md | tr -d '`' | sort -u)
for page in README.md docs/*.md; do
  while read -r link; do
    [ -e "$(dirname "$page")/$link" ] || { echo "$page links to $link, which is not there"; failed=1; }
  done < <(grep -oE '\]\([^)#]+' "$page" | sed 's/^](//' | grep -vE '^https?:' || true)
done
exit $failed
