#!/usr/bin/env bash
# check_includes.sh [ROOT]: which folder may include which. Prints every line
# that breaks a rule and exits 1; exits 2 when there is nothing to check.
#
#   raft  <-  kv  <-  server        client: proto and the ring's headers of kv
set -euo pipefail
cd "${1:-.}"
shopt -s globstar nullglob

# Folders of ours and generated headers, as they begin an include.
readonly ours='^(raft|kv|server|client|tests|kv739|lib739kv)(/|[._])'
broken=0

# check FOLDER ALLOWED FORBIDDEN: in FOLDER's sources, includes of ours must
# match ALLOWED, and none at all may match FORBIDDEN.
check() {
  local folder=$1 allowed=$2 forbidden=$3 files line number path
  files=("$folder"/**/*.h "$folder"/**/*.cc "$folder"/**/*.c)
  ((${#files[@]})) || { printf 'no sources in %s/%s\n' "$PWD" "$folder" >&2; exit 2; }
  while IFS=: read -r file number line; do
    path=$(sed -E 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]([^">]*)[">].*/\1/' <<<"$line")
    if [[ $path =~ $ours && ! $path =~ $allowed ]] || [[ $path =~ $forbidden ]]; then
      printf '%s:%s: %s must not include %s\n' "$file" "$number" "$folder" "$path"
      broken=1
    fi
  done < <(grep -HnE '^[[:space:]]*#[[:space:]]*include' "${files[@]}")
}

readonly rpc='^(grpc|grpcpp|google/protobuf)/|\.pb\.h$'
readonly clock_or_thread='^(thread|chrono|mutex|shared_mutex|condition_variable|future|ctime|time\.h|pthread\.h)$'
check raft '^raft/[^v]' "$rpc|^rocksdb/|$clock_or_thread|^(fstream|filesystem|unistd\.h|fcntl\.h|sys/.*)\$|^raft/v1/"
check kv '^(raft/[^v]|kv/)' "$rpc|^raft/v1/"
check server '^(raft|kv|server)/|^kv739/' '^rocksdb/utilities/transaction'
check client '^(client|kv739)/|^lib739kv|^kv/(ring|cluster_map|cluster_file|supervisor_protocol|types)\.h$|^raft/(types|planted)\.h$' '^rocksdb/|^raft/v1/'
exit "$broken"
