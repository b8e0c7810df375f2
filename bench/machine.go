package bench

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// WriteMachine prints what the figures depend on: machine, kernel, file system of dir and commit.
func WriteMachine(w io.Writer, dir, commit string) error {
	memory := "unknown"
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib int64
		if n, _ := fmt.Sscanf(string(text), "MemTotal: %d kB", &kib); n == 1 {
			memory = fmt.Sprintf("%.0f GiB", float64(kib)/(1<<20))
		}
	}
	_, err := fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: packhouse/bench\ncpu: %s\ncores: %d\nmemory: %s\nkernel: %s\nfs: %s\ngo: %s\ncommit: %s\n",
		runtime.GOOS, runtime.GOARCH, processor(), runtime.NumCPU(), memory, kernel(), fileSystem(dir), runtime.Version(), commit)
	return err
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
			best, found = at, fields[2]+" ("+fields[3]+")"
		}
	}
	return found
}
