#!/usr/bin/env bash
# Builds the release archives and the deb and rpm packages into a directory, with their checksums. The same commit gives the same
# bytes on every machine: all times are SOURCE_DATE_EPOCH, which is that of the commit if it is not set.
#
#   scripts/packages.sh [DIRECTORY]    default: dist
#
#   VERSION            default: from git
#   ARCHITECTURES      of amd64 arm64 arm; default: all
#   PACKHOUSE_BINARY   a program to pack instead of building one; for tests, with one architecture
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-dist}")
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0
version=${VERSION:-$(git describe --tags --always --dirty)}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export TZ=UTC LC_ALL=C
umask 022

# Versions of packages begin with a digit, and one of a commit without a tag is older than each release, and than those of later commits.
case $version in
v[0-9]*) packaged=${version#v} ;;
[0-9]*.*) packaged=$version ;;
*) packaged=0.0.0~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d.%H%M%S).$version ;;
esac
packaged=$(sed -E 's/-(alpha|beta|rc)/~\1/; s/-/+/g' <<<"$packaged") # 1.0-rc1 is older than 1.0, and 1.0-5-g0a1b2c3 is not

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# build ARCHITECTURE PROGRAM compiles the static program. Without information about the repository it does not depend on where it is
# built, and in what state. It brings the time zones, for machines without them.
build() {
  if [ -n "${PACKHOUSE_BINARY:-}" ]; then
    install -m 755 "$PACKHOUSE_BINARY" "$2"
  else
    CGO_ENABLED=0 GOOS=linux GOARCH=$1 GOARM=7 GOAMD64=v1 GOARM64=v8.0 GOEXPERIMENT= GOFLAGS= \
      go build -trimpath -buildvcs=false -tags timetzdata,fallbackroots -ldflags "-s -w -X main.release=$version" -o "$2" ./cmd/packhouse
  fi
}

# same sets the modes and times of all files below a directory, which are those of the clone, or of now.
same() {
  chmod -R u=rwX,go=rX "$1"
  find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

# archive DIRECTORY NAME packs a directory into NAME.tar.gz, under its name.
archive() {
  tar --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$1" -c "$2" | gzip -n -9 >"$out/$2.tar.gz"
}

mkdir -p "$out" "$stage"/{systemd,completion,doc,plainman,bin}
host=$(go env GOHOSTARCH)
build "$host" "$stage/bin/$host"
"$stage/bin/$host" man "$stage/plainman"
mkdir "$stage/man"
for page in "$stage"/plainman/*; do gzip -n -9 <"$page" >"$stage/man/${page##*/}.gz"; done
for shell in bash fish zsh; do "$stage/bin/$host" completion $shell >"$stage/completion/packhouse.$shell"; done
for unit in packhouse.service packhouse.socket; do sed 's,/usr/local/bin/,/usr/bin/,' "deploy/$unit" >"$stage/systemd/$unit"; done
cp -r README.md CHANGELOG.md docs deploy "$stage/doc/" # as in the repository: they refer to each other
rm -rf "$stage/doc/deploy/packages"

made=()
for arch in ${ARCHITECTURES:-amd64 arm64 arm}; do
  echo "packhouse $packaged for $arch"
  [ "$arch" = "$host" ] || build "$arch" "$stage/bin/$arch"
  install -m 755 "$stage/bin/$arch" "$stage/packhouse"
  name=packhouse-$packaged-linux-${arch/%arm/armv7}
  mkdir "$stage/$name"
  cp -r "$stage/packhouse" "$stage/completion" "$stage"/doc/* "$stage/$name/"
  cp -r "$stage/plainman" "$stage/$name/man"
  same "$stage"
  archive "$stage" "$name"
  made+=("$name.tar.gz")
  for packager in deb rpm; do
    case $packager-$arch in
    deb-arm) as=armhf ;;
    rpm-amd64) as=x86_64 ;;
    rpm-arm64) as=aarch64 ;;
    rpm-arm) as=armv7hl ;;
    *) as=$arch ;;
    esac
    file=packhouse_${packaged}_$as.deb
    [ $packager = deb ] || file=packhouse-$packaged-1.$as.rpm
    STAGE=$stage VERSION=$packaged ARCH=${arch/%arm/arm7} MAINTAINER="${MAINTAINER:-The Packhouse developers <packhouse@localhost>}" \
      go run "$nfpm" package --config deploy/packages/nfpm.yaml --packager $packager --target "$out/$file" >"$stage/log" || { cat "$stage/log" >&2; exit 1; }
    made+=("$file")
  done
done
cd "$out"
sha256sum "${made[@]}" >SHA256SUMS
ls -l "${made[@]}"
