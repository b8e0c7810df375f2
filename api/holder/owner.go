package holder

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"packhouse/repo/layout"
)

// CheckOwner prevents root from working in a directory whose server runs as another user, because the server could not open the
// files that root creates. uid is that of this process.
func CheckOwner(dir string, uid int) error {
	info, err := os.Stat(filepath.Join(dir, layout.OwnDir))
	if errors.Is(err, os.ErrNotExist) {
		info, err = os.Stat(dir)
	}
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if uid != 0 || !ok || stat.Uid == 0 {
		return nil
	}
	owner := "#" + strconv.Itoa(int(stat.Uid))
	if u, err := user.LookupId(owner[1:]); err == nil {
		owner = u.Username
	}
	return fmt.Errorf("no server runs, and the directory belongs to %s, who could not open files that root creates in it; use: sudo -u '%s' packhouse", owner, owner)
}
