#!/usr/bin/env bash
# check_docs.sh is content with the tree as it is, and notices each kind of name
# that is not there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
for part in "$root"/*; do
  case $(basename "$part") in
    docs | README.md | build | .local) ;;
    *) ln -s "$part" "$tree" ;;
  esac
done
mkdir "$tree/docs"
echo "# kv739" >"$tree/README.md"

failed=0
try() {  # expected exit code, what is written
  echo "$2" >"$tree/docs/page.md"
  local code=0
  "$here/check_docs.sh" "$tree" >"$tree/out" || code=$?
  [ "$code" = "$1" ] || { echo "wrong about: $2"; cat "$tree/out"; failed=1; }
}
try 0 '`wal_test: Wal.ARemovedGroupKeepsItsVote`, Wal.ARemovedGroupKeepsItsVote, `Wal.*`,
`raft_paper_test: Paper53.OnlyAConflictTruncates`, `rpc_transport_test: RpcTransportTest.AnotherClusterIsRefused`,
`fault_mix`, `raft/log.cc`, `World::CheckHistories`, [here](page.md)'
try 1 '`Wal.ThereIsNoTestOfThisName`'
try 1 'In a table: Wal.ThereIsNoTestOfThisName'
try 1 '`NoSuiteOfThisName.*`'
try 1 '`wal_crash_test: Wal.ARemovedGroupKeepsItsVote`'
try 1 '`raft_parts_test: Paper53.OnlyAConflictTruncates`'
try 1 '`fault_nothing`'
try 1 '`raft/no_such_file.cc`'
try 1 '`World::NothingOfThisName`'
try 1 '[there](nowhere.md)'
exit $failed
