#!/usr/bin/env bash
# Runs every fuzz target of every package for the given time, one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}
ran=0
for package in $(go list ./...); do
  for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
    echo "--- $package $target ($time)"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package"
    ran=$((ran + 1))
  done
done
echo "$ran fuzz targets ran"
[ "$ran" -gt 0 ]
