#!/usr/bin/env bash
# Builds the servers of others that `make bench` measures beside ours, as far as they can be had with Go alone, into bin/.
# borgstore's server comes with the clients (install-clients.sh), vykar-server must be installed by hand. Quick
# when everything is there. Exit status: 0 all there, 1 something is missing.
set -uo pipefail
cd "$(dirname "$0")/.."
version=v0.14.0 # of restic's rest-server
program=$PWD/bin/rest-server
if [ -x "$program" ] && "$program" --version 2>/dev/null | grep -qF "${version#v}"; then exit 0; fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' INT TERM HUP
echo "building rest-server $version"
# In a module of its own, so that its requirements are none of ours.
(cd "$scratch" && go mod init peers && go get "github.com/restic/rest-server/cmd/rest-server@$version" &&
  CGO_ENABLED=0 go build -o "$program" github.com/restic/rest-server/cmd/rest-server) >"$scratch/log" 2>&1 && exit 0
tail -n 10 "$scratch/log" >&2
echo "MISSING: rest-server $version" >&2
exit 1
