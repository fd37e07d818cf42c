#!/bin/sh
# Runs tests again and again until one fails: how flaky tests are found.
#
# usage: tests/repeat.sh [TIMES [LABELS [PRESET]]]
#   TIMES   runs of each test (20)
#   LABELS  regular expression of ctest labels ("integration|fault")
#   PRESET  whose build is tested (release)
#
# Tests of real processes take one of two locks, so that at most two clusters
# run at once however many jobs there are. A failed test keeps the files of its
# servers in a directory that it names.
set -eu
times=${1:-20}
labels=${2:-integration|fault}
preset=${3:-release}
cd "$(dirname "$0")/.."
exec ctest --test-dir "build/$preset" -L "$labels" -LE long -j2 \
  --repeat "until-fail:$times" --stop-on-failure --output-on-failure
