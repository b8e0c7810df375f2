#!/bin/sh
# Before the files are unpacked: the user of the server, and the group whose members may connect to its socket.
# deb calls it with install or upgrade, rpm with 1 or 2. It may run where there is no systemd, as in an image or a chroot.
set -e

getent group packhouse >/dev/null || groupadd --system packhouse
getent group packhouse-proxy >/dev/null || groupadd --system packhouse-proxy
getent passwd packhouse >/dev/null ||
	useradd --system --gid packhouse --home-dir /var/lib/packhouse --no-create-home --shell /usr/sbin/nologin packhouse
