#!/usr/bin/env bash
# Runs the phases of all tests, one after the other, also when one fails; then says which failed, and how long each took
# beside what it may take on two quiet processors. Exit status: 0 all passed, 1 one failed.
set -uo pipefail
cd "$(dirname "$0")/.."
phases=(clients:2 check:2 unit:8 e2e:8 skipped:1) # name:minutes
summary=() failed=0
for entry in "${phases[@]}"; do
  phase=${entry%%:*} budget=$((${entry##*:} * 60)) since=$SECONDS
  printf '\n######## %s, begun at %s, budget %d min ########\n' "$phase" "$(date +%H:%M:%S)" "${entry##*:}"
  result=passed
  make --no-print-directory "$phase" "$@" || { result=FAILED failed=1; }
  took=$((SECONDS - since)) note=
  [ "$took" -le "$budget" ] || note=', more than its budget'
  summary+=("$(printf '%-8s %-7s %5d s of %4d s%s' "$phase" "$result" "$took" "$budget" "$note")")
done
printf '\n'
printf '%s\n' "${summary[@]}"
[ $failed = 0 ] && echo "all passed in $SECONDS s" || echo "FAILED after $SECONDS s"
exit $failed
