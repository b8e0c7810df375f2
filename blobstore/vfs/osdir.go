package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

var (
	_ DirOpener      = osFS{}
	_ Dir            = (*dirFS)(nil)
	_ ReadOnlyTeller = (*dirFS)(nil)
)

// OpenDir implements DirOpener.
func (f osFS) OpenDir(name string) (Dir, error) {
	name = filepath.Clean(name)
	file, err := os.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &dirFS{os: f, name: name, file: file, conn: conn}, nil
}

// dirFS looks names up from an open directory. The descriptor is used through conn only, which keeps it from being
// closed, and its number from being another file's, while a call is under way.
type dirFS struct {
	os   osFS // for what lies elsewhere, and the modes
	name string
	file *os.File
	conn syscall.RawConn
}

// below is a name as seen from the directory; ok is false for one that does not lie there.
func (d *dirFS) below(name string) (rel string, ok bool) {
	name = filepath.Clean(name)
	if name == d.name {
		return ".", true
	}
	rel, ok = strings.CutPrefix(name, d.name)
	if ok && d.name != "/" {
		rel, ok = strings.CutPrefix(rel, "/")
	}
	return rel, ok
}

// call runs fn with the directory's descriptor, again while it is interrupted.
func (d *dirFS) call(op, name string, fn func(fd int) error) error {
	return control(d.conn, op, name, fn)
}

