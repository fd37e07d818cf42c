# shellcheck shell=bash
# install_packages SET...: makes sure that the packages of the sets are there.
# Part of ./run. Asks dpkg first, so that a machine that has everything needs
# neither network nor root. Why each package: docs/dependencies.md.

declare -Ar PACKAGES=(
  [build]='cmake ninja-build g++ ccache git pkg-config lld
    libgrpc++-dev protobuf-compiler-grpc protobuf-compiler libprotobuf-dev libabsl-dev
    librocksdb-dev prometheus-cpp-dev libspdlog-dev libcli11-dev libyaml-cpp-dev
    nlohmann-json3-dev libxxhash-dev libzstd-dev libedit-dev libjemalloc-dev
    libgtest-dev libgmock-dev libbenchmark-dev'
  [test]=''  # promtool, see below
  [bench]='python3'
  [format]='clang-format'
  [tidy]='clang-tidy'
  [fuzz]='clang-14 libclang-rt-14-dev'
)

install_packages() {
  local set wanted=() missing=() package
  # shellcheck disable=SC2206  # words are what is wanted
  for set in "$@"; do wanted+=(${PACKAGES[$set]}); done
  command -v dpkg-query >/dev/null || {
    say "not a Debian system: going on with what is here. Needed: ${wanted[*]}"
    return
  }
  for package in ${wanted[@]+"${wanted[@]}"}; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      missing+=("$package")
  done
  if ((${#missing[@]})); then apt_install "${missing[@]}"; fi
  if [[ " $* " == *' test '* ]]; then install_promtool; fi
}

# as_root COMMAND...: with sudo when not root.
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root and there is no sudo: $*"
  fi
}

apt_install() {
  local log=$STATE/log/apt.log
  local hint="install by hand: apt-get install --no-install-recommends $*"
  [[ ${KV739_NO_INSTALL:-} != 1 ]] || die "packages are missing; $hint"
  if ((EUID != 0)) && ! command -v sudo >/dev/null; then
    die "packages are missing, and there is neither root nor sudo; $hint"
  fi
  say "installing $# packages: $*"
  mkdir -p "$STATE/log"
  {
    as_root apt-get -qq -o Acquire::Retries=3 update &&
      as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -qq -o Dpkg::Use-Pty=0 \
        -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 install --no-install-recommends -y "$@"
  } </dev/null >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "apt-get failed (all of it: $log); $hint"; }
}

# The tests check our metrics with promtool. Its package also starts a
# Prometheus on port 9090, which is our first server's metrics port; so the
# package is fetched and unpacked, not installed.
install_promtool() {
  command -v promtool >/dev/null && return
  [[ ${KV739_NO_INSTALL:-} != 1 ]] || die "promtool is missing (Debian package prometheus)"
  say "fetching promtool"
  local scratch log=$STATE/log/promtool.log
  mkdir -p "$STATE/log" "$STATE/tools"
  scratch=$(mktemp -d)
  (
    set -e
    cd "$scratch"
    apt-get -qq -o Acquire::Retries=3 download prometheus ||
      { as_root apt-get -qq update && apt-get -qq -o Acquire::Retries=3 download prometheus; }
    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
    mv usr/bin/promtool "$STATE/tools/"
  ) >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "could not fetch promtool (all of it: $log)"; }
  rm -rf "$scratch"
}
