package adopt

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// servers are the programs that keep one of the layouts.
var servers = map[string]bool{"vger-server": true, "vykar-server": true, "borgstore-server-rest": true, "rest-server": true}

// running finds the process of a server that was started with the directory, or with one around or below it, on its command line; pid is 0 if
// there is none but this process, or none that it may see. A server that has the directory from a file or a variable is not found.
func running(dir string) (program string, pid int) {
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return "", 0
	}
	self := strconv.Itoa(os.Getpid()) // which may have been called by the name of one
	for _, path := range processes {
		if filepath.Base(filepath.Dir(path)) == self {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended, or is another user's
		}
		process := filepath.Dir(path)
		args := strings.Split(string(bytes.TrimRight(text, "\x00")), "\x00")
		for i, arg := range args {
			// One that is written in Python has its interpreter before it.
			if name := filepath.Base(arg); i < 2 && servers[name] && serves(process, args[i+1:], dir) {
				pid, _ = strconv.Atoi(filepath.Base(process)) // it is a number
				return name, pid
			}
		}
	}
	return "", 0
}

// serves tells whether one of the arguments of a process is a directory with dir in it, or in dir.
func serves(process string, args []string, dir string) bool {
	for _, arg := range args {
		if _, value, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(arg, "-") {
			arg = value
		}
		if arg = strings.TrimPrefix(arg, "file://"); arg == "" {
			continue
		}
		if !filepath.IsAbs(arg) {
			at, err := os.Readlink(filepath.Join(process, "cwd"))
			if err != nil {
				continue
			}
			arg = filepath.Join(at, arg)
		}
		real, err := filepath.EvalSymlinks(arg)
		if err != nil {
			continue // no path
		}
		if info, err := os.Stat(real); err == nil && info.IsDir() && (real == dir || strings.HasPrefix(dir, real+"/") || strings.HasPrefix(real, dir+"/")) {
			return true
		}
	}
	return false
}
