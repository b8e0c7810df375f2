#!/bin/sh
# After the files are removed. The repositories in /var/lib/packhouse, the logs, the user and the groups stay, also when the
# package is purged: nobody loses a backup by removing a program.
set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
