#!/usr/bin/env bash
# Plants one forbidden include at a time in a small tree and expects
# check_includes.sh to name it; allowed ones must pass.
set -euo pipefail
checker=$(realpath "$(dirname "${BASH_SOURCE[0]}")/check_includes.sh")
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

plant() {  # FOLDER INCLUDE: a clean tree with this one line in FOLDER
  rm -rf "${tree:?}"/*
  local folder
  for folder in raft kv server client; do
    mkdir -p "$tree/$folder/deep"
    printf '#include <vector>\n' >"$tree/$folder/a.h"
  done
  printf '// a line\n  #  include %s  // why\n' "$2" >"$tree/$1/deep/b.cc"
}
fails() {
  plant "$1" "$2"
  local output
  if output=$("$checker" "$tree"); then
    printf 'not noticed: %s includes %s\n' "$1" "$2"
    exit 1
  fi
  [[ $output == "$1/deep/b.cc:2: "* ]] || { printf 'wrong words: %s\n' "$output"; exit 1; }
}
passes() {
  plant "$1" "$2"
  "$checker" "$tree" || { printf 'wrongly refused: %s includes %s\n' "$1" "$2"; exit 1; }
}

fails raft '<thread>'
fails raft '<chrono>'
fails raft '"rocksdb/db.h"'
fails raft '<grpcpp/grpcpp.h>'
fails raft '"raft/v1/raft.pb.h"'
fails raft '<google/protobuf/message.h>'
fails raft '"kv/types.h"'
fails raft '"server/clock.h"'
fails kv '"server/clock.h"'
fails kv '"client/lib739kv.h"'
fails kv '"kv739/v1/kv.pb.h"'
fails server '"client/lib739kv.h"'
fails server '"lib739kv.h"'
fails server '"tests/support/temp_dir.h"'
fails client '"server/host.h"'
fails client '"kv/state_machine.h"'
fails client '"raft/core.h"'
fails client '"raft/v1/raft.grpc.pb.h"'
passes raft '"raft/types.h"'
passes raft '"absl/status/status.h"'
passes kv '"raft/core.h"'
passes kv '"rocksdb/db.h"'
passes server '"kv/engine.h"'
passes server '"raft/v1/raft.grpc.pb.h"'
passes server '"kv739/version.h"'
passes client '"kv/ring.h"'
passes client '"kv/cluster_map.h"'
passes client '"lib739kv.h"'
passes client '"kv739/v1/cluster.grpc.pb.h"'

rm -rf "${tree:?}"/*
if "$checker" "$tree" 2>/dev/null; then
  printf 'an empty tree passed\n'
  exit 1
fi
printf 'ok\n'
