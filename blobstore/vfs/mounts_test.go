package vfs

import (
	"path/filepath"
	"testing"
)

func TestMounts(t *testing.T) {
	const table = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /srv rw - btrfs /dev/sdb rw,subvol=/
31 30 0:25 /@backup /srv/backup rw - btrfs /dev/sdb rw,subvol=/@backup
40 22 8:17 / /mnt/one rw - ext4 /dev/sdc1 rw
41 22 8:33 / /mnt/one rw - xfs /dev/sdd1 rw
42 22 8:49 / /mnt/with\040blank rw master:3 propagate_from:2 - ext4 /dev/sde1 rw
50 22 0:40 / /tank/a rw - zfs tank/a rw
51 22 0:41 / /tank/b rw - zfs tank/b rw
no mount
`
	tests := []struct{ path, at, fileSystem string }{
		{"/var/lib", "/", "8:1"},
		{"/", "/", "8:1"},
		{"/srv/backup/laptop", "/srv/backup", "0:25"},
		{"/srv/backups", "/srv", "0:25"},
		{"/mnt/one/x/../y", "/mnt/one", "8:33"},
		{"/mnt/with blank/x", "/mnt/with blank", "8:49"},
		{"/tank/a", "/tank/a", "zfs tank"},
		{"/tank/b/c", "/tank/b", "zfs tank"},
	}
	for _, tt := range tests {
		if got := parseMounts([]byte(table)).Of(tt.path); got != (Mount{tt.at, tt.fileSystem}) {
			t.Errorf("%s: got %+v, want %s at %s", tt.path, got, tt.fileSystem, tt.at)
		}
	}
	if got := parseMounts(nil).Of("/x"); got != (Mount{}) {
		t.Errorf("of an empty table: got %+v", got)
	}
}

// What the kernel says of a directory that is there.
func TestListMounts(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if got := ListMounts().Of(dir); got.At == "" || got.FileSystem == "" || !below(dir, got.At) {
		t.Errorf("%s: got %+v", dir, got)
	}
}
