package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// ThisMachine describes the machine, with the file system of dir.
func ThisMachine(dir string) (Machine, error) {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Kernel: kernel(), CPU: processor(), Cores: runtime.NumCPU(),
		FileSystem: fileSystem(dir), GoVersion: runtime.Version()}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib int64
		if n, _ := fmt.Sscanf(string(text), "MemTotal: %d kB", &kib); n == 1 {
			m.Memory = kib << 10
		}
	}
	free, _, err := freeSpace(dir)
	m.DiskFree = free
	return m, err
}

// freeSpace is what the file system of dir has left for us: bytes and files; files are negative where it does not say.
func freeSpace(dir string) (bytes, files int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	files = int64(s.Ffree)
	if s.Files == 0 { // such as btrfs, which makes them as needed
		files = -1
	}
	return int64(s.Bavail) * int64(s.Bsize), files, nil
}

func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// fileSystem is the type and options of the mount that dir lies on.
func fileSystem(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "unknown"
	}
	text, _ := os.ReadFile("/proc/mounts")
	best, found := "", "unknown"
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			continue
		}
		at := fields[1]
		if below := at == "/" || dir == at || strings.HasPrefix(dir, at+"/"); below && len(at) >= len(best) {
			best, found = at, fields[2]+" ("+fields[3]+")"+journal(fields[0], fields[2])
		}
	}
	return found
}

// journal says of an ext4 on a device that it has no journal: its syncs cost another thing then.
func journal(device, kind string) string {
	task, err := os.ReadFile("/sys/fs/ext4/" + filepath.Base(device) + "/journal_task")
	if kind == "ext4" && err == nil && strings.TrimSpace(string(task)) == "<none>" {
		return " without a journal"
	}
	return ""
}
