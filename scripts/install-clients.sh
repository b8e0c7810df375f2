#!/usr/bin/env bash
# Installs the real clients and proxies that the end-to-end tests drive. Safe to run again, quick when
# everything is there. Exit status: 0 all there, 1 something is missing (each thing on a line of its own).
#
#   PACKHOUSE_VENV  where the Python clients live; default .venv beside this repository's Makefile
#   PACKHOUSE_BORG  borgbackup version to install; default: the newest that works with this OpenSSL
#   BORG_OPENSSL_PREFIX  an OpenSSL of at least 3.2 to build the newest borg with, where the system's is older
#
# Debian packages are installed only when this runs as root; otherwise the command to run is printed.
set -uo pipefail
cd "$(dirname "$0")/.."
venv=${PACKHOUSE_VENV:-$PWD/.venv}
missing=0
lack() { printf 'MISSING: %s\n' "$*" >&2; missing=1; }

# --- Debian packages: package, and the file or command that shows it is there
packages=(
  gcc:gcc pkg-config:pkg-config strace:strace nginx:nginx caddy:caddy restic:restic curl:curl openssl:openssl
  libacl1-dev:/usr/include/sys/acl.h liblz4-dev:/usr/include/lz4.h libzstd-dev:/usr/include/zstd.h
  libxxhash-dev:/usr/include/xxhash.h libssl-dev:/usr/include/openssl/evp.h
)
there() {
  case $1 in
  /*) [ -e "$1" ] ;;
  *) command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] ;;
  esac
}
python=
for candidate in python3 python3.13 python3.12 python3.11; do
  path=$(command -v "$candidate") || continue
  "$path" -c 'import sys, sysconfig, os, venv, ensurepip
sys.exit(sys.version_info < (3, 11) or not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' 2>/dev/null || continue
  python=$path
  break
done
apt=()
for entry in "${packages[@]}"; do there "${entry#*:}" || apt+=("${entry%%:*}"); done
[ -n "$python" ] || apt+=(python3 python3-venv python3-dev)
if [ ${#apt[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing Debian packages: ${apt[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # The tests start their own nginx and Caddy; the packages' services must not take the ports.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
      printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    { apt-get update -q && apt-get install -q -y --no-install-recommends "${apt[@]}"; } >/tmp/packhouse-apt.$$ 2>&1 ||
      { tail -n 20 /tmp/packhouse-apt.$$ >&2; }
    rm -f /tmp/packhouse-apt.$$
  else
    echo "to install: apt-get install ${apt[*]}" >&2
  fi
fi
for entry in "${packages[@]}"; do there "${entry#*:}" || lack "Debian package ${entry%%:*}"; done
[ -n "$python" ] || python=$(command -v python3.11 || command -v python3) || { lack "Python 3.11 or newer"; exit 1; }

# --- Python clients. BorgBackup after 2.0.0b23 needs the Argon2 of OpenSSL 3.2; Debian 12 has 3.0.
if [ -n "${BORG_OPENSSL_PREFIX:-}" ] || pkg-config --atleast-version=3.2.0 libcrypto 2>/dev/null; then
  borg=${PACKHOUSE_BORG:-2.0.0b25}
else
  borg=${PACKHOUSE_BORG:-2.0.0b23}
fi
next=borgstore==0.7.0 # client library with `gather`; beside the one that borg brings, see e2e/python.go
want="borgbackup==$borg $next"
stamp=$venv/.packhouse-clients
if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ] || ! "$venv/bin/borg" --version >/dev/null 2>&1; then
  echo "installing into $venv: $want (compiles borg: some two minutes)"
  log=$(mktemp)
  {
    "$python" -m venv "$venv" &&
      "$venv/bin/python" -m pip install -q --upgrade pip &&
      "$venv/bin/python" -m pip install -q --pre "borgbackup==$borg" 'borgstore[rest,blake3]' &&
      rm -rf "$venv/borgstore-next" &&
      "$venv/bin/python" -m pip install -q --no-deps --target "$venv/borgstore-next" "$next" &&
      "$venv/bin/borg" --version && printf '%s' "$want" >"$stamp"
  } >"$log" 2>&1 || { tail -n 30 "$log" >&2; lack "BorgBackup $borg in $venv"; }
  rm -f "$log"
fi
[ $missing = 0 ] && echo "clients: $("$venv/bin/borg" --version), borgstore $("$venv/bin/python" -c 'import borgstore; print(borgstore.__version__)') and ${next#*==}"
exit $missing
