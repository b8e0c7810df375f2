#!/usr/bin/env bash
# Builds the container image from deploy/Dockerfile, for this machine's architecture.
#
#   scripts/image.sh [NAME:TAG]    default: packhouse:VERSION
#
#   BUILDER            buildah (default), podman or docker, with arguments
#   VERSION            default: from git
#   PACKHOUSE_BINARY   a static program to pack instead of building one; for tests
set -euo pipefail
cd "$(dirname "$0")/.."
version=${VERSION:-$(git describe --tags --always --dirty)}
read -ra builder <<<"${BUILDER:-buildah}"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
umask 022

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
if [ -n "${PACKHOUSE_BINARY:-}" ]; then
  install -m 755 "$PACKHOUSE_BINARY" "$context/packhouse"
else
  CGO_ENABLED=0 GOFLAGS= go build -trimpath -buildvcs=false -tags timetzdata,fallbackroots -ldflags "-s -w -X main.release=$version" -o "$context/packhouse" ./cmd/packhouse
fi
mkdir -p -m 755 "$context/volume"
mkdir -m 700 "$context/volume/data"

# The format of OCI has no health checks; docker's has.
options=()
case ${builder[0]##*/} in
buildah | podman) options=(--format docker --timestamp "$SOURCE_DATE_EPOCH") ;;
esac
"${builder[@]}" build "${options[@]}" --tag "${1:-packhouse:$version}" --file deploy/Dockerfile "$context"
