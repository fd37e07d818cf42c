#!/bin/sh
# The installed library as programs find it: by pkg-config from C and C++, by
# pkg-config in the build tree, and by find_package; and nothing but kv739_*
# is visible in it.
# package_test.sh BUILD_DIR SOURCE_DIR CMAKE C_COMPILER CXX_COMPILER FLAGS
set -eu
build=$1 source=$2 cmake=$3 cc=$4 cxx=$5 flags=$6
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

fail() {
  echo "$1" >&2
  exit 1
}

"$cmake" --install "$build" --prefix "$dir/usr" --component lib739kv > "$dir/log"
library=$(find "$dir/usr" -name 'lib739kv.so.*.*' -type f)
pc=$(dirname "$(find "$dir/usr" -name lib739kv.pc)")
libdir=$(dirname "$library")

# The visible symbols.
nm -D --defined-only "$library" | awk '{print $NF}' | sed 's/@.*//' | sort > "$dir/symbols"
grep -qx kv739_client_put "$dir/symbols" || fail "kv739_client_put is not exported"
strangers=$(grep -v -e '^kv739_' -e '^LIB739KV_1$' "$dir/symbols" || true)
[ -z "$strangers" ] || fail "exported besides kv739_*: $strangers"
# Every function of the header is among them.
grep -h 'KV739_API' -A1 "$source/client/lib739kv.h" | grep -o 'kv739_[a-z_]*(' |
  tr -d '(' | sort -u > "$dir/declared"
missing=$(comm -23 "$dir/declared" "$dir/symbols")
[ -z "$missing" ] || fail "declared and not exported: $missing"
# What it asks the loader for.
readelf -d "$library" > "$dir/dynamic"
grep -q 'SONAME.*\[lib739kv.so.1\]' "$dir/dynamic" || fail "wrong soname"
grep -q 'NEEDED.*\[libprotobuf\.so' "$dir/dynamic" && fail "needs the full protobuf"

# A program whose call ends in a message of the library.
check() {
  out=$("$@" /nonexistent/file 2>&1) && fail "$1 should have failed"
  case $out in
    *"/nonexistent/file"*) ;;
    *) fail "$1 said: $out" ;;
  esac
}

for where in "$pc" "$build/pkgconfig"; do
  export PKG_CONFIG_PATH="$where"
  # shellcheck disable=SC2046,SC2086
  "$cc" $flags "$source/client/examples/example.c" $(pkg-config --cflags --libs lib739kv) -o "$dir/c"
  # shellcheck disable=SC2046,SC2086
  "$cxx" $flags "$source/client/examples/example.cc" $(pkg-config --cflags --libs lib739kv) -o "$dir/cxx"
  if [ "$where" = "$pc" ]; then
    export LD_LIBRARY_PATH="$libdir"
  else
    unset LD_LIBRARY_PATH  # the build tree's path is in the program
  fi
  check "$dir/c"
  check "$dir/cxx"
done

mkdir "$dir/project"
cat > "$dir/project/CMakeLists.txt" << END
cmake_minimum_required(VERSION 3.20)
project(user C CXX)
find_package(kv739 0.1 REQUIRED)
add_executable(user_c $source/client/examples/example.c)
target_link_libraries(user_c kv739::739kv)
add_executable(user_cxx $source/client/examples/example.cc)
target_link_libraries(user_cxx kv739::739kv)
END
"$cmake" -S "$dir/project" -B "$dir/project/build" -DCMAKE_PREFIX_PATH="$dir/usr" \
  -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" \
  -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags" > "$dir/log" 2>&1 ||
  { cat "$dir/log"; fail "find_package does not work"; }
"$cmake" --build "$dir/project/build" > "$dir/log" 2>&1 ||
  { cat "$dir/log"; fail "kv739::739kv does not link"; }
check "$dir/project/build/user_c"
check "$dir/project/build/user_cxx"
