#!/bin/sh
# After the files are unpacked. deb calls it with configure and, in an upgrade, the version before; rpm with 1, or 2 in an upgrade.
set -e

case "$1" in
configure) [ -z "$2" ] || upgrade=yes ;;
1) ;;
2) upgrade=yes ;;
*) exit 0 ;; # deb takes a step back
esac

# The configuration may have a token in it. Its group is the administrator's to choose once it is another than root's.
config=/etc/packhouse.toml
if [ -e "$config" ] && [ "$(stat -c %g "$config")" = 0 ]; then
	chgrp packhouse "$config"
fi

running=
if [ -d /run/systemd/system ]; then
	running=yes
	systemctl daemon-reload || true
fi
if [ -z "$upgrade" ]; then
	# Not started: the data directory may be on a volume that the configuration does not name yet.
	echo 'Packhouse is installed. Look at /etc/packhouse.toml, then start it: systemctl enable --now packhouse.socket packhouse.service'
elif [ -n "$running" ]; then
	# A server that would not start with its configuration goes on as it is: the older program serves until that was mended.
	code=0
	[ ! -e "$config" ] || report=$(packhouse config check "$config" 2>&1) || code=$?
	if [ "$code" = 1 ]; then
		echo "$report"
		echo 'Packhouse was not restarted: the new version would not start with this configuration. Mend it, then: systemctl restart packhouse'
	else
		# The socket stays open meanwhile, and running backups go on. A server that was stopped stays so.
		systemctl try-restart packhouse.service || true
	fi
fi
