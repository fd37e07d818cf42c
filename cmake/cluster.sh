# shellcheck shell=bash
# A cluster on this host: up, down, status, clean. Part of ./run. One cluster
# runs at a time; .local/run/ holds its process id and its cluster file,
# .local/data its data, .local/log/kv739d.log what the servers say.

readonly RUN_DIR=$STATE/run
readonly SERVER=$PWD/$BUILD/server/kv739d
readonly COMMAND=$PWD/$BUILD/client/command/kv739
readonly UP_TIMEOUT_S=60
readonly DOWN_TIMEOUT_S=60

# Prints the process id of the running cluster; fails when there is none. A
# process id that now belongs to another program does not count.
cluster_pid() {
  local pid
  pid=$(cat "$RUN_DIR/kv739d.pid" 2>/dev/null) || return 1
  [[ $(readlink "/proc/$pid/exe" 2>/dev/null) == */kv739d* ]] || return 1
  printf '%s' "$pid"
}

cluster_file() { cat "$RUN_DIR/cluster_file"; }

# Each cluster file has data of its own; they are clusters of their own.
data_root() {
  local name=${1##*/}
  name=${name%.conf}
  if [[ $name == local ]]; then printf '%s' "$STATE/data"; else printf '%s' "$STATE/data-$name"; fi
}

command_up() {
  (($# <= 1)) || usage_error "up takes one cluster file or none"
  local file pid
  file=$(realpath -- "${1:-config/local.conf}")
  [[ -r $file ]] || die "cannot read the cluster file $file"
  if pid=$(cluster_pid); then
    say "already up: $(cluster_file), process $pid"
    [[ $(cluster_file) == "$file" ]] || die "stop it first: ./run down"
    print_cluster "$file"
    return
  fi
  install_packages build
  build release kv739d kv739 739kv
  start_cluster "$file"
  print_cluster "$file"
}

start_cluster() {
  local file=$1 log=$STATE/log/kv739d.log server asker ended status=0
  mkdir -p "$RUN_DIR" "$STATE/log"
  say "starting the servers of $file"
  # A session of its own, so that Ctrl-C in this terminal does not reach it.
  setsid "$SERVER" -c "$file" --data-root "$(data_root "$file")" </dev/null >"$log" 2>&1 &
  server=$!
  printf '%s\n' "$server" >"$RUN_DIR/kv739d.pid"
  printf '%s\n' "$file" >"$RUN_DIR/cluster_file"
  "$COMMAND" -c "$file" --timeout $((UP_TIMEOUT_S * 1000)) status --wait >"$STATE/log/up.log" 2>&1 &
  asker=$!
  wait -n -p ended "$server" "$asker" || status=$?
  if [[ $ended == "$asker" ]] && ((status == 0)); then
    disown "$server"
    return
  fi
  if [[ $ended == "$server" ]]; then
    kill "$asker" 2>/dev/null || true
    rm -f "$RUN_DIR/kv739d.pid"
    say "the servers ended with exit code $status; the end of $log:"
  else
    cat "$STATE/log/up.log" >&2
    say "not every group has a leader after $UP_TIMEOUT_S s; the servers are left running (./run down stops them); the end of $log:"
    disown "$server"
  fi
  tail -n 20 "$log" >&2
  exit 1
}

print_cluster() {
  local file=$1
  "$COMMAND" -c "$file" status || true
  printf '\nServers:\n'
  "$COMMAND" -c "$file" server list
  printf '\nLog: %s\nData: %s\n\nTry:\n' "$STATE/log/kv739d.log" "$(data_root "$file")"
  local try="${COMMAND#"$PWD"/}"
  [[ $file == "$PWD/config/local.conf" ]] && try+=' -c config/local.conf' || try+=" -c $file"
  printf '  %s put greeting hello\n  %s get greeting\n  %s status\n' "$try" "$try" "$try"
  printf '\nStop: ./run down\n'
}

command_down() {
  local pid
  if ! pid=$(cluster_pid); then
    say "no cluster of this checkout is up"
    return
  fi
  say "stopping $(cluster_file), process $pid"
  kill -TERM "$pid"
  if ! timeout "$DOWN_TIMEOUT_S" tail --pid="$pid" -s 0.1 -f /dev/null; then
    tail -n 20 "$STATE/log/kv739d.log" >&2
    die "process $pid has not ended within $DOWN_TIMEOUT_S s"
  fi
  rm -f "$RUN_DIR/kv739d.pid"
  say "stopped; the data stays in $(data_root "$(cluster_file)")"
}

command_status() {
  cluster_pid >/dev/null || { say "no cluster of this checkout is up; ./run up starts one"; exit 3; }
  "$COMMAND" -c "$(cluster_file)" status "$@"
}

command_clean() {
  ! cluster_pid >/dev/null || die "a cluster is up; stop it first: ./run down"
  local answer directories=()
  mapfile -t directories < <(compgen -G "$STATE/data*"; compgen -G "$STATE/log"; compgen -G "$STATE/run")
  if ((${#directories[@]} == 0)); then
    say "nothing to remove"
    return
  fi
  if [[ ${1:-} != --yes ]]; then
    [[ -t 0 ]] || die "this removes ${directories[*]}; say so with --yes"
    read -r -p "Remove ${directories[*]}? [y/N] " answer
    [[ $answer == [yY]* ]] || die "nothing removed"
  fi
  rm -rf -- "${directories[@]}"
  say "removed ${directories[*]}"
}