// control runs fn with the descriptor of an open directory.
func control(conn syscall.RawConn, op, name string, fn func(fd int) error) error {
	var fnErr error
	err := conn.Control(func(fd uintptr) {
		for {
			if fnErr = fn(int(fd)); fnErr != unix.EINTR {
				return
			}
		}
	})
	if err != nil {
		err = fs.ErrClosed
	} else {
		err = fnErr
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// two is call for an operation with two names.
func (d *dirFS) two(op, oldname, newname string, fn func(fd int) error) error {
	err := d.call(op, oldname, fn)
	if path, ok := err.(*fs.PathError); ok {
		return &os.LinkError{Op: op, Old: oldname, New: newname, Err: path.Err}
	}
	return err
}

// open opens a file below the directory.
func (d *dirFS) open(name, rel string, flags int, mode uint32) (*os.File, error) {
	opened := -1
	err := d.call("open", name, func(fd int) (err error) {
		opened, err = unix.Openat(fd, rel, flags|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(opened), name), nil
}

func (d *dirFS) Create(name string) (File, error) {
	rel, ok := d.below(name)
	if !ok {
		return d.os.Create(name)
	}
	return wrap(d.open(name, rel, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, d.os.fileMode()))
}

func (d *dirFS) Open(name string) (File, error) {
	rel, ok := d.below(name)
	if !ok {
		return d.os.Open(name)
	}
	return wrap(d.open(name, rel, unix.O_RDONLY|unix.O_NOFOLLOW, 0))
}

func (d *dirFS) OpenWrite(name string) (File, error) {
	rel, ok := d.below(name)
	if !ok {
		return d.os.OpenWrite(name)
	}
	return wrap(d.open(name, rel, unix.O_RDWR|unix.O_NOFOLLOW, 0))
}

func (d *dirFS) Link(oldname, newname string) error {
	from, ok := d.below(oldname)
	to, both := d.below(newname)
	if !ok || !both {
		return d.os.Link(oldname, newname)
	}
	return d.two("link", oldname, newname, func(fd int) error { return unix.Linkat(fd, from, fd, to, 0) })
}

func (d *dirFS) Rename(oldname, newname string) error {
	from, ok := d.below(oldname)
	to, both := d.below(newname)
	if !ok || !both {
		return d.os.Rename(oldname, newname)
	}
	return d.two("rename", oldname, newname, func(fd int) error { return unix.Renameat(fd, from, fd, to) })
}

func (d *dirFS) Remove(name string) error {
	rel, ok := d.below(name)
	if !ok {
		return d.os.Remove(name)
	}
	return d.call("remove", name, func(fd int) error { return removeAt(fd, rel) })
}

// removeAt removes a file, or an empty directory.
func removeAt(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	if err != unix.EISDIR && err != unix.EPERM { // what it is for a directory
		return err
	}
	if dirErr := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); dirErr != unix.ENOTDIR {
		return dirErr
	}
	return err
}

func (d *dirFS) RemoveAll(name string) error {
	rel, ok := d.below(name)
	if !ok {
		return d.os.RemoveAll(name)
	}
	err := d.removeTree(name, rel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removeTree removes a file, or a directory with what is in it; a symbolic link is removed, not followed.
func (d *dirFS) removeTree(name, rel string) error {
	err := d.Remove(name)
	if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return err
	}
	dir, err := d.open(name, rel, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	entries, err := dir.Readdirnames(-1)
	if closeErr := dir.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		err := d.removeTree(filepath.Join(name, entry), filepath.Join(rel, entry))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return d.Remove(name)
}

func (d *dirFS) Mkdir(name string) error {
	rel, ok := d.below(name)
	if !ok {
		return d.os.Mkdir(name)
	}
	return d.call("mkdir", name, func(fd int) error { return unix.Mkdirat(fd, rel, d.os.dirMode()) })
}

func (d *dirFS) ReadDir(name string) ([]fs.DirEntry, error) {
	rel, ok := d.below(name)
	if !ok {
		return d.os.ReadDir(name)
	}
	dir, err := d.open(name, rel, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	for i, entry := range entries {
		entries[i] = dirEntry{entry, d, filepath.Join(name, entry.Name())}
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	return entries, err
}

// dirEntry looks its file up where it was listed: the entry of package os has the path only.
type dirEntry struct {
	fs.DirEntry
	d    *dirFS
	name string
}

func (e dirEntry) Info() (fs.FileInfo, error) { return e.d.Stat(e.name) }

func (d *dirFS) Stat(name string) (fs.FileInfo, error) {
	rel, ok := d.below(name)
	if !ok {
		return d.os.Stat(name)
	}
	// Through a descriptor, so that it is a FileInfo of package os: os.SameFile compares no other.
	file, err := d.open(name, rel, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		if path, ok := err.(*fs.PathError); ok {
			path.Op = "lstat"
		}
		return nil, err
	}
	defer file.Close()
	return file.Stat()
}

func (d *dirFS) SyncDir(name string) error {
	rel, ok := d.below(name)
	if !ok {
		return d.os.SyncDir(name)
	}
	dir, err := d.open(name, rel, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if closeErr := dir.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (d *dirFS) Space(name string) (free, total int64, err error) {
	rel, ok := d.below(name)
	if !ok {
		return d.os.Space(name)
	}
	st, err := d.statfs(name, rel)
	if err != nil {
		return 0, 0, err
	}
	free, total = spaceOf(&st)
	return free, total, nil
}

func (d *dirFS) Inodes(name string) (free, total int64, err error) {
	rel, ok := d.below(name)
	if !ok {
		return d.os.Inodes(name)
	}
	st, err := d.statfs(name, rel)
	return int64(st.Ffree), int64(st.Files), err
}

func (d *dirFS) ReadOnly(name string) (bool, error) {
	rel, ok := d.below(name)
	if !ok {
		return d.os.ReadOnly(name)
	}
	st, err := d.statfs(name, rel)
	return readOnly(&st), err
}

func (d *dirFS) statfs(name, rel string) (st unix.Statfs_t, err error) {
	if rel == "." {
		err = d.call("statfs", name, func(fd int) error { return unix.Fstatfs(fd, &st) })
		return st, err
	}
	file, err := d.open(name, rel, unix.O_PATH, 0)
	if err != nil {
		return st, err
	}
	defer file.Close()
	for {
		if err = unix.Fstatfs(int(file.Fd()), &st); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		err = &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	return st, err
}

// Close closes the directory.
func (d *dirFS) Close() error { return d.file.Close() }
