package vfs

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// mountTable is where the kernel lists what is mounted, as this process sees it.
const mountTable = "/proc/self/mountinfo"

// A Mount is a file system at a path.
type Mount struct {
	At string // where it is mounted
	// FileSystem is equal for mounts that share their space: several of one file system, subvolumes of btrfs, data sets of a pool of ZFS.
	FileSystem string
}

// Mounts is what is mounted, in the order in which it was.
type Mounts []Mount

// ListMounts reads the kernel's table: a file system that does not answer does not delay it. None when the kernel does not say.
func ListMounts() Mounts {
	table, err := os.ReadFile(mountTable)
	if err != nil {
		return nil
	}
	return parseMounts(table)
}

func parseMounts(table []byte) (all Mounts) {
	for line := range bytes.Lines(table) {
		if m, ok := parseMount(string(line)); ok {
			all = append(all, m)
		}
	}
	return all
}

// Of returns the mount that an absolute path without symbolic links lies on; of two at the same place the later one hides the other. The
// zero Mount when there is none.
func (all Mounts) Of(path string) (found Mount) {
	path = filepath.Clean(path)
	for _, m := range all {
		if len(m.At) >= len(found.At) && below(path, m.At) {
			found = m
		}
	}
	return found
}

// At tells whether something is mounted at exactly this path.
func (all Mounts) At(path string) bool {
	return slices.ContainsFunc(all, func(m Mount) bool { return m.At == path })
}

func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// parseMount reads a line: identity, parent, device, root, mount point, options, optional fields, a hyphen, type, source, options. Source:
// proc_pid_mountinfo(5).
func parseMount(line string) (m Mount, ok bool) {
	head, tail, ok := strings.Cut(line, " - ")
	fields, rest := strings.Fields(head), strings.Fields(tail)
	if !ok || len(fields) < 5 || len(rest) < 2 {
		return Mount{}, false
	}
	m = Mount{At: unescape(fields[4]), FileSystem: fields[2]}
	if rest[0] == "zfs" {
		pool, _, _ := strings.Cut(rest[1], "/")
		m.FileSystem = "zfs " + pool
	}
	return m, true
}

// unescape replaces what stands for blanks and backslashes: a backslash and three octal digits.
func unescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) {
			if n, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
