#!/usr/bin/env bash
# Installs the real clients, proxies, browser and tools that the end-to-end tests drive. Safe to run again, quick when
# everything is there. Exit status: 0 all there, 1 something is missing (each thing on a line of its own).
#
#   PACKHOUSE_VENV   where the Python clients live; default .venv beside this repository's Makefile
#   PACKHOUSE_CACHE  where the OpenSSL for the newest borg is kept; default packhouse in the user's cache directory
#
# Debian packages are installed only when this runs as root; otherwise the command to run is printed.
set -uo pipefail
cd "$(dirname "$0")/.."
venv=${PACKHOUSE_VENV:-$PWD/.venv}
cache=${PACKHOUSE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/packhouse}
scratch=$(mktemp -d)
policy=/usr/sbin/policy-rc.d
policy_mark='# of packhouse scripts/install-clients.sh'
cleanup() {
  rm -rf "$scratch"
  if grep -qsF "$policy_mark" $policy; then rm -f $policy; fi
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP
missing=0
lack() { printf 'MISSING: %s\n' "$*" >&2; missing=1; }
# thrice runs a command that asks a registry: up to three times, its output in a file that is shown if it fails.
thrice() {
  local try
  for try in 1 2 3; do
    "$@" </dev/null >"$scratch/log" 2>&1 && return 0
    [ $try = 3 ] || sleep $((try * 10))
  done
  tail -n 30 "$scratch/log" >&2
  return 1
}

# --- Debian packages: package, and the file or command that shows it is there
packages=(
  gcc:gcc make:make perl:pod2man pkg-config:pkg-config strace:strace nginx:nginx caddy:caddy curl:curl stunnel4:stunnel
  restic:/usr/bin/restic prometheus:promtool rpm:rpm buildah:buildah btrfs-progs:mkfs.btrfs
  chromium:chromium fonts-dejavu-core:/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf
  libacl1-dev:/usr/include/sys/acl.h liblz4-dev:/usr/include/lz4.h libzstd-dev:/usr/include/zstd.h
  libxxhash-dev:/usr/include/xxhash.h libssl-dev:/usr/include/openssl/evp.h
)
there() {
  case $1 in
  /*) [ -e "$1" ] ;;
  *) command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] ;;
  esac
}
# A Python that can make environments and has the headers that borg is compiled with.
find_python() {
  local candidate path
  for candidate in python3 python3.13 python3.12 python3.11; do
    path=$(command -v "$candidate") || continue
    "$path" -c 'import sys, sysconfig, os, venv, ensurepip
sys.exit(sys.version_info < (3, 11) or not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' 2>/dev/null || continue
    python=$path
    return 0
  done
  return 1
}
python=
apt=()
for entry in "${packages[@]}"; do there "${entry#*:}" || apt+=("${entry%%:*}"); done
find_python || apt+=(python3 python3-venv python3-dev)
if [ ${#apt[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing Debian packages: ${apt[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # The tests start their own nginx and Caddy; the packages' services must not take the ports.
    [ -e $policy ] || { printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" >$policy && chmod +x $policy; }
    # Another apt may be at work, as after the start of a machine.
    thrice apt-get update -q -o DPkg::Lock::Timeout=300 &&
      thrice apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 "${apt[@]}"
  else
    echo "to install: apt-get install ${apt[*]}" >&2
  fi
fi
for entry in "${packages[@]}"; do there "${entry#*:}" || lack "Debian package ${entry%%:*}"; done
[ -n "$python" ] || find_python || { lack "Python 3.11 or newer with venv and headers"; exit 1; }

# --- Python clients. Two borgs, as they speak differently: BorgBackup after 2.0.0b23 brings borgstore 0.7, and
# needs the Argon2 of OpenSSL 3.2, while Debian 12 has 3.0.
borg=2.0.0b23        # with its own borgstore 0.6
newest=2.0.0b25      # in $venv/newest
library=0.7.0        # of borgstore, in $venv/borgstore-next: the library alone, for tests without borg
openssl=300.6.1      # the crate openssl-src that brings the source of OpenSSL 3.6.3

# install_borg VERSION DIRECTORY makes an environment with that borg.
install_borg() {
  local clear=()
  [ ! -e "$2/pyvenv.cfg" ] || clear=(--clear) # never of a directory that is no environment
  "$python" -m venv "${clear[@]}" "$2" &&
    thrice "$2/bin/python" -m pip install -q --pre "borgbackup==$1" 'borgstore[rest,blake3]' &&
    "$2/bin/borg" --version >/dev/null
}

stamp=$venv/.packhouse-clients
want="borgbackup==$borg borgstore==$library"
if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ] || ! "$venv/bin/borg" --version >/dev/null 2>&1; then
  echo "installing into $venv: $want (compiles borg: some two minutes)"
  rm -f "$stamp"
  install_borg "$borg" "$venv" &&
    thrice "$venv/bin/python" -m pip install -q --no-deps --target "$venv/borgstore-next" "borgstore==$library" &&
    printf '%s' "$want" >"$stamp" || lack "BorgBackup $borg in $venv"
fi

# build_openssl PREFIX compiles the part of OpenSSL that borg uses, as a static library: the interpreter has the
# system's libcrypto loaded, and a second shared one of that name would not be.
build_openssl() {
  mkdir -p "$scratch/fetch/src" "$1" && : >"$scratch/fetch/src/lib.rs" &&
    printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\nopenssl-src = "=%s"\n' \
      "$openssl" >"$scratch/fetch/Cargo.toml" || return 1
  (cd "$scratch/fetch" && thrice cargo vendor vendor) || return 1
  (cd "$scratch/fetch/vendor/openssl-src/openssl" &&
    ./Configure no-shared no-tests no-apps no-docs no-legacy no-module no-engine no-dso no-tls no-dtls no-quic \
      no-comp no-ec2m no-sm2 no-sm3 no-sm4 no-aria no-camellia no-seed no-idea no-bf no-cast no-des no-rc2 no-rc4 \
      no-md4 no-mdc2 no-whirlpool no-srp no-gost no-cms no-ts no-ct no-cmp no-ocsp no-ml-kem no-ml-dsa no-slh-dsa \
      no-dsa no-dh -fPIC -O1 && make -j"$(nproc)" build_generated libcrypto.a &&
    mkdir -p "$1/lib" && cp -r include "$1/" && mv libcrypto.a "$1/lib/") >"$scratch/openssl.log" 2>&1 ||
    { tail -n 30 "$scratch/openssl.log" >&2; return 1; }
}

stamp=$venv/newest/.packhouse-clients
if [ "$(cat "$stamp" 2>/dev/null)" != "$newest" ] || ! "$venv/newest/bin/borg" --version >/dev/null 2>&1; then
  prefix=
  if ! pkg-config --atleast-version=3.2.0 libcrypto 2>/dev/null; then
    prefix=$cache/openssl-src-$openssl
  fi
  if [ -n "$prefix" ] && [ ! -e "$prefix/lib/libcrypto.a" ] && ! command -v cargo >/dev/null; then
    echo "no BorgBackup $newest: OpenSSL is older than 3.2, and without cargo a newer one cannot be had" >&2
  else
    if [ -n "$prefix" ] && [ ! -e "$prefix/lib/libcrypto.a" ]; then
      echo "compiling OpenSSL for BorgBackup $newest into $prefix (some two minutes)"
      build_openssl "$prefix" || lack "OpenSSL for BorgBackup $newest"
    fi
    echo "installing into $venv/newest: borgbackup==$newest (compiles borg: some two minutes)"
    [ -z "$prefix" ] || export BORG_OPENSSL_PREFIX=$prefix
    install_borg "$newest" "$venv/newest" && printf '%s' "$newest" >"$stamp" || lack "BorgBackup $newest in $venv/newest"
  fi
fi

# --- A mail server, for the tests of alerts
mail=1.4.6 # of aiosmtpd, in $venv/mail
stamp=$venv/mail/.packhouse-clients
if [ "$(cat "$stamp" 2>/dev/null)" != "$mail" ] && [ -x "$venv/bin/python" ]; then
  rm -rf "$venv/mail"
  thrice "$venv/bin/python" -m pip install -q --target "$venv/mail" "aiosmtpd==$mail" && printf '%s' "$mail" >"$stamp" || lack "aiosmtpd $mail in $venv/mail"
fi

# --- restic: the newest, beside Debian's, which is older and repeats more of what is refused
restic=0.19.1 # in $venv/bin
if ! "$venv/bin/restic" version 2>/dev/null | grep -qF "restic $restic "; then
  echo "compiling restic $restic (some two minutes)"
  (cd "$scratch" && GOBIN=$scratch/bin CGO_ENABLED=0 thrice go install "github.com/restic/restic/cmd/restic@v$restic") &&
    mv -f "$scratch/bin/restic" "$venv/bin/restic" || lack "restic $restic in $venv"
fi

# --- Pebble: a small ACME authority for tests
pebble=2.10.3 # in $venv/bin
if ! go version -m "$venv/bin/pebble" 2>/dev/null | grep -qF "github.com/letsencrypt/pebble/v2	v$pebble	"; then
  echo "compiling Pebble $pebble"
  (cd "$scratch" && GOBIN=$scratch/bin CGO_ENABLED=0 thrice go install "github.com/letsencrypt/pebble/v2/cmd/pebble@v$pebble") &&
    mv -f "$scratch/bin/pebble" "$venv/bin/pebble" || lack "Pebble $pebble in $venv"
fi

[ $missing = 1 ] || for program in "$venv/bin/restic" /usr/bin/restic; do echo "client: $("$program" version)"; done
[ $missing = 1 ] || for program in "$venv/bin/borg" "$venv/newest/bin/borg"; do
  [ ! -x "$program" ] || echo "client: $("$program" --version), borgstore $("${program%borg}python" -c 'import borgstore; print(borgstore.__version__)')"
done
exit $missing
