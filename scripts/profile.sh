#!/usr/bin/env bash
# Profiles small puts and gets of our servers and writes the tops of processor time, allocations and waits for locks to
# a text. Usage: profile.sh PROGRAM DIRECTORY
set -euo pipefail
program=$1 dir=$2
rm -rf "$dir"
mkdir -p "$dir"
"$program" bench store --only put8k@1,put8k@64,get8k@1,get8k@64 --scale 8 --profiles "$dir/profiles" \
  ${BENCHDIR:+--dir "$BENCHDIR"} | tee "$dir/figures.txt"
top() { # top TITLE [OPTIONS…] FILE
  local title=$1
  shift
  printf '\n-- %s\n' "$title"
  go tool pprof -top -nodecount=40 "$@" 2>/dev/null | sed -n '/flat%/,$p'
}
for profile in "$dir"/profiles/*-3; do # the last round
  printf '\n==== %s\n' "$(basename "$profile")"
  top 'processor time, by function' "$program" "$profile/cpu.pprof"
  top 'processor time, with what a function calls' -cum "$program" "$profile/cpu.pprof"
  top 'bytes allocated' -sample_index=alloc_space -base "$profile/allocs-before.pprof" "$program" "$profile/allocs.pprof"
  top 'objects allocated' -sample_index=alloc_objects -base "$profile/allocs-before.pprof" "$program" "$profile/allocs.pprof"
  top 'waits for locks' -base "$profile/mutex-before.pprof" "$program" "$profile/mutex.pprof"
done >"$dir/profile.txt"
echo "the tops are in $dir/profile.txt"
