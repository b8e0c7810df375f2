#!/bin/sh
# Before the files are removed. deb calls it with remove, or upgrade; rpm with 0, or 1 in an upgrade.
set -e

case "$1" in
remove | 0) ;;
*) exit 0 ;; # the new version restarts the server
esac
if [ -d /run/systemd/system ]; then
	systemctl disable --now packhouse.service packhouse.socket || true
fi
