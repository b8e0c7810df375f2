package adopt

import (
	"bytes"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// rights are what the kernel lets this process do with files of others. Links: proc(5), protected_hardlinks; linkat(2), EPERM.
type rights struct {
	uid       uint32
	all       bool // CAP_FOWNER: links any file
	reads     bool // CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH
	protected bool // files of others are not linked but by who may read and write them
}

// The numbers of capabilities: capability.h.
const (
	capDACOverride   = 1
	capDACReadSearch = 2
	capFOwner        = 3
)

func ownRights() (rights, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return rights{}, err
	}
	_, rest, _ := bytes.Cut(status, []byte("\nCapEff:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	caps, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 64)
	if err != nil {
		return rights{}, fmt.Errorf("capabilities of this process: %w", err)
	}
	protected, err := os.ReadFile("/proc/sys/fs/protected_hardlinks")
	return rights{
		uid: uint32(os.Geteuid()), all: caps>>capFOwner&1 == 1, reads: caps&(1<<capDACOverride|1<<capDACReadSearch) != 0,
		protected: err != nil || strings.TrimSpace(string(protected)) != "0",
	}, nil
}

// refusal says why a file cannot be taken in by this process, and read later by the server of the same user; "": it can.
func (r rights) refusal(name string, st *syscall.Stat_t, link bool) string {
	own := st.Uid == r.uid
	switch {
	case !r.reads && own && st.Mode&unix.S_IRUSR == 0, !r.reads && !own && unix.Access(name, unix.R_OK) != nil:
		return fmt.Sprintf("it cannot be read: its owner is %s, its mode %04o; run this, and the server, as that user (sudo -u), or make that user's files readable", userName(st.Uid), st.Mode&0o7777)
	case !link || own || r.all || !r.protected:
		return ""
	case unix.Access(name, unix.R_OK|unix.W_OK) == nil && st.Mode&(unix.S_ISUID|unix.S_ISGID) == 0:
		return ""
	}
	return fmt.Sprintf("its owner is %s, and only that user or root can link it: run this, and the server, as that user (sudo -u '%s'), or give the directory to the server's user (chown -R)", userName(st.Uid), userName(st.Uid))
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "#" + id
}
